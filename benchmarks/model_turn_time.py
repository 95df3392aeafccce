"""Time of one turn by turn length and engine, and whether memory stays flat.

python benchmarks/model_turn_time.py [--model FOLDER] [--engine torch] [--turns 400]
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
from harness import memory_mb, parser_of, percentiles, when
from timar_model.architecture.config import SAMPLES_PER_FRAME

from timar_model import ModelConfig, load_model


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--model", help="a model folder; without it, untrained weights of --size")
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--engine", default="torch")
    parser.add_argument("--turns", type=int, default=400)
    parser.add_argument("--lengths", default="3,5,10,25")
    arguments = parser.parse_args()
    print(when())
    with tempfile.TemporaryDirectory() as scratch:
        model = load_model(
            arguments.model or _untrained(Path(scratch) / "model", arguments.size, arguments.engine)
        )
        for frames in map(int, arguments.lengths.split(",")):
            measure(model, arguments.engine, frames, arguments.turns)


def measure(model, engine: str, frames: int, turns: int) -> None:
    """Print the times of turns of one length, and how much memory grew after the window was full."""
    session = model.session(engine=engine)
    random = np.random.default_rng(0)
    times, parts, memory = [], [], []
    for _ in range(turns):
        user_frames = session.user_frames(frames)
        sound = [
            0.1 * random.standard_normal(n * SAMPLES_PER_FRAME).astype(np.float32)
            for n in (user_frames, frames)
        ]
        started = time.perf_counter()
        session.step(sound[0], np.zeros((user_frames, 56), np.float32), sound[1])
        times.append((time.perf_counter() - started) * 1e3)
        parts.append(dict(session.timings_ms))
        memory.append(memory_mb("VmHWM"))
    full = min(turns // 2, -(-model.config.window_frames // frames))
    p50, p95, p99 = percentiles(times[full:], 50, 95, 99)
    mean = {name: np.mean([part[name] for part in parts[full:]]) for name in parts[0]}
    print(
        f"{engine} {frames:3d} frames ({frames * 40} ms): p50 {p50:.1f} p95 {p95:.1f} p99 {p99:.1f} ms, "
        f"p95 / turn {p95 / (frames * 40):.3f}; "
        + " ".join(f"{name} {value:.1f}" for name, value in mean.items())
        + f"; {session.cached_tokens} tokens cached, memory +{memory[-1] - memory[full]:.1f} MB"
    )


def _untrained(folder: Path, size: str, engine: str) -> Path:
    from timar_model.architecture.model import TimarModel
    from timar_model.model_folder import save_model

    save_model(folder, TimarModel(ModelConfig.of_size(size)), provenance={"weights": "untrained, for timing"})
    if engine == "onnx":
        from timar_model.engines.export import export_onnx

        export_onnx(folder)
    return folder


if __name__ == "__main__":
    main()
