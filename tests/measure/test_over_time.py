import csv

import numpy as np
import pytest

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.measure import FitOptions, Line, iter_over_time, measure_over_time

PX = 4.8
CENTER = np.array([200.0, 250.0])
LINE = Line((200 / PX, 150 / PX), (200 / PX, 360 / PX))


@pytest.fixture(scope="module")
def movie(render):
    """A growing and drifting particle beside another one; diameters [nm] and shifts [px]."""
    rng = np.random.default_rng(2)
    diameters = np.linspace(60, 90, 24)
    shifts = np.cumsum(rng.normal(0, 0.5, (24, 2)), axis=0)
    shifts -= shifts[0]
    frames = []
    for diameter, shift in zip(diameters, shifts, strict=True):
        spheres = [(*(CENTER + PX * shift), diameter, 0.6), (*(np.array([330, 140]) + PX * shift), 80, 0.6)]
        frames.append(rng.poisson(render((96, 110), spheres, 4.0, (PX, PX), level=20_000)))
    return Image(np.stack(frames), (PX, PX), frame_time_s=0.1, name="movie"), diameters, shifts


def test_growth_is_followed_within_its_band(movie):
    image, diameters, shifts = movie
    result = measure_over_time(image, LINE, follow=True)
    assert not any(result.refused)
    np.testing.assert_allclose(result.shift_px, shifts, atol=0.2)
    error = result.diameter[:, 0] - diameters
    assert np.abs(error).max() < 1.5
    assert np.mean(np.abs(error) < 2 * result.diameter_se[:, 0]) > 0.8
    assert result.time_s[-1] == pytest.approx(2.3)
    assert result.kymograph.shape == (24, len(result.position))
    assert result.unit == "nm" and result.diameter.shape == (24, 1)


def test_without_following_the_line_stays(movie):
    image, *_ = movie
    result = measure_over_time(image, LINE, FitOptions(particles=1), first=3, last=9)
    assert result.frames.tolist() == [3, 4, 5, 6, 7, 8]
    assert not result.shift_px.any()


def test_progress_counts_frames_and_can_be_stopped(movie):
    image, *_ = movie
    steps = iter_over_time(image, LINE, FitOptions(particles=1))
    first = next(steps)
    assert (first.done, first.total, len(first.gather().frames)) == (1, 24, 1)
    assert first.measurement.particles[0].diameter == pytest.approx(60, abs=2)
    steps.close()


def test_frames_without_a_number_say_why(movie, tmp_path):
    image, *_ = movie
    frames = image.data.astype(float)
    frames[5] = np.nan
    result = measure_over_time(image.with_data(frames[:8]), LINE, FitOptions(particles=1))
    assert [bool(reason) for reason in result.refused] == [i == 5 for i in range(8)]
    assert np.isnan(result.diameter[5, 0])
    path = result.write_csv(tmp_path / "d.csv")
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert list(rows[0]) == [
        "frame", "time_s", "center_nm", "center_se_nm", "diameter_nm", "diameter_se_nm", "shift_row_px",
        "shift_col_px", "refused",
    ]  # fmt: skip
    assert rows[5]["diameter_nm"] == "" and "samples" in rows[5]["refused"]
    assert float(rows[3]["diameter_nm"]) == pytest.approx(result.diameter[3, 0], rel=1e-5)
    assert [p.name for p in tmp_path.iterdir()] == ["d.csv"]


def test_two_particles_give_their_separation(render):
    frames = [
        render((50, 90), [(120, 150, 60, 0.6), (120, 150 + apart, 70, 0.6)], 4.0, (PX, PX))
        for apart in (75, 80, 85)
    ]
    result = measure_over_time(Image(np.stack(frames), (PX, PX)), Line((25, 15), (25, 65)))
    assert result.separation == pytest.approx([75, 80, 85], abs=0.1)
    names, _ = result.rows()
    assert "separation_nm" in names and "diameter2_se_nm" in names and "time_s" not in names


def test_a_line_that_drifts_out_is_told(render):
    frames = []
    for i in range(10):
        spheres = [
            (100 - 4 * i * PX, 150, 60, 0.5),
            (200 - 4 * i * PX, 200, 80, 0.5),
            (260 - 4 * i * PX, 90, 70, 0.5),
        ]
        frames.append(render((64, 70), spheres, 4.0, (PX, PX), level=30_000))
    image = Image(np.random.default_rng(1).poisson(np.stack(frames)), (PX, PX))
    result = measure_over_time(
        image, Line((100 / PX, 15), (100 / PX, 50)), FitOptions(particles=1), follow=True
    )
    assert not result.refused[0]
    assert result.refused[-1]
    assert np.isnan(result.kymograph[-1]).all() or "frame edge" in result.refused[-1]


@pytest.mark.parametrize(
    ("options", "said"),
    [({"first": 20, "last": 40}, "not within"), ({"raw": Image(np.ones((3, 96, 110)))}, "raw stack")],
)
def test_what_does_not_fit_is_an_error(movie, options, said):
    with pytest.raises(ValueError, match=said):
        measure_over_time(movie[0], LINE, **options)


def test_an_interrupted_series_keeps_its_table(movie, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from napari_lowdose_tem.cli import app
    from napari_lowdose_tem.io import write
    from napari_lowdose_tem.measure import over_time

    image, *_ = movie
    write(image, tmp_path / "movie.tif")
    fit, fitted = over_time.fit_profile, []

    def interrupt(*args, **options):
        fitted.append(1)
        if len(fitted) > 5:
            raise KeyboardInterrupt
        return fit(*args, **options)

    monkeypatch.setattr(over_time, "fit_profile", interrupt)
    line = ",".join(map(str, (*LINE.start, *LINE.stop)))
    words = ["measure", tmp_path / "movie.tif", "--line", line, "--particles", "1", "--over-time"]
    done = CliRunner().invoke(app, [*map(str, words), str(tmp_path / "d.csv")])
    assert done.exit_code == 130
    assert "holds the 5 frames measured" in " ".join(done.output.split())
    rows = list(csv.DictReader((tmp_path / "d.csv").read_text("utf-8").splitlines()))
    assert [row["frame"] for row in rows] == ["0", "1", "2", "3", "4"]
    assert all(float(row["diameter_nm"]) > 50 for row in rows)
