from pathlib import Path

import numpy as np
import pytest

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.widgets.enhance import stack


@pytest.mark.parametrize(
    ("done", "elapsed_s", "text"),
    [
        (0.0, 0.0, "0 of 50 frames"),
        (10.5, 2.1, "10 of 50 frames · 5 frames/s · 8 s left"),
        (1.0, 100.0, "1 of 50 frames · 0.01 frames/s · 82 min left"),
        (1.0, 1000.0, "1 of 50 frames · 0.001 frames/s · 13 h 37 min left"),
    ],
)
def test_progress_text(done, elapsed_s, text):
    from napari_lowdose_tem.enhancement import Progress

    assert stack.progress_text(Progress(done=done, total=50, elapsed_s=elapsed_s, device="cpu")) == text


def test_proposed_output_is_free_and_a_valid_name(tmp_path):
    image = Image(np.ones((2, 3)), name="a/b: c", provenance={"source": str(tmp_path / "x.tif")})
    first = stack.propose_output(image)
    assert first == Path(tmp_path, "a-b- c-enhanced.zarr")
    first.mkdir()
    assert stack.propose_output(image) == Path(tmp_path, "a-b- c-enhanced-2.zarr")


def test_the_end_says_how_many_how_fast_and_where():
    from napari_lowdose_tem.enhancement.run import Progress

    end = Progress(done=299, total=299, elapsed_s=74.8, device="cpu")
    path = Path("movie.ome.zarr")
    assert stack.finished_text(end, True, path) == (
        "299 frames enhanced in 74.8 s (4 frames/s). Saved: movie.ome.zarr"
    )
    assert stack.finished_text(end, False, None) == "Frame enhanced in 74.8 s."
