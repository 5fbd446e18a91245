import numpy as np
import pytest
from matplotlib.figure import Figure

from napari_lowdose_tem.figures.scale_bar import Extent, draw_scale_bar, round_length, write_length


@pytest.mark.parametrize(
    ("most", "length"),
    [
        (1.0, 1), (9.9, 5), (48, 20), (0.06, 0.05), (500, 500),
        (99, 50), (100, 100), (480, 200), (0.7, 0.5), (2100, 2000),
    ],
)  # fmt: skip
def test_scale_bar_is_a_round_number(most, length):
    assert round_length(most) == pytest.approx(length)


def test_long_bars_are_in_micrometres():
    assert [write_length(v, "nm") for v in (0.5, 500, 2000)] == ["0.5 nm", "500 nm", "2 µm"]
    assert write_length(2000, "px") == "2000 px"


def test_length_follows_the_axes_unit():
    bars = []
    for extent, units_per_px in (
        (Extent(-0.5, 79.5, 47.5, -0.5), 4.0),
        (Extent(-2.0, 318.0, 190.0, -2.0), 1.0),
    ):
        axes = Figure().subplots()
        draw_scale_bar(axes, extent, "nm", units_per_px, share=0.25)
        (black, white), (text,) = axes.lines, axes.texts
        assert text.get_text() == "50 nm"
        assert np.array_equal(black.get_xydata(), white.get_xydata())
        assert np.ptp(white.get_xdata()) * units_per_px == pytest.approx(50)
        assert extent.top < white.get_ydata()[0] < extent.bottom
        bars.append((white.get_xdata() + extent.left) * units_per_px)
    np.testing.assert_allclose(bars[0] - bars[0][0], bars[1] - bars[1][0])
