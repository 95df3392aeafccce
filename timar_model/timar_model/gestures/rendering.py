"""Neck motion of a gesture: minimum-jerk strokes whose sizes and times vary as captured heads' do."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import numpy.typing as npt

from timar_model.gestures.gesture import FRAMES_PER_SECOND, Gesture, GestureKind
from timar_model.gestures.kinematics import read_kinematics

Array = npt.NDArray[np.float64]

LARGEST = 1.5
"""Strokes differ by at most so many standard deviations."""

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

    size_ratio: float
    """Size of a stroke over that of the one before."""
    size_spread: float
    period_spread: float
    out_share: float
    """Share of a stroke's time that the way out takes."""
    out_share_spread: float
    """Its standard deviation."""
    fastest_hz: float
    """No stroke of a gesture is quicker, unless the whole gesture is [strokes/s]."""
    return_spread: float = 0.12
    """Standard deviation of where the head turns between two strokes, in sizes."""
    other_axes_spread: float = 0.08
    """Standard deviation of what the two other axes do, in sizes."""

    @classmethod
    def captured(cls, kind: GestureKind) -> StrokeShape:
        """Return how strokes of a kind differ in captured heads (`kinematics.yaml`)."""
        return _captured(kind)


FASTEST_HZ = {GestureKind.NOD: 4.0, GestureKind.SHAKE: 3.0, GestureKind.TILT: 2.0}
"""Quickest strokes of heads that are not asked for more [strokes/s]."""


@functools.lru_cache(maxsize=8)
def _captured(kind: GestureKind) -> StrokeShape:
    known = kind if kind in FASTEST_HZ else GestureKind.TILT
    row = read_kinematics()["strokes"][known.name.lower()]
    return StrokeShape(
        size_ratio=row["size_ratio"],
        size_spread=row["size_ratio_spread"],
        period_spread=row["period_spread"],
        out_share=row["out_share"],
        out_share_spread=row["out_share_spread"],
        fastest_hz=FASTEST_HZ[known],
    )


def render(gesture: Gesture, shape: StrokeShape | None = None) -> Array:
    """Return what a gesture adds to the neck's rotation vector, (frames, 3) [rad].

    It begins and ends at zero, at rest and without acceleration; its largest excursion is the gesture's size.
    The same gesture gives the same motion.

    Args:
        gesture: What to show. A look back adds nothing of its own: it ends a look away earlier.
        shape: How strokes vary; None: as in captured heads.
    """
    return waveform(gesture, shape)(np.arange(gesture.frames) / FRAMES_PER_SECOND)


def waveform(gesture: Gesture, shape: StrokeShape | None = None) -> Waveform:
    """Return the gesture's motion as a function of the time since it began."""
    shape, rng = (
        shape or StrokeShape.captured(gesture.kind),
        np.random.default_rng([gesture.variation, int(gesture.kind)]),
    )
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
    varied = shape.size_spread * np.clip(rng.normal(size=count), -LARGEST, LARGEST)
    sizes = shape.size_ratio ** np.arange(count) * np.exp(varied)
    sizes /= sizes.max()
    shortest_s = min(1 / shape.fastest_hz, 1 / gesture.speed_hz)
    periods_s = np.exp(shape.period_spread * np.clip(rng.normal(size=count), -LARGEST, LARGEST))
    spare = periods_s - periods_s.min()
    whole_s = count / gesture.speed_hz
    if spare.sum() > 0:
        even = whole_s * periods_s / periods_s.sum()
        rest_s = whole_s - count * shortest_s
        periods_s = even if even.min() >= shortest_s else shortest_s + rest_s * spare / spare.sum()
    else:
        periods_s = np.full(count, whole_s / count)
    # Larger strokes take longer, and none is quicker than the whole gesture says.
    periods_s[np.argsort(sizes)] = np.sort(periods_s)
    sizes = np.minimum(sizes, periods_s * gesture.speed_hz)
    begins_s = np.concatenate([[0.0], np.cumsum(periods_s)])
    if gesture.kind is GestureKind.SHAKE:
        # A stroke passes the middle: to one side, then to the other.
        turns_s = np.stack([begins_s[:-1] + 0.25 * periods_s, begins_s[:-1] + 0.75 * periods_s], 1).ravel()
        points = (sizes[:, None] * np.array([1.0, -1.0])).ravel()
    else:
        between = np.clip(rng.normal(0.0, shape.return_spread, count), -0.3, 0.3) * sizes
        shares = shape.out_share + shape.out_share_spread * np.clip(rng.normal(size=count), -LARGEST, LARGEST)
        turns_s = np.stack([begins_s[:-1] + shares * periods_s, begins_s[1:]], 1).ravel()[:-1]
        points = np.stack([sizes, between], 1).ravel()[:-1]
    return (
        np.concatenate([[0.0], turns_s, [begins_s[-1]]]),
        np.concatenate([[0.0], points, [0.0]]),
    )
