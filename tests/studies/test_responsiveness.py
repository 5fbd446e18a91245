"""The script that measures how free napari stays while the Live dock runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "studies" / "responsiveness.py"
# at its low priority the live process might not get to start on a busy machine
RUN = """
import runpy, sys
from napari_lowdose_tem.live import process
process._NICENESS = 0
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def measure(*options):
    command = [sys.executable, "-c", RUN, str(SCRIPT), "--seconds", "2", "--side", "64", "--json", *options]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr[-2000:]
    return json.loads(ran.stdout.splitlines()[-1])


@pytest.mark.parametrize("bare", [False, True])
def test_beats_and_frames_are_counted(tiny_model, bare):
    result = measure("--bare") if bare else measure("--model", str(tiny_model), "--device", "cpu")
    for row in (result["gap_ms"], result["busy_ms"]):
        assert 0 <= row["p50"] <= row["p99"] <= row["max"]
        assert row["n"] > 20
        assert 0 <= row["over_50"] < row["n"]
    assert result["gap_ms"]["max"] >= result["busy_ms"]["max"]
    if bare:
        assert result["drawn"] > 2
        return
    assert result["arrived"] > 50
    assert 0 < result["enhanced"] <= result["arrived"]
    assert result["start"]["gap_ms"]["n"] > 0
    assert all(len(row) == 3 and min(row[1:]) > 20 for row in result["memory_mb"])
