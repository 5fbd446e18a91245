import re

import numpy as np
import pytest

from napari_lowdose_tem.figures.comparison import FramePanel, choose_limits, draw_comparison
from napari_lowdose_tem.figures.profile import save


@pytest.fixture(scope="module")
def panels(field):
    high, low, _ = field
    mark = [[(20, 30), (90, 200)], [(50, 60)], [(200, 100), (200, 300), (300, 300)]]
    return [
        FramePanel("HDE", high.data, high.pixel_size_nm),
        FramePanel("LDE", low.data, low.pixel_size_nm),
        FramePanel("Output", high.data * 0.98, high.pixel_size_nm, marks=mark),
    ]


def test_shared_limits_are_those_of_the_quiet_frames(panels):
    limits, why_not = choose_limits(panels)
    assert why_not == ""
    assert len(set(limits)) == 1
    low, high = limits[0]
    assert low == pytest.approx(0.98 * np.percentile(panels[0].pixels, 0.5))
    assert high == pytest.approx(np.percentile(panels[0].pixels, 99.5))
    own, _ = choose_limits(panels, shared=False)
    assert own[1][1] > high * 1.5  # the noise


def test_limits_are_not_shared_over_units_and_doses(panels):
    counts = panels[0]
    relative = FramePanel("T", counts.pixels / counts.pixels.max(), unit="transmission")
    assert "units" in choose_limits([counts, relative])[1]
    tenfold = FramePanel("HDE", counts.pixels * 10)
    limits, why_not = choose_limits([counts, tenfold])
    assert "levels" in why_not
    assert limits[1] == pytest.approx(np.multiply(limits[0], 10))
    assert choose_limits([FramePanel("a", counts.pixels, limits=(1.0, 2.0)), counts])[0][0] == (1.0, 2.0)


def test_figure_says_which_limits_and_how_long(panels):
    figure = draw_comparison(panels)
    frames, bar = figure.axes[:3], figure.axes[3]
    assert [axes.get_title() for axes in frames] == ["HDE", "LDE", "Output"]
    assert {axes.images[0].get_clim() for axes in frames} == {choose_limits(panels)[0][0]}
    assert bar.get_ylabel() == "counts, same in all"
    assert [text.get_text() for axes in frames for text in axes.texts] == ["500 nm"] * 3
    bar_line = frames[0].lines[0]
    assert np.ptp(bar_line.get_xdata()) == pytest.approx(500)
    own = draw_comparison(panels, shared=False, scale_bar=False)
    assert len(own.axes) == 3
    low, high = choose_limits(panels, False)[0][1]
    assert own.axes[1].get_xlabel() == f"{low:.3g} to {high:.0f} counts"
    assert not own.axes[0].texts


def test_marks_lie_where_they_are(panels):
    output = draw_comparison(panels, scale_bar=False).axes[2]
    line, point = output.lines
    np.testing.assert_allclose(line.get_xdata(), [30.5 * 3, 200.5 * 3])
    np.testing.assert_allclose(line.get_ydata(), [20.5 * 3, 90.5 * 3])
    np.testing.assert_allclose(point.get_xydata(), [[60.5 * 3, 50.5 * 3]])
    np.testing.assert_allclose(output.patches[0].get_xy()[:3] / 3 - 0.5, [[100, 200], [300, 200], [300, 300]])


def test_frames_of_other_grids_are_drawn_in_nm(panels):
    coarse = FramePanel("coarse", panels[0].pixels[::4, ::4], (12.0, 12.0))
    figure = draw_comparison([panels[0], coarse])
    assert figure.axes[0].get_xlim() == figure.axes[1].get_xlim() == (0, 512 * 3.0)
    plain = draw_comparison([FramePanel("x", panels[0].pixels)])
    assert plain.axes[0].texts[0].get_text() == "100 px"


@pytest.mark.parametrize("ending", [".png", ".svg", ".pdf"])
def test_figure_is_written_whole(panels, tmp_path, ending):
    path = save(draw_comparison(panels, dpi=60), tmp_path / f"figure{ending}", dpi=60)
    assert path.read_bytes().startswith({".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}[ending])
    assert list(tmp_path.iterdir()) == [path]
    if ending == ".svg":
        assert len(re.findall(r"<text[^>]*>500 nm</text>", path.read_text(encoding="utf-8"))) == 3


def test_careless_input(tmp_path):
    with pytest.raises(ValueError, match="nothing to draw"):
        draw_comparison([])
    with pytest.raises(ValueError, match=r"stack: shape \(2, 3, 4\); a panel needs one frame"):
        draw_comparison([FramePanel("stack", np.ones((2, 3, 4)))])
    empty = draw_comparison([FramePanel("a", np.full((3, 4), np.nan)), FramePanel("b", np.ones((3, 4)))])
    save(empty, tmp_path / "empty.png", dpi=40)
