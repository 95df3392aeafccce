"""Acoustic echo cancellation by a partitioned frequency-domain Kalman filter.

WebRTC's canceller alone silences the user as well while the head's louder voice is in the microphone. A
linear filter before it takes the echo down without touching the user, whom it may then let through.

Source: the state-space model of G. Enzner and P. Vary, "Frequency-domain adaptive Kalman filter for acoustic
echo control in hands-free telephones" (Signal Processing 86, 2006), with the filter cut into partitions.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
from timar_common.config import check, number

_TINY = 1e-10


@dataclasses.dataclass(frozen=True)
class EchoFilterConfig:
    """The linear part of echo suppression."""

    block: int = number(
        320, "In and out at once; nothing is delayed beyond the block itself.", 1, 16_000, "samples"
    )
    partitions: int = number(12, "Blocks of echo that are modelled: 12 of 20 ms are 240 ms.", 1, 1000)
    transition: float = number(
        0.9999, "How much of the echo path stays as it was from block to block.", 1e-3, 1.0 - 1e-9
    )
    smoothing: float = number(0.5, "Of the estimate of what is not echo.", 0.0, 1.0 - 1e-9)
    initial_variance: float = number(0.1, "How unsure the filter is of the echo path at first.", 1e-9, 1e3)

    def __post_init__(self) -> None:
        check(self)


class EchoFilter:
    """Subtract the echo of one sound from another, block by block, learning all the time."""

    def __init__(self, config: EchoFilterConfig | None = None) -> None:
        self.config = config or EchoFilterConfig()
        block, parts = self.config.block, self.config.partitions
        bins = block + 1
        self._far_before = np.zeros(block, np.float64)
        self._far = np.zeros((parts, bins), np.complex128)
        self._path = np.zeros((parts, bins), np.complex128)
        self._variance = np.full((parts, bins), self.config.initial_variance)
        self._other = np.zeros(bins)

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
        echo = np.fft.irfft((self._far * self._path).sum(axis=0))[block:]
        error = near - echo
        self._learn(error)
        return error

    def _learn(self, error: npt.NDArray[np.float64]) -> None:
        cfg = self.config
        spectrum = np.fft.rfft(np.concatenate([np.zeros(cfg.block), error]))
        power = spectrum.real**2 + spectrum.imag**2
        self._other = cfg.smoothing * self._other + (1 - cfg.smoothing) * power
        far_power = self._far.real**2 + self._far.imag**2
        explained = (far_power * self._variance).sum(axis=0)
        step = self._variance / (explained + 2 * self._other + _TINY)
        change = np.fft.irfft(step * self._far.conj() * spectrum, axis=1)
        change[:, cfg.block :] = 0.0  # a partition is no longer than its block
        self._path += np.fft.rfft(change, axis=1)
        shrunk = (1 - 0.5 * step * far_power) * self._variance
        path_power = self._path.real**2 + self._path.imag**2
        forget = cfg.transition**2
        self._variance = forget * np.maximum(shrunk, 0.0) + (1 - forget) * path_power
