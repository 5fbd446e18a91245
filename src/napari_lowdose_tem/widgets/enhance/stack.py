"""A whole stack enhanced into memory or to disk: the frozen request, and where the output fits. No Qt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_lowdose_tem.engine.options import EngineOptions
from napari_lowdose_tem.image import Image
from napari_lowdose_tem.widgets.shared.durations import duration

if TYPE_CHECKING:
    from napari_lowdose_tem.enhancement import Progress

_MEMORY_SHARE = 4  # an output may take this fraction of the free memory
_UNKNOWN_MEMORY = 4 * 2**30


@dataclass(frozen=True, eq=False, kw_only=True)
class StackRequest:
    """A stack or frame to enhance, into memory or to an OME-Zarr folder `output`."""

    image: Image
    engine: EngineOptions
    output: Path | None = None
    resume: bool = False

    def iter_steps(self) -> Iterator[Progress]:
        """Run it; imports torch."""
        from napari_lowdose_tem.enhancement import EnhanceJob, iter_enhance

        job = EnhanceJob(self.image, engine=self.engine, output=self.output, resume=self.resume)
        return iter_enhance(job)

    def unfinished(self, made: Mapping[str, Any], n_frames: int) -> Image:
        """Return the image with how it is made, as the job reports, and how many frames are finished."""
        made = made or {"model_file": str(self.engine.model)}
        return self.image.with_provenance(enhanced={**made, "finished_frames": n_frames})


def output_bytes(image: Image) -> int:
    """Size of the enhanced image in memory [bytes]."""
    rows, cols = image.frame_shape
    return image.n_frames * rows * cols * 4


def free_memory_bytes() -> int:
    """Memory other programs do not use [bytes]."""
    try:
        import psutil
    except ImportError:
        return _UNKNOWN_MEMORY
    return int(psutil.virtual_memory().available)


def fits_memory(image: Image) -> bool:
    """Whether the enhanced image may be kept in memory."""
    return output_bytes(image) < free_memory_bytes() / _MEMORY_SHARE


def propose_output(image: Image) -> Path:
    """Propose an OME-Zarr folder beside the source, or in the home folder, that does not exist."""
    source = image.provenance.get("source")
    folder = Path(source).parent if source and Path(source).parent.is_dir() else Path.home()
    stem = "".join(c if c.isalnum() or c in " -_." else "-" for c in image.name).strip() or "image"
    path, number = folder / f"{stem}-enhanced.zarr", 1
    while path.exists():
        number += 1
        path = folder / f"{stem}-enhanced-{number}.zarr"
    return path


def has_partial(output: Path | None) -> bool:
    """Whether there is an interrupted output that can be resumed."""
    return output is not None and output.with_name(f"{output.name}.partial").exists()


def size_text(n_bytes: float) -> str:
    """Return `39 MB`."""
    for unit in ("kB", "MB", "GB", "TB"):
        n_bytes /= 1000
        if n_bytes < 1000 or unit == "TB":
            break
    return f"{n_bytes:.3g} {unit}"


def progress_text(progress: Progress) -> str:
    """Return `12 of 50 frames · 3.4 frames/s · 11 s left`."""
    parts = [f"{int(progress.done)} of {progress.total} frames"]
    rate = progress.frames_per_s
    if progress.done > 0 and rate > 0:
        parts += [rate_text(rate), f"{duration((progress.total - progress.done) / rate)} left"]
    return " · ".join(parts)


def finished_text(progress: Progress, is_stack: bool, output: Path | None) -> str:
    """Return `299 frames enhanced in 74.8 s (4 frames/s). Saved: PATH`."""
    took_s = progress.elapsed_s
    text = f"Frame enhanced in {took_s:.1f} s."
    if is_stack:
        text = f"{progress.total} frames enhanced in {took_s:.1f} s ({rate_text(progress.frames_per_s)})."
    return f"{text} Saved: {output}" if output else text


def rate_text(rate: float) -> str:
    """Return `3.4 frames/s` or `24 frames/s`."""
    return f"{rate:.2g} frames/s" if rate < 10 else f"{rate:.0f} frames/s"
