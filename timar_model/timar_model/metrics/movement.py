"""What the published metrics do not ask of a head: jerk by phase, human speed, gestures at their time."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
from scipy import ndimage, signal, stats

from timar_model.architecture.config import FRAMES_PER_SECOND, MOTION_GROUPS

Array = npt.NDArray[np.floating]
FrameIndices = npt.NDArray[np.intp]

TOLERANCE_S = 0.2
"""How far a gesture may lie from a true one to count as in time."""
GESTURE_DEPTH_RAD = 0.02
GESTURE_SPACING_S = 0.32
STROKE_BAND_HZ, STROKE_PROMINENCE_RAD = (0.7, 6.0), 0.04
"""As strokes of captured heads are found (docs/training.md)."""
POSTURE_S = 1.0
"""Slower movement than this is posture, not a gesture."""
PARTS = {"jaw": MOTION_GROUPS["jaw"], "pose": MOTION_GROUPS["neck"]}


def as_shown(motion: Array, delay_frames: int) -> Array:
    """Return what is visible at each frame when motion is shown late; before the first frame, that frame.

    Args:
        motion: (T, D), frame f made for the voice's frame f.
        delay_frames: By how much it is shown after that, 0 or more [frames].
    """
    if delay_frames == 0 or not len(motion):
        return motion
    held = np.repeat(motion[:1], min(delay_frames, len(motion)), axis=0)
    return np.concatenate([held, motion[: len(motion) - len(held)]])


def jerk_rad_s3(motion: Array) -> npt.NDArray[np.float64]:
    """Return the size of the jerk between every four frames of motion (T, D), (T - 3,) [rad/s^3]."""
    jerk = np.diff(np.asarray(motion, np.float64), n=3, axis=0) * FRAMES_PER_SECOND**3
    return np.asarray(np.linalg.norm(jerk, axis=1))


def jerk_by_phase(motion: Array, turn_frames: int, delay_frames: int = 0) -> npt.NDArray[np.float64]:
    """Return RMS jerk by the place of its middle step in the turn, (turn_frames,) [rad/s^3].

    Entry 0 is the step over the seam between two turns; turns start at frame `delay_frames`.
    """
    power = np.square(jerk_rad_s3(motion))
    phase = (np.arange(len(power)) + 2 - delay_frames) % turn_frames
    return np.array(
        [
            np.sqrt(power[phase == index].mean()) if (phase == index).any() else 0.0
            for index in range(turn_frames)
        ]
    )


def movement_scores(motion: Array, truth: Array) -> dict[str, float]:
    """Compare how two tracks (T, 56) move, whenever they do so.

    Returns:
        Of jaw and pose: `jerk_*_rad_s3` (RMS), `jerk_true_*_rad_s3`, and `velocity_distance_*_rad_s`, the
        Wasserstein distance between the distributions of velocity, mean over the three axes.
    """
    scores = {}
    for part, columns in PARTS.items():
        made, true = np.asarray(motion[:, columns], np.float64), np.asarray(truth[:, columns], np.float64)
        scores[f"jerk_{part}_rad_s3"] = float(np.sqrt(np.square(jerk_rad_s3(made)).mean()))
        scores[f"jerk_true_{part}_rad_s3"] = float(np.sqrt(np.square(jerk_rad_s3(true)).mean()))
        speeds = [np.diff(track, axis=0) * FRAMES_PER_SECOND for track in (made, true)]
        distances = [stats.wasserstein_distance(speeds[0][:, axis], speeds[1][:, axis]) for axis in range(3)]
        scores[f"velocity_distance_{part}_rad_s"] = float(np.mean(distances))
    return scores


@dataclasses.dataclass(frozen=True)
class EventTiming:
    """How found events fall on true ones, each counted once."""

    precision: float
    recall: float
    f1: float
    chance_f1: float
    """Mean F1 of the found events shifted cyclically by many amounts: what their density alone brings."""


def event_timing(found: FrameIndices, true: FrameIndices, frames: int) -> EventTiming:
    """Match events one to one within 200 ms.

    Args:
        found: Frames of generated events, ascending.
        true: Frames of recorded ones, ascending.
        frames: Length of the recording.
    """
    precision, recall, f1 = _match(found, true)
    shifts = np.linspace(0.1, 0.9, 33)
    shifted = [np.sort((found + int(shift * frames)) % max(frames, 1)) for shift in shifts]
    return EventTiming(precision, recall, f1, float(np.mean([_match(other, true)[2] for other in shifted])))


def dips(motion: Array, during: npt.NDArray[np.bool_]) -> FrameIndices:
    """Return the frames at which the head is at the bottom of a quick dip: nods and beats.

    Args:
        motion: (T, 56).
        during: (T,) which frames count: listening for nods, speaking for beats.
    """
    spacing = round(GESTURE_SPACING_S * FRAMES_PER_SECOND)
    peaks, _ = signal.find_peaks(quick_pitch(motion), prominence=GESTURE_DEPTH_RAD, distance=spacing)
    return np.asarray(peaks[during[peaks]], np.intp)


def stroke_frames(motion: Array) -> FrameIndices:
    """Return the frames at the bottom of nod strokes: swings of the pitch between 0.7 and 6 Hz, far enough.

    Slow posture, which `dips` may take for a nod where it happens to turn round, has none.

    Args:
        motion: (T, 56).
    """
    swing = _swing(motion)
    peaks, _ = signal.find_peaks(swing, prominence=STROKE_PROMINENCE_RAD)
    return np.asarray(peaks, np.intp)


def nod_spans(motion: Array, join_s: float = 0.2) -> list[tuple[int, int]]:
    """Return first frame and end of each nod: its strokes from turning point to turning point, joined.

    Args:
        motion: (T, 56).
        join_s: Strokes closer than this are one nod [s].
    """
    swing = _swing(motion)
    tops, _ = signal.find_peaks(-swing)
    spans: list[tuple[int, int]] = []
    for bottom in stroke_frames(motion):
        after = int(np.searchsorted(tops, bottom))
        first = int(tops[after - 1]) if after > 0 else 0
        end = int(tops[after]) if after < len(tops) else len(swing)
        if spans and first - spans[-1][1] < join_s * FRAMES_PER_SECOND:
            first = spans.pop()[0]
        spans.append((first, end))
    return spans


def _swing(motion: Array) -> npt.NDArray[np.float64]:
    """Return the neck's pitch between 0.7 and 6 Hz, (T,) [rad]."""
    pitch = np.asarray(motion[:, MOTION_GROUPS["neck"].start], np.float64)
    sos = signal.butter(2, STROKE_BAND_HZ, "bandpass", fs=FRAMES_PER_SECOND, output="sos")
    return np.asarray(signal.sosfiltfilt(sos, pitch))


def quick_pitch(motion: Array) -> npt.NDArray[np.float64]:
    """Return the quick part of the neck's pitch, (T,) [rad]: nods and beats without posture."""
    pitch = np.asarray(motion[:, MOTION_GROUPS["neck"].start], np.float64)
    return np.asarray(pitch - ndimage.gaussian_filter1d(pitch, POSTURE_S * FRAMES_PER_SECOND))


def _match(found: FrameIndices, true: FrameIndices) -> tuple[float, float, float]:
    """Return precision, recall and F1; in one dimension, matching in order is the best matching."""
    if not len(found) or not len(true):
        return 0.0, 0.0, 0.0
    tolerance = round(TOLERANCE_S * FRAMES_PER_SECOND)
    matched = one = other = 0
    while one < len(found) and other < len(true):
        gap = int(found[one]) - int(true[other])
        if abs(gap) <= tolerance:
            matched, one, other = matched + 1, one + 1, other + 1
        elif gap < 0:
            one += 1
        else:
            other += 1
    precision, recall = matched / len(found), matched / len(true)
    return precision, recall, 2 * precision * recall / max(precision + recall, 1e-9)
