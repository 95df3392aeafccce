"""The published size, large, turn by turn: full recompute against cached float32 and cached int8.

Everything runs interleaved in one process on the same random weights, both speakers talking; each engine's
memory is measured in a process of its own. Writes a table and a plot.

make bench-model                                          # everything, about 12 minutes
make bench-model ARGS="--folder /tmp/large --only speed"  # one part; the page keeps the others as they were
make bench-model ARGS="--only import target"              # what is asked, beside what was measured
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import bench_import
import harness
import model_rates
import model_report
import model_target
import numpy as np
from harness import RESULTS, Stopwatch, memory_mb
from model_report import CACHED, FULL, WINDOW
from timar_model.architecture.config import ModelConfig, SamplingConfig
from timar_model.engines.choosing import choose
from timar_model.engines.int8_kernels import weight_bits_here
from timar_model.engines.measuring import EngineSetting, measure
from timar_model.machine import cpu_flags

from timar_model import load_model

FRAME = 640
NARROW = {"speech_encoder": "logmel", "speech_dim": 160, "token_dim": 64, "width": 64, "heads": 4}
NARROW |= {"blocks": 2, "head_width": 64, "head_blocks": 1}


def main() -> None:
    parser = harness.parser_of(__doc__)
    parser.add_argument("--folder", type=Path, help="where the 4.2 GB of weights are kept for the next run")
    parser.add_argument("--only", nargs="+", choices=STAGES, default=STAGES, help="parts to measure anew")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds of four turns each")
    parser.add_argument("--turns", type=int, default=500, help="turns of the long int8 run")
    parser.add_argument("--small-turns", type=int, default=3600, help="turns of the small models' runs")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        print(json.dumps(measure_memory(arguments.folder, arguments.memory_of, arguments.threads)))
        return
    kept = arguments.out / "model_large.json"
    found = harness.read_figures(kept)
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        if {"memory", "speed", "long", "window"} & {*arguments.only}:
            prepare(folder)
        for stage in (stage for stage in STAGES if stage in arguments.only):
            print(f"measuring: {stage}", file=sys.stderr)
            measured = STAGES[stage](folder / "large", arguments)
            # A part is written when it is there: what follows may be cut off.
            found[stage] = {"when": f"{harness.when()}, {arguments.threads} threads", **measured}
            harness.write_figures(kept, found)
    page = model_report.page(found)
    if {"import", "target"} <= {*found}:
        page[3:3] = model_target.lines(found["import"], found["target"])
    harness.write_page(arguments.out / "model_large.md", page)
    if {"speed", "long"} <= {*found}:
        model_report.plot(found, arguments.out / "model_large.png")


def prepare(folder: Path) -> None:
    """Make random weights of size large and their graphs, unless the folder has them."""
    if (folder / "large" / "model.int8.safetensors").is_file():
        return
    import torch
    from timar_model.architecture.model import TimarModel
    from timar_model.engines.export import export_onnx
    from timar_model.model_folder import save_model
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    torch.manual_seed(0)
    shape = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
    shape |= {"intermediate_size": 4096, "conv_bias": True}
    encoder = Wav2Vec2Config(**shape, feat_extract_norm="layer", do_stable_layer_norm=True)
    folder.mkdir(parents=True, exist_ok=True)
    Wav2Vec2Model(encoder).save_pretrained(folder / "wav2vec2")
    config = ModelConfig.of_size(
        "large", speech_source=str(folder / "wav2vec2"), sampling=SamplingConfig(when_full="reanchor")
    )
    network = TimarModel(config)
    for parameter in network.head.parameters():
        # Layers that start at zero would draw nothing.
        torch.nn.init.normal_(parameter, std=0.02)
    save_model(folder / "large", network, provenance={"weights": "random, for timing"})
    del network
    log = functools.partial(print, file=sys.stderr)
    # As `timar import` writes them here.
    export_onnx(folder / "large", ("float32", "int8"), log, weight_bits=weight_bits_here())


class MadeUpTalk:
    """Two voices with the rhythm of syllables, and the user's motion."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(0)

    def turn(self, frames: int = 25):
        """Return the arguments of the next step."""
        samples = np.arange(frames * FRAME)
        rhythm = 0.5 - 0.5 * np.cos(2 * np.pi * 4 * samples / 16_000)
        sound = 0.1 * rhythm * self._random.standard_normal((2, samples.size))
        motion = self._random.standard_normal((frames, 56)).astype(np.float32)
        return sound[0].astype(np.float32), motion, sound[1].astype(np.float32)

    def turn_of(self, config: ModelConfig):
        """Return a turn as long as a model's own."""
        return self.turn(config.turn_frames)


def measure_speed(folder: Path, arguments) -> dict:
    """Interleave one full recompute and one turn of each engine, four turns (one re-anchoring) a round."""
    threads = arguments.threads
    model, watch, talk = load_model(folder), Stopwatch(), MadeUpTalk()
    sessions = {
        name: model.session(engine, threads=threads, rollback_turns=1, steps=5, when_full="reanchor")
        for name, engine in CACHED.items()
    }
    full = full_recompute(model, threads)
    rates = model_rates.bare_products(folder, threads)
    for _ in range(WINDOW):
        for session in sessions.values():
            session.step(*talk.turn())
            session.idle(60.0)
    for _ in range(arguments.rounds):
        for _ in range(WINDOW // 2):
            given = talk.turn()
            for part, work in full(given):
                with watch.part(f"{FULL}/{part}"):
                    work()
            for name, session in sessions.items():
                timed_turn(watch, name, session, given)
            for name, (work, _) in rates.items():
                with watch.part(name):
                    work()
    parts = model_rates.profile(model, [talk.turn() for _ in range(WINDOW)], threads)
    products, attention = flops_of_turn(model.config)
    return {
        "wall_ms": watch.wall,
        "flops": {name: flops for name, (_, flops) in rates.items()},
        "backbone_flops": {"products": products, "attention": attention},
        "int8_pass_ms": parts,
    }


def timed_turn(watch: Stopwatch, name: str, session, arguments) -> None:
    """Take a turn apart: the parts say their wall time, the whole also its processor time."""
    cpu = time.process_time()
    session.step(*arguments)
    watch.cpu.setdefault(f"{name}/turn", []).append((time.process_time() - cpu) * 1e3)
    for part, wall_ms in session.timings_ms.items():
        watch.wall.setdefault(f"{name}/{part}", []).append(wall_ms)
    with watch.part(f"{name}/idle"):
        session.idle(60.0)


def full_recompute(model, threads: int):
    """Return the work of a turn without any cache: eight turns in one masked pass of the torch network."""
    import torch
    from safetensors.torch import load_file
    from timar_model.architecture.inputs import TurnInputs, layout_of
    from timar_model.architecture.schedule import respaced
    from timar_model.architecture.sequences import attention_mask, turn_sequence
    from timar_model.engines.torch_engine import load_network

    torch.set_num_threads(threads)
    config = model.config
    network = load_network(config, load_file(model.path / "model.safetensors")).eval()
    speech = model._engine("onnx", threads).speech_features()
    layout = layout_of(turn_sequence([25] * WINDOW, config), 0)
    where = network.token_positions(layout)
    visible = torch.from_numpy(attention_mask(layout, config.window_frames))
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


def measure_long(folder: Path, arguments) -> dict:
    """Talk for long with size large in int8, then set its turns beside those of a fresh conversation."""
    model, talk = load_model(folder), MadeUpTalk()
    return long_run(lambda: model.session("onnx-int8", threads=arguments.threads), talk, arguments.turns)


def measure_small(folder: Path, arguments) -> dict:
    """As `measure_long`, an hour of turns: the published layout at a small width, and the shipped model."""
    import torch
    from timar_model.architecture.model import TimarModel
    from timar_model.engines.export import export_onnx
    from timar_model.model_folder import save_model

    torch.manual_seed(0)
    sampling = SamplingConfig(when_full="reanchor")
    config = ModelConfig.of_size("base", **NARROW, sampling=sampling)
    with tempfile.TemporaryDirectory() as scratch:
        save_model(Path(scratch) / "narrow", TimarModel(config))
        export_onnx(Path(scratch) / "narrow")
        models = {"published layout, width 64": load_model(Path(scratch) / "narrow")}
        models["calm-head, as shipped"] = load_model("calm-head")
        return {
            name: long_run(functools.partial(model.session, "onnx"), MadeUpTalk(), arguments.small_turns)
            for name, model in models.items()
        }


def measure_window(folder: Path, arguments) -> dict:
    """Move a full window by every `keep_turns`: what a turn costs at size large, what motion loses."""
    model, talk, choices = load_model(folder), MadeUpTalk(), {}
    for keep in (*range(1, WINDOW), None):
        how = {"when_full": "reanchor", "keep_turns": keep} if keep else {"when_full": "recompute"}
        session = model.session("onnx-int8", threads=arguments.threads, rollback_turns=1, **how)
        cycle, turns, moves = WINDOW - (keep or WINDOW - 1), [], []
        for number in range(WINDOW + 2 * cycle):
            session.step(*talk.turn())
            parts = dict(session.timings_ms)
            if number >= WINDOW:
                turns.append(sum(parts.values()) - parts["history"])
                moves.append(parts["history"])
        choices[str(keep or "recompute")] = {
            "turn_ms": float(np.mean(turns)), "move_ms": float(np.mean(moves)), "stall_ms": max(moves)
        }  # fmt: skip
    return {"choices": choices, "loss": loss_by_turns_seen()}


def loss_by_turns_seen(seconds: int = 30) -> list[float]:
    """Return what the shipped, trained model's motion differs when it sees 1/8, 2/8, … of its window.

    RMS of the difference over the motion's own spread, mean of jaw and neck, on the same noise.
    """
    model = load_model("calm-head")
    user, agent = (harness.example_voice(n, seconds).astype(np.float32) / 32768 for n in (1, 2))
    moved, motion = slice(50, 56), {}
    for seen in range(1, WINDOW + 1):
        session, parts = (
            model.session("onnx", window_frames=round(model.config.window_frames * seen / WINDOW)),
            [],
        )
        frames = session.config.turn_frames
        for first in range(0, 25 * seconds - 2 * frames, frames):
            sound = slice(FRAME * first, FRAME * (first + frames))
            parts.append(session.step(user[sound], None, agent[sound]))
        motion[seen] = np.concatenate(parts)[model.config.window_frames :, moved]
    whole = motion[WINDOW]
    return [
        float(np.mean(np.sqrt(np.mean((motion[seen] - whole) ** 2, axis=0)) / np.std(whole, axis=0)))
        for seen in range(1, WINDOW + 1)
    ]


def long_run(open_session, talk, turns: int) -> dict:
    """Talk for many turns; then let a fresh conversation take turns with the old one, history as long.

    Both are measured in turn, so that what else the machine does meets both alike.
    """
    cycle = WINDOW // 2
    turns = -(-turns // cycle) * cycle
    old = open_session()
    # What the run itself writes down has its place from the start, so that only the session can grow.
    kept = {name: np.ones(turns) for name in ("wall_ms", "cpu_ms", "idle_cpu_ms", "memory_mb", "blocks")}
    for number in range(turns):
        given = talk.turn_of(old.config)
        kept["cpu_ms"][number], kept["idle_cpu_ms"][number] = cpu_of_turn(old, given)
        kept["wall_ms"][number] = sum(old.timings_ms.values())
        kept["memory_mb"][number] = memory_mb()
        kept["blocks"][number] = sys.getallocatedblocks()
    fresh = open_session()
    settled = -(-max(WINDOW, fresh.config.window_turns) // cycle) * cycle
    for _ in range(settled):
        cpu_of_turn(fresh, talk.turn_of(fresh.config))
    pairs = []
    for number in range(4 * cycle):
        given = talk.turn_of(fresh.config)
        both = {}
        for session in (fresh, old) if number % 2 else (old, fresh):
            both[session is old] = cpu_of_turn(session, given)[0]
        pairs.append((both[True], both[False]))
    start = min(8 * settled, turns // 4)
    grown = {
        name: float(np.median(kept[name][-cycle:]) - np.median(kept[name][start : start + cycle]))
        for name in ("memory_mb", "blocks")
    }
    return {
        "turns": turns,
        **{name: kept[name].round(2).tolist() for name in ("wall_ms", "cpu_ms", "idle_cpu_ms")},
        "settled_turn": settled,
        "pairs_cpu_ms": pairs,
        "grown_from_turn": start,
        "grown": grown,
    }


def cpu_of_turn(session, given) -> tuple[float, float]:
    """Take a turn and the idle time after it; return their processor times [ms]."""
    started = time.process_time()
    session.step(*given)
    stepped = time.process_time()
    session.idle(60.0)
    return (stepped - started) * 1e3, (time.process_time() - stepped) * 1e3


def measure_memory_and_load(folder: Path, arguments) -> dict:
    """Measure each engine in a process of its own."""
    return {name: memory_of(folder, engine, arguments.threads) for name, engine in CACHED.items()}


def memory_of(folder: Path, engine: str, threads: int) -> dict[str, float]:
    """Measure an engine's memory in a process of its own."""
    command = [sys.executable, __file__, "--memory-of", engine, "--folder", str(folder)]
    found = subprocess.run([*command, "--threads", str(threads)], capture_output=True, text=True, check=True)
    return json.loads(found.stdout.strip().splitlines()[-1])


def measure_memory(folder: Path, engine: str, threads: int) -> dict[str, float]:
    """Load, talk past the first re-anchoring, and say what that took."""
    started = time.perf_counter()
    session = load_model(folder).session(engine, threads=threads, rollback_turns=1, when_full="reanchor")
    load_s, talk = time.perf_counter() - started, MadeUpTalk()
    for _ in range(WINDOW + 2):
        session.step(*talk.turn())
        session.idle(60.0)
    return {"load_s": load_s, "peak_gb": memory_mb("VmHWM") / 1e3}


def measure_import(folder: Path, arguments) -> dict:
    """Import the published size from a checkpoint, measuring for auto included, and start it twice."""
    return bench_import.measure(folder.parent / "published", "large")


def measure_target(folder: Path, arguments) -> dict:
    """Measure what is asked of the published size, on the folder that was imported."""
    imported, threads, talk = folder.parent / "published" / "imported", arguments.threads, MadeUpTalk()
    if not imported.is_dir():
        raise SystemExit(
            f"{imported} is not there; add import to --only, or the --folder of a run that had it"
        )
    model = load_model(imported)
    choice = choose(model, log=functools.partial(print, file=sys.stderr))
    if not model_target.has_byte_products():
        choice = choice.degraded()  # As `allow_degraded:=true` runs it.
    settings = {
        "auto": choice.picked.setting,
        "int8": EngineSetting("onnx-int8", threads, "reanchor"),
        "float32": EngineSetting("onnx", threads, "reanchor"),
    }
    found: dict = {"costs": {}, "cancel_ms": {}, "choice": choice.sentence()}
    for name, setting in settings.items():
        print(f"measuring {setting}", file=sys.stderr)
        found["costs"][name] = model_target.cost(measure(model, setting))
        session = model.session(
            setting.engine, threads=setting.threads, rollback_turns=1, **setting.sampling()
        )
        if name == "auto":
            found["paced"] = model_target.paced(session, talk)
        else:
            found["cancel_ms"][name] = model_target.cancel_ms(session, talk)
        del session
        model.close_engines()
    return {
        **found,
        "speed": measure_speed(imported, argparse.Namespace(threads=threads, rounds=2)),
        "memory": memory_of(imported, "onnx-int8", threads),
        "int8_difference": model_target.int8_difference(),
        "has_byte_products": model_target.has_byte_products(),
        "has_amx": "amx_int8" in cpu_flags(),
    }


def flops_of_turn(config: ModelConfig) -> tuple[float, float]:
    """Return a turn's floating point operations in products with weights, and in attention to a full ring."""
    tokens, width = config.turn_tokens, config.width
    return (
        2.0 * tokens * 12 * width * width * config.blocks,
        4.0 * tokens * WINDOW * tokens * width * config.blocks,
    )


STAGES = {
    "memory": measure_memory_and_load,
    "speed": measure_speed,
    "long": measure_long,
    "small": measure_small,
    "window": measure_window,
    "import": measure_import,
    "target": measure_target,
}


if __name__ == "__main__":
    main()
