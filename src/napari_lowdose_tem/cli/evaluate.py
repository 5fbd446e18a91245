"""Score models: `lowdose-tem evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from napari_lowdose_tem.cli._app import (
    DeviceOption,
    JsonOption,
    ModelOption,
    app,
    clear_errors,
    console,
    print_json,
    progress_bar,
    status,
)


@app.command()
@clear_errors
def evaluate(
    data: Annotated[
        list[Path],
        typer.Argument(
            help="A folder per material of HDE and LDE files, or one such folder. With --repeats: a stack, a "
            "folder of frames, or the files of single frames, of one field at rest."
        ),
    ],
    model: ModelOption = "default",
    device: DeviceOption = "auto",
    repeats: Annotated[
        bool,
        typer.Option("--repeats", help="Score on repeats of one field, without HDE: paired repeat error."),
    ] = False,
    figure: Annotated[
        Path | None, typer.Option(help="Draw HDE, LDE and output of each set: a .png, .pdf or .svg file.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Score a model on pairs as in Table 2 of Katsuno et al.: MAE and PSNR, raw and affine-fitted, SSIM.

    Particles invented and missed are counted a frame: blobs at least 5 % of the background deep, against the
    simulator's truth or against the high-dose frame.
    """
    if repeats:
        if figure is not None:
            raise ValueError("--figure needs high-dose frames; leave it out with --repeats")
        _evaluate_repeats(data, model, device, as_json)
    elif len(data) > 1:
        raise ValueError(
            f"{data[1]}: several data sets; give one folder, or --repeats for frames of one field"
        )
    else:
        _evaluate_pairs(data[0], model, device, figure, as_json)


def _evaluate_pairs(data: Path, model: str, device: str, figure: Path | None, as_json: bool) -> None:
    from napari_lowdose_tem.judge.evaluate import ScoredFrame, iter_evaluate

    if figure is not None:
        from napari_lowdose_tem.judge.contact_sheet import check_path, draw_sheet

        check_path(figure)
    result = None
    shown: dict[str, ScoredFrame] = {}
    with progress_bar("frames") as bar:
        task = bar.add_task("evaluating", total=None, rate="")
        for step in iter_evaluate(data, model, device):
            bar.update(task, completed=step.done, total=step.total)
            if figure is not None:
                shown.setdefault(step.frame.set_name, step.frame)
            result = step.result
    if result is None:
        raise ValueError(f"{data}: the evaluation ended without a result")
    if figure is not None:
        draw_sheet(figure, list(shown.values()), result.model)
        status.print(f"wrote {figure}", highlight=False, soft_wrap=True)
    if as_json:
        print_json(result.to_json())
        return
    table = Table("set", "n", "MAE", "PSNR (dB)", "stretched", "fitted", "SSIM", "invented", "missed")
    for name, row in (*result.sets.items(), ("all", result.overall)):
        table.add_row(
            name,
            str(row.n),
            _mean_sd(row.mae_mean, row.mae_sd, 3),
            _mean_sd(row.psnr_mean, row.psnr_sd, 2),
            f"{_mean_sd(row.stretched_mae_mean, None, 3)}, {_mean_sd(row.stretched_psnr_mean, None, 2)}",
            f"{_mean_sd(row.affine_mae_mean, None, 3)}, {_mean_sd(row.affine_psnr_mean, None, 2)}",
            _mean_sd(row.ssim_mean, None, 3),
            _mean_sd(row.invented_mean, None, 2),
            _mean_sd(row.missed_mean, None, 2),
        )
    console.print(table)


def _evaluate_repeats(data: list[Path], model: str, device: str, as_json: bool) -> None:
    from napari_lowdose_tem.judge.repeats import iter_score_repeats

    result = None
    with progress_bar("frames") as bar:
        task = bar.add_task("evaluating", total=None, rate="")
        for step in iter_score_repeats(data, model, device):
            bar.update(task, completed=step.done, total=step.total)
            result = step.result
    if result is None:
        raise ValueError(f"{data[0]}: the evaluation ended without a result")
    if result.drift_px > 1:
        status.print(
            f"the frames lie up to {result.drift_px:.1f} px off the first, which counts as an error; "
            "align them first",
            style="yellow",
        )
    if as_json:
        print_json(result.to_json())
        return
    score = result.score
    table = Table("model", "frames", "paired repeat error (counts²)", "streaks")
    error = f"{score.error:.1f} ± {score.error_se:.1f}"
    table.add_row(result.model, str(result.n), error, _mean_sd(score.streak_ratio, None, 2))
    console.print(table)
    console.print(
        "Error: of the output less that of a Gaussian blur, below 0 is better than it; ± standard error. "
        "Streaks: above 1.2 the camera's streaks are left."
    )


def _mean_sd(mean: float | None, sd: float | None, digits: int) -> str:
    if mean is None:
        return "-"
    return f"{mean:.{digits}f}" + (f" ± {sd:.{digits}f}" if sd is not None else "")
