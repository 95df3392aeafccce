"""Trajectory planner: certified plans, each continuing the last in position, velocity and acceleration."""

from __future__ import annotations

import collections
import dataclasses

import numpy as np
import numpy.typing as npt

from timar_retargeting.limit_report import LimitReport
from timar_retargeting.limits import Indices, Limits, blend, max_blend, overshoots
from timar_retargeting.spline_fit import SplineFit, spline_fit

Array = npt.NDArray[np.float64]

BANDWIDTH_LADDER = 0.78 ** np.arange(15)
"""A curve that breaks a limit is tried again with these shares of its bandwidth, down to about 3 %."""
ENOUGH_SHARE = 0.98
"""When this much of the unsmoothed curve may be had, it is blended and not smoothed."""
STEPS_MULTIPLE = 5
"""Plans have a multiple of this many steps, so that few fits are needed."""
LEAD_IN_SHARE = 0.5
"""Which part of velocity and acceleration may be spent on leaving the old curve for the new."""
SHORTEST_LEAD_IN_S = 0.06
LONGEST_LEAD_IN_S = 1.0


@dataclasses.dataclass(frozen=True)
class JointPlan:
    """A curve on the grid of times k * step, from a grid index on; after its last point it rests for ever."""

    first_index: int
    step_s: float
    curve: Array
    """(3, K, J) positions, velocities, accelerations."""

    @property
    def last_index(self) -> int:
        """Grid index of the point at which it rests."""
        return self.first_index + self.curve.shape[1] - 1

    @property
    def positions(self) -> Array:
        """(K, J) [rad]."""
        return self.curve[0]

    def state_at(self, index: int) -> Array:
        """Return the state (3, J) at a grid index, not before the first."""
        return self.curve[:, min(index, self.last_index) - self.first_index]

    def from_index(self, index: int, steps: int, joints: Indices) -> Array:
        """Return `steps` + 1 points of some joints from a grid index on, resting beyond the end."""
        rows = np.minimum(np.arange(index, index + steps + 1), self.last_index) - self.first_index
        return self.curve[:, rows[:, None], joints]

    def sample(self, time_s: float) -> tuple[Array, Array]:
        """Return (J,) positions [rad] and velocities [rad/s] at an instant of its clock [s]."""
        steps = time_s / self.step_s
        p, v, a = self.curve
        if steps >= self.last_index:
            return p[-1].copy(), v[-1].copy()
        since = max(steps - self.first_index, 0.0)
        k = int(since)
        t = (since - k) * self.step_s
        jerk = (a[k + 1] - a[k]) / self.step_s
        return p[k] + t * (v[k] + t * (a[k] / 2.0 + t * jerk / 6.0)), v[k] + t * (a[k] + t * jerk / 2.0)


class PlanSampler:
    """Plans in force, each from its start on, for outputs that take positions and not trajectories.

    Args:
        kept: How many plans are remembered; those that begin later than now are few.
    """

    def __init__(self, kept: int = 8) -> None:
        self._plans: collections.deque[JointPlan] = collections.deque(maxlen=kept)

    def add(self, plan: JointPlan) -> None:
        """Take a plan over from its start; one that was to start later is replaced."""
        while self._plans and self._plans[-1].first_index >= plan.first_index:
            self._plans.pop()
        self._plans.append(plan)

    def at(self, now_ns: int) -> tuple[Array, Array] | None:
        """Return (J,) positions [rad] and velocities [rad/s] at an instant; None before the first plan."""
        if not self._plans:
            return None
        now_s = now_ns * 1e-9
        while len(self._plans) > 1 and self._plans[1].first_index <= now_s / self._plans[0].step_s:
            self._plans.popleft()
        return self._plans[0].sample(now_s)


class TrajectoryPlanner:
    """Plans for J joints that keep their limits whatever is wanted.

    Args:
        limits: Of the joints.
        bandwidth_hz: (J,) motion above this is smoothed away.
        step_s: The grid's step [s].
        rest: (J,) where the joints rest now [rad].
        index: Grid index of now.
    """

    def __init__(self, limits: Limits, bandwidth_hz: Array, step_s: float, rest: Array, index: int) -> None:
        self.limits, self.step_s = limits, step_s
        self.report = LimitReport(len(rest))
        self._bandwidth_hz = bandwidth_hz
        self._ladder_hz = np.multiply.outer(BANDWIDTH_LADDER, bandwidth_hz)  # (L, J)
        curve = np.zeros((3, 1, len(rest)))
        curve[0] = rest
        self.plan = JointPlan(index, step_s, curve)

    def follow(self, index: int, wanted: Array) -> JointPlan:
        """Make the plan that follows wanted positions from a grid index on.

        Args:
            index: Where the new plan starts, not before the running one did.
            wanted: (n, J) positions at index + 1, index + 2, ... [rad]; its last row is held.

        Returns:
            The new plan, which is the running one from now on. Every limit is kept at every instant.
        """
        start = self.plan.state_at(index)  # (3, J)
        steps = max(len(wanted) + 2, self.plan.last_index - index, 2 * STEPS_MULTIPLE)
        steps += -steps % STEPS_MULTIPLE
        held = np.repeat(wanted[-1:], steps - len(wanted), axis=0)
        fit = spline_fit(steps, self.step_s)
        settling, coefficients = fit.prepare(start, np.concatenate([wanted, held]))
        curve = fit.solve(settling, coefficients, self._bandwidth_hz)  # (3, steps + 1, J)
        over = overshoots(curve, self.limits, self.step_s)  # (4, J)
        bad = np.flatnonzero(~(over.max(0) <= 0.0))
        if bad.size:
            over[:2][self.limits.is_stop] = 0.0
            is_hit = ~(over[:, bad].max(0) <= 0.0)
            safe = self.plan.from_index(index, steps, bad)
            curve[:, :, bad] = self._repair(fit, settling[:, bad], coefficients[:, bad], bad, safe, is_hit)
        self.report.plans += 1
        self.plan = JointPlan(index, self.step_s, curve)
        return self.plan

    def _repair(
        self,
        fit: SplineFit,
        settling: Array,
        coefficients: Array,
        joints: Indices,
        safe: Array,
        is_hit: npt.NDArray[np.bool_],
    ) -> Array:
        """Return curves for B joints that broke a limit: smoother, if need be blended with the running plan.

        Args:
            fit: Over the plan's steps.
            settling: (3 (steps + 1), B) from `SplineFit.prepare`.
            coefficients: (steps - 2, B) from there.
            joints: (B,) which they are.
            safe: (3, steps + 1, B) the running plan.
            is_hit: (B,) whether it counts; reaching a stop by design does not.
        """
        limits = self.limits.of(joints)
        tried = fit.solve(settling, coefficients, self._ladder_hz[:, joints])  # (3, steps + 1, L, B)
        shares = max_blend(tried, safe, limits, self.step_s)  # (L, B)
        # The least smoothing that is (almost) enough; when none is, the one of which most can be had.
        enough = shares >= np.where(np.arange(len(shares))[:, None] == 0, ENOUGH_SHARE, 1.0)
        level = np.where(enough.any(0), enough.argmax(0), shares.argmax(0))  # (B,)
        here = np.arange(len(joints))
        share = shares[level, here]
        curve = blend(tried[:, :, level, here], safe, share)
        # Up to the limits again: as much of the next less smooth one as they allow.
        rougher = tried[:, :, np.maximum(level - 1, 0), here]
        curve = blend(rougher, curve, max_blend(rougher, curve, limits, self.step_s))
        report, hit = self.report, joints[is_hit]
        report.smoothed[hit] += level[is_hit] > 0
        report.scaled[hit] += share[is_hit] < 1.0
        report.smallest_share[hit] = np.minimum(report.smallest_share[hit], share[is_hit])
        return curve


def lead_in(wanted: Array, start: Array, limits: Limits, step_s: float) -> Array:
    """Lead from a state into wanted positions by an offset that dies away; fast motion keeps its size.

    The offset is a quintic that begins with the difference in position, velocity and acceleration; it lasts
    as long as its share of the limits demands.

    Args:
        wanted: (n + 2, J) positions at grid points -1, 0, 1 .. n, where 0 is the state's [rad].
        start: (3, J) state at grid point 0.
        limits: Of the joints.
        step_s: The grid's step [s].

    Returns:
        (n, J) positions at grid points 1 .. n [rad].
    """
    before, here, after = wanted[:3]
    position = start[0] - here
    velocity = start[1] - (after - before) / (2.0 * step_s)
    acceleration = start[2] - (after - 2.0 * here + before) / step_s**2
    # Peaks of the quintic from a unit offset over a unit of time: 1.875 in velocity, 5.774 in acceleration.
    speed, force = LEAD_IN_SHARE * limits.velocity, LEAD_IN_SHARE * limits.acceleration
    duration = np.maximum.reduce([
        1.875 * np.abs(position) / speed,
        np.sqrt(5.774 * np.abs(position) / force),
        4.0 * np.abs(velocity) / force,
    ])  # (J,) # fmt: skip
    duration = np.clip(duration, SHORTEST_LEAD_IN_S, LONGEST_LEAD_IN_S)
    led = wanted[2:].copy()
    # Beyond the longest of them every offset is zero.
    count = min(int(duration.max() / step_s) + 1, len(led))
    t = step_s * np.arange(1, count + 1)[:, None]  # (count, 1)
    s = np.minimum(t / duration, 1.0)  # (count, J)
    cube, rest = s * s * s, 1.0 - s
    # Quintic Hermite basis functions of position, velocity and acceleration at the start.
    led[:count] += (
        position * (1.0 - cube * (10.0 + s * (6.0 * s - 15.0)))
        + velocity * duration * (s - cube * (6.0 - s * (8.0 - 3.0 * s)))
        + acceleration * (0.5 * duration * duration) * (s * s * rest * rest * rest)
    )
    return led
