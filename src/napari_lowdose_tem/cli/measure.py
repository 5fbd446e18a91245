"""Measure particles on lines: `lowdose-tem measure`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from napari_lowdose_tem.cli._app import (
    EXIT_BAD_INPUT,
    JsonOption,
    app,
    clear_errors,
    console,
    print_json,
    progress_bar,
    status,
)

if TYPE_CHECKING:
    from napari_lowdose_tem.image import Image
    from napari_lowdose_tem.measure import FitOptions, Line, Measurement, Profile, SphereFit


@app.command()
@clear_errors
def measure(
    image: Annotated[Path, typer.Argument(help="Frame or stack: high-dose, low-dose or enhanced.")],
    line: Annotated[
        str, typer.Option(metavar="R0,C0,R1,C1", help="Row and column of both ends [px], from 0.")
    ],
    width: Annotated[float, typer.Option(metavar="PX", help="Width averaged across the line.")] = 1.0,
    particles: Annotated[
        str, typer.Option(metavar="1|2|auto", help="Particles on the line; auto: as many as are seen.")
    ] = "auto",
    fit: Annotated[
        str,
        typer.Option(help="full: blurred spheres; exponential: without blur; paper: as Katsuno et al. 2021."),
    ] = "full",
    rule: Annotated[
        str,
        typer.Option(
            help="Where the pseudo-diameter ends: at a fraction (a tenth) of the depth, or first_crossing."
        ),
    ] = "fraction",
    background: Annotated[
        list[str] | None,
        typer.Option(metavar="FROM:TO", help="Bare background along the line [nm]; may be given repeatedly."),
    ] = None,
    pixel_size: Annotated[
        float | None, typer.Option(metavar="NM", help="Pixel size, instead of that of the file [nm/px].")
    ] = None,
    raw: Annotated[
        Path | None,
        typer.Option(
            metavar="LDE", help="Raw frame or stack an enhanced one was made from: what its electrons say."
        ),
    ] = None,
    scaled: Annotated[
        bool, typer.Option("--scaled", help="Intensities were stretched to 0…1: zero is not darkness.")
    ] = False,
    snap: Annotated[bool, typer.Option("--snap", help="Move the line onto the particle's centre.")] = False,
    frame: Annotated[int, typer.Option(min=0, help="Frame of a stack.")] = 0,
    over_time: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Measure every frame of a stack into a table.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="With --over-time: move with the drift.")] = False,
    figure: Annotated[
        Path | None, typer.Option(help="Draw frame, line, profile and fit: a .png, .pdf or .svg file.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure diameter, edges and separation of the particles a line crosses, with their errors.

    Status 2 and the reason where the data do not support a number.
    """
    from napari_lowdose_tem.measure import fit_profile, sample_line, snap_to_center

    shown = _read(image, pixel_size)
    source = None if raw is None else _read_raw(raw, pixel_size, shown)
    _check_outputs(over_time, figure, frame)
    options = _choose(fit, particles, rule, background, scaled, shown)
    chosen = _parse_line(line, width)
    if frame >= shown.n_frames:
        raise ValueError(f"{image}: frame {frame} of {shown.n_frames}; they count from 0")
    pixels = shown.frames(frame, frame + 1)[0]
    if snap:
        chosen = snap_to_center(pixels, chosen, shown.pixel_size_nm)
    noise = _find_noise(shown, source, frame)
    if over_time is not None:
        _measure_over_time(shown, chosen, options, follow, source, noise, over_time, as_json)
        return
    profile = sample_line(pixels, chosen, shown.pixel_size_nm)
    result = fit_profile(profile, options, noise)
    electrons = None if source is None else _ask_electrons(source, frame, chosen, result, profile)
    if figure is not None:
        _draw(figure, image.stem, pixels, profile, result)
    if as_json:
        report = {"line_px": [*chosen.start, *chosen.stop], **result.to_json()}
        print_json(report if electrons is None else {**report, "electrons": electrons.to_json()})
    else:
        _print(result, electrons)
    if result.refused:
        status.print(f"refused: {result.refused}", style="red", highlight=False, soft_wrap=True)
        raise typer.Exit(EXIT_BAD_INPUT)


def _read(path: Path, pixel_size_nm: float | None) -> Image:
    from napari_lowdose_tem.io import read

    found = read(path)
    if pixel_size_nm is None:
        return found
    return replace(found, pixel_size_nm=(pixel_size_nm, pixel_size_nm))


def _read_raw(path: Path, pixel_size_nm: float | None, shown: Image) -> Image:
    raw = _read(path, pixel_size_nm)
    if raw.data.shape != shown.data.shape:
        raise ValueError(
            f"{path}: {raw.data.shape} px, but {shown.name} has {shown.data.shape}; give its own raw frame"
        )
    if "enhanced" in raw.provenance:
        raise ValueError(f"{path}: an enhanced frame; give the raw one it was made from")
    return raw


def _check_outputs(over_time: Path | None, figure: Path | None, frame: int) -> None:
    if over_time is not None and figure is not None:
        raise ValueError("--figure draws one frame, --over-time makes a table; give one of them")
    if over_time is not None and frame:
        raise ValueError("--frame measures one frame, --over-time all of them; give one of them")
    for out in (over_time, figure):
        if out is not None and not out.parent.is_dir():
            raise ValueError(f"{out}: no such folder; make it, or choose another")


def _parse_line(text: str, width_px: float) -> Line:
    from napari_lowdose_tem.measure import Line

    try:
        r0, c0, r1, c1 = (float(v) for v in text.split(","))
    except ValueError:
        raise ValueError(
            f"--line {text}: give row and column of both ends, as in --line 10,20,10,80"
        ) from None
    return Line((r0, c0), (r1, c1), width_px)


def _choose(
    fit: str, particles: str, rule: str, background: list[str] | None, scaled: bool, image: Image
) -> FitOptions:
    from napari_lowdose_tem.measure import FitOptions

    if particles != "auto" and not particles.isdecimal():
        raise ValueError(f"--particles {particles}: give a number, or auto")
    return FitOptions(
        model=fit,
        particles=None if particles == "auto" else int(particles),
        background=tuple(_parse_stretch(text) for text in background or ()),
        rule=rule,
        offset_known=not scaled,
        is_enhanced="enhanced" in image.provenance,
    )


def _parse_stretch(text: str) -> tuple[float, float]:
    try:
        low, high = (float(v) for v in text.split(":"))
    except ValueError:
        raise ValueError(
            f"--background {text}: give where it begins and ends, as in --background 0:40"
        ) from None
    return low, high


def _find_noise(image: Image, source: Image | None, frame: int) -> float | None:
    from napari_lowdose_tem.measure import measure_raw_noise, read_raw_noise

    if source is not None:
        return measure_raw_noise(source.frames(frame, frame + 1)[0])
    return read_raw_noise(image)


def _ask_electrons(source: Image, frame: int, line: Line, result: Measurement, profile: Profile) -> SphereFit:
    """Fit the raw counts, beginning at what was found on the enhanced frame."""
    from napari_lowdose_tem.measure import SphereFit, fit_counts

    start = None
    if len(result.particles) == 1 and result.particles[0].t_min is not None:
        particle = result.particles[0]
        row, col = profile.locate(particle.center)
        start = SphereFit(profile.unit, row, col, diameter=particle.diameter, t_min=result.particles[0].t_min)
    elif len(result.particles) > 1:
        return SphereFit(profile.unit, refused="raw counts are fitted for one particle at a time")
    counts = source.frames(frame, frame + 1)[0]
    return fit_counts(counts, line, source.pixel_size_nm, source.counts_per_electron, start=start)


def _measure_over_time(
    image: Image, line: Line, options: FitOptions, follow: bool, source: Image | None, noise: float | None,
    path: Path, as_json: bool,
) -> None:  # fmt: skip
    from napari_lowdose_tem.measure import iter_over_time

    if not image.is_stack:
        raise ValueError("--over-time needs a stack; this is a single frame")
    step = None
    try:
        with progress_bar("frames") as bar:
            task = bar.add_task("measuring", total=image.n_frames, rate="")
            for step in iter_over_time(image, line, options, follow=follow, raw=source, raw_noise=noise):
                bar.update(task, completed=step.done)
    except KeyboardInterrupt:
        if step is not None:
            step.gather().write_csv(path)
            status.print(f"{path} holds the {step.done} frames measured", highlight=False, soft_wrap=True)
        raise
    if step is None:
        raise ValueError("no frame was measured")
    result = step.gather()
    if as_json:
        print_json(result.to_json())
    result.write_csv(path)
    if as_json:
        return
    refused = sum(map(bool, result.refused))
    console.print(
        f"wrote {path}: {len(result.frames) - refused} of {len(result.frames)} frames measured"
        + (f", {refused} refused, see its last column" if refused else ""),
        highlight=False, soft_wrap=True,
    )  # fmt: skip


def _print(result: Measurement, electrons: SphereFit | None) -> None:
    u = result.unit
    if result.particles:
        table = Table(title=f"{result.fit} fit, lengths in {u}")
        table.add_column("")
        for i in range(len(result.particles)):
            table.add_column(
                f"particle {i + 1}" if len(result.particles) > 1 else "particle", justify="right"
            )
        rows: list[tuple[str, Any]] = [
            ("centre on the line", lambda p: _pm(p.center, p.center_se)),
            ("diameter d", lambda p: _pm(p.diameter, p.diameter_se)),
            ("  95 % interval", lambda p: "–".join(f"{v:.2f}" for v in p.diameter_ci95 or ())),
            (f"pseudo-diameter D ({result.rule})", lambda p: _pm(p.pseudo_diameter)),
            ("edges, D − d", lambda p: _pm(p.edge_total)),
            ("edge per side", lambda p: _pm(p.edge_per_side)),
            ("edge σ", lambda p: _pm(p.edge_sigma)),
            ("edge 10–90 %", lambda p: _pm(p.edge_10_90)),
            ("transmission at centre", lambda p: _pm(p.t_min, p.t_min_se, 3)),
        ]
        for name, tell in rows:
            table.add_row(name, *(tell(p) for p in result.particles))
        console.print(table)
    if result.separation is not None and result.margin is not None:
        console.print(
            f"separation {_pm(result.separation, result.separation_se)} {u}, "
            f"margin {_pm(result.margin, result.margin_se)} {u}: "
            + ("resolved" if result.resolved else "not resolved"),
            highlight=False, soft_wrap=True,
        )  # fmt: skip
    if electrons is not None:
        said = electrons.refused or f"{_pm(electrons.diameter, electrons.diameter_se)} {u}"
        bound = (
            ""
            if electrons.bound is None
            else f" (Cramér–Rao bound of these electrons {electrons.bound:.2f} {u})"
        )
        console.print(f"the raw counts: {said}{bound}", highlight=False, soft_wrap=True)
    for note in result.notes:
        status.print(note, highlight=False, soft_wrap=True)


def _pm(value: float | None, error: float | None = None, digits: int = 2) -> str:
    if value is None:
        return "–"
    return f"{value:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")


def _draw(path: Path, title: str, pixels: Any, profile: Profile, result: Measurement) -> None:
    from napari_lowdose_tem.figures.profile import ProfilePanel, draw, save

    save(draw([ProfilePanel(title, pixels, profile, result)]), path)
    status.print(f"wrote {path}", highlight=False, soft_wrap=True)
