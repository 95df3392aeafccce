"""Limits of position, velocity and acceleration that no input can break.

A curve here is cubic between grid points with a continuous acceleration, so acceleration is linear, velocity
quadratic and position cubic in every step. A polynomial lies in the hull of its Bezier control points, which
are linear in the
curve: when they keep the limits at every step, the curve keeps them at every instant.

Because the points are linear, a mixture of two curves that keep the limits keeps them too. The running plan
always ends in a stop and keeps the limits; a new curve that does not is mixed with it, as much of the new as
the limits allow. Both start in the same state, so nothing jumps; amplitude is scaled, time never.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Limits:
    """What J joints may do; every field is (J,)."""

    lower: Array
    """[rad]"""
    upper: Array
    """[rad]"""
    velocity: Array
    """[rad/s]"""
    acceleration: Array
    """[rad/s^2]"""

    def of(self, joints: npt.NDArray[np.intp]) -> Limits:
        """Return the limits of some joints."""
        return Limits(*(getattr(self, field.name)[joints] for field in dataclasses.fields(self)))


@dataclasses.dataclass(frozen=True)
class Curve:
    """Positions, velocities and accelerations of J joints at K grid points, each (K, J)."""

    positions: Array
    velocities: Array
    accelerations: Array

    def of(self, joints: npt.NDArray[np.intp]) -> Curve:
        """Return the curves of some joints."""
        return Curve(self.positions[:, joints], self.velocities[:, joints], self.accelerations[:, joints])

    def reshaped(self, *shape: int) -> Curve:
        """Return the same numbers with other axes after the first."""
        arrays = (self.positions, self.velocities, self.accelerations)
        return Curve(*(array.reshape(len(array), *shape) for array in arrays))


KNEE_SHARE = 0.06
"""Share of the range, at each end, over which wanted positions bend unless soft limits are given."""


def default_soft(lower: Array, upper: Array) -> tuple[Array, Array]:
    """Return the soft limits of joints for which none are given."""
    knee = KNEE_SHARE * (upper - lower)
    return lower + knee, upper - knee


def soften(wanted: Array, limits: Limits, soft: tuple[Array, Array] | None = None) -> Array:
    """Bend wanted positions smoothly into the limits: unchanged in the middle, level towards the ends.

    Args:
        wanted: (..., J) positions [rad], finite.
        limits: Of the J joints.
        soft: (J,) lower and upper position from which on the bend goes, inside the limits [rad].

    Returns:
        (..., J) positions strictly inside the limits [rad].
    """
    soft_lower, soft_upper = soft or default_soft(limits.lower, limits.upper)
    middle = np.minimum(np.maximum(wanted, soft_lower), soft_upper)
    beyond = wanted - middle
    if not beyond.any():
        return middle
    # tanh has slope 1 at 0, so the bend has no corner; 0.95 leaves room for a curve that rounds the bend.
    knee = 0.95 * np.where(beyond > 0.0, limits.upper - soft_upper, soft_lower - limits.lower)
    return middle + knee * np.tanh(beyond / knee)


def hull(curve: Curve, step_s: float) -> tuple[tuple[Array, ...], tuple[Array, ...], tuple[Array, ...]]:
    """Return Bezier control points of a curve's positions, velocities and accelerations, each (K - 1, J)."""
    p, v, a = curve.positions, curve.velocities, curve.accelerations
    positions = (p[1:], p[:-1] + step_s / 3.0 * v[:-1], p[1:] - step_s / 3.0 * v[1:])
    velocities = (v[1:], v[:-1] + 0.5 * step_s * a[:-1])
    return positions, velocities, (a[1:],)


def overshoot(curve: Curve, limits: Limits, step_s: float) -> Array:
    """Return (J,) by how much the worst limit is broken, as a share of that limit; 0 or less: none is."""
    p, v, a = (np.concatenate(points) for points in hull(curve, step_s))
    span = limits.upper - limits.lower
    return np.maximum.reduce([
        (p.max(0) - limits.upper) / span,
        (limits.lower - p.min(0)) / span,
        np.abs(v).max(0) / limits.velocity - 1.0,
        np.abs(a).max(0) / limits.acceleration - 1.0,
    ])  # fmt: skip


def largest_share(candidate: Curve, safe: Curve, limits: Limits, step_s: float) -> Array:
    """Return how much of a candidate may be mixed into a curve that keeps the limits.

    Args:
        candidate: Any finite curves of J joints, (K, J), or several for each joint, (K, L, J).
        safe: (K, J) curves over the same grid, from the same state. Where they are themselves outside (a
            head switched on beyond its limits), their own values are the bound: never further out, and in as
            soon as may be.
        limits: Of the J joints.
        step_s: The grid's step [s].

    Returns:
        (J,) or (L, J) shares from 0 to 1; `mix` with them keeps the limits at every instant.
    """
    several = (slice(None), None) if candidate.positions.ndim == 3 else ()
    away = Curve(
        candidate.positions - safe.positions[several],
        candidate.velocities - safe.velocities[several],
        candidate.accelerations - safe.accelerations[several],
    )
    bounds = (
        (limits.lower, limits.upper),
        (-limits.velocity, limits.velocity),
        (-limits.acceleration, limits.acceleration),
    )
    # Control points are linear in the curve, so those of the difference are the way from safe to candidate.
    ways = np.concatenate([way for kind in hull(away, step_s) for way in kind])
    places = list(zip(hull(safe, step_s), bounds, strict=True))
    above = np.concatenate([upper - place for kind, (_, upper) in places for place in kind])
    below = np.concatenate([place - lower for kind, (lower, _) in places for place in kind])
    most = np.maximum(
        (ways * (1.0 / np.maximum(above, _NO_ROOM))[several]).max(0),
        (ways * (-1.0 / np.maximum(below, _NO_ROOM))[several]).max(0),
    )
    return np.where(most > 1.0, _ROUNDING / np.maximum(most, 1.0), 1.0)


_NO_ROOM = 1e-12
"""A bound as near as this is reached [rad, rad/s, rad/s^2]."""
_ROUNDING = 1.0 - 1e-12
"""What rounding may have added to a share is taken off it."""


def mix(candidate: Curve, safe: Curve, share: Array) -> Curve:
    """Return safe + share * (candidate - safe), exact where the share is 1."""

    def mixed(new: Array, old: Array) -> Array:
        return np.where(share >= 1.0, new, old + share * (new - old))

    return Curve(
        mixed(candidate.positions, safe.positions),
        mixed(candidate.velocities, safe.velocities),
        mixed(candidate.accelerations, safe.accelerations),
    )
