"""Read Gatan DigitalMicrograph files, DM3 and DM4."""

from __future__ import annotations

from pathlib import Path

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io import rosetta
from napari_lowdose_tem.io.frames import RawFrames, as_pixels, even_offsets
from napari_lowdose_tem.io.tiff_calibration import gain


def read_dm(path: Path) -> Image:
    """Read the first image of a DM3 or DM4 file, counts as stored; stacks lazily.

    The gain is known where the intensity is calibrated in electrons.
    """
    try:
        found = rosetta.signals(path, "digitalmicrograph")
    except ValueError as err:
        if "RGB" not in str(err):
            raise
        raise ValueError(f"{path}: a colour image; colours are not counts: convert it to grey first") from err
    index, shape, provenance = rosetta.first_image(path, found)
    signal = found[index]
    stored = signal["original_metadata"]["ImageList"]["TagGroup0"]["ImageData"]
    brightness = stored["Calibrations"].get("Brightness", {})
    dtype = signal["data"].dtype.newbyteorder(">" if stored["Data"]["endian"] == "big" else "<")
    frames = RawFrames(path, shape, dtype, even_offsets(stored["Data"]["offset"], shape, dtype))
    fields = rosetta.calibration(signal["axes"])
    fields |= gain(brightness.get("Scale"), brightness.get("Units"))
    fields["provenance"] |= provenance | {"format": path.suffix[1:].upper()}
    if origin := brightness.get("Origin"):
        fields["provenance"]["brightness_origin_counts"] = float(origin)
    return Image(as_pixels(frames), **fields)
