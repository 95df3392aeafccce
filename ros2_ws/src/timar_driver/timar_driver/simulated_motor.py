"""Motor model of all simulated servos: critically damped position loop, rate-limited, exact steps."""

from __future__ import annotations

import math

STEP_S = 0.002


def follow(
    position: float,
    velocity: float,
    goal: float,
    *,
    delay_s: float,
    top_speed: float,
    duration_s: float,
    lower: float = -math.inf,
    upper: float = math.inf,
) -> tuple[float, float]:
    """Move towards a goal for a while.

    Args:
        position: Where the joint stands, in any unit.
        velocity: How fast it moves [unit/s].
        goal: Where it shall go.
        delay_s: How far it stays behind a steadily moving goal, > 0.
        top_speed: Never faster than this [unit/s].
        duration_s: How long, > 0.
        lower: Never below this.
        upper: Never above this.

    Returns:
        Position and velocity after that time.
    """
    # A critically damped loop x'' = -2 w x' - w^2 (x - goal) stays 2 / w behind a ramp. Its step response,
    # x - goal = (e + (v + w e) t) exp(-w t), is exact over each short step.
    w = 2.0 / delay_s
    steps = max(1, math.ceil(duration_s / STEP_S))
    h = duration_s / steps
    decay = math.exp(-w * h)
    for _ in range(steps):
        error = position - goal
        slope = velocity + w * error
        wanted = goal + (error + slope * h) * decay
        moved = min(max(wanted, position - top_speed * h), position + top_speed * h)
        moved = min(max(moved, lower), upper)
        velocity = (velocity - w * slope * h) * decay if moved == wanted else (moved - position) / h
        position = moved
    return position, velocity
