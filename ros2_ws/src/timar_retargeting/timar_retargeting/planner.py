"""One certified plan after another: each continues the last in position, velocity and acceleration."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from timar_retargeting.fit import GridFit, State, grid_fit
from timar_retargeting.limits import Curve, Limits, largest_share, mix, overshoot

Array = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

BANDWIDTH_LADDER = 0.78 ** np.arange(15)
"""A curve that breaks a limit is tried again with these shares of its bandwidth, down to about 3 %."""
ENOUGH_SHARE = 0.98
"""When this much of the unsmoothed curve may be had, it is mixed and not smoothed."""
STEPS_MULTIPLE = 5
"""Plans have a multiple of this many steps, so that few fits are needed."""
BLEND_SHARE = 0.5
"""Which part of velocity and acceleration may be spent on leaving the old curve for the new."""
SHORTEST_BLEND_S = 0.06
LONGEST_BLEND_S = 1.0


@dataclasses.dataclass(frozen=True)
class Plan:
    """A curve on the grid of times k * step, from a grid index on; after its last point it rests for ever."""

    first_index: int
    step_s: float
    curve: Curve

    @property
    def last_index(self) -> int:
        """Grid index of the point at which it rests."""
        return self.first_index + len(self.curve.positions) - 1

    def state_at(self, index: int) -> State:
        """Return the state at a grid index, not before the first."""
        row = min(index, self.last_index) - self.first_index
        curve = self.curve
        return State(curve.positions[row], curve.velocities[row], curve.accelerations[row])

    def from_index(self, index: int, steps: int) -> Curve:
        """Return `steps` + 1 points from a grid index on, resting beyond the end."""
        rows = np.minimum(np.arange(index, index + steps + 1), self.last_index) - self.first_index
        return Curve(self.curve.positions[rows], self.curve.velocities[rows], self.curve.accelerations[rows])


@dataclasses.dataclass
class LimitReport:
    """What the limits did to each joint, all (J,)."""

    clipped: Counts
    """Plans in which a wanted position was bent into the position limits."""
    smoothed: Counts
    """Plans with fast motion made smaller to keep velocity or acceleration."""
    scaled: Counts
    """Plans of which only a share could be mixed into the plan before."""
    smallest_share: Array
    """The smallest such share, 1 when there was none."""
    plans: int = 0


class Planner:
    """Plans for J joints that keep their limits whatever is wanted.

    Args:
        limits: Of the joints.
        bandwidth_hz: (J,) motion above this is smoothed away.
        step_s: The grid's step [s].
        rest: (J,) where the joints rest now [rad].
        index: Grid index of now.
    """

    def __init__(self, limits: Limits, bandwidth_hz: Array, step_s: float, rest: Array, index: int) -> None:
        joints = len(rest)
        self.limits, self.step_s = limits, step_s
        clipped, smoothed, scaled = np.zeros((3, joints), np.int64)
        self.report = LimitReport(clipped, smoothed, scaled, np.ones(joints))
        self._bandwidth_hz = bandwidth_hz
        zero = np.zeros((1, joints))
        self.plan = Plan(index, step_s, Curve(np.array([rest], np.float64), zero, zero))

    def follow(self, index: int, wanted: Array) -> Plan:
        """Make the plan that follows wanted positions from a grid index on.

        Args:
            index: Where the new plan starts, not before the running one did.
            wanted: (n, J) positions at index + 1, index + 2, ... [rad]; its last row is held.

        Returns:
            The new plan, which is the running one from now on. Every limit is kept at every instant.
        """
        start = self.plan.state_at(index)
        steps = max(len(wanted) + 2, self.plan.last_index - index, 2 * STEPS_MULTIPLE)
        steps += -steps % STEPS_MULTIPLE
        wanted = np.concatenate([wanted, np.repeat(wanted[-1:], steps - len(wanted), axis=0)])
        fit = grid_fit(steps, self.step_s)
        settling, coefficients = fit.prepare(start, wanted)
        curve = fit.solve(settling, coefficients, self._bandwidth_hz)
        bad = np.flatnonzero(~(overshoot(curve, self.limits, self.step_s) <= 0.0))
        if bad.size:
            safe = self.plan.from_index(index, steps).of(bad)
            repaired = self._repair(fit, settling[:, bad], coefficients[:, bad], bad, safe)
            curve.positions[:, bad] = repaired.positions
            curve.velocities[:, bad] = repaired.velocities
            curve.accelerations[:, bad] = repaired.accelerations
        self.report.plans += 1
        self.plan = Plan(index, self.step_s, curve)
        return self.plan

    def _repair(
        self,
        fit: GridFit,
        settling: Array,
        coefficients: Array,
        joints: npt.NDArray[np.intp],
        safe: Curve,
    ) -> Curve:
        """Return curves for joints that broke a limit: smoother, if need be mixed with the running plan."""
        limits = self.limits.of(joints)
        levels, count = len(BANDWIDTH_LADDER), len(joints)
        bandwidth_hz = np.outer(BANDWIDTH_LADDER, self._bandwidth_hz[joints]).ravel()
        tried = fit.solve(np.tile(settling, levels), np.tile(coefficients, levels), bandwidth_hz)
        shares = largest_share(tried.reshaped(levels, count), safe, limits, self.step_s)
        # The least smoothing that is (almost) enough; when none is, the one of which most can be had.
        enough = shares >= np.where(np.arange(levels)[:, None] == 0, ENOUGH_SHARE, 1.0)
        level = np.where(enough.any(0), enough.argmax(0), shares.argmax(0))
        here = np.arange(count)
        share = shares[level, here]
        curve = mix(tried.of(level * count + here), safe, share)
        # Up to the limits again: as much of the next livelier one as they allow.
        livelier = tried.of(np.maximum(level - 1, 0) * count + here)
        curve = mix(livelier, curve, largest_share(livelier, curve, limits, self.step_s))
        self.report.smoothed[joints] += level > 0
        self.report.scaled[joints] += share < 1.0
        self.report.smallest_share[joints] = np.minimum(self.report.smallest_share[joints], share)
        return curve


def blend(wanted: Array, start: State, limits: Limits, step_s: float) -> Array:
    """Lead from a state into wanted positions by an offset that dies away; fast motion keeps its size.

    The offset is a quintic that begins with the difference in position, velocity and acceleration; it lasts
    as long as its share of the limits demands.

    Args:
        wanted: (n + 2, J) positions at grid points -1, 0, 1 .. n, where 0 is the state's [rad].
        start: State at grid point 0.
        limits: Of the joints.
        step_s: The grid's step [s].

    Returns:
        (n, J) positions at grid points 1 .. n [rad].
    """
    before, here, after = wanted[:3]
    position = start.position - here
    velocity = start.velocity - (after - before) / (2.0 * step_s)
    acceleration = start.acceleration - (after - 2.0 * here + before) / step_s**2
    # Peaks of the quintic from a unit offset over a unit of time: 1.875 in velocity, 5.774 in acceleration.
    speed, force = BLEND_SHARE * limits.velocity, BLEND_SHARE * limits.acceleration
    duration = np.maximum.reduce([
        1.875 * np.abs(position) / speed,
        np.sqrt(5.774 * np.abs(position) / force),
        4.0 * np.abs(velocity) / force,
    ])  # fmt: skip
    duration = np.clip(duration, SHORTEST_BLEND_S, LONGEST_BLEND_S)
    t = step_s * np.arange(1, len(wanted) - 1)[:, None]
    s = np.minimum(t / duration, 1.0)
    cube, rest = s * s * s, 1.0 - s
    offset = (
        position * (1.0 - cube * (10.0 + s * (6.0 * s - 15.0)))
        + velocity * duration * (s - cube * (6.0 - s * (8.0 - 3.0 * s)))
        + acceleration * (0.5 * duration * duration) * (s * s * rest * rest * rest)
    )
    blended: Array = wanted[2:] + offset
    return blended
