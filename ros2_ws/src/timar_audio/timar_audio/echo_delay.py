"""Tracks the drift between loudspeaker and microphone, so that the echo path stands still for its filter.

Thirty millionths of drift turn the phase at 3 kHz by a third of a turn in a second: no filter learns as fast.
But the phase of what it learns turns evenly over frequency, and that tells the drift.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
from timar_common.clock import SAMPLE_RATE_HZ
from timar_common.config import check, number

from timar_audio.echo_filter import EchoFilter

_TAPS = 16
_OFFSETS = np.arange(-_TAPS // 2 + 1, _TAPS // 2 + 1)
_COMPARED_HZ = (150.0, 4000.0)
"""Above, the phase may turn by more than half between two looks."""
_LEAST_POWER = 1e-6


@dataclasses.dataclass(frozen=True)
class DelayTrackerConfig:
    """How drift is tracked."""

    every_blocks: int = number(15, "Between two looks at the echo path.", 1, 1000, "blocks")
    gain: float = number(0.5, "Share of the drift seen that is corrected after each.", 0.01, 1.0)
    max_drift_ppm: float = number(300.0, "No drift is faster.", 0.0, 1e4, "ppm")

    def __post_init__(self) -> None:
        check(self)


class DelayTracker:
    """Delay the far sound by a little, which follows the drift of its echo.

    Args:
        block: Samples at once.
    """

    def __init__(self, block: int, config: DelayTrackerConfig | None = None) -> None:
        self.config = config or DelayTrackerConfig()
        self.drift = 0.0
        """By how much the echo falls behind per sample [samples]."""
        self._block = block
        self._delay = 0.5 * block
        self._sound = np.zeros(6 * block)
        self._blocks = self._loud_blocks = 0
        self._path: npt.NDArray[np.complex128] | None = None

    def delayed(self, far: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return (block,) far sound delayed by 0 to 3 blocks, given (block,) as it was played."""
        block = self._block
        self._sound = np.concatenate([self._sound[block:], far])
        count = np.arange(block)
        place = self._sound.size - block - _TAPS // 2 + count - self._delay - self.drift * count
        self._delay += self.drift * block
        before = np.floor(place).astype(int)
        from_place = _OFFSETS - (place - before)[:, None]
        weights = np.sinc(from_place) * (0.5 + 0.5 * np.cos(np.pi * from_place / (_TAPS / 2 + 0.5)))
        sound = (self._sound[before[:, None] + _OFFSETS] * weights).sum(axis=1)
        self._loud_blocks += bool((sound**2).mean() > _LEAST_POWER)
        return np.asarray(sound)

    def observe(self, echo_filter: EchoFilter) -> None:
        """Learn the drift from what the filter has learned; call it after each block."""
        self._blocks += 1
        if self._blocks % self.config.every_blocks:
            return
        path, before = echo_filter.path, self._path
        if before is not None and self._loud_blocks > 0.6 * self.config.every_blocks:
            limit = 1e-6 * self.config.max_drift_ppm
            seen = self._moved(path, before) / (self.config.every_blocks * self._block)
            self.drift = float(np.clip(self.drift + self.config.gain * seen, -limit, limit))
        self._path, self._loud_blocks = path, 0
        if not 0.0 <= self._delay <= 3 * self._block:
            blocks = 1 if self._delay < 0.0 else -1
            self._delay += blocks * self._block
            echo_filter.shift(-blocks)
            self._path = None

    def _moved(self, path: npt.NDArray[np.complex128], before: npt.NDArray[np.complex128]) -> float:
        """Return by how much the echo path moved [samples]: the slope of its phase, weighted by its power."""
        low, high = (round(hz * 2 * self._block / SAMPLE_RATE_HZ) for hz in _COMPARED_HZ)
        bins = np.arange(low, high)
        cross = (path * before.conj()).sum(axis=0)[bins]
        weights = np.abs(cross)
        slope = (weights * bins * np.angle(cross)).sum() / ((weights * bins**2).sum() + 1e-12)
        return float(-slope * 2 * self._block / (2 * np.pi))
