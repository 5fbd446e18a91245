import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.patches import Circle

from napari_lowdose_tem.judge.contact_sheet import draw_sheet
from napari_lowdose_tem.judge.evaluate import ScoredFrame, score_output
from napari_lowdose_tem.particles.find import Detection
from napari_lowdose_tem.particles.match import Match

SHAPE = (48, 80)


@pytest.fixture
def rows(tmp_path):
    rng = np.random.default_rng(5)
    found = []
    for name, pixel_nm in (("FeNi", 4.0), ("SiC", None)):
        hde = np.full(SHAPE, 4000.0)
        hde[10:20, 30:44] = 1200.0
        lde, output = rng.poisson(hde / 800).astype(float), hde / 800 + 0.2 * rng.normal(size=SHAPE)
        hde[:3] = np.nan
        match = Match(
            (), (Detection(30, 12, 9, 0.2),), (Detection(14, 60, 6, 0.1), Detection(40, 70, 6, 0.1))
        )
        found.append(
            ScoredFrame(
                set_name=name,
                path=tmp_path / f"{name}_2.tif",
                hde=hde,
                lde=lde,
                output=output,
                score=score_output(output, hde),
                match=match,
                pixel_size_nm=pixel_nm,
            )
        )
    return found


@pytest.fixture
def drawn(monkeypatch):
    """Figures as they are saved."""
    figures, save = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (figures.append(self), save(self, *a, **k)))
    return figures


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_the_ending_tells_the_format(tmp_path, rows, suffix):
    path = draw_sheet(tmp_path / f"sheet.{suffix}", rows, "tiny")
    assert {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xm"}[suffix] == path.read_bytes()[:4]
    assert list(tmp_path.iterdir()) == [path]


def test_rows_show_what_was_measured(tmp_path, rows, drawn):
    path = draw_sheet(tmp_path / "sheet.png", rows, "tiny")
    height, width = imread(path).shape[:2]
    assert width == 2100
    assert 0.9 * 2 * SHAPE[0] / SHAPE[1] / 3 < height / width < 0.75
    (figure,) = drawn
    axes = np.reshape(figure.axes, (2, 3))
    assert [axis.get_ylabel() for axis in axes[:, 0]] == ["FeNi", "SiC"]
    score = rows[1].score
    assert axes[1, 2].get_title() == f"MAE {score.mae:.3f}, PSNR {score.psnr:.1f} dB"
    assert axes[0, 2].get_title().startswith("Output, model tiny\n")
    for row, frame in zip(axes, rows, strict=True):
        hde, lde, output = (axis.images[0] for axis in row)
        # one scale of transmission for both, so that they can be compared; the camera's own for the low dose
        assert hde.get_clim() == output.get_clim()
        assert hde.get_clim()[0] == pytest.approx(0.3, abs=0.15)
        assert hde.get_clim()[1] == pytest.approx(1.1, abs=0.15)
        assert lde.get_clim() == pytest.approx(tuple(np.percentile(frame.lde, [1, 99])))
        circles = [p for p in row[2].patches if isinstance(p, Circle)]
        assert [c.center for c in circles] == [(60, 14), (70, 40), (12, 30)]
        assert circles[0].get_edgecolor() == circles[1].get_edgecolor() != circles[2].get_edgecolor()
        assert not [p for axis in row[:2] for p in axis.patches if isinstance(p, Circle)]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["particle invented", "particle missed"]


def test_the_scale_bar_needs_a_calibration(tmp_path, rows, drawn):
    draw_sheet(tmp_path / "sheet.png", rows)
    calibrated, unknown = drawn[0].axes[0], drawn[0].axes[3]
    assert [float(np.ptp(line.get_xdata())) * 4.0 for line in calibrated.lines] == pytest.approx([50, 50])
    assert [text.get_text() for text in calibrated.texts] == ["50 nm"]
    assert not unknown.lines
    assert not unknown.texts


def test_bad_paths_leave_nothing(tmp_path, rows, monkeypatch):
    with pytest.raises(ValueError, match=r"sheet\.jpg: a figure ends in \.png, \.pdf, \.svg"):
        draw_sheet(tmp_path / "sheet.jpg", rows)
    with pytest.raises(ValueError, match="no such folder"):
        draw_sheet(tmp_path / "nowhere" / "sheet.png", rows)
    with pytest.raises(ValueError, match="no frames"):
        draw_sheet(tmp_path / "sheet.png", [])
    old = tmp_path / "sheet.png"
    old.write_bytes(b"old")

    def fail(self, path, **options):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        draw_sheet(old, rows)
    assert list(tmp_path.iterdir()) == [old]
    assert old.read_bytes() == b"old"
