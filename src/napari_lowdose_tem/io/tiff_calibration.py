"""Pixel size, gain and frame time from the tags of a TIFF file."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

from napari_lowdose_tem.io.extra_metadata import KEY, with_extra_metadata
from napari_lowdose_tem.io.fields import ImageFields
from napari_lowdose_tem.io.units import length_nm, pixel_size_nm, time_s

# A resolution in dots per inch or cm is mostly that of a printer or screen: 72 dpi is 353 µm, 2,400 dpi is
# 11 µm. The lowest magnification of a TEM shows about 1 µm/px, so anything coarser is no calibration.
_COARSEST_NM = 1000.0

_ELECTRONS = {"e-", "e", "e⁻", "electron", "electrons"}


def calibration(tif: Any) -> ImageFields:
    """Read the calibration of an open tifffile.TiffFile; ``provenance`` is always there.

    The first that is there counts: DigitalMicrograph's tags, OME-XML, ImageJ's description, TIFF resolution.
    """
    tags = tif.pages.first.tags
    if 65009 in tags:
        fields, note = _digital_micrograph(tags)
    elif tif.is_ome:
        fields, note = _ome(tif.ome_metadata)
    elif tif.is_imagej:
        fields, note = _imagej(tif.imagej_metadata or {}, tags)
    else:
        fields, note = _resolution(tags)
    provenance = fields.setdefault("provenance", {})
    if note:
        provenance["pixel_size_note"] = note
    return fields


def gain(scale: float | None, unit: object) -> ImageFields:
    """Give the gain [counts/e-] where the intensity is calibrated in electrons, otherwise nothing."""
    in_electrons = str(unit or "").strip(" \0").casefold() in _ELECTRONS
    return {"counts_per_electron": 1 / float(scale)} if in_electrons and scale and scale > 0 else {}


def _digital_micrograph(tags: Any) -> tuple[ImageFields, str]:
    """Read Gatan's private tags, each there for x, y and z in turn."""

    def value(code: int) -> Any:
        return tags[code].value if code in tags else None

    def unit(axis: int) -> Any:
        # the long name is ASCII, the short one is in the code page of the microscope's PC
        return value(65012 + axis) or value(65003 + axis)

    size, note = pixel_size_nm(value(65010), value(65009), unit(1), unit(0))
    fields: ImageFields = {"pixel_size_nm": size, "frame_time_s": time_s(value(65011), unit(2))}
    fields |= gain(value(65025), value(65022) or value(65023))
    if origin := value(65024):
        fields["provenance"] = {"brightness_origin_counts": origin}
    return fields, note


def _ome(xml: str) -> tuple[ImageFields, str]:
    # xml2dict of tifffile would turn values into numbers, and single elements and lists into different things
    root = ElementTree.fromstring(xml)
    found = root.find(".//{*}Pixels")
    at = {} if found is None else found.attrib
    size, note = pixel_size_nm(
        at.get("PhysicalSizeY"),
        at.get("PhysicalSizeX"),
        # the schema's defaults
        at.get("PhysicalSizeYUnit", "µm") if "PhysicalSizeY" in at else None,
        at.get("PhysicalSizeXUnit", "µm") if "PhysicalSizeX" in at else None,
    )
    fields: ImageFields = {
        "pixel_size_nm": size,
        "frame_time_s": time_s(at.get("TimeIncrement"), at.get("TimeIncrementUnit", "s")),
    }
    for entry in root.iterfind(".//{*}MapAnnotation/{*}Value/{*}M"):
        if entry.get("K") == KEY:
            fields = with_extra_metadata(fields, entry.text)
    return fields, note


def _imagej(meta: dict[str, Any], tags: Any) -> tuple[ImageFields, str]:
    unit = meta.get("unit")
    row, col = (1 / r if (r := _ratio(tags, code)) else None for code in (283, 282))
    if length_nm(1, unit) in (1e7, 2.54e7):
        fields, note = _resolution(tags)
    else:
        size, note = pixel_size_nm(row, col, meta.get("yunit", unit), unit)
        fields = {"pixel_size_nm": size}
    fields["frame_time_s"] = time_s(meta.get("finterval"), meta.get("tunit", "s"))
    if fields["frame_time_s"] is None and isinstance(fps := meta.get("fps"), int | float) and fps > 0:
        fields["frame_time_s"] = 1 / fps
    return with_extra_metadata(fields, meta.get(KEY)), note


def _resolution(tags: Any) -> tuple[ImageFields, str]:
    unit = {2: "inch", 3: "cm"}.get(int(tags[296].value) if 296 in tags else 2)
    row, col = (length_nm(1 / r, unit) if (r := _ratio(tags, code)) else None for code in (283, 282))
    if row is None or col is None or max(row, col) > _COARSEST_NM:
        return {"pixel_size_nm": None}, ""
    return {"pixel_size_nm": (row, col)}, ""


def _ratio(tags: Any, code: int) -> float:
    numerator, denominator = tags[code].value if code in tags else (0, 1)
    return float(numerator) / float(denominator) if denominator else 0.0
