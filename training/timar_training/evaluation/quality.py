"""Plausibility of generated motion: jaw against voice, speed of the neck, smoothness over the seams."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
from scipy import signal
from timar_common.clock import FRAMES_PER_SECOND
from timar_common.correlation import lagged_correlation
from timar_common.motion_file import JAW, NECK
from timar_model.metrics.movement import jerk_by_phase

from ..corpora.levels import frame_level_db

Float64Array = npt.NDArray[np.float64]
FloatArray = npt.NDArray[np.float32]

MAX_LAG_FRAMES = 6
QUIET_DB = -50.0


@dataclasses.dataclass(frozen=True)
class LagCorrelation:
    """How two tracks go together."""

    at_zero: float
    """Pearson correlation without a shift."""
    best: float
    """The largest one within a quarter of a second."""
    lag_ms: float
    """Where that is, between frames; positive: the motion comes after the voice [ms]."""


def jaw_follows_voice(motion: FloatArray, voice: FloatArray, *, is_decibel: bool = False) -> LagCorrelation:
    """Correlate jaw opening with the voice's level at the instants the frames are shown.

    Args:
        motion: (frames, 56).
        voice: (n,) 16 kHz of the same side.
        is_decibel: Take the level in dB (not below -50 dBFS) and not as RMS amplitude.
    """
    level = frame_level_db(voice)[: len(motion)]
    track = np.maximum(level, QUIET_DB) if is_decibel else 10 ** (level / 20)
    return lag_correlation(motion[: len(track), JAW.start].astype(np.float64), track)


def lag_correlation(follower: Float64Array, leader: Float64Array) -> LagCorrelation:
    """Correlate two tracks of one length at shifts up to a quarter of a second; 0 where one does not move."""
    found = lagged_correlation(leader, follower, np.ones(len(leader), np.bool_), MAX_LAG_FRAMES)
    at_zero, lag, best = found or (0.0, 0.0, 0.0)
    return LagCorrelation(at_zero, best, lag * 1000 / FRAMES_PER_SECOND)


def amplitude_rad(motion: FloatArray) -> float:
    """Return the range of jaw opening between its 5th and 95th percentile [rad]."""
    low, high = np.percentile(motion[:, JAW.start], [5, 95])
    return float(high - low)


def neck_speed_rad_s(motion: FloatArray) -> Float64Array:
    """Return the standard deviation of the neck's velocity per axis, (3,) pitch, yaw, roll [rad/s]."""
    return np.diff(motion[:, NECK].astype(np.float64), axis=0).std(axis=0) * FRAMES_PER_SECOND


def seam_ratio(motion: FloatArray, turn_frames: int) -> float:
    """Return the jerk over the seam as a multiple of the jerk within turns; 1 is seamless."""
    by_phase = jerk_by_phase(motion[:, NECK], turn_frames)
    return float(by_phase[0] / max(np.sqrt(np.square(by_phase[1:]).mean()), 1e-9))


def roughness(motion: FloatArray) -> float:
    """Return the share of the neck's movement above 6 Hz: jitter, for heads do not move that fast."""
    neck = signal.detrend(motion[:, NECK].astype(np.float64), axis=0)
    frequency_hz, power = signal.welch(neck, FRAMES_PER_SECOND, nperseg=min(128, len(neck)), axis=0)
    speed = power * frequency_hz[:, None] ** 2
    return float(speed[frequency_hz > 6.0].sum() / max(speed.sum(), 1e-15))
