"""Compare the shipped model with public networks for electron micrographs on simulated frames of known truth.

The scenes, the score and the classical rows are those of comparison.py. The peers are tk_r_em's network for
low-resolution TEM (Lobato et al. 2023) and Topaz-Denoise (Bepler et al. 2020). Both are GPL; nothing of them
is part of this project. Each runs in an environment of its own:

    python3.11 -m venv FOLDER/tk_r_em
    FOLDER/tk_r_em/bin/pip install "tensorflow-cpu<2.16" h5py matplotlib tk_r_em==1.0.4
    python3.11 -m venv FOLDER/topaz
    FOLDER/topaz/bin/pip install topaz-em==0.3.20 "setuptools<81"
    python studies/peers.py --environments FOLDER [--scenes N] [--model NAME_OR_FILE …] [--repeats A B]

Peers get the help that the classical methods get: frames raw or stabilised, with and without correction of
the rows' offsets, binned, and for each material what is best on scenes set aside for that. Results per image
go to peers.json; those found there with the same settings are kept, so that a stopped run goes on and a new
model costs only its own row: without --environments only the models are run.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from rich.console import Console
from rich.progress import track
from scipy import ndimage

import comparison
from comparison import Array, bin_blocks, inverse_table, score, stabilise
from napari_lowdose_tem.io import read
from napari_lowdose_tem.judge.repeats import RepeatScore, compare_scores, score_repeats
from napari_lowdose_tem.network.model_file import find_model
from napari_lowdose_tem.simulate.camera import MEASURED
from napari_lowdose_tem.simulate.specimen import MATERIALS
from pages import NUMBERS, add_out, choose_folders, tabulate

TIMED_FRAMES = 3
draw_scene = lru_cache(32)(comparison.draw_scene)
Run = Callable[[Array], Array]
NETWORKS = {"tk_r_em": ("sfr_lrtem",), "topaz": ("unet", "unet-v0.2.1", "unet-small")}
NAMES = {"tk_r_em": "tk_r_em 1.0.4", "topaz": "Topaz-Denoise 0.3.20"}
BINNINGS = (1, 2, 4, 8, 16)
LIMITS = (4, 16)  # rows of the table: binned so much at most
ALL = tuple(MATERIALS)


@dataclass(frozen=True)
class Setting:
    """How a peer is run: which of its networks, on which data."""

    network: str
    binning: int
    stabilised: bool
    streaks: str

    def __str__(self) -> str:
        """Put it in few words."""
        data = "stabilised" if self.stabilised else "raw"
        streaks = "" if self.streaks == "none" else f", {self.streaks}"
        return f"{self.network}, {self.binning}×, {data}{streaks}"


def settings_of(peer: str) -> list[Setting]:
    """List what is tried, quickest first; less of what takes longest and scored lower in trials."""
    networks = NETWORKS[peer]
    coarse = itertools.product(networks, (16, 8, 4), (False, True), ("none", "rows"))
    fine = itertools.product(networks, (2,), (False,), ("none",) if peer == "tk_r_em" else ("none", "rows"))
    return [*(Setting(*setting) for setting in (*coarse, *fine)), Setting(networks[0], 1, False, "none")]


def prepare(counts: Array, setting: Setting) -> Array:
    """Stabilise and bin a frame and correct its rows, as comparison.py does before it denoises."""
    data = bin_blocks(stabilise(counts, setting.stabilised), setting.binning)
    if setting.streaks == "rows":
        smooth = ndimage.gaussian_filter1d(data, 8 / setting.binning, axis=0)
        data = data - (data - smooth).mean(1, keepdims=True)
    return data


@dataclass
class Workers:
    """Networks in their environments, each started when it is needed; they end with this process."""

    environments: Path | None
    running: dict[tuple[str, str], subprocess.Popen[bytes]] = field(default_factory=dict)

    def find(self, kind: str, network: str) -> subprocess.Popen[bytes]:
        """Return the process of a network; kind "model" is this project's own."""
        key = kind, network
        if key not in self.running:
            python = Path(sys.executable)
            if kind != "model":
                if self.environments is None:
                    raise SystemExit(f"{kind} lacks results for so many scenes; say --environments FOLDER")
                inside = "Scripts/python.exe" if os.name == "nt" else "bin/python"
                python = self.environments / kind / inside
            variables = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
            command = [python, Path(__file__).with_name("peers_worker.py"), *key]
            pipe = subprocess.PIPE
            self.running[key] = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=os.environ | variables)
        return self.running[key]

    def run(self, kind: str, network: str, image: Array) -> tuple[Array, float]:
        """Run a network on an image (rows, cols); returns the output and the network's processor time [s]."""
        worker = self.find(kind, network)
        send, receive = cast("IO[bytes]", worker.stdin), cast("IO[bytes]", worker.stdout)
        send.write(f"{image.shape[0]} {image.shape[1]}\n".encode() + image.astype(np.float32).tobytes())
        send.flush()
        if not (header := receive.readline()):
            raise SystemExit(f"{kind} ended; see its message above")
        output = np.frombuffer(receive.read(4 * image.size), np.float32)
        return output.reshape(image.shape).astype(np.float64), float(header)

    def enhance(self, peer: str, setting: Setting, counts: Array) -> Array:
        """Run a peer on a frame in counts; returns electrons per pixel on the frame's grid."""
        output = self.run(peer, setting.network, prepare(counts, setting))[0]
        if setting.binning > 1:
            output = ndimage.zoom(output, setting.binning, order=3, mode="nearest", grid_mode=True)
        return np.interp(output, *inverse_table(setting.stabilised))

    def enhance_by(self, model: str, counts: Array) -> Array:
        """Run one of this project's models on a frame in counts."""
        return self.run("model", model, counts)[0]


class Study:
    """The results, written as they come."""

    def __init__(self, path: Path, settings: dict[str, Any], n_scenes: int, workers: Workers) -> None:
        self.path, self.n_scenes, self.workers = path, n_scenes, workers
        self.result: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
        if self.result.get("settings") != settings:
            empty: dict[str, Any] = {part: {peer: {} for peer in NETWORKS} for part in ("tuning", "scores")}
            self.result = {"settings": settings, **empty, "models": {}, "times": {}, "repeats": {}}

    def save(self) -> None:
        """Write the results so far; a stop leaves the file whole."""
        beside = self.path.with_suffix(".part")
        beside.write_text(json.dumps(self.result) + "\n", encoding="utf-8")
        beside.replace(self.path)

    def tune(self, peer: str) -> None:
        """Score all settings of a peer on the scenes set aside."""
        tuning = self.result["tuning"][peer]
        todo = list(itertools.product(settings_of(peer), MATERIALS))
        for setting, material in track(todo, f"{peer}: tuning"):
            run = partial(self.workers.enhance, peer, setting)
            scores = tuning.setdefault(str(setting), {}).setdefault(material, [])
            self.extend(scores, run, material, 1, comparison.TUNING_SCENES if setting.binning > 1 else 1)

    def average(self, peer: str, setting: Setting, materials: Sequence[str], n_scenes: int) -> float:
        """Mean score on the first scenes set aside."""
        rows = self.result["tuning"][peer][str(setting)]
        return float(np.mean([rows[m][:n_scenes] for m in materials]))

    def choose(self, peer: str, limit: int, materials: Sequence[str] = ALL) -> Setting:
        """Choose the best setting binned so much at most, for some materials."""
        *binned, plain = settings_of(peer)
        allowed = [s for s in binned if s.binning <= limit]
        best = max(allowed, key=lambda s: self.average(peer, s, materials, comparison.TUNING_SCENES))
        better = self.average(peer, plain, materials, 1) > self.average(peer, best, materials, 1)
        return plain if better else best

    def list_binnings(self, peer: str, n_scenes: int) -> list[str]:
        """Mean scores of the binnings, each at its best."""
        groups = [[s for s in settings_of(peer) if s.binning == binning] for binning in BINNINGS]
        best = [max(self.average(peer, s, ALL, n_scenes) for s in group) for group in groups]
        return [
            f"{score:.2f}" if n_scenes == 1 or binning > 1 else "–"
            for score, binning in zip(best, BINNINGS, strict=True)
        ]

    def score_peer(self, peer: str) -> None:
        """Score the chosen settings on the validation scenes."""
        for material, limit in track(list(itertools.product(ALL, LIMITS)), f"{peer}: scoring"):
            setting = self.choose(peer, limit, [material])
            run = partial(self.workers.enhance, peer, setting)
            scores = self.result["scores"][peer].setdefault(str(setting), {}).setdefault(material, [])
            self.extend(scores, run, material, 0, self.n_scenes)

    def score_model(self, model: str) -> None:
        """Score one of this project's models on the validation scenes."""
        file, run = find_model(model), partial(self.workers.enhance_by, model)
        row = self.result["models"].pop(file.label, {})
        if row.get("sha256") != file.sha256:
            row = {"sha256": file.sha256, "psnr_db": {m: [] for m in MATERIALS}}
            self.result["repeats"].pop(f"Model {file.label}", None)
        self.result["models"][file.label] = row
        for material in track(MATERIALS, f"Model {file.label}"):
            self.extend(row["psnr_db"][material], run, material, 0, self.n_scenes)

    def time(self, models: Sequence[str], peers: Sequence[str]) -> None:
        """Time all networks in turn on one frame, on one thread."""
        counts = draw_scene("silicate", 0, 0)[1]
        jobs = {f"Model {find_model(model).label}": ("model", model, counts) for model in models}
        for peer in peers:
            for setting in [*(self.choose(peer, limit) for limit in LIMITS), settings_of(peer)[-1]]:
                jobs[f"{NAMES[peer]}: {setting}"] = (peer, setting.network, prepare(counts, setting))
        replies: dict[str, list[float]] = {label: [] for label in jobs}
        for _ in track(range(TIMED_FRAMES + 1), "Timing"):
            for label, (kind, network, data) in jobs.items():
                replies[label].append(self.workers.run(kind, network, data)[1])
        for label, seconds in replies.items():  # the first frame of each takes longer
            self.result["times"][label] = float(np.median(seconds[1:]))
        self.save()

    def compare_repeats(self, files: Sequence[Path], models: Sequence[str], peers: Sequence[str]) -> None:
        """Score all on real repeats of silicate smoke, peers as chosen for silicate."""
        frames = np.array([np.asarray(read(file).data, np.float64).squeeze() for file in files])
        runs: dict[str, Run] = {"Gaussian σ 5 px": partial(ndimage.gaussian_filter, sigma=5)}
        for model in models:
            runs[f"Model {find_model(model).label}"] = partial(self.workers.enhance_by, model)
        for peer in peers:
            for setting in dict.fromkeys(self.choose(peer, limit, ["silicate"]) for limit in LIMITS):
                runs[f"{NAMES[peer]}: {setting}"] = partial(self.workers.enhance, peer, setting)
        for label, run in track(list(runs.items()), "Repeats"):
            self.result["repeats"][label] = asdict(score_repeats(frames, run))
            self.save()

    def extend(self, scores: list[float], run: Run, material: str, purpose: int, n_scenes: int) -> None:
        """Add the scores of the scenes that a list lacks."""
        for i in range(len(scores), n_scenes):
            truth, counts = draw_scene(material, i, purpose)
            scores.append(round(score(run(counts), truth), 4))
            self.save()


def write_page(path: Path, study: Study) -> None:
    """Write the Markdown page."""
    rows, chosen, binned = read_classical(NUMBERS, study), {}, {}
    for peer, name in NAMES.items():
        for n_scenes in (1, comparison.TUNING_SCENES):
            binned[f"{name}, {n_scenes} a material"] = study.list_binnings(peer, n_scenes)
        for limit in LIMITS:
            label = f"{name}, ≤ {limit}×"
            settings = {m: study.choose(peer, limit, [m]) for m in ALL}
            chosen[label] = [str(setting) for setting in settings.values()]
            rows[label] = {m: study.result["scores"][peer][str(s)][m] for m, s in settings.items()}
    rows |= {f"Model {label}": row["psnr_db"] for label, row in study.result["models"].items()}
    rows = {label: {m: row[m][: study.n_scenes] for m in ALL} for label, row in rows.items()}
    pooled = {label: np.concatenate([*row.values()]) for label, row in rows.items()}
    cells = {k: [f"{np.mean(s):.2f}" for s in (*row.values(), pooled[k])] for k, row in rows.items()}
    ours = list(rows)[-1]
    gains = [
        f"- {ours} minus {label}: {np.mean(pooled[ours] - pooled[label]):+.2f} dB on average, "
        f"{min(np.mean(rows[ours][m]) - np.mean(rows[label][m]) for m in ALL):+.2f} dB in the worst material,"
        f" better on {np.mean(pooled[ours] > pooled[label]):.0%} of the frames."
        for label in chosen
    ]
    base = study.result["times"][ours]
    times = {label: [f"{t:.2f}", f"{t / base:.1f}"] for label, t in study.result["times"].items()}
    page = f"""# Model and public networks on frames of known truth

Mean PSNR [dB] of {study.n_scenes} simulated scenes per material: scenes, camera (5 e-/px), score and
classical rows of [comparison.md](comparison.md). tk_r_em is its network for low-resolution TEM, `sfr_lrtem`;
Topaz-Denoise is its U-Nets for cryo-EM, "unet" (the default), "unet-v0.2.1" and "unet-small". Neither was
trained for this camera. They get for each material the network, binning and preparation that is best on
{comparison.TUNING_SCENES} other scenes: once binned 4× at most, once 16× at most.

{tabulate([*ALL, "all"], cells)}

{chr(10).join(gains)}

## Binning and preparation

Over the other scenes, each binning at its best network and preparation:

{tabulate([f"{binning}×" for binning in BINNINGS], binned)}

Chosen per material:

{tabulate(list(ALL), chosen)}

Data are raw or stabilised (generalised Anscombe transform), then area-binned; rows: the rows' offsets are
subtracted. The output is enlarged by cubic splines. Scale and offset of the input do not matter to tk_r_em;
Topaz brings its input to mean 0 and SD 1. Unbinned, where a frame takes longest, each peer's first network
was tried on one plain frame a material.

## Time per frame

{tabulate(["one thread [s]", f"times {ours}"], times)}

512 × 512 px frame, median of a few after the first: for the peers the network alone, without binning and
enlarging; for the model all of it. Processor time, which other work on the machine lengthens little.
{tabulate_repeats(study, ours)}
Repeat it with the commands at the top of peers.py.
"""
    path.write_text(page, encoding="utf-8")


def read_classical(folder: Path, study: Study) -> dict[str, dict[str, list[float]]]:
    """Read the classical rows of comparison.py where they are of the same scenes."""
    stored, first = folder / "comparison.json", "first_scenes_sha256"
    known: dict[str, Any] = json.loads(stored.read_text("utf-8")) if stored.exists() else {"settings": {}}
    same = known["settings"].get(first) == study.result["settings"][first]
    enough = known["settings"].get("scenes", 0) >= study.n_scenes
    return {label: row["psnr_db"] for label, row in known["classical"].items()} if same and enough else {}


def tabulate_repeats(study: Study, ours: str) -> str:
    """Lay out the scores on real frames."""
    repeats = {label: RepeatScore(**score) for label, score in study.result["repeats"].items()}
    if ours not in repeats:
        return ""
    rows = {}
    for label, one in repeats.items():
        gain = compare_scores(repeats[ours], one)
        streaks = "–" if one.streak_ratio is None else f"{one.streak_ratio:.2f}"
        both = " / ".join(f"{error:.1f}" for error in one.directions)
        rows[label] = [f"{one.error:.1f}", both, f"{gain[0]:+.1f} ± {gain[1]:.1f}", streaks]
    return f"""
## Two real frames

Paired repeat error [counts²] on two frames of one field, silicate smoke at 4.6 e-/px, which no network was
trained on: the enhanced frame, fitted by a line, against the other frame; 0 is a Gaussian of σ 7 px, lower
is better. Peers run as chosen for silicate. Streaks: scatter of the rows' means over that of the columns'
means, in the background of the difference of both outputs.

{tabulate(["error", "A against B / B against A", f"minus {ours}", "streaks"], rows)}
"""


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--environments", type=Path, help="folder of the peers' environments")
    parser.add_argument("--scenes", type=int, default=10, help="validation scenes per material")
    parser.add_argument("--model", nargs="+", default=["default"], help="names or files")
    parser.add_argument("--repeats", type=Path, nargs=2, help="two real frames of one field at rest")
    add_out(parser)
    args = parser.parse_args()
    numbers, pages = choose_folders(args.out)

    # any change of simulator or camera makes the peers' rows stale
    first = np.concatenate([draw_scene(m, 0, 0) for m in ALL])
    settings = {
        "tuning_scenes": comparison.TUNING_SCENES,
        "camera": asdict(MEASURED),
        "tried": {peer: [str(s) for s in settings_of(peer)] for peer in NETWORKS},
        "first_scenes_sha256": hashlib.sha256(first.tobytes()).hexdigest(),
    }
    study = Study(numbers / "peers.json", settings, args.scenes, Workers(args.environments))
    for peer in NETWORKS:
        study.tune(peer)
        study.score_peer(peer)
    for model in args.model:
        study.score_model(model)
    peers = tuple(NETWORKS) if args.environments else ()
    study.time(args.model, peers)
    if args.repeats:
        study.compare_repeats(args.repeats, args.model, peers)
    write_page(pages / "peers.md", study)
    Console().print((pages / "peers.md").read_text("utf-8"), markup=False)


if __name__ == "__main__":
    main()
