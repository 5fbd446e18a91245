from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_lowdose_tem.widgets.train.check import describe_summary, group_findings, iter_results


@dataclass(frozen=True)
class Found:
    severity: str
    path: Path
    what: str
    remedy: str


@dataclass(frozen=True)
class Summary:
    fields: int = 20
    usable: int = 38
    refused: int = 2
    median_shift_px: float | None = 1.24
    median_dose_e_per_px: float | None = 4.61


def test_alike_findings_are_told_once_with_the_remedy():
    folder = Path("data")
    found = [Found("warning", folder / "FeNi" / f"{i}.tif", "no gain", "export in e-") for i in range(3)]
    found += [Found("error", folder, "12 frames", "is the order swapped?")]
    warning, error = group_findings(found, "data")
    assert warning.where == str(Path("FeNi", "0.tif")) + " and 2 more"
    assert warning.text == "no gain. Export in e-."
    assert (error.severity, error.where, error.text) == ("error", "", "12 frames. Is the order swapped?")


def test_the_summary_counts_pairs_and_those_refused():
    text = describe_summary(Summary())
    assert text == "20 fields · 38 pairs · 2 refused · shifted by 1.2 px (median) · 4.61 e⁻/px (median)"
    alone = describe_summary(Summary(1, 0, 0, None, None))
    assert alone == "1 field · no pairs: low-dose frames are simulated from the high-dose ones"


def write_field(folder, number, rng, saturated=False):
    """A high-dose frame of 4 × 128 by 4 × 160 px and its low-dose frame, with structure to register on."""
    rows, cols = np.mgrid[:512, :640] / 4
    light = np.ones((512, 640))
    for _ in range(40):
        row, col, radius = rng.uniform(0, 128), rng.uniform(0, 160), rng.uniform(3, 12)
        light *= 1 - 0.6 * ((rows - row) ** 2 + (cols - col) ** 2 < radius**2)
    high = rng.poisson(400 * light)
    low = rng.poisson(200 * light.reshape(128, 4, 160, 4).mean((1, 3)))
    if saturated:
        low[:20] = low.max() * 3
    tifffile.imwrite(folder / f"{2 * number:04}.tif", high.astype(np.uint16))
    tifffile.imwrite(folder / f"{2 * number + 1:04}.tif", low.astype(np.uint16))


def test_a_real_check_tells_what_and_where(tmp_path):
    rng = np.random.default_rng(5)
    for number in range(3):
        write_field(tmp_path, number, rng, saturated=number == 1)
    *_, last = iter_results(str(tmp_path), 8)
    assert last.share_done == 1
    (error,) = [finding for finding in last.findings if finding.severity == "error"]
    assert error.where == "0003.tif"
    assert "saturated" in error.text
    assert last.text.startswith("3 fields · ")


@pytest.mark.parametrize("factor", [4, 8])
def test_high_dose_frames_alone_will_do(tmp_path, factor):
    rng = np.random.default_rng(5)
    for number in range(2):
        tifffile.imwrite(tmp_path / f"{number}.tif", rng.poisson(400, (256, 384)).astype(np.uint16))
    *_, last = iter_results(str(tmp_path), factor)
    assert not [finding for finding in last.findings if finding.severity == "error"]
    assert "simulated from the high-dose ones" in last.text


def test_no_such_folder_is_a_finding(tmp_path):
    (last,) = iter_results(str(tmp_path / "none"), 8)
    assert [finding.severity for finding in last.findings] == ["error"]
