"""Resampling of a device's or a file's sound to 16 kHz mono, as a stream."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import soxr

from timar_common.clock import SAMPLE_RATE_HZ
from timar_common.pcm import float_to_int16

MIX = -1
"""The channel number that stands for the mean of all channels."""


def pick_channel(samples: npt.NDArray[np.float32], channel: int) -> npt.NDArray[np.float32]:
    """Return one channel, or the mean of all.

    Args:
        samples: (n, channels) in [-1, 1].
        channel: Which one, counted from 0; `MIX` for the mean.

    Raises:
        ValueError: There is no such channel.
    """
    if channel == MIX:
        return samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)
    if channel >= samples.shape[1]:
        raise ValueError(
            f"channel {channel} was asked for, but the sound has {samples.shape[1]}; "
            f"choose 0..{samples.shape[1] - 1}, or {MIX} to mix them"
        )
    return samples[:, channel]


class ToConversationRate:
    """Resample a stream to 16 kHz int16; in its whole length no sample is added or left out.

    Args:
        rate_hz: The stream's own rate [Hz].
    """

    def __init__(self, rate_hz: float) -> None:
        self._stream = None
        if rate_hz != SAMPLE_RATE_HZ:
            self._stream = soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32", quality="HQ")

    def push(self, samples: npt.NDArray[np.float32], *, is_last: bool = False) -> npt.NDArray[np.int16]:
        """Resample more sound and return what is ready.

        Args:
            samples: (n,) in [-1, 1]; what is not a number becomes silence.
            is_last: Whether the stream ends here, so that the filter's tail comes out as well.
        """
        samples = np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0)
        if self._stream is not None:
            samples = self._stream.resample_chunk(np.ascontiguousarray(samples), last=is_last)
        return float_to_int16(samples)
