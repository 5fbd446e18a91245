"""What the Line profile dock does: follows lines and images, measures in jobs, keeps what was measured."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_lowdose_tem.camera.raw_noise import read_raw_noise
from napari_lowdose_tem.image import Image
from napari_lowdose_tem.measure.measurement import FitOptions
from napari_lowdose_tem.measure.profile import Line, sample_line
from napari_lowdose_tem.pairs.roles import find_roles
from napari_lowdose_tem.widgets.profile.center_search import CenterSearch
from napari_lowdose_tem.widgets.profile.fit_job import CountsItem, FitItem, FitRequest, ProfileFitter
from napari_lowdose_tem.widgets.profile.kept_measurements import KeptMeasurements
from napari_lowdose_tem.widgets.profile.lines import LineLayers
from napari_lowdose_tem.widgets.profile.over_time_job import OverTimeRun
from napari_lowdose_tem.widgets.profile.results_text import describe_counts
from napari_lowdose_tem.widgets.profile.state import (
    HOW_TO_DRAW,
    ROLES,
    Curve,
    ProfileState,
    describe_line,
    parse_segments,
)
from napari_lowdose_tem.widgets.shared.connections import Connections
from napari_lowdose_tem.widgets.shared.delay import DelayedCall
from napari_lowdose_tem.widgets.shared.frames import FrameReader, is_stretched, same_pixels
from napari_lowdose_tem.widgets.shared.latest_request import LatestRequest
from napari_lowdose_tem.widgets.shared.layers import image_from_layer, is_kymograph, is_output, why_not
from napari_lowdose_tem.widgets.shared.viewer import frame_index, viewer_itself
from napari_lowdose_tem.widgets.shared.worker import error_line

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

_UPDATE_MS, _PAUSE_MS, _REST_MS = 15, 120, 300
_WATCHED = ("data", "scale", "translate", "rotate", "shear", "affine", "units", "metadata")


class ProfileControl:
    """Between viewer, state and jobs; lives on the GUI thread and knows no widget.

    Parameters
    ----------
    viewer
        The viewer or its model.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self.viewer = viewer = viewer_itself(viewer)
        self.state = ProfileState()
        self._sources: dict[str, tuple[Layer, Image]] = {}
        self._by_hand: set[str] = set()
        self._segments: dict[str, tuple[tuple[float, float], ...]] = {}
        self._pixels: dict[str, Any] = {}
        self._taken: dict[str, tuple[Any, Any]] = {}
        self._counted: tuple[Any, Any] | None = None
        # while a line is dragged, its profiles come at once and the raw counts when it rests
        self._soon = DelayedCall(self.update, _UPDATE_MS, restart=False)
        self._rest = DelayedCall(self._on_rest, _REST_MS)
        self._frames = FrameReader(self._soon.ask)
        self._fits: LatestRequest[FitRequest] = LatestRequest(
            ProfileFitter().iter_fits, self._on_fitted, lambda _, error: self._on_failed(error), _PAUSE_MS
        )
        self.lines = LineLayers(viewer, self._on_line)
        self.time = OverTimeRun(viewer, self.state)
        self.kept = KeptMeasurements(self.state, self.lines)
        self._center = CenterSearch(self._on_snapped, self._on_failed)
        self._connections = Connections(
            (viewer.layers.events.inserted, self._on_layers),
            (viewer.layers.events.removed, self._on_layers),
            (viewer.layers.events.reordered, self._on_layers),
            (viewer.layers.events.renamed, self._on_layers),
            (viewer.dims.events.point, self._soon.ask),
        )
        self._on_layers()
        self._on_line()

    def close(self) -> None:
        """End jobs, take the copies of the lines away and leave the viewer alone; for when the dock goes."""
        self._connections.close()
        self._soon.cancel()
        self._rest.cancel()
        for layer, _ in self._sources.values():
            self._watch(layer, False)
        self._sources = {}
        self.lines.close()
        self._fits.cancel()
        self._frames.close()
        self._center.close()
        self.time.close()

    # ---- what the user chooses

    def choose_layer(self, role: str, name: str) -> None:
        """Take another layer for HDE, LDE or output; "" for none."""
        chosen = list(self.state.chosen)
        chosen = ["" if other == name else other for other in chosen]  # one layer has one role
        chosen[ROLES.index(role)] = name
        self._by_hand.add(role)
        self._take(tuple(chosen))

    def draw(self) -> None:
        """Let the user draw a line."""
        source = next(iter(self._sources.values()), None)
        if source is None:
            self.state.report("Open an image to draw a line on.", True)
            return
        self.lines.draw(source[0])
        self.state.report("")

    def choose_line(self, index: int) -> None:
        """Measure another line."""
        self.lines.choose(index)

    def set_width(self, width: float) -> None:
        """Average over another width, in the unit of the line."""
        self.state.width = width
        self.lines.set_width(width)
        self._soon.ask()

    def choose_fit(self, fit: str) -> None:
        """Take another model, as `FitOptions.model`."""
        self.state.fit = fit
        self._soon.ask()

    def choose_particles(self, particles: int) -> None:
        """Look for one or two particles; 0 lets the profile decide."""
        self.state.particles = particles
        self._soon.ask()

    def choose_rule(self, rule: str) -> None:
        """Let the outer diameter end by another rule, as `FitOptions.pseudo_rule`."""
        self.state.rule = rule
        self._soon.ask()

    def choose_scale(self, scale: str) -> None:
        """Show profiles on another scale, a key of `SCALES`."""
        self.state.scale = scale

    def choose_layout(self, layout: str) -> None:
        """Lay profiles out in another way, a key of `LAYOUTS`."""
        self.state.layout = layout

    def set_follow(self, on: bool) -> None:
        """Follow the drift when measuring over time."""
        self.state.follow = on

    def set_background(self, segments: tuple[tuple[float, float], ...] | str) -> None:
        """Take segments of background along the line; none is automatic."""
        try:
            parsed = parse_segments(segments) if isinstance(segments, str) else segments
        except ValueError as error:
            self.state.report(str(error), True)
            return
        self._segments[self.lines.name] = self.state.background = tuple(sorted(parsed))
        self.state.report("")
        self._soon.ask()

    def snap(self) -> None:
        """Move the line across itself onto the particle's centre."""
        for role in ("HDE", "output", "LDE"):
            profile = next((c.profile for c in self.state.curves if c.role == role), None)
            if profile is not None and role in self._pixels:
                self.state.report("Looking for the particle's centre …")
                pixel_size_nm = self._sources[role][1].pixel_size_nm
                self._center.start(role, self._pixels[role], profile.line, pixel_size_nm)
                return
        self.state.report(HOW_TO_DRAW, True)

    # ---- what is kept and written

    def keep(self) -> None:
        """Add what is measured now to the table, a row for each layer."""
        frames = {
            role: self._frame_of(role) if image.is_stack else None
            for role, (_, image) in self._sources.items()
        }
        item, counts = self._counts_item(), self.state.counts
        is_counted = item is not None and _is_taken(self._taken_counts(item), self._counted)
        self.kept.add(self.lines.name, frames, counts if is_counted else None)

    def save_figure(self, path: Path) -> None:
        """Write the profiles and where they were taken, ready for a paper."""
        self.kept.save_figure(path, self._pixels)

    def measure_over_time(self) -> None:
        """Measure the line on every frame of the stack chosen."""
        role = next((r for r, (layer, _) in self._sources.items() if layer.name == self.state.stack), None)
        line = None if role is None else self._line_on(role)
        if role is None or line is None:
            self.state.report(HOW_TO_DRAW if role else "Choose a stack.", True)
            return
        layer, image = self._sources[role]
        self.state.report("")
        raw = self._sources["LDE"][1] if "LDE" in self._sources and role == "output" else None
        if raw is not None and raw.data.shape != image.data.shape:
            raw = None
        self.time.start(layer, image, line, self._options(role), raw)

    # ---- measuring

    def update(self) -> None:
        """Take the profiles anew and ask for their fits."""
        self._soon.cancel()
        old = {curve.role: curve for curve in self.state.curves}
        curves, self._pixels = [], {}
        for role, (layer, _) in self._sources.items():
            curve = self._sample(role, layer, old.get(role))
            if curve is not None:
                curves.append(curve)
        self.state.curves = tuple(curves)
        self.state.line_text = describe_line(self.state, self.lines.current >= 0)
        self._ask()
        self._rest.ask()

    def _sample(self, role: str, layer: Layer, old: Curve | None) -> Curve | None:
        image = self._sources[role][1]
        if (line := self._line_on(role)) is None:
            return None
        curve = Curve(role, layer.name, measurement=old.measurement if old is not None else None)
        unit = "px" if image.pixel_size_nm is None else "nm"
        if unit != self.state.unit:
            return replace(
                curve,
                measurement=None,
                refused="no pixel size, unlike the other layers; enter it in the Load dock",
            )
        try:
            pixels = self._frames.get(layer, image, self._frame_of(role))
            if pixels is None:
                return replace(curve, refused="Reading the frame …", measurement=None)
            self._pixels[role] = pixels
            raw = self._raw() if role == "output" else None
            taken = (line, image.pixel_size_nm, self._options(role)), (pixels, raw)
            if old is not None and old.profile is not None and _is_taken(taken, self._taken.get(role)):
                return replace(old, layer=layer.name)
            self._taken[role] = taken
            return replace(curve, profile=sample_line(pixels, line, image.pixel_size_nm))
        except ValueError as error:
            return replace(curve, refused=str(error), measurement=None)

    def _ask(self, with_counts: bool = False) -> None:
        items = []
        for curve in self.state.curves:
            if curve.profile is not None and not curve.is_fresh:
                raw = self._raw() if curve.role == "output" else None
                noise = read_raw_noise(self._sources[curve.role][1])
                items.append(FitItem(curve.role, curve.profile, self._options(curve.role), raw, noise))
        counts = self._counts_item() if with_counts else None
        if counts is not None and _is_taken(self._taken_counts(counts), self._counted):
            counts = None
        if items or counts is not None:
            self._fits.ask(FitRequest(tuple(items), counts))

    def _options(self, role: str) -> FitOptions:
        state = self.state
        return FitOptions(
            model=state.fit,
            particles=state.particles or None,
            background=state.background,
            rule=state.rule,
            is_enhanced=is_output(self._sources[role][0]),
            offset_known=role not in self._pixels or not is_stretched(self._pixels[role]),
        )

    def _raw(self) -> Any:
        """Raw frame of the output, where it was made from the LDE."""
        raw, output = self._pixels.get("LDE"), self._pixels.get("output")
        return raw if raw is not None and output is not None and raw.shape == output.shape else None

    def _counts_item(self) -> CountsItem | None:
        """Make the request to fit the raw counts, or say why they are not fitted."""
        state, line = self.state, self._line_on("LDE") if "LDE" in self._pixels else None
        found = [c.measurement for c in state.curves if c.is_fresh and c.measurement is not None]
        gain = self._sources["LDE"][1].counts_per_electron if line is not None else None
        if line is None:
            text = ""
        elif gain is None:
            text = "No count fit without the gain; enter it in the Load dock."
        elif state.particles > 1 or (not state.particles and any(len(m.particles) > 1 for m in found)):
            text = "Count fit: only where the line crosses one particle."
        else:
            clearer = (self._pixels["output"], line) if self._raw() is not None else None
            return CountsItem(self._pixels["LDE"], line, self._sources["LDE"][1].pixel_size_nm, gain, clearer)
        self._forget_counts(text)
        return None

    def _taken_counts(self, item: CountsItem) -> tuple[Any, Any]:
        return (item.line, item.pixel_size_nm, item.counts_per_electron), (item.pixels,)

    def _forget_counts(self, text: str = "") -> None:
        self._counted, self.state.counts, self.state.counts_text = None, None, text

    def _on_fitted(self, done: tuple[Any, Any]) -> None:
        item, found = done
        if isinstance(item, CountsItem):
            self._counted = self._taken_counts(item)
            self.state.counts = None if found.refused else found
            self.state.counts_text = describe_counts(found)
            return
        self.state.curves = tuple(
            replace(curve, measurement=found, is_fresh=curve.profile is item.profile)
            if curve.role == item.role and curve.profile is not None and not curve.is_fresh
            else curve
            for curve in self.state.curves
        )

    def _on_rest(self) -> None:
        """Fit the raw counts, as the line rests."""
        if not self._soon.is_waiting:
            self._ask(with_counts=True)

    # ---- the viewer

    def _on_line(self) -> None:
        lines, state = self.lines, self.state
        if (lines.names, lines.current) != (state.lines, state.line):
            self._forget_counts()  # those of another line
        state.lines, state.line = lines.names, lines.current
        state.background = self._segments.get(lines.name, ())
        self.kept.show()
        self._soon.ask()

    def _on_changed(self, event: Any = None) -> None:
        if event is not None and event.type == "data":
            self._frames.forget(event.source)
        self._on_layers()

    def _on_layers(self, event: Any = None) -> None:
        """Follow the images: names, roles, pixels and calibration."""
        images = [x for x in self.viewer.layers if not (why_not(x) or is_kymograph(x))]
        self.state.layers = tuple(layer.name for layer in reversed(images))
        renamed = {role: layer.name for role, (layer, _) in self._sources.items() if layer in images}
        by_hand = {role: renamed.get(role, "") for role in self._by_hand}
        free = {x.name: image_from_layer(x) for x in images if x.name not in by_hand.values()}
        roles = find_roles(free)
        guessed = dict(zip(ROLES, (roles.hde or "", roles.lde or "", roles.output or ""), strict=True))
        chosen = guessed | by_hand
        self._take(tuple(chosen[role] for role in ROLES))

    def _take(self, chosen: tuple[str, ...]) -> None:
        for layer, _ in self._sources.values():
            self._watch(layer, False)
        self._sources = {}
        for role, name in zip(ROLES, chosen, strict=True):
            if name in self.viewer.layers:
                layer = self.viewer.layers[name]
                self._sources[role] = layer, image_from_layer(layer)
                self._watch(layer, True)
        state = self.state
        if state.chosen[1:] != chosen[1:]:
            self._forget_counts()
        state.chosen = (chosen[0], chosen[1], chosen[2])
        is_calibrated = any(image.pixel_size_nm for _, image in self._sources.values())
        state.unit = "nm" if is_calibrated or not self._sources else "px"
        self.time.offer([(layer.name, image) for layer, image in self._sources.values()])
        self._soon.ask()

    def _watch(self, layer: Layer, on: bool) -> None:
        for name in _WATCHED:
            event = getattr(layer.events, name)
            (event.connect if on else event.disconnect)(self._on_changed)

    def _line_on(self, role: str) -> Line | None:
        layer, image = self._sources[role]
        ends = self.lines.ends_on(layer)
        if ends is None:
            return None
        pixel = math.sqrt(math.prod(image.pixel_size_nm or (1.0, 1.0)))
        return Line(ends[0], ends[1], max(1.0, self.state.width / pixel))

    def _frame_of(self, role: str) -> int:
        return frame_index(self.viewer, self._sources[role][0])

    def _on_snapped(self, role: str, line: Line) -> None:
        if role in self._sources:
            self.lines.move(self.lines.ends_from(self._sources[role][0], (line.start, line.stop)))
            self.state.report("Line moved through the centre.")

    def _on_failed(self, error: Exception) -> None:
        self.state.report(error_line(error), True)


def _is_taken(one: tuple[Any, Any], other: tuple[Any, Any] | None) -> bool:
    """Whether two profiles or counts are of the same place, pixels and choices."""
    if other is None or one[0] != other[0]:
        return False
    return all(
        same_pixels(a, b) if a is not None else b is None for a, b in zip(one[1], other[1], strict=True)
    )
