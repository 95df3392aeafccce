"""One-euro filter: smooths jitter at rest and follows fast motion, on rotations and on numbers."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

Array = npt.NDArray[np.float64]

_SPEED_CUTOFF_HZ = 3.0
"""Cutoff of the low-pass over the speed itself [Hz]."""


class OneEuroFilter:
    """A one-euro filter over rotation vectors (3,) or plain vectors (n,).

    Source: Casiez, Roussel and Vogel, "1€ Filter", CHI 2012. Its gain is that of an exponential low-pass in
    continuous time, so that images at uneven times are smoothed alike.

    Args:
        min_cutoff_hz: Cutoff at rest [Hz].
        cutoff_per_speed: By how much the cutoff rises with speed [Hz per unit a second].
        is_rotation: Whether values are rotation vectors.

    Raises:
        ValueError: The cutoff is not positive, or would fall with speed.
    """

    def __init__(self, min_cutoff_hz: float, cutoff_per_speed: float, *, is_rotation: bool) -> None:
        if not (0 < min_cutoff_hz < math.inf and 0 <= cutoff_per_speed < math.inf):
            raise ValueError(
                f"a one-euro filter of {min_cutoff_hz} Hz and {cutoff_per_speed} Hz per unit a second, "
                "expected a cutoff above 0 and 0 or more"
            )
        self._min_cutoff_hz, self._cutoff_per_speed = min_cutoff_hz, cutoff_per_speed
        self._is_rotation = is_rotation
        self._value: Array | None = None
        self._raw: Array | None = None
        self._speed: Array | None = None
        self._time_ns = 0

    def reset(self) -> None:
        """Forget all values: the next one passes unchanged."""
        self._value = None

    def cutoff_hz(self, speed: float) -> float:
        """Return the cutoff at a speed [Hz]; slow changes are delayed by 1 / (2 pi cutoff)."""
        return self._min_cutoff_hz + self._cutoff_per_speed * abs(speed)

    def filter(self, value: npt.ArrayLike, time_ns: int) -> Array:
        """Return the smoothed value.

        Args:
            value: (3,) rotation vector [rad], or (n,) numbers.
            time_ns: When it was so; later than the one before.
        """
        new = np.array(value, np.float64)
        if self._value is None or self._raw is None or self._speed is None:
            self._value, self._raw, self._speed = new, new, np.zeros_like(new)
            self._time_ns = time_ns
            return new
        step_s = max(1e-4, (time_ns - self._time_ns) * 1e-9)
        self._time_ns = time_ns
        speed = self._difference(self._raw, new) / step_s
        self._speed = self._speed + _gain(_SPEED_CUTOFF_HZ, step_s) * (speed - self._speed)
        self._raw = new
        gain = _gain(self.cutoff_hz(float(np.linalg.norm(self._speed))), step_s)
        self._value = self._sum(self._value, gain * self._difference(self._value, new))
        return self._value

    def _difference(self, start: Array, end: Array) -> Array:
        if not self._is_rotation:
            return end - start
        return np.asarray((Rotation.from_rotvec(end) * Rotation.from_rotvec(start).inv()).as_rotvec())

    def _sum(self, start: Array, step: Array) -> Array:
        if not self._is_rotation:
            return start + step
        return np.asarray((Rotation.from_rotvec(step) * Rotation.from_rotvec(start)).as_rotvec())


def _gain(cutoff_hz: float, step_s: float) -> float:
    return 1.0 - math.exp(-2.0 * math.pi * cutoff_hz * step_s)
