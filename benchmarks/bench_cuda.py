"""Engines on a CUDA device against float32 on the CPU: numbers, ring in place, latency, memory, batches.

Random weights; both speakers talk past the first move of the window. torch in float32 (TF32 off and on),
bfloat16 and float16; onnxruntime's CUDA and TensorRT providers on the float16 graphs. Without a device it
says so, computes the same on the CPU with a small model, and writes no page.

make bench-cuda                                       # writes benchmarks/results/cuda.md
make bench-cuda ARGS="--sizes large --turns 200"
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_model import NARROW, MadeUpTalk
from harness import RESULTS, parser_of, percentiles, print_page, table, when, write_page
from timar_model.architecture.config import ModelConfig, SamplingConfig
from timar_model.architecture.inputs import MotionStatistics, SpeechFeatures, speech_features
from timar_model.architecture.model import TimarModel
from timar_model.engines.engine import Engine
from timar_model.engines.export import export_onnx
from timar_model.engines.onnx_engine import BACKBONE, HEAD, OnnxEngine, open_graph
from timar_model.engines.providers import usable_providers
from timar_model.engines.torch_engine import TorchEngine, load_network
from timar_model.model_folder import ModelFolder, read_model, save_model
from timar_model.session.batch import BatchedSession, TurnArguments
from timar_model.session.session import Session

SIZES = {
    "small": {"width": 512, "blocks": 8, "heads": 8},
    "base": {},
    "large": {},
    "huge": {},
}
"""The published layout; its speech encoder is left out, for that is the same at every size."""
TORCH = {
    "torch float32": (torch.float32, False),
    "torch float32, TF32": (torch.float32, True),
    "torch bfloat16": (torch.bfloat16, False),
    "torch float16": (torch.float16, False),
}
ONNX = {"onnx TensorRT float16": "TensorrtExecutionProvider", "onnx CUDA float16": "CUDAExecutionProvider"}


@dataclasses.dataclass
class Found:
    """What one engine was found to do."""

    ready_s: float
    """Opening it and its first turn; TensorRT builds then."""
    difference: float
    """RMS from float32 on the CPU over the motion's own spread."""
    in_place: bool
    """Whether the cache lay where it was at the start."""
    turn_ms: tuple[float, float]
    """p50 and p99 of a turn of one conversation."""
    batch_ms: float
    """p50 of a turn of all conversations of the batch."""
    memory_mb: float
    """Most that torch held on the device; 0 where that is not told."""


def make_folder(folder: Path, size: str, is_reduced: bool) -> ModelFolder:
    """Write random weights of a size and their float16 graphs."""
    torch.manual_seed(0)
    shape = NARROW if is_reduced else {**NARROW_SPEECH, **SIZES[size]}
    name = "base" if is_reduced or size == "small" else size
    config = ModelConfig.of_size(name, **shape, sampling=SamplingConfig(when_full="reanchor"))
    network = TimarModel(config)
    for parameter in network.head.parameters():
        # Layers that start at zero would draw nothing.
        torch.nn.init.normal_(parameter, std=0.02)
    save_model(folder, network, provenance={"weights": "random, for timing"})
    export_onnx(folder, ("float32", "float16"))
    return read_model(folder)


NARROW_SPEECH = {"speech_encoder": "logmel", "speech_dim": 160}


def engines_of(folder: ModelFolder, device: str, threads: int) -> dict[str, Callable[[], Engine]]:
    """Return what opens each engine that can run."""

    def open_torch(dtype: torch.dtype, uses_tf32: bool) -> Engine:
        torch.backends.cuda.matmul.allow_tf32 = uses_tf32
        return TorchEngine(load_network(folder.config, folder.weights()), threads, dtype, device)

    def open_onnx(provider: str) -> Engine:
        providers = list(dict.fromkeys((provider, "CUDAExecutionProvider", "CPUExecutionProvider")))
        providers = [name for name in providers if name in usable_providers()]
        graphs = {
            BACKBONE: open_graph(folder.path, BACKBONE, providers, threads, variant="float16"),
            HEAD: open_graph(folder.path, HEAD, providers, threads),
        }
        return OnnxEngine(folder.config, "float16", graphs)

    found: dict[str, Callable[[], Engine]] = {}
    for name, how in TORCH.items():
        found[name] = lambda how=how: open_torch(*how)
    usable = usable_providers()
    onnx = {"onnx CPU float16": "CPUExecutionProvider"} if device == "cpu" else ONNX
    for name, provider in onnx.items():
        if provider in usable:
            found[name] = lambda provider=provider: open_onnx(provider)
    return found


def opened(engine: Engine, features: SpeechFeatures, sampling: SamplingConfig) -> Session:
    """Open a conversation on an engine."""
    return Session(engine, features, MotionStatistics(), sampling, rollback_turns=1)


def places(session: Session) -> list[int]:
    """Return where the cache's arrays lie."""
    memory = session._window.ring.memory
    return [_place(array) for array in (*memory.keys, *memory.values)]


def _place(array: Any) -> int:
    return int(array.data_ptr()) if hasattr(array, "data_ptr") else int(array.ctypes.data)


def measure(
    name: str, open_engine: Callable[[], Engine], expected: np.ndarray, arguments, device: str
) -> Found:
    """Talk for some turns, compare with what the CPU gives, then with a batch of conversations."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    started, talk = time.perf_counter(), MadeUpTalk()
    engine = open_engine()
    features, sampling = speech_features(engine.config), engine.config.sampling
    session = opened(engine, features, sampling)
    before = places(session)
    motion, took = [session.step(*talk.turn())], []
    ready_s = time.perf_counter() - started
    for _ in range(arguments.turns - 1):
        began = time.perf_counter()
        motion.append(session.step(*talk.turn()))
        took.append((time.perf_counter() - began) * 1e3)
        session.idle(60.0)
    # TensorRT swaps two buffers: then a cache lies in either of them.
    in_place = "TensorRT" in name or places(session) == before
    batch = BatchedSession(engine, features, MotionStatistics(), sampling, range(arguments.batch), 1)
    together = []
    for _ in range(max(4, arguments.turns // 4)):
        began = time.perf_counter()
        batch.step([TurnArguments(*talk.turn()) for _ in batch.rows])
        together.append((time.perf_counter() - began) * 1e3)
    made = np.stack(motion)
    difference = float(np.sqrt(np.mean((made - expected) ** 2)) / np.std(expected))
    held = torch.cuda.max_memory_allocated() / 1e6 if device != "cpu" and name.startswith("torch") else 0.0
    p50, p99 = percentiles(took, 50, 99)
    return Found(ready_s, difference, in_place, (p50, p99), float(np.median(together)), held)


def graph_replay_ms(folder: ModelFolder) -> float:
    """Return what the feed-forward half of all blocks takes as one CUDA graph in float16 [ms].

    A pass reads its slots and its mask from the host, so it cannot be captured as it is; this tells how much
    of it is the launching of kernels.
    """
    model = load_network(folder.config, folder.weights()).cuda().half().eval()
    x = torch.zeros(1, folder.config.turn_tokens, folder.config.width, device="cuda", dtype=torch.float16)

    @torch.inference_mode()
    def work() -> torch.Tensor:
        y = x
        for block in model.blocks:
            y = y + block.contract(torch.nn.functional.gelu(block.expand(block.norm2(y))))
        return y

    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    started = time.perf_counter()
    for _ in range(100):
        graph.replay()
    torch.cuda.synchronize()
    return (time.perf_counter() - started) * 10.0


def main(argv: list[str] | None = None) -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--turns", type=int, default=100)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS / "cuda.md")
    arguments = parser.parse_args(argv)
    has_device = torch.cuda.is_available()
    device = "cuda" if has_device else "cpu"
    if not has_device:
        sys.stderr.write(
            "no CUDA device is here: a small model on the CPU runs the same code, and no page is written\n"
        )
        arguments.sizes, arguments.turns, arguments.batch = ["small"], 12, 4
    where = torch.cuda.get_device_name() if has_device else "no device"
    lines = ["# Engines on a CUDA device", "", f"{when()}; {where}. Random weights; `make bench-cuda`."]
    is_wrong = False
    for size in arguments.sizes:
        with tempfile.TemporaryDirectory() as scratch:
            folder = make_folder(Path(scratch) / size, size, is_reduced=not has_device)
            reference = TorchEngine(load_network(folder.config, folder.weights()), arguments.threads)
            session = opened(reference, speech_features(folder.config), folder.config.sampling)
            talk = MadeUpTalk()
            expected = np.stack([session.step(*talk.turn()) for _ in range(arguments.turns)])
            rows = []
            for name, open_engine in engines_of(folder, device, arguments.threads).items():
                found = measure(name, open_engine, expected, arguments, device)
                is_wrong |= not found.in_place or found.difference > (
                    1e-4 if name == "torch float32" else 0.1
                )
                rows.append(
                    (
                        name,
                        f"{found.difference:.1e}",
                        "yes" if found.in_place else "**no**",
                        *(f"{ms:.1f}" for ms in (*found.turn_ms, found.batch_ms)),
                        f"{found.ready_s:.1f}",
                        f"{found.memory_mb:.0f}" if found.memory_mb else "–",
                    )
                )
            titles = ["", "from float32 on the CPU", "ring in place", "turn p50 [ms]", "p99"]
            titles += [f"{arguments.batch} at once [ms]", "first turn after [s]", "memory [MB]"]
            lines += ["", f"## {size}", *table(titles, rows)]
            if has_device:
                lines += [
                    f"The blocks' feed-forward half as one CUDA graph: {graph_replay_ms(folder):.2f} ms."
                ]
    if has_device:
        write_page(arguments.out, lines)
    else:
        print_page(lines)
    return int(is_wrong)


if __name__ == "__main__":
    sys.exit(main())
