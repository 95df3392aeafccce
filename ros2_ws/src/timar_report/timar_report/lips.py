"""Does the jaw move with the head's own voice: how strongly, and how far behind."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
from timar_bag.joint_track import Integers, JointSeries
from timar_bag.voice import HOP_SAMPLES, Voice

Floats = npt.NDArray[np.float64]

JAW = "jaw"
HOP_MS = 1000.0 * HOP_SAMPLES / 16_000
LONGEST_LAG_HOPS = 40
"""The lag is searched up to 400 ms to either side."""
FEWEST_HOPS = 100
"""Less than a second of voice and jaw together says nothing."""


@dataclasses.dataclass(frozen=True)
class JawAndLevel:
    """Agreement of the jaw with the level of the heard voice; None where it cannot be told."""

    correlation: float | None
    """Pearson correlation of jaw angle and level [dBFS, at least -60] at the same instant, -1..1."""
    lag_ms: float | None
    """How much the jaw comes after the voice, where the correlation is highest [ms]; negative: before."""
    correlation_at_lag: float | None


def jaw_and_level(voice: Voice | None, jaw: JointSeries) -> JawAndLevel:
    """Compare jaw and voice on a grid of 10 ms in ROS time.

    Args:
        voice: What the head was heard to say.
        jaw: A series with a joint named `jaw`.
    """
    nothing = JawAndLevel(None, None, None)
    time_ns, position_rad = jaw.of(JAW)
    if voice is None or time_ns.size < 2:
        return nothing
    level, angle = _on_one_grid(voice, time_ns, position_rad)
    if level.size < FEWEST_HOPS:
        return nothing
    by_lag = [_correlation(level, angle, lag) for lag in range(-LONGEST_LAG_HOPS, LONGEST_LAG_HOPS + 1)]
    if not np.isfinite(by_lag).all():
        return nothing
    best = int(np.argmax(by_lag))
    lag_hops = best - LONGEST_LAG_HOPS + _vertex(by_lag, best)
    return JawAndLevel(float(by_lag[LONGEST_LAG_HOPS]), float(lag_hops * HOP_MS), float(by_lag[best]))


def _on_one_grid(voice: Voice, time_ns: Integers, position_rad: Floats) -> tuple[Floats, Floats]:
    """Return level and jaw angle at the voice's hops, where both are known."""
    hop_ns = voice.time_ns(voice.hop_samples)
    is_known = (hop_ns >= time_ns[0]) & (hop_ns <= time_ns[-1])
    since_ns = (time_ns - time_ns[0]).astype(np.float64)
    angle = np.interp((hop_ns - time_ns[0]).astype(np.float64), since_ns, position_rad)
    return voice.level_dbfs()[is_known], angle[is_known]


def _correlation(level: Floats, angle: Floats, lag: int) -> float:
    """Return the correlation of the level with the angle `lag` hops later; NaN when one is constant."""
    early = level[: level.size - lag] if lag >= 0 else level[-lag:]
    late = angle[lag:] if lag >= 0 else angle[: angle.size + lag]
    if early.size < 2 or np.ptp(early) < 1e-6 or np.ptp(late) < 1e-6:
        return float("nan")
    return float(np.corrcoef(early, late)[0, 1])


def _vertex(values: list[float], best: int) -> float:
    """Return how far from the best value the parabola through it and its neighbours peaks, -0.5..0.5."""
    if best in (0, len(values) - 1):
        return 0.0
    left, middle, right = values[best - 1 : best + 2]
    bend = left - 2 * middle + right
    return 0.0 if bend >= 0 else 0.5 * (left - right) / bend
