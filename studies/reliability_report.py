"""Page and figure of reliability.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pages import tabulate
from reliability_scenes import (
    DIAMETERS_NM,
    DOSE_E_PER_PX,
    DQE,
    EMPTY_PIXEL_NM,
    LARGEST_RAMP,
    RECALL_PIXEL_NM,
    SHAPE,
    SIZE_NM,
    SIZE_T_MIN,
)


def write_page(path: Path, result: dict[str, Any], command: str) -> None:
    """Write the Markdown page."""
    films, recall, sized = (
        {m: row[k] for m, row in result["models"].items()} for k in ("films", "recall", "sizes")
    )
    invented = {
        m: [f"{f['invented_per_frame']:.3f} ± {f['se']:.3f}", f"{f['films_with_any']} of {f['films']}"]
        for m, f in rows_of(films).items()
    }
    limits = next(iter(recall.values()))["limit_nm"]
    found = {
        f"{m}, T_min {t}": [f"{share:.0%}" for share in shares]
        + [f"{half:.0f}" if (half := r["half_found_nm"][t]) else "-", f"{limits[t]:.0f}"]
        for m, r in recall.items()
        for t, shares in r["recall"].items()
    }
    ways = {
        f"{m}, {pixel} nm/px, {way}": [
            f"{w['n']} of {s['spheres']}", f"{w['median_bias_percent']:+.1f} ± {w['bias_se_percent']:.1f} %",
            f"{w['spread_percent']:.1f} %", f"{w['spread_over_bound']:.2f}",
        ]
        for m, sizes in sized.items() for pixel, s in sizes.items() for way, w in s["ways"].items()
    }  # fmt: skip
    text = f"""# How far an enhanced frame can be trusted

Simulated frames of {SHAPE[0]} × {SHAPE[1]} px with the measured camera (streaks, read noise, hot pixels) at
{DOSE_E_PER_PX:g} e-/px. Particles are found by one fixed rule (`napari_lowdose_tem.particles.find`): blobs at
least 5 % of the background deep in the enhanced frame, which the counts support by 4 standard deviations, a
limit chosen on other bare films.

## Invented particles

Bare films at {EMPTY_PIXEL_NM:g} nm/px with grain, uneven thickness, ramps of up to {LARGEST_RAMP:.0%}
and falloff, wanted: at most 0.05 a frame; and such films with the rim of a hole across.

{tabulate(["invented a frame", "films with any"], invented)}

## Particles found

Share of isolated spheres found at {RECALL_PIXEL_NM:g} nm/px by diameter [nm], the diameter from which on
half are found, and the smallest that stands out by 5 σ: the limit of ideal counting scaled by the pixel size
over the root of the quanta a pixel, {DOSE_E_PER_PX:g} e- times a DQE of {DQE:g}.

{tabulate([*(f"{d} nm" for d in DIAMETERS_NM), "half found", "5 σ limit"], found)}

## Diameters

Isolated spheres of T_min {SIZE_T_MIN:g} and {SIZE_NM[0]:g}–{SIZE_NM[1]:g} nm: how many were found and
measured, median bias (wanted: within 2 %), robust spread, and that over the Cramér–Rao bound for this DQE
(wanted: below 1.5). "Half-depth width" is corrected for the shape of a sphere; "sphere fit" fits a blurred
sphere by least squares, to the enhanced frame or, from the place found there, to the low-dose frame itself. A
spread below the bound tells of prior knowledge, not of a better measurement: an enhancement pulls diameters
towards those it was trained on.

{tabulate(["measured", "median bias", "spread", "spread / bound"], ways)}

![Recall and diameters](images/reliability.png)

Repeat it with

    {command}
"""
    path.write_text(text, encoding="utf-8")


def rows_of(films: dict[str, Any]) -> dict[str, Any]:
    """Name bare films and films with a hole of each model."""
    return {f"{m}, {kind}": row for m, kinds in films.items() for kind, row in kinds.items()}


def draw_figure(path: Path, result: dict[str, Any]) -> None:
    """Draw recall against diameter, a panel a model; dashed: the 5 σ limits."""
    from matplotlib.figure import Figure

    figure = Figure((4.6 * len(result["models"]), 3.4), layout="constrained")
    panels = figure.subplots(1, len(result["models"]), sharey=True, squeeze=False)[0]
    for panel, (model, row) in zip(panels, result["models"].items(), strict=True):
        for i, (t_min, shares) in enumerate(row["recall"]["recall"].items()):
            panel.plot(DIAMETERS_NM, shares, "o-", color=f"C{i}", ms=4, label=f"T$_{{min}}$ {t_min}")
            panel.axvline(row["recall"]["limit_nm"][t_min], color=f"C{i}", ls="--", lw=1)
        panel.set(title=model, xlabel="diameter [nm]", xscale="log", ylim=(-0.02, 1.02))
        panel.set_xticks(DIAMETERS_NM, [str(d) for d in DIAMETERS_NM])
        panel.minorticks_off()
    panels[0].set_ylabel("share found")
    panels[0].legend(frameon=False, fontsize=8, loc="upper left")
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=130)
