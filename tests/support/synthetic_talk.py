"""Two synthetic people: voices in phrases, so that who speaks changes, and motion that wanders."""

from __future__ import annotations

import numpy as np
from timar_common.motion_file import MotionTrack

SECONDS = 6.0


def voice(seed: int, seconds: float = SECONDS) -> np.ndarray:
    """Noise in phrases, so that who speaks changes."""
    random = np.random.default_rng(seed)
    time_s = np.arange(round(seconds * 16_000)) / 16_000
    envelope = np.clip(np.sin(2 * np.pi * (time_s / 3 + 0.5 * seed)) * 4, 0, 1)
    tone = sum(np.sin(2 * np.pi * 140 * harmonic * time_s) / harmonic for harmonic in range(1, 12))
    return np.rint(4000 * envelope * (tone + 0.1 * random.standard_normal(time_s.size))).astype(np.int16)


def track(seed: int, seconds: float = SECONDS) -> MotionTrack:
    random = np.random.default_rng(seed)
    motion = 0.02 * np.cumsum(random.standard_normal((round(seconds * 25), 56)), axis=0)
    return MotionTrack(np.clip(motion, -2, 2).astype(np.float32), np.ones((len(motion), 3), np.bool_))
