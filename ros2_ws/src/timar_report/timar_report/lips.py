"""Does the jaw move with the head's own voice: how strongly, and how far behind."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from timar_bag.joint_track import JointSeries
from timar_bag.voice import HOP_SAMPLES, RecordedVoice
from timar_common.correlation import lagged_correlation

JAW = "jaw"
HOP_MS = 1000.0 * HOP_SAMPLES / 16_000
LONGEST_LAG_HOPS = 40
"""The lag is searched up to 400 ms to either side."""
FEWEST_HOPS = 100
"""Less than a second of voice and jaw together says nothing."""


class JawAndLevel(NamedTuple):
    """Agreement of the jaw with the level of the heard voice; None where it is not known."""

    correlation: float | None = None
    """Pearson correlation of jaw angle and level [dBFS, at least -60] at the same instant, -1..1."""
    lag_ms: float | None = None
    """How much the jaw comes after the voice, where the correlation is highest [ms]; negative: before."""
    correlation_at_lag: float | None = None


def jaw_and_level(voice: RecordedVoice | None, joints: JointSeries) -> JawAndLevel:
    """Compare jaw and voice on a grid of 10 ms in ROS time.

    Args:
        voice: What the head was heard to say.
        joints: A series with a joint named `jaw`.
    """
    time_ns, position_rad, _ = joints.of(JAW)
    if voice is None or time_ns.size < 2:
        return JawAndLevel()
    hop_ns = voice.time_ns(voice.hop_samples)
    known = (hop_ns >= time_ns[0]) & (hop_ns <= time_ns[-1])
    if known.sum() < FEWEST_HOPS:
        return JawAndLevel()
    since_ns = (time_ns - time_ns[0]).astype(np.float64)
    angle = np.interp((hop_ns[known] - time_ns[0]).astype(np.float64), since_ns, position_rad)
    everywhere = np.ones(angle.size, np.bool_)
    found = lagged_correlation(voice.level_dbfs()[known], angle, everywhere, LONGEST_LAG_HOPS)
    return JawAndLevel(found[0], found[1] * HOP_MS, found[2]) if found else JawAndLevel()
