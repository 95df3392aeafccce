"""Limits of position, velocity and acceleration that no input can break.

A curve here is cubic between grid points with a continuous acceleration, so acceleration is linear, velocity
quadratic and position cubic in every step. A polynomial lies in the convex hull of its Bezier control points
(G. Farin, "Curves and Surfaces for CAGD", 2002, section 4.3), which are linear in the curve: when they keep
the limits at every step, the curve keeps them at every instant.

Because the points are linear, a blend of two curves that keep the limits keeps them too. The running plan
always ends in a stop and keeps the limits; a new curve that does not is blended with it, as much of the new
as the limits allow. Both start in the same state, so nothing jumps; amplitude is scaled, time never.

Shapes: K grid points, J joints. A curve is an array (3, K, J): positions, velocities, accelerations; a state
is one instant of it, (3, J).
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]


@dataclasses.dataclass(frozen=True)
class Limits:
    """What J joints may do; every field is (J,) but the last."""

    lower: Array
    """[rad]"""
    upper: Array
    """[rad]"""
    velocity: Array
    """[rad/s]"""
    acceleration: Array
    """[rad/s^2]"""
    is_stop: npt.NDArray[np.bool_]
    """(2, J) whether the lower, the upper limit is a stop that the joint reaches by design."""

    def of(self, joints: Indices) -> Limits:
        """Return the limits of some joints."""
        return Limits(*(getattr(self, field.name)[..., joints] for field in dataclasses.fields(self)))


KNEE_SHARE = 0.06
"""Share of the range, at each end, over which wanted positions bend unless soft limits are given."""


def default_soft_limits(lower: Array, upper: Array) -> tuple[Array, Array]:
    """Return the soft limits of joints for which none are given."""
    knee = KNEE_SHARE * (upper - lower)
    return lower + knee, upper - knee


def soft_clip(wanted: Array, limits: Limits, soft: tuple[Array, Array] | None = None) -> Array:
    """Bend wanted positions smoothly into the limits: unchanged in the middle, level towards the ends.

    Args:
        wanted: (..., J) positions [rad], finite.
        limits: Of the J joints.
        soft: (J,) lower and upper position from which on the bend goes, inside the limits [rad].

    Returns:
        (..., J) positions strictly inside the limits [rad].
    """
    soft_lower, soft_upper = soft or default_soft_limits(limits.lower, limits.upper)
    middle = np.minimum(np.maximum(wanted, soft_lower), soft_upper)  # (..., J)
    beyond = wanted - middle
    if not beyond.any():
        return middle
    # tanh has slope 1 at 0, so the bend has no corner; 0.95 leaves room for a curve that rounds the bend.
    knee = 0.95 * np.where(beyond > 0.0, limits.upper - soft_upper, soft_lower - limits.lower)
    return middle + knee * np.tanh(beyond / knee)


def bezier_control_points(curve: Array, step_s: float) -> tuple[Array, Array, Array]:
    """Return Bezier control points of a curve (3, K, ...) in all its steps.

    Returns:
        Of positions (3 (K - 1), ...), velocities (2 (K - 1), ...) and accelerations (K - 1, ...). Points that
        two steps share stand once; those of grid point 0 are left out, for it is the state that is given.
    """
    p, v, a = curve
    return (
        np.concatenate([p[1:], p[:-1] + step_s / 3.0 * v[:-1], p[1:] - step_s / 3.0 * v[1:]]),
        np.concatenate([v[1:], v[:-1] + 0.5 * step_s * a[:-1]]),
        a[1:],
    )


def overshoots(curve: Array, limits: Limits, step_s: float) -> Array:
    """Return (4, J) by how much a curve (3, K, J) breaks its lower, upper, velocity and acceleration limit.

    As shares of range and limit; 0 or less: it does not.
    """
    p, v, a = bezier_control_points(curve, step_s)
    span = limits.upper - limits.lower
    return np.stack([
        (limits.lower - p.min(0)) / span,
        (p.max(0) - limits.upper) / span,
        np.abs(v).max(0) / limits.velocity - 1.0,
        np.abs(a).max(0) / limits.acceleration - 1.0,
    ])  # fmt: skip


def max_blend(candidate: Array, safe: Array, limits: Limits, step_s: float) -> Array:
    """Return how much of a candidate may be blended into a curve that keeps the limits.

    Args:
        candidate: Any finite curves of J joints, (3, K, J), or several for each joint, (3, K, L, J).
        safe: (3, K, J) curves over the same grid, from the same state. Where they are themselves outside (a
            head switched on beyond its limits), their own values are the bound: never further out, and in as
            soon as may be.
        limits: Of the J joints.
        step_s: The grid's step [s].

    Returns:
        (J,) or (L, J) shares from 0 to 1; `blend` with them keeps the limits at every instant.
    """
    is_several = candidate.ndim == 4
    away = candidate - (safe[:, :, None] if is_several else safe)
    # Control points are linear in the curve, so those of the difference are the way from safe to candidate.
    ways = np.concatenate(bezier_control_points(away, step_s))  # (6 (K - 1), J) or (6 (K - 1), L, J)
    p, v, a = bezier_control_points(safe, step_s)
    above = np.concatenate([limits.upper - p, limits.velocity - v, limits.acceleration - a])
    below = np.concatenate([p - limits.lower, v + limits.velocity, a + limits.acceleration])
    points = (slice(None), None) if is_several else ()  # (rows, J) to (rows, 1, J)
    most = np.maximum(
        (ways * (1.0 / np.maximum(above, _NO_ROOM))[points]).max(0),
        (ways * (-1.0 / np.maximum(below, _NO_ROOM))[points]).max(0),
    )  # (J,) or (L, J): the whole way, as a multiple of the room there is
    return np.where(most > 1.0, _ROUNDING / np.maximum(most, 1.0), 1.0)


_NO_ROOM = 1e-12
"""A bound as near as this is reached [rad, rad/s, rad/s^2]."""
_ROUNDING = 1.0 - 1e-12
"""What rounding may have added to a share is taken off it."""


def blend(candidate: Array, safe: Array, share: Array) -> Array:
    """Return safe + share * (candidate - safe), exact where the share (J,) is 1."""
    return np.where(share >= 1.0, candidate, safe + share * (candidate - safe))
