"""Neck motion of a gesture: minimum-jerk strokes whose sizes and times vary as people's do."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from timar_model.gestures.gesture import FRAMES_PER_SECOND, Gesture, GestureKind

Array = npt.NDArray[np.float64]

MAIN_AXIS = {
    GestureKind.NOD: 0,
    GestureKind.SHAKE: 1,
    GestureKind.TILT: 2,
    GestureKind.LOOK_AWAY: 1,
    GestureKind.LOOK_BACK: 1,
}
"""Component of the neck's rotation vector that a gesture moves (FLAME axes)."""


@dataclasses.dataclass(frozen=True)
class StrokeShape:
    """How the strokes of one gesture differ, as ratios and as standard deviations of their logarithms."""

    size_decay: float = 0.85
    """Size of a stroke over that of the one before."""
    size_spread: float = 0.15
    period_spread: float = 0.12
    out_share: float = 0.46
    """Share of a stroke's time that the way out takes."""
    return_spread: float = 0.12
    """Standard deviation of where the head turns between two strokes, in sizes."""
    other_axes_spread: float = 0.08
    """Standard deviation of what the two other axes do, in sizes."""


def render(gesture: Gesture, shape: StrokeShape | None = None) -> Array:
    """Return what a gesture adds to the neck's rotation vector, (frames, 3) [rad].

    It begins and ends at zero, at rest and without acceleration; its largest excursion is the gesture's size.
    The same gesture gives the same motion.

    Args:
        gesture: What to show. A look back adds nothing of its own: it ends a look away earlier.
        shape: How strokes vary.
    """
    return waveform(gesture, shape)(np.arange(gesture.frames) / FRAMES_PER_SECOND)


def waveform(gesture: Gesture, shape: StrokeShape | None = None) -> Waveform:
    """Return the gesture's motion as a function of the time since it began."""
    shape, rng = shape or StrokeShape(), np.random.default_rng([gesture.variation, int(gesture.kind)])
    if gesture.kind in (GestureKind.NOD, GestureKind.SHAKE):
        times_s, sizes = _strokes(gesture, shape, rng)
    else:
        way_s = 0.5 / gesture.speed_hz
        times_s = np.array([0.0, way_s, way_s + gesture.hold_s, gesture.duration_s])
        sizes = np.array([0.0, 1.0, 1.0, 0.0])
    axes = np.clip(rng.normal(0.0, shape.other_axes_spread, 3), -0.3, 0.3)
    axes[MAIN_AXIS[gesture.kind]] = 1.0
    if gesture.kind is GestureKind.LOOK_BACK:
        axes[:] = 0.0
    return Waveform(times_s, gesture.size_rad * gesture.side * sizes[:, None] * axes)


@dataclasses.dataclass(frozen=True, eq=False)
class Waveform:
    """Turning points of a gesture, joined by minimum-jerk movements."""

    times_s: Array
    """(K,) rising, from 0 [s]."""
    points: Array
    """(K, 3) rotation vector at each turning point [rad]."""

    def __call__(self, times_s: Array) -> Array:
        """Return the motion (n, 3) at times since the beginning (n,); zero outside."""
        step = np.clip(np.searchsorted(self.times_s, times_s, side="right") - 1, 0, len(self.times_s) - 2)
        begun_s, length_s = self.times_s[step], np.diff(self.times_s)[step]
        share = np.clip((times_s - begun_s) / length_s, 0.0, 1.0)[:, None]
        moved = share**3 * (10.0 - 15.0 * share + 6.0 * share**2)
        out: Array = self.points[step] + moved * (self.points[step + 1] - self.points[step])
        return out


def _strokes(gesture: Gesture, shape: StrokeShape, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return turning points of a nod or shake: times [s] and signed sizes, the largest of them 1."""
    count = gesture.count
    sizes = shape.size_decay ** np.arange(count) * np.exp(rng.normal(0.0, shape.size_spread, count))
    sizes /= sizes.max()
    periods_s = np.exp(rng.normal(0.0, shape.period_spread, count))
    periods_s *= count / gesture.speed_hz / periods_s.sum()
    begins_s = np.concatenate([[0.0], np.cumsum(periods_s)])
    if gesture.kind is GestureKind.SHAKE:
        # A stroke passes the middle: to one side, then to the other.
        turns_s = np.stack([begins_s[:-1] + 0.25 * periods_s, begins_s[:-1] + 0.75 * periods_s], 1).ravel()
        points = (sizes[:, None] * np.array([1.0, -1.0])).ravel()
    else:
        between = np.clip(rng.normal(0.0, shape.return_spread, count), -0.3, 0.3) * sizes
        turns_s = np.stack([begins_s[:-1] + shape.out_share * periods_s, begins_s[1:]], 1).ravel()[:-1]
        points = np.stack([sizes, between], 1).ravel()[:-1]
    return (
        np.concatenate([[0.0], turns_s, [begins_s[-1]]]),
        np.concatenate([[0.0], points, [0.0]]),
    )
