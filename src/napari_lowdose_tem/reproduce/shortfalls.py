"""Where the numbers fall short of the paper's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from napari_lowdose_tem.reproduce.cells import write_paragraph

COLUMNS = ("HDE, full", "HDE, paper", "output, full", "output, paper", "LDE, counts")
"""What a line is measured on, and by which fit."""

_KINDS = {"mae": "the output", "stretched_mae": "the stretched output", "affine_mae": "the fitted output"}


def describe_worse_scores(ours: Mapping[str, Any], paper: Mapping[str, Any]) -> str:
    """Name the numbers that are worse than the paper's."""
    parts = []
    for key, kind in _KINDS.items():
        for measure, sign in (("mae", 1), ("psnr", -1)):
            worse = []
            for name, theirs in paper.items():
                value = ours.get(name, {}).get(f"{key.replace('mae', measure)}_mean")
                if value is not None and sign * value > sign * theirs[measure][0]:
                    digits, unit = (3, "") if measure == "mae" else (2, " dB")
                    worse.append(f"{name} ({value:.{digits}f} against {theirs[measure][0]:.{digits}f}{unit})")
            if worse:
                parts.append(f"the {measure.upper()} of {kind}: {', '.join(worse)}")
    if not parts:
        return "None of these numbers is worse than the paper's."
    return f"**Worse than the paper's** are {'; '.join(parts)}. No other number of this table is."


def describe_size_change(entries: Mapping[str, Any], paper: Mapping[str, Any]) -> str:
    """Describe how diameter and edge width differ between high dose and output."""
    parts = []
    for way in ("full", "paper"):
        hde, output = entries[f"HDE, {way}"], entries[f"output, {way}"]
        if hde["d"] is None or output["d"] is None:
            parts.append(f"refused (`{way}`)")
            continue
        text = f"{100 * (output['d'][0] / hde['d'][0] - 1):+.1f} %"
        if hde["D - d"] is not None and output["D - d"] is not None:
            text += f" and from {hde['D - d'][0]:.1f} to {output['D - d'][0]:.1f}"
        parts.append(f"by {text} (`{way}`)")
    hde, output = paper["HDE"], paper["output"]
    change = 100 * (output["d"] / hde["d"] - 1)
    text = f"""From the HDE to the output d changes by {change:+.1f} % and D − d from {hde["D - d"]} to
        {output["D - d"]} nm in the paper; here: {"; ".join(parts)}."""
    if all(word.startswith("refused") for word in parts):
        text += " **Worse than the paper's:** this output allows no diameter."
    return write_paragraph(text)


def describe_resolution(entries: Mapping[str, Any]) -> str:
    """List the images on which two particles are resolved, and say where the paper's output does better."""
    resolved = {column: entries[column] for column in COLUMNS if column in entries}
    parts = [f"{column}: {_NAMED[entry['resolved']]}" for column, entry in resolved.items()]
    text = f"""The particles are resolved where (d₁ + d₂)/2 < l. Paper: on the HDE and on the output, where
        the larger of the two changes sides. Here: {"; ".join(parts)}."""
    if not any(entry["resolved"] for column, entry in resolved.items() if column.startswith("output")):
        text += " **Worse than the paper's:** this output does not resolve the two."
    return write_paragraph(text)


_NAMED = {True: "yes", False: "no", None: "refused"}
