"""Acoustic echo cancellation by a partitioned frequency-domain Kalman filter.

A linear filter takes the echo down without touching the user, and says how much echo it expects to have left.

Source: the state-space model of G. Enzner and P. Vary, "Frequency-domain adaptive Kalman filter for acoustic
echo control in hands-free telephones" (Signal Processing 86, 2006), with the filter cut into partitions.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
from timar_common.clock import SAMPLE_RATE_HZ
from timar_common.config import check, number

_TINY = 1e-10
SPEECH_HZ = (300.0, 3500.0)
"""Where what is left is compared with what is expected [Hz]."""


@dataclasses.dataclass(frozen=True)
class EchoFilterConfig:
    """The linear part of echo suppression."""

    block: int = number(
        320, "In and out at once; nothing is delayed beyond the block itself.", 1, 16_000, "samples"
    )
    partitions: int = number(12, "Blocks of echo that are modelled: 12 of 20 ms are 240 ms.", 1, 1000)
    transition: float = number(
        0.998, "How much of the echo path stays as it was from block to block.", 1e-3, 1.0 - 1e-9
    )
    smoothing: float = number(0.5, "Of the estimate of what is not echo.", 0.0, 1.0 - 1e-9)
    initial_variance: float = number(3.0, "How unsure the filter is of the echo path at first.", 1e-9, 1e3)
    distortion: float = number(
        0.01, "Share of the echo's power that no linear filter takes out, as of a loudspeaker.", 0.0, 1.0
    )
    reverberation: float = number(
        0.8, "Share of the echo's power that is left a block later, beyond what is modelled.", 0.0, 1.0 - 1e-9
    )

    def __post_init__(self) -> None:
        check(self)


class EchoFilter:
    """Subtract the echo of one sound from another, block by block, learning all the time."""

    left: float
    """Power that was left of the newest block, between 300 and 3500 Hz."""
    expected: float
    """And how much echo was expected to be in it."""

    def __init__(self, config: EchoFilterConfig | None = None) -> None:
        self.config = config or EchoFilterConfig()
        block, parts = self.config.block, self.config.partitions
        bins = block + 1
        self._far_before = np.zeros(block, np.float64)
        self._far = np.zeros((parts, bins), np.complex128)
        self._path = np.zeros((parts, bins), np.complex128)
        self._variance = np.full((parts, bins), self.config.initial_variance)
        self._other = np.zeros(bins)
        low, high = (round(hz * 2 * block / SAMPLE_RATE_HZ) for hz in SPEECH_HZ)
        self._speech = slice(low, max(high, low + 1))
        self._late = self.left = self.expected = 0.0

    def process(
        self, near: npt.NDArray[np.floating], far: npt.NDArray[np.floating]
    ) -> npt.NDArray[np.float64]:
        """Return `near` less the echo of `far`.

        Args:
            near: (block,) what the microphone heard, in [-1, 1].
            far: (block,) what the loudspeaker played at the same places of the clock, in [-1, 1].

        Raises:
            ValueError: One of them has another length.
        """
        block = self.config.block
        if near.shape != (block,) or far.shape != (block,):
            raise ValueError(
                f"near and far have shapes {near.shape} and {far.shape}, expected ({block},) each"
            )
        self._far[1:] = self._far[:-1]
        self._far[0] = np.fft.rfft(np.concatenate([self._far_before, far]))
        self._far_before = np.asarray(far, np.float64)
        echo = (self._far * self._path).sum(axis=0)
        error = near - np.fft.irfft(echo)[block:]
        self._learn(error, echo)
        return error

    @property
    def path(self) -> npt.NDArray[np.complex128]:
        """(partitions, block + 1) the echo path as it is believed to be."""
        return self._path.copy()

    def shift(self, partitions: int) -> None:
        """Move the echo path by so many blocks, for the far sound is delayed by so much less from now on."""
        unknown = slice(None, partitions) if partitions > 0 else slice(partitions, None)
        for part, empty in ((self._far, 0), (self._path, 0), (self._variance, self.config.initial_variance)):
            part[:] = np.roll(part, partitions, axis=0)
            part[unknown] = empty

    def _learn(self, error: npt.NDArray[np.float64], echo: npt.NDArray[np.complex128]) -> None:
        cfg = self.config
        spectrum = np.fft.rfft(np.concatenate([np.zeros(cfg.block), error]))
        power = spectrum.real**2 + spectrum.imag**2
        self._other = cfg.smoothing * self._other + (1 - cfg.smoothing) * power
        far_power = self._far.real**2 + self._far.imag**2
        explained = (far_power * self._variance).sum(axis=0)
        self._expect(power, explained, far_power, echo)
        step = self._variance / (explained + 2 * self._other + _TINY)
        change = np.fft.irfft(step * self._far.conj() * spectrum, axis=1)
        change[:, cfg.block :] = 0.0  # a partition is no longer than its block
        self._path += np.fft.rfft(change, axis=1)
        shrunk = (1 - 0.5 * step * far_power) * self._variance
        path_power = self._path.real**2 + self._path.imag**2
        forget = cfg.transition**2
        self._variance = forget * np.maximum(shrunk, 0.0) + (1 - forget) * path_power

    def _expect(
        self,
        power: npt.NDArray[np.float64],
        explained: npt.NDArray[np.float64],
        far_power: npt.NDArray[np.float64],
        echo: npt.NDArray[np.complex128],
    ) -> None:
        """Compare what is left with what the filter is unsure of, cannot model, and what comes later."""
        cfg = self.config
        last = (np.abs(self._path[-2:]).mean(axis=0) ** 2 * far_power[-1])[self._speech].sum()
        self._late = cfg.reverberation * (self._late + float(last))
        unsure = explained + cfg.distortion * (echo.real**2 + echo.imag**2)
        # A block's spectrum has half of its samples, the far sound's all of them.
        expected = 0.5 * (float(unsure[self._speech].sum()) + self._late)
        self.left = float(power[self._speech].sum())
        self.expected = max(expected, cfg.reverberation * self.expected)
