"""Save enhanced frames as they come, readable at any moment, continued after an interruption."""

from __future__ import annotations

import csv
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO, cast

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io import (
    READABLE_SUFFIXES,
    OutputLock,
    ZarrAppender,
    disk_full_explained,
    write,
    write_text,
)
from napari_lowdose_tem.network.scaling import Scaling

OUTPUT_ENDINGS = ("", ".lock", ".frames.csv", ".frames.json")
"""What a live output consists of, after its name."""

_COLUMNS = ("frame", "source", "saved", "latency_ms")


class LiveOutput(ABC):
    """Frames in the order they come, and a table of their names.

    Beside the pixels lie a table, one line for each complete frame, and a JSON file with the job: what
    decides the pixels, as JSON values. An output is only continued by the same job.
    """

    def __init__(self, path: Path, table: Path, job: Mapping[str, Any], resume: bool) -> None:
        self.path, self._table, self._job_file = path, table, table.with_suffix(".json")
        self._job = json.loads(json.dumps(job))
        self._file: TextIO | None = None
        self._is_torn = False  # one frame more than lines may be there
        self.done: set[str] = set()
        self.scaling: Scaling | None = None
        self.shape: tuple[int, int] | None = None
        self.count = 0
        if not path.parent.is_dir():
            raise FileNotFoundError(f"{path.parent}: no such folder; create it first")
        self._lock = OutputLock(path)
        try:
            if self._exists():
                self._continue(resume)
        except BaseException:
            self.close()
            raise

    def write(self, name: str, image: Image, scaling: Scaling | None, latency_s: float) -> None:
        """Save a frame, then its line in the table.

        Raises
        ------
        OSError
            When the disk is full.
        """
        with disk_full_explained(self.path, lambda: f"{self.count} frames"):
            if self._file is None:
                self._begin(image, scaling)
            self._write(name, image)
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            self._add_line(self.count, name, now, round(1000 * latency_s, 2))
        self.count += 1
        self._is_torn = False

    def close(self) -> None:
        """Stop here; what is written stays."""
        if self._file is not None:
            self._file.close()
        self._lock.close()

    @abstractmethod
    def _exists(self) -> bool: ...

    def _create(self) -> None:  # noqa: B027 - a Zarr is made by its first frame
        """Make what must be there before the first frame."""

    @abstractmethod
    def _open(self, count: int) -> int:
        """Open what is there and leave at most `count` frames; gives their number."""

    @abstractmethod
    def _write(self, name: str, image: Image) -> None: ...

    def _begin(self, image: Image, scaling: Scaling | None) -> None:
        if self.shape is None:
            self._create()
            state = {"scaling": None if scaling is None else asdict(scaling), "shape": image.frame_shape}
            write_text(self._job_file, json.dumps({"job": self._job, **state}, indent=1) + "\n")
            write_text(self._table, ",".join(_COLUMNS) + "\n")
        self.shape = image.frame_shape
        self._file = open(self._table, "a", encoding="utf-8", newline="")

    def _add_line(self, *values: object) -> None:
        file = cast("TextIO", self._file)
        csv.writer(file, lineterminator="\n").writerow(values)
        file.flush()

    def _continue(self, resume: bool) -> None:
        if not (self._job_file.exists() and self._table.exists()):
            raise ValueError(f"{self.path}: exists already and is not a live output; choose another name")
        if not resume:
            raise ValueError(f"{self.path}: exists already; resume it, or choose another name")
        stored = json.loads(self._job_file.read_text(encoding="utf-8"))
        if stored["job"] != self._job:
            differing = [key for key in self._job if stored["job"].get(key) != self._job[key]]
            listing = "; ".join(f"{k} was {stored['job'].get(k)!r}, is {self._job[k]!r}" for k in differing)
            raise ValueError(
                f"{self.path}: made by another job ({listing}); resume with the same settings, or rename it"
            )
        self.scaling = None if stored["scaling"] is None else Scaling(**stored["scaling"])
        self.shape = tuple(stored["shape"])
        *lines, _torn = self._table.read_text(encoding="utf-8").split("\n")
        rows = list(csv.reader(lines[1:]))
        rows = rows[: self._open(len(rows))]
        self._is_torn = True
        write_text(self._table, "\n".join([*lines[: len(rows) + 1], ""]))
        self.done = {row[1] for row in rows}
        self.count = len(rows)


class ZarrOutput(LiveOutput):
    """An OME-Zarr that others can read while it grows."""

    def __init__(self, path: Path, job: Mapping[str, Any], resume: bool) -> None:
        self._zarr = ZarrAppender(path)
        super().__init__(path, path.with_name(f"{path.name}.frames.csv"), job, resume)

    def _exists(self) -> bool:
        return self.path.exists()

    def _open(self, count: int) -> int:
        return self._zarr.open(count)

    def _write(self, name: str, image: Image) -> None:
        self._zarr.write(self.count, image)


class FolderOutput(LiveOutput):
    """A folder of single float32 TIFF files, named as the frames."""

    def __init__(self, path: Path, job: Mapping[str, Any], resume: bool) -> None:
        super().__init__(path, path / "frames.csv", job, resume)

    def _exists(self) -> bool:
        return self.path.is_dir() and any(self.path.iterdir())

    def _create(self) -> None:
        self.path.mkdir(exist_ok=True)

    def _open(self, count: int) -> int:
        return count

    def _write(self, name: str, image: Image) -> None:
        stem = name
        if Path(name).suffix.lower() in READABLE_SUFFIXES:
            stem = Path(name).stem
        number = stem.removeprefix("frame ")
        stem = f"frame_{int(number):06d}" if number.isdecimal() and number != stem else stem
        path, again = self.path / f"{stem}.tif", 1
        while path.exists() and not self._is_torn:  # from another series with the same names
            again += 1
            path = self.path / f"{stem}_{again}.tif"
        write(image, path, overwrite=self._is_torn)


def open_output(path: Path, job: Mapping[str, Any], resume: bool) -> LiveOutput:
    """Open an OME-Zarr (``.zarr``) or a folder to write to.

    Raises
    ------
    ValueError
        For another ending, an existing output, that of another job, or one that is being written.
    """
    path = Path(os.path.abspath(path))
    if path.suffix.lower() == ".zarr":
        return ZarrOutput(path, job, resume)
    if path.suffix.lower() in READABLE_SUFFIXES or path.is_file():
        raise ValueError(f"{path}: a live series is saved to OUT.ome.zarr or to a folder of TIFF files")
    return FolderOutput(path, job, resume)
