"""What was timed, beside the paper's Table 3: as rows of a table, in sentences, and as a Markdown page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

HEAD = (
    "processor",
    "model",
    "calculation [ms]",
    "with transfers [ms]",
    "p50, p99 [ms]",
    "stack [frames/s]",
    "error",
    "GFLOP/s",
)
_NONE = "–"


def write_report(result: Mapping[str, Any]) -> str:
    """Write a Markdown page from the numbers of `Bench.to_json`."""
    versions = ", ".join(f"{name} {value}" for name, value in result["versions"].items())
    lines = ["# Time a frame takes", "", explain(result), ""]
    for row in (HEAD, ["---"] * len(HEAD), *list_rows(result)):
        lines.append(f"| {' | '.join(row)} |")
    lines += ["", *(f"- {line}" for line in tell(result)), "", f"{result['program']}, {versions}."]
    return "\n".join(lines) + "\n"


def explain(result: Mapping[str, Any]) -> str:
    """Say what the columns are."""
    if not result["rows"]:
        return "Nothing was timed."
    frames, shape = result["rows"][0]["frames"], result["rows"][0]["shape"]
    return (
        f"{frames} frames of {shape[0]} × {shape[1]} px, one at a time, mean ± standard deviation. "
        "Calculation: the network alone. With transfers: from counts in memory to counts in memory; half of "
        "the frames took no longer than p50, 99 % no longer than p99. Stack: from disk to disk. Error: "
        "r.m.s. difference from float32, of the output's range."
    )


def list_rows(result: Mapping[str, Any]) -> list[list[str]]:
    """List the paper's rows, then ours, as text under `HEAD`."""
    listed = [
        [row["processor"], "paper's", _pair(row["calc_ms"], 1), _pair(row["total_ms"], 1), *[_NONE] * 4]
        for row in result["paper"]
    ]
    for row in result["rows"]:
        listed.append(
            [
                name_way(row),
                row["model"],
                _pair([row["calc_ms_mean"], row["calc_ms_sd"]], 2 if row["calc_ms_mean"] < 10 else 1),
                _pair([row["total_ms_mean"], row["total_ms_sd"]], 2 if row["total_ms_mean"] < 10 else 1),
                f"{_number(row['total_ms_p50'])}, {_number(row['total_ms_p99'])}",
                _number(row["frames_per_s"]),
                f"{100 * row['rms_error']:.2f} %",
                f"{row['gflop_per_s']:.0f}",
            ]
        )
    return listed


def name_way(row: Mapping[str, Any]) -> str:
    """Name the processor of a row, how it is used and in which precision."""
    ways = {"cpu": "torch", "openvino": "OpenVINO"}
    threads = row["threads"]
    words = [row["processor"], ways.get(row["device"], row["device"])]
    if threads is not None:
        words.append(f"{threads} thread{'s' * (threads > 1)}")
    return ", ".join([*words, row["precision"]])


def tell(result: Mapping[str, Any]) -> list[str]:
    """Say which goals are met, how the paper compares, and what was not timed."""
    said = []
    for goal, ms in result["goals_ms"].items():
        within = [row for row in result["rows"] if row["total_ms_p99"] <= ms]
        names = "; ".join(f"{row['model']} ({row['device']} {row['precision']})" for row in within)
        said.append(f"{goal}, {ms:g} ms a frame: {names or 'none'}.")
    theirs = min(row["total_ms"][0] for row in result["paper"] if row["total_ms"])
    ours = [row for row in result["rows"] if row["model"] == "paper"]
    if ours:
        best = min(ours, key=lambda row: row["total_ms_p50"])
        times = _compare(theirs, best["total_ms_p50"])
        said.append(
            f"The paper's network with transfers: {_number(best['total_ms_p50'])} ms at best here, "
            f"{theirs:g} ms at best in the paper: {times}."
        )
    return [*said, *(f"not timed: {_say_skipped(one)}" for one in result["skipped"])]


def _compare(theirs: float, ours: float) -> str:
    return f"{theirs / ours:.1f} times faster" if ours <= theirs else f"{ours / theirs:.1f} times slower"


def _say_skipped(one: Mapping[str, Any]) -> str:
    words = [one["device"], *([one["precision"]] if one["precision"] != "auto" else [])]
    return f"{' '.join(words)}{', ' + one['model'] if one['model'] else ''}: {one['reason']}"


def _pair(values: Sequence[float] | None, digits: int) -> str:
    if values is None:
        return _NONE
    return f"{values[0]:.{digits}f} ± {values[1]:.{digits}f}"


def _number(value: float | None) -> str:
    """Write three digits or more."""
    if value is None:
        return _NONE
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f}"
