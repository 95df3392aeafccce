"""Where the eyes must turn to look at a point."""

from __future__ import annotations

import math
from collections.abc import Sequence

FURTHEST_RAD = 1.2
"""A point further round than this is looked at from here."""
NEAREST_M = 0.05


def look_direction(point_m: Sequence[float], origin_m: Sequence[float]) -> tuple[float, float]:
    """Return yaw (to its left) and pitch (down) from the eyes to a point, as far as a head turns [rad].

    Args:
        point_m: x forward, y left, z up [m].
        origin_m: Between the eyes, in the same frame [m].

    Raises:
        ValueError: The point is not finite, or nearer than a hand's breadth to the eyes.
    """
    x, y, z = (float(p) - o for p, o in zip(point_m, origin_m, strict=True))
    distance = math.sqrt(x * x + y * y + z * z)
    if not NEAREST_M <= distance < math.inf:
        raise ValueError(
            f"the point to look at is {distance:.3g} m from the eyes, expected {NEAREST_M:g} m or more"
        )
    yaw, pitch = math.atan2(y, x), math.atan2(-z, math.hypot(x, y))
    return _within(yaw), _within(pitch)


def _within(angle: float) -> float:
    return min(max(angle, -FURTHEST_RAD), FURTHEST_RAD)
