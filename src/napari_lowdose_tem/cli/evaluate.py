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
)


@app.command()
@clear_errors
def evaluate(
    data: Annotated[
        Path, typer.Argument(help="A folder per material of HDE and LDE files, or one such folder.")
    ],
    model: ModelOption = "default",
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Score a model on pairs as in Table 2 of Katsuno et al.: MAE and PSNR, raw and affine-fitted, SSIM."""
    from napari_lowdose_tem.evaluate import iter_evaluate

    result = None
    with progress_bar("frames") as bar:
        task = bar.add_task("evaluating", total=None, rate="")
        for step in iter_evaluate(data, model, device):
            bar.update(task, completed=step.done, total=step.total)
            result = step.result
    if result is None:
        raise ValueError(f"{data}: the evaluation ended without a result")
    if as_json:
        print_json(result.to_json())
        return
    table = Table("set", "n", "MAE", "PSNR (dB)", "MAE, fitted", "PSNR, fitted (dB)", "SSIM")
    for name, row in (*result.sets.items(), ("all", result.overall)):
        table.add_row(
            name,
            str(row.n),
            _mean_sd(row.mae_mean, row.mae_sd, 3),
            _mean_sd(row.psnr_mean, row.psnr_sd, 2),
            _mean_sd(row.affine_mae_mean, None, 3),
            _mean_sd(row.affine_psnr_mean, None, 2),
            _mean_sd(row.ssim_mean, None, 3),
        )
    console.print(table)


def _mean_sd(mean: float | None, sd: float | None, digits: int) -> str:
    if mean is None:
        return "-"
    return f"{mean:.{digits}f}" + (f" ± {sd:.{digits}f}" if sd is not None else "")
