"""Quintic interpolation between targets that come at any time; a function of time for any past instant."""

from __future__ import annotations

import bisect

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def smooth_step(phase: Array) -> Array:
    """From 0 to 1 with no velocity or acceleration at either end: the minimum-jerk profile.

    Source: T. Flash, N. Hogan, "The Coordination of Arm Movements", Journal of Neuroscience 5, 1985.
    """
    s = np.minimum(np.maximum(phase, 0.0), 1.0)
    return s * s * s * (10.0 + s * (6.0 * s - 15.0))


class TargetInterpolator:
    """N numbers that start at zero; each new target is reached smoothly in a given time.

    Args:
        size: N.
        duration_s: Of one transition [s].
        kept: How many targets are remembered.
    """

    def __init__(self, size: int, duration_s: float, kept: int = 64) -> None:
        self._size, self._duration_s, self._kept = size, duration_s, kept
        self._starts_s: list[float] = []
        self._moves: list[tuple[Array, Array]] = []

    @property
    def is_unused(self) -> bool:
        """Whether no target ever came."""
        return not self._starts_s

    def set_target(self, target: Array, time_s: float) -> None:
        """Go to (N,) target from an instant on, from wherever the numbers are then.

        Args:
            target: Finite.
            time_s: An earlier instant than in the last call counts as that one [s].
        """
        time_s = max(time_s, self._starts_s[-1]) if self._starts_s else time_s
        here = self.at(np.array([time_s]))[0]
        self._starts_s.append(time_s)
        self._moves.append((here, np.asarray(target, np.float64)))
        del self._starts_s[: -self._kept], self._moves[: -self._kept]

    def at(self, times_s: Array) -> Array:
        """Return (K, N) at rising instants; before all remembered targets: where the first began."""
        values = np.zeros((len(times_s), self._size))
        if not self._starts_s:
            return values
        first = max(bisect.bisect_right(self._starts_s, times_s[0]) - 1, 0)
        values[:] = self._moves[first][0]
        for start_s, (here, there) in zip(self._starts_s[first:], self._moves[first:], strict=True):
            since = times_s - start_s
            if since[0] / self._duration_s >= 1.0:
                values[:] = here + (there - here)
            elif since[-1] >= 0.0:
                step = smooth_step(since / self._duration_s)[:, None]  # (K, 1)
                values = np.where(since[:, None] >= 0.0, here + step * (there - here), values)
        return values
