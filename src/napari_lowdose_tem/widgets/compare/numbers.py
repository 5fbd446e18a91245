"""Numbers of the Compare dock as text."""

from __future__ import annotations

from napari_lowdose_tem.widgets.compare.state import Found

_HEADS = ("MAE", "PSNR", "SSIM", "MAE", "PSNR")
_NEEDS_OTHERS = "Choose a low-dose image or an output to compare with the HDE."
_NEEDS_ALL = "Open a high-dose image and a low-dose image or output: their numbers appear here."
_CELL = 'align="right" style="padding:1px 7px 1px 0"'


def numbers_html(found: Found | None) -> str:
    """Table of errors against the high dose, a row for each frame."""
    if found is None or not any(score.comparison is not None for score in found.scores):
        return ""
    rows = [
        '<tr><td></td><td colspan="3" align="center">level matched</td>'
        '<td colspan="2" align="center">fitted by a line</td></tr>',
        "<tr><td></td>" + "".join(f"<td {_CELL}><b>{head}</b></td>" for head in _HEADS) + "</tr>",
    ]
    for score in found.scores:
        c = score.comparison
        if c is None:
            continue
        values = (
            _plain(c.mae, 4), f"{c.psnr:.1f} dB", "–" if c.ssim is None else f"{c.ssim:.3f}",
            _plain(c.affine_mae, 4), f"{c.affine_psnr:.1f} dB",
        )  # fmt: skip
        cells = "".join(f"<td {_CELL}>{value}</td>" for value in values)
        rows.append(f'<tr><td style="padding-right:8px">{score.title}</td>{cells}</tr>')
    return f'<table cellspacing="0">{"".join(rows)}</table>'


def numbers_note(found: Found | None, has_high: bool, has_others: bool) -> str:
    """Say what the numbers are, or why there are none."""
    if not has_high:
        return "Numbers need a high-dose image: choose one as HDE." if has_others else _NEEDS_ALL
    if not has_others:
        return _NEEDS_OTHERS
    if found is None:
        return "Comparing …"
    refused = dict.fromkeys(score.refused for score in found.scores if score.refused)
    if refused:
        return " ".join(refused)
    if not found.scores:
        return _NEEDS_OTHERS
    n_px = next(score.comparison.n_px for score in found.scores if score.comparison is not None)
    where = "within the region" if found.is_region else "over the whole frame"
    return f"Against the high dose on the low-dose grid, in units of its range, {where}: {n_px:,} pixels."


def _plain(value: float, digits: int) -> str:
    return f"{value:.{digits}f}"
