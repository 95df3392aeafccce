"""Fit a curve to wanted positions: C2 from the present state, smooth by its bandwidth, at rest in the end.

Over n grid steps the jerk is constant in each, so position is a cubic spline with continuous acceleration.
The jerks minimise  sum (position - wanted)^2 + lambda * sum jerk^2  under two equalities, no velocity and no
acceleration at the end, from a given position, velocity and acceleration. Over a long stretch the first
term's frequency response is 1 / (1 + lambda w^6): a low pass without delay, -6 dB at the bandwidth w =
lambda^(-1/6).

The problem depends on n alone, so its singular vectors are kept; another wanted curve, state or bandwidth
then costs a few small matrix products for all joints at once.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import numpy.typing as npt

from timar_retargeting.limits import Curve

Array = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class State:
    """Position, velocity and acceleration of J joints, each (J,) [rad, rad/s, rad/s^2]."""

    position: Array
    velocity: Array
    acceleration: Array

    def of(self, joints: npt.NDArray[np.intp]) -> State:
        """Return the state of some joints."""
        return State(self.position[joints], self.velocity[joints], self.acceleration[joints])


class GridFit:
    """The fit over n steps.

    Args:
        steps: n, at least 4.
        step_s: Length of one step [s].
    """

    def __init__(self, steps: int, step_s: float) -> None:
        if steps < 4:
            raise ValueError(f"a fit needs at least 4 steps, got {steps}")
        self.steps, self.step_s = steps, step_s
        age = np.arange(1, steps + 1)[:, None] - np.arange(steps)[None, :]
        active = age > 0
        # What a unit of jerk during one step has become some steps later.
        to_position = np.where(active, step_s**3 / 6.0 * (age**3.0 - (age - 1) ** 3.0), 0.0)
        to_velocity = np.where(active, step_s**2 * (age - 0.5), 0.0)
        to_acceleration = np.where(active, step_s, 0.0)
        ends = np.stack([to_velocity[-1], to_acceleration[-1]])
        self._settle = np.linalg.pinv(ends)
        free = np.linalg.qr(ends.T, mode="complete")[0][:, 2:]
        left, self._singular, right = np.linalg.svd(to_position @ free, full_matrices=False)
        self._project = np.ascontiguousarray(left.T)
        self._expand = np.ascontiguousarray(free @ right.T)
        self._settled_positions = to_position @ self._settle
        self._time = step_s * np.arange(1, steps + 1)[:, None]

    def prepare(self, start: State, wanted: Array) -> tuple[Array, Array]:
        """Return what every bandwidth shares: settling jerks (n, J), coefficients (n - 2, J) of the wanted.

        Args:
            start: State at grid point 0.
            wanted: (n, J) positions at grid points 1..n [rad].
        """
        duration = self.steps * self.step_s
        drift = np.stack([start.velocity + duration * start.acceleration, start.acceleration])
        jerks = -(self._settle @ drift)
        coasting = start.position + self._time * (start.velocity + 0.5 * self._time * start.acceleration)
        coefficients = self._project @ (wanted - coasting + self._settled_positions @ drift)
        return jerks, coefficients

    def solve(self, start: State, settling: Array, coefficients: Array, bandwidth_hz: Array) -> Curve:
        """Return the curve for a bandwidth per joint.

        Args:
            start: State at grid point 0.
            settling: From `prepare`.
            coefficients: From `prepare`.
            bandwidth_hz: (J,) [Hz].

        Returns:
            Grid points 0..n.
        """
        smoothness = (2.0 * np.pi * bandwidth_hz) ** -6.0
        s = self._singular[:, None]
        jerks = settling + self._expand @ (s / (s * s + smoothness) * coefficients)
        return integrate(start, jerks, self.step_s)


def integrate(start: State, jerks: Array, step_s: float) -> Curve:
    """Return the curve that jerks per step (n, J) make from a state; its last point is exactly at rest."""
    h = step_s
    a = np.concatenate([start.acceleration[None], start.acceleration + h * np.cumsum(jerks, 0)])
    v = np.concatenate([
        start.velocity[None],
        start.velocity + np.cumsum(h * a[:-1] + h * h / 2.0 * jerks, 0),
    ])  # fmt: skip
    p = np.concatenate([
        start.position[None],
        start.position + np.cumsum(h * v[:-1] + h * h / 2.0 * a[:-1] + h**3 / 6.0 * jerks, 0),
    ])  # fmt: skip
    # The equalities hold to rounding; written out they let the last point be held for ever.
    a[-1] = v[-1] = 0.0
    return Curve(p, v, a)


@functools.lru_cache(maxsize=64)
def grid_fit(steps: int, step_s: float) -> GridFit:
    """Return the (kept) fit over n steps."""
    return GridFit(steps, step_s)
