"""Time every way of running the networks on this computer's CPU, one beside the other, in one run.

Run it in the project's environment; what of these is not installed is left out and said to be:

    pip install openvino onnx onnxruntime
    python studies/speed.py [--rounds N] [--scenes N] [--threads N] [--out FOLDER]

In every round each way of each model enhances the same frame a few times, of which the first does not count;
the first rounds do not count either. Ratios are formed within a round, so that what else the computer does
falls on both sides. Quality is that of studies/comparison.py: frames of known truth, peak signal-to-noise
ratio after a least-squares line. Results go to speed.json and speed.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import track

from comparison import draw_scene, score
from napari_lowdose_tem.bench.job import count_gflop
from napari_lowdose_tem.engine.device import Device, check_device, choose_device
from napari_lowdose_tem.engine.runners import open_runner
from napari_lowdose_tem.engine.runners.fold import fold_batch_norm
from napari_lowdose_tem.engine.runners.quantise import iter_typical_inputs
from napari_lowdose_tem.engine.runners.runner import place
from napari_lowdose_tem.network.model_file import Model, load_model
from napari_lowdose_tem.network.scaling import measure_scaling
from napari_lowdose_tem.simulate import MATERIALS
from pages import add_out, choose_folders

Floats = npt.NDArray[np.float32]
Run = Callable[[Floats], Floats]  # scaled frame (1, 1, rows, columns) -> output (rows, columns)

MODELS = ("paper", "default", "fast")
EAGER = "torch, float32, as loaded"
OURS = {
    "cpu, float32": "torch, float32, folded, channels last",
    "cpu, bfloat16": "torch, bfloat16, folded, channels last",
    "openvino, float32": "OpenVINO, float32",
    "openvino, int8": "OpenVINO, int8",
}
"""Ways of this program by device and precision."""
WARM_UP_ROUNDS = 2
CALLS = 3  # of a way in a round, the first of which does not count
PACKAGES = ("torch", "openvino", "onnxruntime")
MARGIN = 1.10


@dataclass
class Way:
    """One way of running one model: what runs it, or why it cannot; times [ms] by round."""

    run: Run | None
    missing: str = ""
    ms: list[float] = field(default_factory=list)
    rms: list[float] = field(default_factory=list)
    largest: list[float] = field(default_factory=list)
    psnr_db: list[float] = field(default_factory=list)


def run_eager(model: Model) -> Run:
    """Run the network as it was loaded."""

    def run(frame: Floats) -> Floats:
        with torch.inference_mode():
            return model.network(torch.from_numpy(frame))[0, 0].numpy()

    return run


def run_ours(model: Model, device: str, precision: str) -> Run:
    """Run it as the program itself does on a device."""
    check = check_device(device, precision)
    if check.device is None:
        raise ImportError(check.reason)
    runner: Any = open_runner(model, check.device)
    return lambda frame: runner.run(frame[:, 0])[0]


def run_torch(network: torch.nn.Module) -> Run:
    """Run a network in bfloat16, channels last."""

    def run(frame: Floats) -> Floats:
        tensor = torch.from_numpy(frame).bfloat16().contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            return network(tensor)[0, 0].float().numpy()

    return run


def place_bfloat16(model: Model) -> torch.nn.Module:
    """Fold and place a network as the program does on a CPU."""
    return place(fold_batch_norm(model.network), Device("cpu", "", "bfloat16"))


def run_traced(model: Model) -> Run:
    """Run it traced and frozen."""
    example = torch.zeros(1, 1, 512, 512, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        traced = torch.jit.trace(place_bfloat16(model), example, check_trace=False)
        return run_torch(torch.jit.freeze(traced))


def run_compiled(model: Model) -> Run:
    """Run it compiled, its weights packed."""
    run = run_torch(torch.compile(place_bfloat16(model), options={"freezing": True}))
    run(np.zeros((1, 1, 512, 512), np.float32))  # tells at once where there is no compiler
    return run


def run_openvino_bfloat16(model: Model, threads: int) -> Run:
    """Run it by OpenVINO, all layers rounded, which shows on flat film: the program does not."""
    import openvino

    graph = openvino.convert_model(fold_batch_norm(model.network), example_input=torch.zeros(1, 1, 64, 96))
    graph.reshape([1, 1, 512, 512])
    settings = {"INFERENCE_PRECISION_HINT": "bf16", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
    compiled = openvino.Core().compile_model(graph, "CPU", settings)
    return lambda frame: compiled(frame)[0][0, 0]


def run_onnx(model: Model, int8: bool, threads: int) -> Run:
    """Run it by ONNX Runtime, in float32 or with eight bits in all layers but the last."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # its threads would go on spinning and slow down whoever comes next
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "network.onnx")
        torch.onnx.export(
            fold_batch_norm(model.network), (torch.zeros(1, 1, 64, 96),), str(path), input_names=["x"],
            dynamic_axes={"x": {2: "rows", 3: "columns"}}, opset_version=17, dynamo=False,
        )  # fmt: skip
        if int8:
            path = quantise_onnx(path, model)
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda frame: session.run(None, {"x": frame})[0][0, 0]


def quantise_onnx(path: Path, model: Model) -> Path:
    """Quantise by ONNX Runtime's own tool, its ranges measured on the frames our own are measured on."""
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Frames(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.frames = iter_typical_inputs(model.info.recipe)

        def get_next(self) -> dict[str, Floats] | None:
            frame = next(self.frames, None)
            return None if frame is None else {"x": frame.numpy()}

    prepared, result = path.with_name("prepared.onnx"), path.with_name("int8.onnx")
    quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
    convolutions = [node.name for node in onnx.load(str(prepared)).graph.node if node.op_type == "Conv"]
    quantization.quantize_static(
        str(prepared), str(result), Frames(), per_channel=True, nodes_to_exclude=convolutions[-1:],
        op_types_to_quantize=["Conv", "Add", "Concat", "Resize", "MaxPool"],
    )  # fmt: skip
    return result


def open_ways(model: Model, threads: int) -> dict[str, Way]:
    """Make every way of running a model; what is not installed says so."""
    makers: dict[str, Callable[[], Run]] = {EAGER: lambda: run_eager(model)}
    for known, name in OURS.items():
        makers[name] = lambda known=known: run_ours(model, *known.split(", "))
    makers["torch, bfloat16, traced and frozen"] = lambda: run_traced(model)
    makers["torch, bfloat16, compiled"] = lambda: run_compiled(model)
    makers["OpenVINO, bfloat16"] = lambda: run_openvino_bfloat16(model, threads)
    makers["ONNX Runtime, float32"] = lambda: run_onnx(model, False, threads)
    makers["ONNX Runtime, int8"] = lambda: run_onnx(model, True, threads)
    ways = {}
    for name, make in track(makers.items(), f"{model.file.label}: opening"):
        try:
            ways[name] = Way(make())
        except ImportError as err:
            ways[name] = Way(None, f"not installed: {err.name or err}")
        except Exception as err:  # noqa: BLE001 - a compiler can fail in any way; the others are still timed
            ways[name] = Way(None, f"{type(err).__name__}: {str(err).splitlines()[0]}")
    return ways


def time_rounds(models: dict[str, tuple[Model, dict[str, Way]]], frame: Floats, rounds: int) -> None:
    """Time all ways, one after another, in every round."""
    for i in track(range(-WARM_UP_ROUNDS, rounds), "timing"):
        for model, ways in models.values():
            scaled = scale(model, frame)
            for way in ways.values():
                if way.run is None:
                    continue
                taken = []
                for _ in range(CALLS):
                    start = time.perf_counter()
                    way.run(scaled)
                    taken.append(1e3 * (time.perf_counter() - start))
                if i >= 0:
                    way.ms.append(float(np.mean(taken[1:])))


def judge(model: Model, ways: dict[str, Way], scenes: list[tuple[Any, Any]]) -> None:
    """Compare every way with float32, and with the truth."""
    for truth, counts in track(scenes, f"{model.file.label}: quality"):
        scaled = scale(model, counts)
        eager = ways[EAGER].run
        assert eager is not None
        expected = eager(scaled)
        for way in ways.values():
            if way.run is None:
                continue
            output = way.run(scaled)
            error = np.abs(output - expected) / np.ptp(expected)
            way.rms.append(float(np.sqrt(np.mean(error**2))))
            way.largest.append(float(error.max()))
            way.psnr_db.append(score(output.astype(np.float64), truth))


def scale(model: Model, counts: npt.NDArray[Any]) -> Floats:
    """Scale a frame of counts to (1, 1, rows, columns)."""
    return measure_scaling(model.info.recipe, counts).normalise(counts)[None, None]


def conclude(models: dict[str, tuple[Model, dict[str, Way]]], settings: dict[str, Any]) -> dict[str, Any]:
    """Gather the numbers."""
    numbers: dict[str, Any] = {"settings": settings, "models": {}}
    for name, (model, ways) in models.items():
        eager = np.array(ways[EAGER].ms)
        gflop = count_gflop(model, (512, 512))
        rows: dict[str, Any] = {}
        for way_name, way in ways.items():
            if way.run is None:
                rows[way_name] = {"missing": way.missing}
                continue
            ms = float(np.median(way.ms))
            rows[way_name] = {
                "ms": round(ms, 2),
                "ratio": round(float(np.median(np.array(way.ms) / eager)), 4),
                "gflop_per_s": round(1e3 * gflop / ms),
                "rms_error": float(f"{np.mean(way.rms):.3g}"),
                "largest_error": float(f"{np.max(way.largest):.3g}"),
                "psnr_db": round(float(np.mean(way.psnr_db)), 3),
            }
        numbers["models"][name] = {"gflop": round(gflop, 2), "ways": rows}
    numbers["goals"] = check_goals(numbers)
    return numbers


def check_goals(numbers: dict[str, Any]) -> list[dict[str, Any]]:
    """Set what was asked for beside what was measured."""
    chosen, goals = numbers["settings"]["chosen"], []

    def add(what: str, value: float, limit: float) -> None:
        goals.append({"what": what, "value": round(value, 3), "limit": limit, "met": value <= limit})

    ours = {name: entry["ways"][chosen] for name, entry in numbers["models"].items()}
    for name, entry in numbers["models"].items():
        best, row = min(
            ((way, row) for way, row in entry["ways"].items() if "ms" in row), key=lambda one: one[1]["ratio"]
        )
        if name == "paper":
            add(f"`paper`, {chosen}, of float32 as loaded", ours[name]["ratio"], 0.25)
        add(f"`{name}`, {chosen}, of the fastest ({best})", ours[name]["ratio"] / row["ratio"], MARGIN)
    add("`fast` of `paper`, both so", ours["fast"]["ms"] / ours["paper"]["ms"], 0.2)
    lost = ours["default"]["psnr_db"] - ours["fast"]["psnr_db"]
    add("PSNR that `fast` loses to `default`, both so [dB]", lost, 0.7)
    return goals


def write_page(numbers: dict[str, Any], command: str) -> str:
    """Write the Markdown page."""
    settings = numbers["settings"]
    packages = ", ".join(f"{name} {found}" for name, found in settings["versions"].items())
    parts = [
        "# Ways of running the networks on a CPU",
        f"Milliseconds a frame of 512² on {settings['processor']}, threads: {settings['threads']}, all in "
        f"one run: median of {settings['rounds']} rounds in which every way had its turn. *Of eager*: share "
        "of the time of float32 as loaded, median of the rounds' ratios. *Error*: difference from float32 "
        "as loaded, r.m.s. and largest, of the output's range. *PSNR* against the truth: mean of "
        f"{settings['scenes']} simulated frames at 5 e⁻/px, after a least-squares line. In bold what the "
        "program chooses here.",
    ]
    for name, entry in numbers["models"].items():
        rows = [
            ["", "ms", "of eager", "GFLOP/s", "error, r.m.s.", "largest", "PSNR [dB]"],
            ["---"] * 7,
        ]
        for way, row in entry["ways"].items():
            shown = f"**{way}**" if way == settings["chosen"] else way
            if "ms" not in row:
                rows.append([shown, row["missing"], *[""] * 5])
                continue
            rows.append(
                [
                    shown,
                    f"{row['ms']:.1f}",
                    f"{row['ratio']:.3f}",
                    f"{row['gflop_per_s']}",
                    f"{100 * row['rms_error']:.2f} %",
                    f"{100 * row['largest_error']:.1f} %",
                    f"{row['psnr_db']:.2f}",
                ]
            )
        parts += [f"## {name}: {entry['gflop']:g} GFLOP", "\n".join(f"| {' | '.join(r)} |" for r in rows)]
    goals = [["goal", "found", "limit", ""], ["---"] * 4]
    for goal in numbers["goals"]:
        said = "met" if goal["met"] else "**missed**"
        goals.append([goal["what"], f"{goal['value']:g}", f"{goal['limit']:g}", said])
    parts += ["## Goals", "\n".join(f"| {' | '.join(row)} |" for row in goals)]
    parts.append(f"Python {platform.python_version()}, {packages}. Repeat it with\n\n    {command}")
    return "\n\n".join(parts) + "\n"


def find_versions() -> dict[str, str]:
    """Return the versions of what is installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def main() -> None:
    """Time all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--scenes", type=int, default=25, help="frames of known truth, over the materials")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    add_out(parser)
    args = parser.parse_args()
    folder, pages = choose_folders(args.out)

    def differs(name: str) -> bool:
        return getattr(args, name) != parser.get_default(name)

    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore")  # exporters and tracers have much to say

    materials = list(MATERIALS)
    scenes = [
        draw_scene(materials[i % len(materials)], i // len(materials), 0)
        for i in track(range(args.scenes), "drawing")
    ]
    models = {name: (load_model(name), {}) for name in MODELS}
    models = {name: (model, open_ways(model, args.threads)) for name, (model, _) in models.items()}
    time_rounds(models, scenes[0][1], args.rounds)
    for model, ways in models.values():
        judge(model, ways, scenes)
    chosen = check_device("openvino").device or choose_device("cpu")
    settings = {
        "processor": chosen.name,
        "threads": args.threads,
        "rounds": args.rounds,
        "scenes": args.scenes,
        "chosen": OURS[f"{chosen.kind}, {chosen.precision}"],
        "versions": find_versions(),
    }
    numbers = conclude(models, settings)
    (folder / "speed.json").write_text(json.dumps(numbers, indent=1) + "\n", "utf-8")
    given = [f" --{name} {getattr(args, name)}" for name in ("rounds", "scenes", "threads") if differs(name)]
    command = f"python studies/speed.py{''.join(given)}"
    (pages / "speed.md").write_text(write_page(numbers, command), "utf-8")
    Console().print((pages / "speed.md").read_text("utf-8"), markup=False)


if __name__ == "__main__":
    main()
