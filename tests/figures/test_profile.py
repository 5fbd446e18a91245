import re
from dataclasses import replace

import numpy as np
import pytest

from napari_lowdose_tem.figures import profile as figure
from napari_lowdose_tem.measure.measurement import Background, Measurement, Particle
from napari_lowdose_tem.measure.profile import Line, sample_line

SIZE_NM = (2.0, 3.0)


@pytest.fixture(scope="module")
def panel():
    """A dip of known shape measured on a frame that is neither square nor of square pixels."""
    rows, cols = np.mgrid[:60, :90]
    frame = 200 - 80 * np.exp(-((rows * 2 - 60) ** 2 + (cols * 3 - 120) ** 2) / 800)
    profile = sample_line(frame, Line((30, 10), (30, 80), 4), SIZE_NM)
    curve = profile.intensity
    found = Measurement(
        "nm",
        "full",
        "fraction",
        (Particle(90.0, 0.2, 60.0, 0.5, (59.0, 61.0)),),
        Background(200.0, 1.0, 0.1, ((0.0, 30.0),)),
        position=profile.position,
        curve=curve,
        used=np.abs(profile.position - 90) < 30,
    )
    return figure.ProfilePanel("LDE", frame, profile, found)


def test_figure_shows_data_fit_used_points_and_diameter(panel):
    made = figure.draw([panel], scale="counts")
    frame, plot = made.axes
    data, circles, _, fit, ground, bar = plot.lines
    np.testing.assert_allclose(data.get_ydata(), panel.profile.intensity)
    np.testing.assert_allclose(fit.get_ydata(), panel.measurement.curve)
    assert len(circles.get_xdata()) == panel.measurement.used.sum()
    np.testing.assert_allclose(ground.get_ydata()[[0, -1]], [200 - 10.5, 200 + 10.5])
    np.testing.assert_allclose(bar.get_xdata(), [60, 120])
    assert [text.get_text() for text in plot.texts] == ["60.0 ± 0.5 nm"]
    assert plot.get_xlabel().endswith("[nm]")
    # the line lies where it was drawn, in nm
    line = frame.lines[0]
    np.testing.assert_allclose((line.get_xdata(), line.get_ydata()), [(30, 240), (60, 60)])


def test_scales(panel):
    values, curve, ground = figure.scale_profile(panel.profile, panel.measurement, "transmission")
    np.testing.assert_allclose(ground, 1)
    middle = np.argmin(np.abs(panel.profile.position - 105))
    assert values[middle] == pytest.approx(panel.profile.intensity[middle] / 200)
    np.testing.assert_allclose(curve, values)
    values, *_ = figure.scale_profile(panel.profile, panel.measurement, "unit")
    assert (values.min(), values.max()) == (0, 1)
    bare = figure.scale_profile(panel.profile, None, "transmission")
    assert bare[0][0] == pytest.approx(1, abs=0.01)
    assert not (bare[1].size or bare[2].size)


def test_refusal_is_written_in_the_figure(panel):
    refused = replace(panel.measurement, refused="no dip below the background", particles=())
    made = figure.draw([figure.ProfilePanel("LDE", panel.pixels, panel.profile, refused)])
    assert "no dip" in made.axes[1].get_title(loc="left")


@pytest.mark.parametrize("layout", figure.LAYOUTS)
def test_several_panels(panel, layout):
    made = figure.draw([panel] * 3, layout=layout)
    plots = [axes for axes in made.axes if axes.get_xlabel() or axes.get_ylabel()]
    assert len(plots) == (3 if layout == "stacked" else 1)
    low, high = plots[0].get_ylim()
    bottom = np.nanmin(figure.scale_profile(panel.profile, panel.measurement, "transmission")[0])
    share = plots[0].lines[5].get_ydata()[0]
    assert share < (bottom - low) / (high - low)  # the bars lie below the profile


@pytest.mark.parametrize("ending", figure.ENDINGS)
def test_figure_is_written_whole(panel, tmp_path, ending):
    path = figure.save(figure.draw([panel]), tmp_path / f"figure{ending}", dpi=60)
    start = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}[ending]
    assert path.read_bytes().startswith(start)
    assert list(tmp_path.iterdir()) == [path]
    if ending == ".svg":  # text stays text
        assert re.search(r"<text[^>]*>60\.0 ± 0\.5 nm</text>", path.read_text(encoding="utf-8"))


def test_wrong_choices_are_named(panel, tmp_path):
    with pytest.raises(ValueError, match=r"x\.jpg.*\.png, \.svg, \.pdf"):
        figure.save(figure.draw([panel]), tmp_path / "x.jpg")
    with pytest.raises(ValueError, match="no profile"):
        figure.draw([])
    with pytest.raises(ValueError, match="'beside'"):
        figure.draw([panel], layout="beside")
    assert list(tmp_path.iterdir()) == []
