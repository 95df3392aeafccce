"""Numbers that glide from one place to the next when they are told to; a function of time for any past."""

from __future__ import annotations

import bisect

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def smooth_step(phase: Array) -> Array:
    """From 0 to 1 with no velocity or acceleration at either end."""
    s = np.minimum(np.maximum(phase, 0.0), 1.0)
    return s * s * s * (10.0 + s * (6.0 * s - 15.0))


class Glide:
    """N numbers that start at zero; each call sends them smoothly to a new place.

    Args:
        size: N.
        duration_s: Of one glide [s].
        kept: How many calls are remembered.
    """

    def __init__(self, size: int, duration_s: float, kept: int = 64) -> None:
        self._size, self._duration_s, self._kept = size, duration_s, kept
        self._starts_s: list[float] = []
        self._ways: list[tuple[Array, Array]] = []

    @property
    def is_unused(self) -> bool:
        """Whether it was never told to go anywhere."""
        return not self._starts_s

    def go(self, target: Array, time_s: float) -> None:
        """Glide to (N,) target from an instant on, from wherever the numbers are then.

        Args:
            target: Finite.
            time_s: An earlier instant than in the last call counts as that one [s].
        """
        time_s = max(time_s, self._starts_s[-1]) if self._starts_s else time_s
        here = self.at(np.array([time_s]))[0]
        self._starts_s.append(time_s)
        self._ways.append((here, np.asarray(target, np.float64)))
        del self._starts_s[: -self._kept], self._ways[: -self._kept]

    def at(self, times_s: Array) -> Array:
        """Return (K, N) at rising instants; those before every remembered call give the first one's start."""
        values = np.zeros((len(times_s), self._size))
        if not self._starts_s:
            return values
        first = max(bisect.bisect_right(self._starts_s, times_s[0]) - 1, 0)
        values[:] = self._ways[first][0]
        for start_s, (here, there) in zip(self._starts_s[first:], self._ways[first:], strict=True):
            since = times_s - start_s
            step = smooth_step(since / self._duration_s)[:, None]
            values = np.where(since[:, None] >= 0.0, here + step * (there - here), values)
        return values
