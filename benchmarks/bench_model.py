"""The published size, large, turn by turn: full recompute against cached float32 and cached int8.

Everything runs interleaved in one process on the same random weights, both speakers talking; each engine's
memory is measured in a process of its own. Writes a table and a plot.

make bench-model ARGS="--turns 500"
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from timar_model.config import ModelConfig, SamplingConfig

from timar_model import load_model

RESULTS = Path(__file__).parent / "results"
ROWS = ("full recompute float32", "cached float32", "cached int8")
SAMPLES, MOTION = 16_000, (25, 56)
WINDOW = 8


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, help="where the 4.2 GB of weights are kept for the next run")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds of four turns each")
    parser.add_argument("--turns", type=int, default=60, help="turns of the int8 run that looks for growth")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        print(json.dumps(measure_memory(arguments.folder, arguments.memory_of, arguments.threads)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        prepare(folder)
        memory = {
            name: memory_of(folder / "large", name, arguments.threads) for name in ("onnx", "onnx-int8")
        }
        found = measure(folder / "large", arguments.rounds, arguments.threads)
        long_run = measure_growth(folder / "large", arguments.turns, arguments.threads)
    text = report(found, long_run, memory, arguments)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "model_large.md").write_text(text)
    plot(found, long_run, arguments.out / "model_large.png")
    print(text)


def prepare(folder: Path) -> None:
    """Make random weights of size large and their graphs, unless the folder has them."""
    if (folder / "large" / "model.int8.safetensors").is_file():
        return
    import torch
    from timar_model.checkpoint import save_model
    from timar_model.export import export_onnx
    from timar_model.model import TimarModel
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    torch.manual_seed(0)
    shape = Wav2Vec2Config(
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
        conv_bias=True,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
    )
    folder.mkdir(parents=True, exist_ok=True)
    Wav2Vec2Model(shape).save_pretrained(folder / "wav2vec2")
    config = ModelConfig.of_size(
        "large", speech_source=str(folder / "wav2vec2"), sampling=SamplingConfig(when_full="reanchor")
    )
    network = TimarModel(config)
    for parameter in network.head.parameters():
        # Layers that start at zero would draw nothing.
        torch.nn.init.normal_(parameter, std=0.02)
    save_model(folder / "large", network, provenance={"weights": "random, for timing"})
    del network
    export_onnx(folder / "large", ("float32", "int8"), say=lambda line: print(line, file=sys.stderr))


class Stopwatch:
    """Wall and processor time of named parts [ms]."""

    def __init__(self) -> None:
        self.wall: dict[str, list[float]] = {}
        self.cpu: dict[str, list[float]] = {}

    def run(self, name: str, work):
        """Do some work, keep its times under a name, and return what comes of it."""
        wall, cpu = time.perf_counter(), time.process_time()
        result = work()
        self.wall.setdefault(name, []).append((time.perf_counter() - wall) * 1e3)
        self.cpu.setdefault(name, []).append((time.process_time() - cpu) * 1e3)
        return result


class Talk:
    """Two voices with the rhythm of syllables, and the user's motion."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(0)
        self._rhythm = 0.5 - 0.5 * np.cos(2 * np.pi * 4 * np.arange(SAMPLES) / SAMPLES)

    def turn(self):
        """Return the arguments of the next step."""
        sound = 0.1 * self._rhythm * self._random.standard_normal((2, SAMPLES))
        motion = self._random.standard_normal(MOTION).astype(np.float32)
        return sound[0].astype(np.float32), motion, sound[1].astype(np.float32)


def measure(folder: Path, rounds: int, threads: int) -> Stopwatch:
    """Interleave one full recompute and one turn of each engine, four turns (one re-anchoring) a round."""
    model, watch, talk = load_model(folder), Stopwatch(), Talk()
    sessions = {
        "cached float32": model.session("onnx", threads=threads, take_back_turns=1, steps=5),
        "cached int8": model.session("onnx-int8", threads=threads, take_back_turns=1, steps=5),
    }
    full = full_recompute(model, threads)
    rates = gemm_rates(threads)
    for _ in range(WINDOW):
        for session in sessions.values():
            session.step(*talk.turn())
            session.idle(60.0)
    for _ in range(rounds):
        for _ in range(WINDOW // 2):
            arguments = talk.turn()
            for part, work in full(arguments):
                watch.run(f"{ROWS[0]}/{part}", work)
            for name, session in sessions.items():
                timed_turn(watch, name, session, arguments)
            for name, work in rates.items():
                watch.run(name, work)
    return watch


def timed_turn(watch: Stopwatch, name: str, session, arguments) -> None:
    """Take a turn apart: the parts say their wall time, the whole also its processor time."""
    cpu = time.process_time()
    session.step(*arguments)
    watch.cpu.setdefault(f"{name}/turn", []).append((time.process_time() - cpu) * 1e3)
    for part, wall_ms in session.timings_ms.items():
        watch.wall.setdefault(f"{name}/{part}", []).append(wall_ms)
    watch.run(f"{name}/idle", lambda: session.idle(60.0))


def full_recompute(model, threads: int):
    """Return the work of a turn without any cache: eight turns in one masked pass of the torch network."""
    import torch
    from safetensors.torch import load_file
    from timar_model.engine_torch import load_network
    from timar_model.inputs import TurnInputs
    from timar_model.schedule import respaced
    from timar_model.turns import layout_of, turn_sequence, visibility

    torch.set_num_threads(threads)
    config = model.config
    network = load_network(config, load_file(model.path / "model.safetensors")).eval()
    speech = model._parts("onnx", threads)[1]
    layout = layout_of(turn_sequence([25] * WINDOW, config), 0)
    where = network.places(layout)
    visible = torch.from_numpy(visibility(layout, config.window_frames))
    frames = 25 * WINDOW
    zeros, ones = torch.zeros(1, frames, 56), torch.ones(1, frames)
    sound = torch.randn(1, frames, config.speech_dim)
    inputs = TurnInputs(
        sound, ones, torch.randn(1, frames, 56), torch.ones(1, frames, 3), sound, zeros, 0 * ones, zeros, ones
    )
    noise = torch.randn(6, 25, 56)
    state = [speech.initial(), speech.initial()]
    kept = {}

    @torch.inference_mode()
    def backbone():
        kept["z"] = network.encode(inputs, where, visible, None)[:, -25:]

    @torch.inference_mode()
    def head():
        network.head.sample(kept["z"], noise, respaced(1000, 5), torch.tensor(1.0))

    def parts(arguments):
        return [
            ("speech", lambda: speech.compute_all([arguments[0], arguments[2]], state)),
            ("backbone", backbone),
            ("head", head),
        ]

    return parts


def gemm_rates(threads: int):
    """Return bare products of the backbone's shape, (110, 1024) by (1024, 4096), in float32 and int8."""
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)

    def session(op, kind, out, weight):
        shape = [helper.make_tensor_value_info("x", kind, [110, 1024])]
        found = [helper.make_tensor_value_info("y", out, [110, 4096])]
        nodes = [helper.make_node(op, ["x", "w"], ["y"])]
        graph = helper.make_graph(nodes, "g", shape, found, [numpy_helper.from_array(weight, "w")])
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        onnx.checker.check_model(made)
        return onnxruntime.InferenceSession(made.SerializeToString(), options)

    weight = random.standard_normal((1024, 4096)).astype(np.float32)
    x = random.standard_normal((110, 1024)).astype(np.float32)
    plain = session("MatMul", TensorProto.FLOAT, TensorProto.FLOAT, weight)
    few = session(
        "MatMulInteger", TensorProto.UINT8, TensorProto.INT32, (40 * weight).clip(-127, 127).astype(np.int8)
    )
    bytes_ = (64 + 20 * x).clip(0, 255).astype(np.uint8)
    return {
        "gemm float32": lambda: [plain.run(None, {"x": x}) for _ in range(8)],
        "gemm int8": lambda: [few.run(None, {"x": bytes_}) for _ in range(8)],
    }


def measure_growth(folder: Path, turns: int, threads: int) -> dict[str, list[float]]:
    """Run int8 for many turns, re-anchoring included; return each turn's times and the memory after it."""
    session = load_model(folder).session("onnx-int8", threads=threads, take_back_turns=1)
    talk = Talk()
    kept: dict[str, list[float]] = {"wall_ms": [], "cpu_ms": [], "idle_cpu_ms": [], "memory_mb": []}
    for _ in range(turns):
        arguments = talk.turn()
        wall, cpu = time.perf_counter(), time.process_time()
        session.step(*arguments)
        kept["wall_ms"].append((time.perf_counter() - wall) * 1e3)
        kept["cpu_ms"].append((time.process_time() - cpu) * 1e3)
        cpu = time.process_time()
        session.idle(60.0)
        kept["idle_cpu_ms"].append((time.process_time() - cpu) * 1e3)
        kept["memory_mb"].append(memory_now("VmRSS"))
    return kept


def memory_of(folder: Path, engine: str, threads: int) -> dict[str, float]:
    """Measure an engine's memory in a process of its own."""
    command = [sys.executable, __file__, "--memory-of", engine, "--folder", str(folder)]
    found = subprocess.run([*command, "--threads", str(threads)], capture_output=True, text=True, check=True)
    return json.loads(found.stdout.strip().splitlines()[-1])


def measure_memory(folder: Path, engine: str, threads: int) -> dict[str, float]:
    """Load, talk past the first re-anchoring, and say what that took."""
    started = time.perf_counter()
    session = load_model(folder).session(engine, threads=threads, take_back_turns=1)
    load_s, talk = time.perf_counter() - started, Talk()
    for _ in range(WINDOW + 2):
        session.step(*talk.turn())
        session.idle(60.0)
    return {"load_s": load_s, "peak_gb": memory_now("VmHWM") / 1e3}


def memory_now(field: str) -> float:
    """Return a line of the kernel's record of this process [MB]."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field + ":")) / 1e3


def flops_of_turn(config: ModelConfig) -> tuple[float, float]:
    """Return a turn's floating point operations in products with weights, and in attention to a full ring."""
    tokens, width = config.turn_tokens, config.width
    return (
        2.0 * tokens * 12 * width * width * config.blocks,
        4.0 * tokens * WINDOW * tokens * width * config.blocks,
    )


def report(watch: Stopwatch, long_run, memory, arguments) -> str:
    """Write what was found as a page."""
    middle = {name: float(np.median(times)) for name, times in watch.wall.items()}
    core = {name: np.add(watch.wall[f"{name}/backbone"], watch.wall[f"{name}/head"]) for name in ROWS}
    whole = {name: np.add(core[name], watch.wall[f"{name}/speech"]) for name in ROWS}
    lines = [
        "# Size large, turn by turn",
        "",
        f"{time.strftime('%Y-%m-%d %H:%M')}, {machine()}, {arguments.threads} threads, load average "
        f"{os.getloadavg()[0]:.1f} at the end.",
        f"Random weights, both speakers talking, eight turns of context, {len(core[ROWS[0]])} interleaved "
        "turns; wall time, median [ms].",
        "",
        "| | speech | backbone | head | backbone + head | p99 | whole turn | real-time factor |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in ROWS:
        parts = " | ".join(f"{middle[f'{name}/{part}']:.0f}" for part in ("speech", "backbone", "head"))
        lines.append(
            f"| {name} | {parts} | {np.median(core[name]):.0f} | {np.percentile(core[name], 99):.0f} "
            f"| {np.median(whole[name]):.0f} | {np.median(whole[name]) / 1e3:.2f} |"
        )
    lines += ["", "| of full recompute, turn by turn | backbone + head | whole turn | asked |"]
    lines += ["|---|---|---|---|"]
    for name, asked in ((ROWS[1], "1/4"), (ROWS[2], "1/12, whole 1/10")):
        ratio = [1 / np.median(of[name] / of[ROWS[0]]) for of in (core, whole)]
        lines.append(f"| {name} | 1/{ratio[0]:.1f} | 1/{ratio[1]:.1f} | {asked} |")
    lines += [
        "",
        *rate_lines(middle),
        "",
        "| | peak memory [GB] | asked | load, verified [s] |",
        "|---|---|---|---|",
    ]
    for name, engine, asked in ((ROWS[1], "onnx", 3.6), (ROWS[2], "onnx-int8", 1.3)):
        facts = memory[engine]
        lines.append(f"| {name} | {facts['peak_gb']:.2f} | {asked} | {facts['load_s']:.1f} |")
    lines += ["", *growth_lines(long_run), "", "![turns](model_large.png)", ""]
    return "\n".join(lines)


def rate_lines(middle: dict[str, float]) -> list[str]:
    """Set the int8 backbone beside bare products of the same run."""
    products, attention = flops_of_turn(ModelConfig.of_size("large"))
    bare = {kind: 8 * 2 * 110 * 1024 * 4096 / middle[f"gemm {kind}"] / 1e6 for kind in ("float32", "int8")}
    took_ms = middle["cached int8/backbone"]
    rate = (products + attention) / took_ms / 1e6
    ideal_ms = products / bare["int8"] / 1e6 + attention / bare["float32"] / 1e6
    return [
        f"Bare products in the same run: float32 {bare['float32']:.0f}, int8 {bare['int8']:.0f} GFLOP/s.",
        f"The int8 backbone does {rate:.0f} GFLOP/s, {100 * rate / bare['int8']:.0f} % of the int8 "
        "rate (asked: 70 %).",
        f"Of its {(products + attention) / 1e9:.0f} GFLOP, {attention / 1e9:.0f} are attention in float32: "
        f"at the bare rates all of it would take {ideal_ms:.0f} ms, and it takes {took_ms:.0f}.",
    ]


def growth_lines(run: dict[str, list[float]]) -> list[str]:
    """Say what a long int8 run shows: both ends, memory, and processor time with re-anchoring."""
    cpu, memory = np.asarray(run["cpu_ms"]), run["memory_mb"]
    # Both ends with the same lengths of history: two cycles of four turns each.
    early, late = np.median(cpu[8:16]), np.median(cpu[-8:])
    p50, p99 = np.percentile(run["wall_ms"][WINDOW:], [50, 99])
    idle = np.asarray(run["idle_cpu_ms"][WINDOW:])
    grown = memory[-1] - memory[min(16, len(memory) - 1)]
    return [
        f"int8 over {cpu.size} turns: wall p50 {p50:.0f}, p99 {p99:.0f} ms. Processor time of a turn "
        f"{np.median(cpu[WINDOW:]):.0f} ms, and {idle.mean():.0f} ms a turn for re-anchoring in idle time "
        f"({np.max(idle):.0f} ms every fourth turn).",
        f"Turns 8 to 15 against the last eight: {early:.0f} and {late:.0f} ms ("
        f"{100 * (late / early - 1):+.1f} %, asked: within 5). Memory from turn 16 on: {grown:+.1f} MB.",
    ]


def machine() -> str:
    """Name processor and cores."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")
    vnni = " with AVX-512 VNNI" if any("avx512_vnni" in line for line in lines) else ""
    return f"{model or platform.machine()}{vnni}, {os.cpu_count()} cores"


def plot(watch: Stopwatch, long_run, path: Path) -> None:
    """Draw what a turn costs, part by part, and the long run."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 3.6), width_ratios=[1, 1.4])
    start = np.zeros(len(ROWS))
    for part in ("speech", "backbone", "head"):
        height = np.array([np.median(watch.wall[f"{name}/{part}"]) for name in ROWS])
        left.bar(ROWS, height, bottom=start, label=part)
        start += height
    left.axhline(1000, color="grey", linestyle=":", label="real time")
    left.set(ylabel="wall time of a turn [ms]")
    left.tick_params(axis="x", labelsize=7)
    left.legend()
    right.plot(long_run["cpu_ms"], ".", markersize=3, label="turn")
    right.plot(long_run["idle_cpu_ms"], ".", markersize=3, label="re-anchoring, in idle time")
    right.set(xlabel="turn", ylabel="int8 processor time [ms]", ylim=(0, None))
    right.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
