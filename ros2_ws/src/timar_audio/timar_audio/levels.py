"""Level meters in dBFS: root mean square and peak."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from timar_common.pcm import FULL_SCALE

SILENCE_DBFS = -120.0


def level_dbfs(samples: npt.NDArray[np.int16]) -> float:
    """Return the root mean square level of a block.

    Args:
        samples: (n,) int16; may be empty.

    Returns:
        Level [dB re full scale], -120 for silence, at most 0.
    """
    if not samples.size:
        return SILENCE_DBFS
    values = samples.astype(np.float32)
    mean_square = float(values @ values) / samples.size
    return max(SILENCE_DBFS, 10.0 * math.log10(max(mean_square, 1e-12) / FULL_SCALE**2))


def peak_dbfs(samples: npt.NDArray[np.int16]) -> float:
    """Return the level of the loudest sample of a block [dB re full scale], -120 for silence."""
    if not samples.size:
        return SILENCE_DBFS
    peak = float(np.abs(samples.astype(np.int32)).max())
    return max(SILENCE_DBFS, 20.0 * math.log10(max(peak, 1e-6) / FULL_SCALE))
