"""Correlation of two tracks, at one instant and with the lag at which they agree best."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


def correlation(level: Floats, angle: Floats, known: Flags, lag: int = 0) -> float:
    """Return Pearson's correlation of a level with an angle `lag` steps later; NaN when one is constant.

    Args:
        level: (T,).
        angle: (T,).
        known: (T,) where the angle counts.
        lag: Steps by which the angle comes after the level; negative: before.
    """
    late = slice(max(lag, 0), len(angle) + min(lag, 0))
    early = slice(max(-lag, 0), len(angle) - max(lag, 0))
    use = known[late]
    one, other = angle[late][use], level[early][use]
    if one.size < 3 or np.ptp(one) < 1e-6 or np.ptp(other) < 1e-6:
        return math.nan
    return float(np.corrcoef(one, other)[0, 1])


def lagged_correlation(
    level: Floats, angle: Floats, known: Flags, longest: int
) -> tuple[float, float, float] | None:
    """Find by how much an angle comes after a level.

    Args:
        level: (T,).
        angle: (T,).
        known: (T,) where the angle counts.
        longest: Lags are searched up to so many steps to either side.

    Returns:
        The correlation at the same instant, the lag of the highest one [steps] with a parabola through the
        peak, and the highest one; None where one of the two is constant.
    """
    values = np.array([correlation(level, angle, known, lag) for lag in range(-longest, longest + 1)])
    if not np.isfinite(values).all():
        return None
    best, offset = int(values.argmax()), 0.0
    if 0 < best < len(values) - 1:
        left, middle, right = values[best - 1 : best + 2]
        bend = left - 2 * middle + right
        offset = 0.5 * (left - right) / bend if bend < 0 else 0.0
    return float(values[longest]), float(best - longest + offset), float(values[best])
