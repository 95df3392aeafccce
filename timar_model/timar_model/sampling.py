"""In which order the frames of a turn are drawn when several passes share them."""

from __future__ import annotations

import math


def drawing_plan(frames: int, iterations: int) -> list[slice]:
    """Return the rows of a turn each pass draws, from its first frame on; the first passes draw fewest.

    After pass k of K, floor(frames * cos(pi / 2 * (k + 1) / K)) rows are left, at least one fewer than before
    and at least one until the last pass.

    Source: masked autoregressive generation (Li et al., 2024), in the natural order.
    """
    plan: list[slice] = []
    left = frames
    for number in range(iterations):
        rest = 0
        if number < iterations - 1:
            rest = max(
                1, min(left - 1, math.floor(frames * math.cos(math.pi / 2 * (number + 1) / iterations)))
            )
        if rest < left:
            plan.append(slice(frames - left, frames - rest))
        left = rest
    return plan
