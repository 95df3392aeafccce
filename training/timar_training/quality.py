"""Measure whether generated motion is plausible: the jaw speaks, the neck answers, the seams are smooth."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
from scipy import ndimage, signal
from timar_common.clock import FRAMES_PER_SECOND

from .dyads import JAW, NECK
from .levels import frame_level_db

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
    """Correlate two tracks of one length at shifts up to a quarter of a second."""
    lags = np.arange(-MAX_LAG_FRAMES, MAX_LAG_FRAMES + 1)
    values = np.array([_correlation_at(follower, leader, int(lag)) for lag in lags])
    top = int(values.argmax())
    offset = 0.0
    if 0 < top < len(values) - 1:
        # The vertex of the parabola through the peak and its neighbours.
        left, middle, right = values[top - 1 : top + 2]
        curve = left - 2 * middle + right
        offset = 0.5 * (left - right) / curve if curve < 0 else 0.0
    lag_ms = (lags[top] + offset) * 1000 / FRAMES_PER_SECOND
    return LagCorrelation(float(values[MAX_LAG_FRAMES]), float(values[top]), float(lag_ms))


def correlation(first: Float64Array, second: Float64Array) -> float:
    """Return Pearson's correlation; 0 where a track does not move."""
    if len(first) < 2 or first.std() < 1e-9 or second.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def amplitude_rad(motion: FloatArray) -> float:
    """Return the range of jaw opening between its 5th and 95th percentile [rad]."""
    low, high = np.percentile(motion[:, JAW.start], [5, 95])
    return float(high - low)


def neck_speed_rad_s(motion: FloatArray) -> Float64Array:
    """Return the standard deviation of the neck's velocity per axis, (3,) pitch, yaw, roll [rad/s]."""
    return np.diff(motion[:, NECK].astype(np.float64), axis=0).std(axis=0) * FRAMES_PER_SECOND


def neck_jerk_by_phase(motion: FloatArray, turn_frames: int) -> Float64Array:
    """Return the neck's RMS jerk by the place of its middle step in the turn [rad/s^3].

    Entry 0 is the step over the seam, from one turn's last frame to the next one's first; turns start at
    frame 0.
    """
    jerk = np.diff(motion[:, NECK].astype(np.float64), n=3, axis=0) * FRAMES_PER_SECOND**3
    power = np.square(jerk).sum(axis=1)
    phase = (np.arange(len(jerk)) + 2) % turn_frames
    return np.array([np.sqrt(power[phase == index].mean()) for index in range(turn_frames)])


def seam_ratio(motion: FloatArray, turn_frames: int) -> float:
    """Return the jerk over the seam as a multiple of the jerk within turns; 1 is seamless."""
    by_phase = neck_jerk_by_phase(motion, turn_frames)
    return float(by_phase[0] / max(np.sqrt(np.square(by_phase[1:]).mean()), 1e-9))


def roughness(motion: FloatArray) -> float:
    """Return the share of the neck's movement above 6 Hz: jitter, for heads do not move that fast."""
    neck = signal.detrend(motion[:, NECK].astype(np.float64), axis=0)
    frequency_hz, power = signal.welch(neck, FRAMES_PER_SECOND, nperseg=min(128, len(neck)), axis=0)
    speed = power * frequency_hz[:, None] ** 2
    return float(speed[frequency_hz > 6.0].sum() / max(speed.sum(), 1e-15))


def gestures_of(motion: FloatArray) -> Float64Array:
    """Return the quick part of the neck's pitch: nods and beats without posture, (frames,) [rad]."""
    pitch = motion[:, NECK.start].astype(np.float64)
    return pitch - ndimage.gaussian_filter1d(pitch, 1.0 * FRAMES_PER_SECOND)


@dataclasses.dataclass(frozen=True)
class NodTiming:
    """How generated nods fall on those of the truth."""

    precision: float
    recall: float
    f1: float
    chance_f1: float
    """The same with the generated nods shifted around the clip: what density alone brings."""


def nod_timing(
    motion: FloatArray, truth: FloatArray, listening: npt.NDArray[np.bool_], depth_rad: float
) -> NodTiming:
    """Compare dips of the head while listening with those of the truth, within 200 ms.

    Args:
        motion: (frames, 56) generated.
        truth: (frames, 56) recorded.
        listening: (frames,) whether the agent is silent.
        depth_rad: A dip counts from this depth on [rad].
    """
    found, true = (_dips(track, listening, depth_rad) for track in (motion, truth))
    precision, recall, f1 = _match(found, true)
    length = len(truth)
    shifts = np.linspace(0.2, 0.8, 13)
    chance = [_match(np.sort((found + int(shift * length)) % length), true)[2] for shift in shifts]
    return NodTiming(precision, recall, f1, float(np.mean(chance)))


def _dips(motion: FloatArray, listening: npt.NDArray[np.bool_], depth_rad: float) -> npt.NDArray[np.intp]:
    peaks, _ = signal.find_peaks(gestures_of(motion), prominence=depth_rad, distance=8)
    return peaks[listening[np.minimum(peaks, len(listening) - 1)]]


def _match(found: npt.NDArray[np.intp], true: npt.NDArray[np.intp]) -> tuple[float, float, float]:
    if not len(found) or not len(true):
        return 0.0, 0.0, 0.0
    near = np.abs(found[:, None] - true[None, :]) <= round(0.2 * FRAMES_PER_SECOND)
    precision, recall = float(near.any(axis=1).mean()), float(near.any(axis=0).mean())
    return precision, recall, 2 * precision * recall / max(precision + recall, 1e-9)


def _correlation_at(follower: Float64Array, leader: Float64Array, lag: int) -> float:
    """Correlate the follower with the leader `lag` frames before it."""
    if lag >= 0:
        return correlation(follower[lag:], leader[: len(leader) - lag])
    return correlation(follower[:lag], leader[-lag:])
