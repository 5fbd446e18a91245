"""Compare models and classical denoising by the paired repeat error on real repeats of one field.

    pip install bm3d
    python studies/repeats.py FRAME_A FRAME_B [--model NAME_OR_FILE …] [--out FOLDER]

Each classical method is run in every setting of studies/comparison.py and shown in the one with the least
error on these very frames, which favours it. Results go to repeats.json; classical rows found there are kept.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from comparison import STRENGTHS, denoise, describe, settings_of
from napari_lowdose_tem.engine.engine import Engine
from napari_lowdose_tem.judge.repeats import RepeatScore, compare_scores, load_repeats, score_repeats
from pages import add_out, choose_folders, tabulate


def best_setting(method: str, frames: Any) -> dict[str, Any]:
    """Run a classical method in all its settings and keep the one with the least error."""
    scores = {
        setting: score_repeats(frames, np.stack([denoise(method, frame, setting) for frame in frames]))
        for setting in track(settings_of(method), method)
    }
    best = min(scores, key=lambda setting: scores[setting].error)
    return {"setting": describe(best), **asdict(scores[best])}


def as_score(row: dict[str, Any]) -> RepeatScore:
    """Turn a stored row into a score."""
    return RepeatScore(**{key: value for key, value in row.items() if key != "setting"})


def main() -> None:
    """Score what is not there yet and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("frames", nargs=2, type=Path)
    parser.add_argument("--model", nargs="+", default=["default", "paper"], help="names or files")
    add_out(parser)
    args = parser.parse_args()

    frames = load_repeats(args.frames).frames(0, 2).astype(float)
    stored = choose_folders(args.out)[0] / "repeats.json"
    result: dict[str, Any] = json.loads(stored.read_text("utf-8")) if stored.exists() else {"classical": {}}
    for method in STRENGTHS:
        if method not in result["classical"]:
            result["classical"][method] = best_setting(method, frames)
            stored.write_text(json.dumps(result) + "\n", encoding="utf-8")
    result["models"] = {}
    for name in args.model:
        with Engine(name) as engine:
            result["models"][engine.model.file.label] = asdict(score_repeats(frames, engine.enhance))
    stored.write_text(json.dumps(result) + "\n", encoding="utf-8")

    first = as_score(next(iter(result["models"].values())))
    table = {}
    for name, row in {**result["models"], **result["classical"]}.items():
        gain, gain_se = compare_scores(first, as_score(row))
        table[name] = [
            f"{row['error']:.1f} ± {row['error_se']:.1f}",
            f"{gain:.1f} ± {gain_se:.1f}",
            "-" if row["streak_ratio"] is None else f"{row['streak_ratio']:.2f}",
            row.get("setting", ""),
        ]
    head = ["error [counts²]", "above the first", "streaks", "setting"]
    Console().print(tabulate(head, table), markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
