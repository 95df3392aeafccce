"""16-bit PCM to float and back, by one convention for training, live and files: full scale is 32768."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

FULL_SCALE = 32_768
"""int16 -32768 is -1.0; the largest float that an int16 holds is 32767 / 32768."""


def int16_to_float(samples: npt.NDArray[np.int16]) -> npt.NDArray[np.float32]:
    """Return PCM as float32 in [-1, 1); exact, for the scale is a power of two."""
    return samples.astype(np.float32) / np.float32(FULL_SCALE)


def float_to_int16(samples: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.int16]:
    """Return float PCM as int16, rounded to the nearest step and clipped to the range of int16.

    Raises:
        ValueError: A sample is not finite.
    """
    if not np.isfinite(samples).all():
        count = int((~np.isfinite(samples)).sum())
        raise ValueError(f"{count} of {samples.size} samples are not finite, expected numbers in [-1, 1]")
    return np.clip(np.rint(samples * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
