"""Fit a spline to wanted positions: C2 from the present state, smooth by its bandwidth, at rest in the end.

Over n grid steps the jerk is constant in each, so position is a cubic spline with continuous acceleration.
The jerks minimise  sum (position - wanted)^2 + lambda * sum jerk^2  under two equalities, no velocity and no
acceleration at the end, from a given position, velocity and acceleration. Over a long stretch the first
term's frequency response is 1 / (1 + lambda w^6): a low pass without delay, -6 dB at the bandwidth w =
lambda^(-1/6).

The problem depends on n alone, so its singular vectors are kept; another wanted curve, state or bandwidth
then costs a few small matrix products for all joints at once.

Source: smoothing splines as ridge regression, T. Hastie et al., "The Elements of Statistical Learning", 2009,
section 5.4; equality constraints by the null space, G. Golub and C. Van Loan, "Matrix Computations", 6.2.3.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


class SplineFit:
    """The fit over n steps.

    Args:
        steps: n, at least 4.
        step_s: Length of one step [s].
    """

    def __init__(self, steps: int, step_s: float) -> None:
        if steps < 4:
            raise ValueError(f"a fit needs at least 4 steps, got {steps}")
        self.steps, self.step_s = steps, step_s
        age = np.arange(steps + 1)[:, None] - np.arange(steps)[None, :]  # (n + 1, n)
        active = age > 0
        # What a unit of jerk during one step has become at every grid point, the first one included.
        to_position = np.where(active, step_s**3 / 6.0 * (age**3.0 - (age - 1.0) ** 3), 0.0)
        to_velocity = np.where(active, step_s**2 * (age - 0.5), 0.0)
        to_acceleration = np.where(active, step_s, 0.0)
        moves = np.concatenate([to_position, to_velocity, to_acceleration])  # (3 (n + 1), n)
        ends = np.stack([to_velocity[-1], to_acceleration[-1]])  # (2, n)
        settle = np.linalg.pinv(ends)  # (n, 2): least jerks that bring the end to rest
        free = np.linalg.qr(ends.T, mode="complete")[0][:, 2:]  # (n, n - 2): jerks that leave it at rest
        left, self._singular, right = np.linalg.svd(to_position[1:] @ free, full_matrices=False)
        self._project = np.ascontiguousarray(left.T)  # (n - 2, n)
        self._expand = np.ascontiguousarray(moves @ free @ right.T)  # (3 (n + 1), n - 2)
        # Position, velocity and acceleration that a state becomes: coasting, and settling to rest at the end.
        time, one, none = step_s * np.arange(steps + 1.0), np.ones(steps + 1), np.zeros(steps + 1)
        coast = np.stack([
            np.concatenate([one, none, none]),
            np.concatenate([time, one, none]),
            np.concatenate([0.5 * time * time, time, one]),
        ], axis=1)  # fmt: skip
        drift = np.array([[0.0, 1.0, steps * step_s], [0.0, 0.0, 1.0]])  # (2, 3): the end's, if it coasts
        self._from_state = coast - moves @ settle @ drift  # (3 (n + 1), 3)

    def prepare(self, start: Array, wanted: Array) -> tuple[Array, Array]:
        """Return what every bandwidth shares.

        Args:
            start: (3, J) state at grid point 0.
            wanted: (n, J) positions at grid points 1..n [rad].

        Returns:
            (3 (n + 1), J) positions, velocities and accelerations of settling to rest from the start;
            (n - 2, J) coefficients of what is wanted beyond that.
        """
        settling = self._from_state @ np.ascontiguousarray(start)
        return settling, self._project @ (wanted - settling[1 : self.steps + 1])

    def solve(self, settling: Array, coefficients: Array, bandwidth_hz: Array) -> Array:
        """Return the curve for a bandwidth per joint, or for several.

        Args:
            settling: From `prepare`.
            coefficients: From `prepare`.
            bandwidth_hz: (..., J) [Hz].

        Returns:
            (3, n + 1, ..., J) curve at grid points 0..n; the last one is exactly at rest.
        """
        shape = bandwidth_hz.shape
        fit = (slice(None), *(None,) * (len(shape) - 1))  # broadcasts (rows, J) over the bandwidths
        smoothness = (2.0 * np.pi * bandwidth_hz) ** -6.0
        s = self._singular.reshape(-1, *(1,) * len(shape))
        # Ridge regression in the singular basis: each coefficient is kept by s^2 / (s^2 + lambda).
        kept = s / (s * s + smoothness) * coefficients[fit]  # (n - 2, ..., J)
        moved = self._expand @ kept.reshape(len(kept), -1)  # (3 (n + 1), bandwidths * J)
        curve = (settling[fit] + moved.reshape(-1, *shape)).reshape(3, self.steps + 1, *shape)
        # The equalities hold to rounding; written out they let the last point be held for ever.
        curve[1:, -1] = 0.0
        return curve


@functools.lru_cache(maxsize=64)
def spline_fit(steps: int, step_s: float) -> SplineFit:
    """Return the (kept) fit over n steps."""
    return SplineFit(steps, step_s)
