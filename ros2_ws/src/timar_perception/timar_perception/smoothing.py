"""Smooth what trembles and let pass what moves: the one-euro filter, on rotations and on numbers."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

Array = npt.NDArray[np.float64]

_SPEED_HZ = 3.0
"""The speed itself is smoothed below this [Hz]."""


@dataclasses.dataclass(frozen=True)
class SmoothingConfig:
    """How much is smoothed."""

    least_hz: float
    """Limit at rest [Hz]."""
    hz_per_speed: float
    """By how much the limit rises with speed [Hz per unit a second]."""

    def delay_s(self, speed: float) -> float:
        """Return by how much slow changes are late while moving at a speed [s]."""
        return 1.0 / (2.0 * math.pi * (self.least_hz + self.hz_per_speed * abs(speed)))


class Smoother:
    """A one-euro filter over rotation vectors (3,) or plain vectors (n,).

    Source: Casiez, Roussel and Vogel, "1€ Filter", CHI 2012. Its gain is that of an exponential low-pass in
    continuous time, so that pictures at uneven times are smoothed alike.
    """

    def __init__(self, config: SmoothingConfig, *, is_rotation: bool) -> None:
        self.config = config
        self._is_rotation = is_rotation
        self._value: Array | None = None
        self._raw: Array | None = None
        self._speed: Array | None = None
        self._seen_ns = 0

    def reset(self) -> None:
        """Forget: the next value passes as it is."""
        self._value = None

    def push(self, value: npt.ArrayLike, seen_ns: int) -> Array:
        """Take a value in and return the smoothed one.

        Args:
            value: (3,) rotation vector [rad], or (n,) numbers.
            seen_ns: When it was so; later than the one before.
        """
        new = np.array(value, np.float64)
        if self._value is None or self._raw is None or self._speed is None:
            self._value, self._raw, self._speed = new, new, np.zeros_like(new)
            self._seen_ns = seen_ns
            return new
        step_s = max(1e-4, (seen_ns - self._seen_ns) * 1e-9)
        self._seen_ns = seen_ns
        speed = self._between(self._raw, new) / step_s
        self._speed = self._speed + _gain(_SPEED_HZ, step_s) * (speed - self._speed)
        self._raw = new
        limit_hz = self.config.least_hz + self.config.hz_per_speed * float(np.linalg.norm(self._speed))
        self._value = self._moved(self._value, _gain(limit_hz, step_s) * self._between(self._value, new))
        return self._value

    def _between(self, start: Array, end: Array) -> Array:
        if not self._is_rotation:
            return end - start
        return np.asarray((Rotation.from_rotvec(end) * Rotation.from_rotvec(start).inv()).as_rotvec())

    def _moved(self, start: Array, step: Array) -> Array:
        if not self._is_rotation:
            return start + step
        return np.asarray((Rotation.from_rotvec(step) * Rotation.from_rotvec(start)).as_rotvec())


def _gain(limit_hz: float, step_s: float) -> float:
    return 1.0 - math.exp(-2.0 * math.pi * limit_hz * step_s)
