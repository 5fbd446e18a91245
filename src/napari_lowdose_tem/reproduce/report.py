"""The report in Markdown, from its numbers alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from napari_lowdose_tem.bench.report import name_way
from napari_lowdose_tem.reproduce.cells import (
    NONE,
    show_image,
    unite,
    write_command,
    write_count,
    write_number,
    write_pair,
    write_paragraph,
    write_peaks,
    write_range,
    write_table,
)
from napari_lowdose_tem.reproduce.losses import COMMANDS
from napari_lowdose_tem.reproduce.shortfalls import (
    COLUMNS,
    describe_resolution,
    describe_size_change,
    describe_worse_scores,
)
from napari_lowdose_tem.reproduce.tolerance import describe_tolerances

_NAMES = {"d": "d", "D": "D", "D - d": "D − d", "d1": "d₁", "d2": "d₂", "l": "l", "m": "l − (d₁ + d₂)/2"}


def write_report(numbers: Mapping[str, Any]) -> str:
    """Write the report in Markdown from the numbers of `iter_reproduce`, and from nothing else."""
    sections = (
        _write_head, _write_fig2, _write_table1, _write_fig3, _write_table2, _write_fig4, _write_fig5,
        _write_lines, _write_table3, _write_again,
    )  # fmt: skip
    blocks = [block for section in sections for block in section(numbers)]
    return "\n\n".join(blocks) + "\n"


def _write_head(n: Mapping[str, Any]) -> Iterator[str]:
    paper, simulated = n["published"], n["data"] is None
    yield "# Reproducing the paper"
    yield write_paragraph(
        f"""Figs. 2 to 7 and Tables 1 to 3 of {paper["citation"]}, each beside the paper's own numbers. This
        page and its figures are the output of one command, which writes the numbers to
        `reproduction.json`:"""
    )
    takes = "a minute" if n["quick"] else "a quarter of an hour"
    yield f"<!-- takes: {takes} -->\n```sh\n{write_command(n)}\n```"
    model = n["model"]
    yield write_paragraph(
        f"""Model `{model["name"]}`, version {model["version"]} (SHA-256 `{model["sha256"][:16]}…`),
        {n["program"]}. HDE and LDE are the high- and the low-dose frame."""
    )
    if not simulated:
        yield f"The frames are those of `{n['data']}`, as recorded."
        return
    yield write_paragraph(
        """**The specimens here are not the paper's.** The authors' frames were not available, so all frames
        are simulated: spheres and crystals in chains and clusters, with the paper's materials, sizes and
        contrasts, recorded by a camera model fitted to two of the authors' low-dose frames, in the paper's
        numbers, frame sizes and doses. The models that come with the program were trained on other specimens
        of the same simulator, which makes these sets easier for them than recorded ones. The paper's rows
        are given for orientation; this is no contest. For the authors' data set
        ([10.5281/zenodo.7024737](https://doi.org/10.5281/zenodo.7024737)), add `--data FOLDER`."""
    )
    if n["quick"]:
        yield "Made with `--quick`: one small field of each material. Do not quote these numbers."


def _write_fig2(n: Mapping[str, Any]) -> Iterator[str]:
    fig, paper = n["fig2"], n["published"]["fig2"]
    yield "## Fig. 2: training and validation loss"
    yield show_image(n, "fig2", "Training and validation loss by epoch")
    if fig["stored"]:
        yield write_paragraph(
            """The recipe `paper` (U-Net with a ResNet-18 encoder, L1, Adam, 1e-4, flips) on a reduced set: 50
            simulated pairs of 128², validated on 10 of other fields. The paper trains on 1,000 pairs of
            512² and starts from ImageNet weights; this training starts from random ones. It takes almost an
            hour, so the command above draws the log that comes with the program. To train again (Ctrl-C
            stops):"""
        )
        yield "<!-- takes: an hour -->\n```sh\n" + "\n".join(COMMANDS) + "\n```"
    else:
        yield "The losses of a training of your own, given with `--training-log`."
    head = ["epoch", "training loss", "validation loss"]
    yield write_table(head, [[str(e), f"{a:.4f}", f"{b:.4f}"] for e, a, b in fig["rows"]])
    parting = fig["parting_epoch"]
    here = f"the validation loss is lowest at epoch {fig['best_epoch']} of {fig['epochs']}"
    if parting:
        here += f" and stays above the training loss from epoch {parting} on"
        here += ": fewer images are memorised sooner" if fig["stored"] else ""
    yield write_paragraph(
        f"""Paper: both losses fall up to about epoch {paper["steady_after"]}; then only the training loss
        goes on falling, and the validation loss rises slightly beyond epoch 1,000; the weights of epoch
        {paper["used"]} are used. Here: {here}."""
    )


def _write_table1(n: Mapping[str, Any]) -> Iterator[str]:
    yield "## Table 1: numbers of low-dose images"
    paper, simulated = n["published"]["table1"], n["data"] is None
    sums = [0, 0]
    rows = []
    for name in unite(n["table1"], paper):
        ours, theirs = n["table1"].get(name, {}), paper.get(name, {})
        rows.append(
            [
                name,
                *(
                    write_count(numbers.get(part))
                    for part in ("training", "validation")
                    for numbers in (theirs, ours)
                ),
            ]
        )
        for i, part in enumerate(("training", "validation")):
            sums[i] += ours.get(part) or 0
    totals = [sum(row[part] for row in paper.values()) for part in ("training", "validation")]
    rows.append(["all", *(write_count(v or None) for i in (0, 1) for v in (totals[i], sums[i]))])
    yield write_table(
        ["", "paper, training", "here, training", "paper, validation", "here, validation"], rows
    )
    if simulated:
        yield write_paragraph(
            """Two low-dose images a field. No training set is made here: `default` was trained on
            specimens drawn anew at every step (see the model card). `lowdose-tem simulate --preset
            paper --part training` writes one in the paper's numbers."""
        )


def _write_fig3(n: Mapping[str, Any]) -> Iterator[str]:
    yield "## Fig. 3: examples"
    yield show_image(n, "fig3", "High dose, low dose and output, a row a material")
    yield write_paragraph(
        """The first low-dose frame of each set, not a chosen one. HDE and output share their greys,
        transmissions in the range above the HDE. Particles invented and missed by the output, found by one
        rule (`particles.find.find_particles`), are circled; the paper marks such failures with arrows and
        boxes."""
    )
    head = ["", "mean [e⁻/px]", "MAE", "PSNR [dB]", "particles", "missed", "invented"]
    digits = {"level_e_per_px": 1, "mae": 3, "psnr": 2, "particles": 0, "missed": 0, "invented": 0}
    rows = [
        [name, *(write_number(row[key], d) for key, d in digits.items())] for name, row in n["fig3"].items()
    ]
    yield write_table(head, rows)


def _write_table2(n: Mapping[str, Any]) -> Iterator[str]:
    yield "## Table 2: MAE and PSNR of the outputs"
    ours, paper = n["table2"], n["published"]["table2"]
    head = ["", "n", "paper", "output", "output, stretched", "output, fitted", "SSIM", "missed", "invented"]
    rows = []
    for name in [*(name for name in ours if name != "all"), "all"]:
        row, theirs = ours[name], paper.get(name)
        mae, psnr = ([row[f"{measure}_mean"], row[f"{measure}_sd"]] for measure in ("mae", "psnr"))
        rows.append(
            [
                name,
                str(row["n"]),
                f"{write_pair(theirs['mae'], 3)}; {write_pair(theirs['psnr'], 2)}" if theirs else NONE,
                f"{write_pair(mae, 3)}; {write_pair(psnr, 2)}",
                *(
                    f"{write_number(row[f'{k}_mae_mean'], 3)}; {write_number(row[f'{k}_psnr_mean'], 2)}"
                    for k in _SCALED
                ),
                write_number(row["ssim_mean"], 3),
                write_number(row["missed_mean"], 1),
                write_number(row["invented_mean"], 1),
            ]
        )
    yield write_table(head, rows)
    yield write_paragraph(
        """MAE; PSNR [dB], mean ± standard deviation over images; SSIM after the fit; particles missed and
        invented a frame. The HDE is scaled to 0…1 by its extremes. *Output*: its mean brought to the HDE's,
        which is closest to what the paper reports: its network gives images on the HDE's scale, not
        stretched to 0…1 (its Fig. 5d spans 0.15 to 0.8). *Stretched*: by the output's own
        extremes, so that two pixels set the scale. *Fitted*: by a least-squares line."""
    )
    yield describe_worse_scores(ours, paper)


_SCALED = ("stretched", "affine")


def _write_fig4(n: Mapping[str, Any]) -> Iterator[str]:
    yield "## Fig. 4: an example"
    yield show_image(n, "fig4", "High dose, low dose and output of one field, two regions enlarged")
    e, paper = n["example"], n["published"]["fig4"]
    if n["data"] is None:
        yield write_paragraph(
            f"""A simulated specimen after the paper's: nine silicate particles in region I, three in region
            II, one alone on A–B and a close pair on C–D, at 4 nm/px. Of {n["repeats"]["draws"]} low-dose
            exposures of it, this is the one whose output has the median L1. Each image has its own grey
            scale, shared by its insets."""
        )
    else:
        yield write_paragraph(
            f"""{e["name"]}: the first field of that set. A–B crosses the most isolated particle, C–D the
            closest two that do not touch, where there are such; the paper's own lines are not published."""
        )
    unit = "e⁻/px" if e["unit"] == "e-" else "counts"
    rows = [
        [
            f"HDE, mean [{unit}, as recorded]",
            f"about {paper['hde_e_per_px']}",
            write_number(e["hde_mean"], 1),
        ],
        [f"LDE, mean [{unit}]", str(paper["lde_e_per_px"]), write_number(e["lde_mean"], 2)],
        ["L1 between HDE and preprocessed LDE", str(paper["l1_lde"]), write_number(e["l1_lde"], 2)],
        ["L1 between HDE and output", str(paper["l1_output"]), write_number(e["l1_output"], 3)],
        ["L1 between HDE and output, stretched", NONE, write_number(e["l1_output_stretched"], 3)],
    ]
    yield write_table(["", "paper", "here"], rows)


def _write_fig5(n: Mapping[str, Any]) -> Iterator[str]:
    yield "## Fig. 5: histograms of the example"
    yield show_image(n, "fig5", "Histograms, raw and scaled, semi-logarithmic")
    e, paper = n["example"], n["published"]["fig5"]
    unit = "e⁻" if e["unit"] == "e-" else "counts"
    rows = [
        [f"HDE, least [{unit} a pixel as recorded]", str(paper["hde_min_e"]), write_number(e["hde_min"], 0)],
        [f"LDE, most [{unit} a pixel]", str(paper["lde_max_e"]), write_number(e["lde_max"], 0)],
        [
            "HDE, scaled: peaks",
            f"{write_range(paper['hde_background'])} and {paper['hde_particles']}",
            write_peaks(e["peaks"]["HDE"]),
        ],
        ["LDE, scaled: peaks", "one, broad", write_peaks(e["peaks"]["LDE"])],
        [
            "output, scaled: peaks",
            f"{paper['output_background']} and {paper['output_particles']}",
            write_peaks(e["peaks"]["output"]),
        ],
        ["output, scaled: range", write_range(paper["output_range"]), write_range(e["output_range"])],
        ["overlap of the scaled histograms of HDE and LDE", NONE, write_number(e["overlap"]["LDE"], 2)],
        ["overlap of those of HDE and output", NONE, write_number(e["overlap"]["output"], 2)],
    ]
    yield write_table(["", "paper", "here"], rows)
    yield write_paragraph(
        """HDE and LDE are scaled by their own extremes; the output by the HDE's, its mean brought to the
        HDE's. The positions of the peaks are given; dotted lines mark them."""
    )


def _write_lines(n: Mapping[str, Any]) -> Iterator[str]:
    lines = n["lines"]
    unit = lines["unit"]
    for line, figure, what in (
        ("A–B", 6, "diameter and edge width of one particle"),
        ("C–D", 7, "two particles resolved"),
    ):
        yield f"## Fig. {figure}: {what}"
        if line not in lines:
            yield f"The field holds no particles for the line {line}: none is isolated enough."
            continue
        yield show_image(n, f"fig{figure}", f"Profiles along {line} on high dose, low dose and output")
        yield write_table(*_tabulate_line(n, line, unit))
        if figure == 6:
            yield write_paragraph(
                """`full` is this program's fit (a blurred sphere with exponential contrast; D ends at a tenth
                of the depth), `paper` the paper's (an ellipse through the points near the centre, circles
                in the figure; D ends at the first crossing with the background, the dotted line). *LDE,
                counts*: a sphere fitted to the electrons of the low-dose frame itself. ± is the standard
                error given by the fit. What the paper calls edge width is D − d. The ellipse is biased for
                dark spheres. *Refused* means that the noise is too high for a measurement; the paper's fit
                never refuses."""
            )
            yield describe_size_change(lines[line], n["published"]["lines"])
            continue
        yield describe_resolution(lines[line])
    if "repeats" in n:
        yield from _write_repeats(n["repeats"], unit)


def _tabulate_line(n: Mapping[str, Any], line: str, unit: str) -> tuple[list[str], list[list[str]]]:
    lines, paper = n["lines"], dict(n["published"]["lines"])
    names = [name for name in _NAMES if name in lines[line]["HDE, full"]]
    columns = [column for column in COLUMNS if column in lines[line]]
    truth = ["truth"] if lines["truth"] else []
    rows = []
    for name in names:
        row = [_NAMES[name]]
        if truth:
            row.append(write_number(lines["truth"].get(name), 1))
        for column in columns:
            entry = lines[line][column]
            refused = "refused" if entry.get("refused") else NONE
            row.append(write_pair(entry[name], 1) if entry.get(name) else refused)
        rows.append([*row, *(write_number(_of_paper(paper[image], name), 1) for image in ("HDE", "output"))])
    return [f"[{unit}]", *truth, *columns, "paper: HDE [nm]", "paper: output [nm]"], rows


def _of_paper(row: Mapping[str, float], name: str) -> float | None:
    return row["l"] - (row["d1"] + row["d2"]) / 2 if name == "m" else row.get(name)


def _write_repeats(repeats: Mapping[str, Any], unit: str) -> Iterator[str]:
    draws, (low, middle, high) = repeats["draws"], repeats["l1"]
    yield "### Many exposures of one field"
    yield write_paragraph(
        f"""The numbers above are of one low-dose exposure, as in the paper. For {draws} exposures of the
        same field, the outputs differ from the truth by L1 = {low:.4f} to {high:.4f} (the one shown:
        {middle:.4f}), and `full` measures on them:"""
    )
    head = [
        "",
        "measured",
        f"mean error [{unit}]",
        "its SD",
        "standard error of the fit, median",
        "truth within 1.96 of it",
    ]
    rows = []
    for name, row in repeats["found"].items():
        right = NONE if row["right"] is None else f"{row['right']} of {row['measured']}"
        error = NONE if row["mean_error"] is None else f"{row['mean_error']:+.1f}"
        cells = [
            f"{row['measured']} of {draws}",
            error,
            write_number(row["sd"], 1),
            write_number(row["own_error"], 1),
        ]
        rows.append([_NAMES[name], *cells, right])
    yield write_table(head, rows)


def _write_table3(n: Mapping[str, Any]) -> Iterator[str]:
    yield "## Table 3: time a frame takes"
    rows = [
        [
            row["processor"],
            "paper's",
            write_pair(row["calc_ms"], 1),
            write_pair(row["total_ms"], 1),
            NONE,
            NONE,
        ]
        for row in n["published"]["table3"]
    ]
    for row in n["table3"]:
        rows.append(
            [
                name_way(row),
                f"`{row['model']}`",
                write_pair([row["calc_ms_mean"], row["calc_ms_sd"]], 1),
                write_pair([row["total_ms_mean"], row["total_ms_sd"]], 1),
                f"{row['calc_ms_p50']:.1f}, {row['calc_ms_p99']:.1f}",
                write_number(row["cpu_ms_mean"], 1),
            ]
        )
    head = ["", "network", "calculation", "with transfers", "calculation, p50, p99", "its processor time"]
    yield write_table(head, rows)
    frames, shape = n["table3"][0]["frames"], n["table3"][0]["shape"]
    yield write_paragraph(
        f"""Milliseconds, mean ± standard deviation over {frames} frames of {shape[0]} × {shape[1]} px, one at
        a time (100 in the paper). *With transfers* goes from counts in memory to counts in memory, scaling
        included. Other programs running lengthen all but the processor time, which is summed over the
        threads of a CPU. Timings vary from run to run."""
    )


def _write_again(n: Mapping[str, Any]) -> Iterator[str]:
    yield "## Repeating it"
    yield write_paragraph(
        f"""Everything random is seeded, and a finished part is kept while its inputs are unchanged
        (`--again` makes all parts anew). All but Table 3 is computed in float32, and the same machine gives
        the same numbers. Other processors sum in another order, which changes outputs slightly; a test makes
        the `--quick` report and allows for that: {describe_tolerances()} Timings are not compared."""
    )
    versions = ", ".join(f"{name} {value}" for name, value in n["versions"].items())
    yield f"Made with {versions}."
