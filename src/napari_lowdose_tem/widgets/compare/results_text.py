"""Errors against the high dose as a table and as text."""

from __future__ import annotations

from napari_lowdose_tem.widgets.compare.state import Results

_HEADS = ("MAE", "PSNR", "MAE", "PSNR", "SSIM")
_NEEDS_OTHERS = "Choose a low-dose image or an output to compare with the HDE."
_NEEDS_ALL = "Open a high-dose image and a low-dose image or output: the numbers appear here."
_CELL = 'align="right" style="padding:1px 7px 1px 0"'


def numbers_html(results: Results | None) -> str:
    """Table of errors against the high dose, a row for each frame."""
    if results is None or not any(row.comparison is not None for row in results.scores):
        return ""
    rows = [
        '<tr><td></td><td colspan="2" align="center">scaled by mean</td>'
        '<td colspan="3" align="center">scaled by linear fit</td></tr>',
        "<tr><td></td>" + "".join(f"<td {_CELL}><b>{head}</b></td>" for head in _HEADS) + "</tr>",
    ]
    for row in results.scores:
        c = row.comparison
        if c is None:
            continue
        values = (
            f"{c.mae:.4f}", f"{c.psnr:.1f} dB", f"{c.affine_mae:.4f}", f"{c.affine_psnr:.1f} dB",
            "–" if c.ssim is None else f"{c.ssim:.3f}",
        )  # fmt: skip
        cells = "".join(f"<td {_CELL}>{value}</td>" for value in values)
        rows.append(f'<tr><td style="padding-right:8px">{row.title}</td>{cells}</tr>')
    return f'<table cellspacing="0">{"".join(rows)}</table>'


def numbers_note(results: Results | None, has_high: bool, has_others: bool) -> str:
    """Say what the numbers are, or why there are none."""
    if not has_high:
        return "The numbers need a high-dose image: choose one as HDE." if has_others else _NEEDS_ALL
    if not has_others:
        return _NEEDS_OTHERS
    if results is None:
        return "Comparing …"
    refused = dict.fromkeys(row.refused for row in results.scores if row.refused)
    if refused:
        return " ".join(refused)
    n_px = next((row.comparison.n_px for row in results.scores if row.comparison is not None), None)
    if n_px is None:
        return _NEEDS_OTHERS
    where = "inside the region" if results.is_region else "whole frame"
    return f"Errors against the HDE on the LDE grid, as fractions of the HDE’s range; {where}, {n_px:,} px."
