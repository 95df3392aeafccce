"""What the joints should do at one instant, for outputs that take positions and not trajectories."""

from __future__ import annotations

import collections

import numpy as np
import numpy.typing as npt

from timar_retargeting.planner import Plan

Array = npt.NDArray[np.float64]


class PlanSampler:
    """Plans in force, each from its start on.

    Args:
        kept: How many plans are remembered; those that begin later than now are few.
    """

    def __init__(self, kept: int = 8) -> None:
        self._plans: collections.deque[Plan] = collections.deque(maxlen=kept)

    def take(self, plan: Plan) -> None:
        """Take a plan over from its start; one that was to start later is replaced."""
        while self._plans and self._plans[-1].first_index >= plan.first_index:
            self._plans.pop()
        self._plans.append(plan)

    def at(self, now_ns: int) -> tuple[Array, Array] | None:
        """Return (J,) positions [rad] and velocities [rad/s] at an instant; None before the first plan."""
        if not self._plans:
            return None
        place = now_ns * 1e-9 / self._plans[0].step_s
        while len(self._plans) > 1 and self._plans[1].first_index <= place:
            self._plans.popleft()
        plan = self._plans[0]
        p, v, a = plan.curve.positions, plan.curve.velocities, plan.curve.accelerations
        if place >= plan.last_index:
            return p[-1].copy(), v[-1].copy()
        since = max(place - plan.first_index, 0.0)
        k = int(since)
        t = (since - k) * plan.step_s
        jerk = (a[k + 1] - a[k]) / plan.step_s
        return p[k] + t * (v[k] + t * (a[k] / 2.0 + t * jerk / 6.0)), v[k] + t * (a[k] + t * jerk / 2.0)
