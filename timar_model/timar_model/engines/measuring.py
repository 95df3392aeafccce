"""Measure what a model's engines cost on this machine, all work of a conversation counted."""

from __future__ import annotations

import dataclasses
import gc
import time
from pathlib import Path

import numpy as np

from timar_model.architecture.config import FRAMES_PER_SECOND, SAMPLES_PER_FRAME
from timar_model.architecture.inputs import Array
from timar_model.loading import LoadedModel
from timar_model.model_folder import ModelFolder


@dataclasses.dataclass(frozen=True)
class EngineCost:
    """What one engine takes for a turn, once the window is full."""

    engine: str
    """Its label, such as "onnx-cpu-int8"."""
    threads: int
    when_full: str
    """How the full window moves: "rolls", "recompute" or "reanchor"."""
    turn_ms: Array
    """(turns,) wall time of each turn."""
    other_ms: Array
    """(turns,) wall time of the preview and of idle work after each turn."""
    cpu_s: float
    """Processor time of all that."""
    turn_s: float
    """Length of a turn."""
    memory_mb: float
    """By which the process grew while the engine was opened and used."""
    motion: Array
    """(turns * F, 56)."""

    @property
    def real_time_factor(self) -> float:
        """Busy wall time per second of conversation."""
        return float((self.turn_ms + self.other_ms).mean()) / 1e3 / self.turn_s

    @property
    def cpu_load(self) -> float:
        """Processor seconds per second of conversation."""
        return self.cpu_s / (self.turn_s * self.turn_ms.size)


def measure(folder: ModelFolder, engine: str, threads: int = 1, turns: int = 0) -> EngineCost:
    """Hold a conversation with an engine until its window is full, then measure its turns.

    Args:
        folder: The model.
        engine: Its name.
        threads: Of the engine.
        turns: Measured ones; 0: as many as the window has, at least 8.
    """
    gc.collect()
    before_mb = _resident_mb()
    session = LoadedModel.of(folder).session(engine, seed=3, threads=threads)
    frames = session.config.turn_frames
    window = session.window_frames // frames
    turns = turns or max(8, window)
    draw, motion, costs, cpu_s = np.random.default_rng(0), [], [], 0.0
    for number in range(window + turns):
        user, agent = (_voice(draw, count) for count in (session.user_frames(frames), frames))
        cpu, started = time.process_time(), time.perf_counter()
        made = session.step(user, None, agent)
        stepped = time.perf_counter()
        session.preview(agent)
        session.idle(60.0)
        if number >= window:
            motion.append(made)
            costs.append((stepped - started, time.perf_counter() - stepped))
            cpu_s += time.process_time() - cpu
    turn_ms, other_ms = 1e3 * np.array(costs, np.float32).T
    label, turn_s = session.engine_name, frames / FRAMES_PER_SECOND
    grown_mb = _resident_mb() - before_mb
    way = session.sampling.when_full if session.config.positions != "rotary" else "rolls"
    return EngineCost(label, threads, way, turn_ms, other_ms, cpu_s, turn_s, grown_mb, np.concatenate(motion))


def table(costs: list[EngineCost]) -> list[str]:
    """Return the lines of a table; motion is compared with the first row's."""
    titles = (
        "engine",
        "threads",
        "window",
        "turn p50/p99 [ms]",
        "other [ms]",
        "RTF",
        "CPU",
        "MB",
        "off [rad]",
    )
    rows = [titles]
    for cost in costs:
        p50, p99 = np.percentile(cost.turn_ms, [50, 99])
        apart = float(np.abs(cost.motion - costs[0].motion)[:, 50:].max())
        rows.append(
            (
                cost.engine,
                str(cost.threads),
                cost.when_full,
                f"{p50:.1f} / {p99:.1f}",
                f"{cost.other_ms.mean():.1f}",
                f"{cost.real_time_factor:.3f}",
                f"{cost.cpu_load:.3f}",
                f"{cost.memory_mb:.0f}",
                f"{apart:.4f}",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(titles))]
    lines = ("  ".join(map(str.ljust, row, widths)) for row in rows)
    return [line.rstrip() for line in lines]


def _voice(draw: np.random.Generator, frames: int) -> Array:
    return (0.1 * draw.standard_normal(frames * SAMPLES_PER_FRAME)).astype(np.float32)


def _resident_mb() -> float:
    """Return the memory that this process holds; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0.0
    return pages * 4096 / 1e6
