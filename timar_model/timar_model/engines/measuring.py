"""Measure what a model's engines cost on this machine, all work of a conversation counted."""

from __future__ import annotations

import dataclasses
import gc
import itertools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from timar_model.architecture.config import FRAMES_PER_SECOND, SAMPLES_PER_FRAME, ModelConfig
from timar_model.architecture.inputs import Array
from timar_model.loading import LoadedModel
from timar_model.session.session import Session

ROLLS = "rolls"
"""How a full window of relative positions moves: a turn at a time, at no cost."""


@dataclasses.dataclass(frozen=True)
class EngineSetting:
    """One way to run a model."""

    engine: str
    threads: int = 1
    when_full: str = ROLLS
    """How a full window moves: `ROLLS`, "recompute" or "reanchor"."""
    keep_turns: int = 0
    """Of "reanchor": turns that stay; 0: the model's own number."""
    window_frames: int = 0
    """How much of the conversation is seen; 0: the model's window."""

    def sampling(self) -> dict[str, Any]:
        """Return the session's options that it sets."""
        options: dict[str, Any] = {"window_frames": self.window_frames} if self.window_frames else {}
        if self.when_full != ROLLS:
            options["when_full"] = self.when_full
        return options | ({"keep_turns": self.keep_turns} if self.keep_turns else {})

    def moves_per_turn(self, config: ModelConfig) -> float:
        """Return how many turns of its window a turn encodes again, on average."""
        turns = (self.window_frames or config.window_frames) // config.turn_frames
        if self.when_full == ROLLS:
            return 0.0
        keep_turns = self.keep_turns or config.sampling.keep_turns or turns // 2
        return float(turns - 1) if self.when_full == "recompute" else keep_turns / (turns - keep_turns)

    def window(self) -> str:
        """Say how its window moves, and how long it is where that is not the model's."""
        kept = f" {self.keep_turns}" if self.keep_turns else ""
        return f"{self.when_full}{kept}" + (f", {self.window_frames} frames" if self.window_frames else "")

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"{self.engine}, {threads}, window {self.window()}"


@dataclasses.dataclass(frozen=True)
class Usage:
    """How a conversation uses an engine, as far as it costs time."""

    turn_frames: int = 0
    """Length of a turn; 0: the model's."""
    preview_frames: int = -1
    """Predicted after each turn; -1: as many as a turn has."""
    preview_by: str = "auto"
    """See `Session.preview`."""
    sampling: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Options of the session besides those of an `EngineSetting`."""


@dataclasses.dataclass(frozen=True)
class EngineCost:
    """What one setting takes for a turn, once the window is full."""

    setting: EngineSetting
    label: str
    """The engine's, such as "onnx-cpu-int8"."""
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


class MeasuredTalk:
    """A conversation of noise with a session that is measured turn by turn.

    Time for which an engine of one thread waited for a core is left out: it belongs to whatever else the
    machine was doing, and what is chosen must not depend on that.
    """

    def __init__(self, session: Session, usage: Usage, threads: int) -> None:
        self.session = session
        self._now_s = _undisturbed_s if threads == 1 else time.perf_counter
        self.frames = usage.turn_frames or session.config.turn_frames
        self.turn_s = self.frames / FRAMES_PER_SECOND
        self._preview_frames = self.frames if usage.preview_frames < 0 else usage.preview_frames
        self._preview_by = usage.preview_by
        self._draw = np.random.default_rng(0)

    def turn(self) -> tuple[float, Array]:
        """Make a turn; return its time [s] and its motion (F, 56)."""
        given, started = self._arguments(), self._now_s()
        motion = self.session.step(*given)
        return self._now_s() - started, motion

    def after(self, idle_s: float = 60.0) -> float:
        """Do what follows a turn, previews and idle work; return its time [s]."""
        voice, started = self._voice(self._preview_frames), self._now_s()
        if self._preview_frames:
            self.session.preview(voice, self._preview_by)
        self.session.idle(idle_s)
        return self._now_s() - started

    def encode(self) -> float:
        """Commit a turn without sampling it; return the time of its one pass of the backbone [s]."""
        self.session.commit(*self._arguments())
        return self.session.timings_ms["backbone"] * 1e-3

    def _arguments(self) -> tuple[Array, None, Array]:
        user_frames = self.session.user_frames(self.frames)
        return self._voice(user_frames), None, self._voice(self.frames)

    def _voice(self, frames: int) -> Array:
        return (0.1 * self._draw.standard_normal(frames * SAMPLES_PER_FRAME)).astype(np.float32)


def measure(
    model: LoadedModel, setting: EngineSetting, usage: Usage | None = None, turns: int = 0
) -> EngineCost:
    """Hold a conversation until its window is full, then measure its turns.

    Args:
        model: The model.
        setting: How it runs.
        usage: What the conversation asks for; None: whole turns and previews, the model's sampling.
        turns: Measured ones; 0: as many as show every part of a window's move, at least 8 where it rolls.

    Raises:
        OSError, ValueError, ImportError: The engine cannot run.
    """
    gc.collect()
    usage, before_mb = usage or Usage(), _resident_mb()
    options = {**usage.sampling, **setting.sampling()}
    session = model.session(setting.engine, seed=3, threads=setting.threads, **options)
    talk = MeasuredTalk(session, usage, setting.threads)
    window = session.window_frames // talk.frames
    turns = turns or turns_to_measure(setting, session.config, window)
    for _ in range(window):
        talk.encode()
    # What these turns left for the window's move is no cost of the measured ones.
    talk.turn()
    talk.after()
    motion, costs, cpu_before_s = [], [], time.process_time()
    for _ in range(turns):
        turn_s, made = talk.turn()
        costs.append((turn_s, talk.after()))
        motion.append(made)
    cpu_s = time.process_time() - cpu_before_s
    turn_ms, other_ms = 1e3 * np.array(costs, np.float32).T
    return EngineCost(
        setting,
        session.engine_name,
        turn_ms,
        other_ms,
        cpu_s,
        talk.turn_s,
        _resident_mb() - before_mb,
        np.concatenate(motion),
    )


def settings_to_compare(
    config: ModelConfig, engines: Sequence[str], threads: Sequence[int]
) -> list[EngineSetting]:
    """Return every engine with every number of threads, a window of absolute positions moved in both ways."""
    ways = ("recompute", "reanchor") if config.positions == "window" else (ROLLS,)
    return [EngineSetting(*one) for one in itertools.product(engines, threads, ways)]


def turns_to_measure(setting: EngineSetting, config: ModelConfig, window_turns: int) -> int:
    """Return how many turns hold every part of a window's move: a whole cycle, and four turns at least."""
    if setting.when_full == ROLLS:
        return 8
    if setting.when_full == "recompute":
        return 4
    cycle = window_turns - (setting.keep_turns or config.sampling.keep_turns or window_turns // 2)
    return cycle * -(-4 // cycle)


def table(costs: list[EngineCost]) -> list[str]:
    """Return the lines of a table; motion is compared with the first row's, as far as both have some."""
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
        common = min(len(cost.motion), len(costs[0].motion))
        apart = float(np.abs(cost.motion[:common] - costs[0].motion[:common])[:, 50:].max())
        rows.append(
            (
                cost.label,
                str(cost.setting.threads),
                cost.setting.window(),
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


def _undisturbed_s() -> float:
    """Return a clock that stands while this thread could run and had no core [s]."""
    try:
        waited_ns = int(Path("/proc/thread-self/schedstat").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        waited_ns = 0
    return time.perf_counter() - 1e-9 * waited_ns


def _resident_mb() -> float:
    """Return the memory that this process holds; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0.0
    return pages * 4096 / 1e6
