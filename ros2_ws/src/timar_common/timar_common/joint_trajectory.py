"""Joint trajectories as ros2_control's joint_trajectory_controller takes them: arrays, checks, interpolation.

Points are due at `time_from_start` after the stamp; an empty stamp means now. A trajectory that does not
begin with a point at 0 leads there from where the joints ought to be when it takes over.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

RETARGETING_FRAME = "retargeting"
"""The frame_id in the header of retargeting's own trajectories: by it the driver tells them from others."""

_SLACK = 1e-3
"""Rounding, of a position [rad] and as a share of a speed or acceleration."""
LONGEST_S = 3600.0
"""A trajectory takes at most so long."""
_GRID_S = 0.02
"""Accelerations are judged in steps of this, as plans are made."""
SHORTEST_JOIN_S = 0.05
"""Points of a trajectory from outside that are due sooner after it takes over are left out, if others follow:
who began a moment late would have to hurry to them."""
_SAMPLES = np.linspace(0.0, 1.0, 17)
"""Where limits are looked at between two points; a cubic's extreme is missed by at most 0.1 %."""


class TrajectoryCode(enum.IntEnum):
    """How a trajectory ended, as control_msgs/action/FollowJointTrajectory numbers it."""

    SUCCESSFUL = 0
    INVALID_GOAL = -1
    INVALID_JOINTS = -2
    OLD_HEADER_TIMESTAMP = -3
    PATH_TOLERANCE_VIOLATED = -4
    GOAL_TOLERANCE_VIOLATED = -5


class TrajectoryRefusedError(ValueError):
    """A trajectory that is left out as a whole.

    Args:
        text: Which joint, which value, what was expected.
        code: What the action answers.
    """

    def __init__(self, text: str, code: TrajectoryCode = TrajectoryCode.INVALID_GOAL) -> None:
        super().__init__(text)
        self.code = code


@dataclasses.dataclass(frozen=True)
class TrajectoryConfig:
    """What a trajectory of J joints must keep to; the arrays are (J,)."""

    lower: Array
    """[rad]"""
    upper: Array
    """[rad]"""
    velocity: Array
    """[rad/s]"""
    acceleration: Array | None = None
    """[rad/s^2]; None: it is not checked."""
    allow_partial: bool = True
    """Whether joints may be left out."""
    must_end_at_rest: bool = False
    """Whether a velocity at the last point is refused."""


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """Points of some joints over time.

    Between two points runs the cubic with the positions and velocities of both, or with accelerations the
    quintic.

    Raises:
        TrajectoryRefusedError: No points or joints, a joint twice, wrong shapes, a number that is not finite,
            accelerations without velocities, or times that do not rise; the message says which.
    """

    joint_names: tuple[str, ...]
    start_ns: int
    """CLOCK_MONOTONIC [ns]."""
    times_s: Array
    """(K,) after the start [s]."""
    positions: Array
    """(K, N) [rad]."""
    velocities: Array | None
    """(K, N) [rad/s]; None: at rest at the end, and between the points as smooth as that allows."""
    accelerations: Array | None = None
    """(K, N) [rad/s^2]; None: whatever the cubic has."""

    def __post_init__(self) -> None:
        names, times, shape = self.joint_names, self.times_s, (len(self.times_s), len(self.joint_names))
        if not names or len(set(names)) != len(names):
            raise TrajectoryRefusedError(
                f"the trajectory's joints are {list(names)}, expected each at most once and at least one",
                TrajectoryCode.INVALID_JOINTS,
            )
        if self.accelerations is not None and self.velocities is None:
            raise TrajectoryRefusedError(
                "accelerations come without velocities; send both, or positions alone"
            )
        given = {"position": self.positions, "velocity": self.velocities, "acceleration": self.accelerations}
        shapes = {kind: values.shape for kind, values in given.items() if values is not None}
        if not len(times) or set(shapes.values()) != {shape}:
            raise TrajectoryRefusedError(
                f"the shapes are {shapes}, expected {shape}: one or more points, and at each a "
                "number for each joint"
            )
        if times[-1] > LONGEST_S:
            raise TrajectoryRefusedError(
                f"the last point is due {times[-1]:g} s after the start, expected at most {LONGEST_S:g}"
            )
        if not (np.isfinite(times).all() and (np.diff(times) > 0).all() and times[0] >= 0):
            raise TrajectoryRefusedError(
                f"the points' times must be finite, from 0 on, and rise from each point to the next, and are "
                f"{_listed(times)} s"
            )
        for kind, values in given.items():
            bad = np.argwhere(~np.isfinite(values)) if values is not None else np.empty((0, 2), np.intp)
            if len(bad):
                raise TrajectoryRefusedError(
                    f"the {kind} of {names[bad[0][1]]} at point {bad[0][0]} is not finite; send numbers"
                )

    @property
    def end_ns(self) -> int:
        """When the last point is due."""
        return self.start_ns + round(float(self.times_s[-1]) * 1e9)

    def joined(self, now_ns: int, state: Array, *, is_outside: bool = False) -> Trajectory:
        """Return it with the way from a state to its next point, and with a velocity at every point.

        Args:
            now_ns: When it takes over.
            state: (3, N) positions, velocities and accelerations of its joints then.
            is_outside: Whether it is led from the state also where its first point is due at its start, with
                a velocity; else such a one says itself where it comes from.
        """
        since_s = max(0.0, (now_ns - self.start_ns) * 1e-9)
        ahead = self.times_s > since_s
        if is_outside:
            ahead[:-1] &= self.times_s[:-1] > since_s + SHORTEST_JOIN_S
        says_itself = self.times_s[0] == 0.0 and self.velocities is not None and not is_outside
        if says_itself or not ahead.any():
            return self if self.velocities is not None else self._smoothed(self.times_s, self.positions)
        rows = (self.positions, self.velocities, self.accelerations)
        times = np.concatenate([[since_s], self.times_s[ahead]])
        positions, velocities, accelerations = (
            None if values is None else np.concatenate([now[None], values[ahead]])
            for now, values in zip(state, rows, strict=True)
        )
        assert positions is not None  # A trajectory has positions.
        if velocities is None:
            return self._smoothed(times, positions, state[1])
        return dataclasses.replace(
            self, times_s=times, positions=positions, velocities=velocities, accelerations=accelerations
        )

    def _smoothed(self, times_s: Array, positions: Array, first_velocity: Array | float = 0.0) -> Trajectory:
        """Return it through points, with velocities under which no joint turns back between two of them.

        Source: M. Steffen, A simple method for monotonic interpolation in one dimension, 1990: the slope of
        the parabola through three points, at most twice the smaller of the slopes on both sides, 0 where
        they differ in sign.
        """
        velocities = np.zeros_like(positions)
        velocities[0] = first_velocity
        spans = np.diff(times_s)[:, None]
        slopes = np.diff(positions, axis=0) / spans
        before, after = slopes[:-1], slopes[1:]
        parabola = (before * spans[1:] + after * spans[:-1]) / (spans[1:] + spans[:-1])
        most = 2.0 * np.minimum(np.abs(before), np.abs(after))
        velocities[1:-1] = np.where(before * after > 0.0, np.clip(parabola, -most, most), 0.0)
        return dataclasses.replace(self, times_s=times_s, positions=positions, velocities=velocities)

    @functools.cached_property
    def _coefficients(self) -> Array:
        """(6, K - 1, N) of the polynomials in s, which runs from 0 to 1 between two points."""
        assert self.velocities is not None  # `joined` gave it some.
        span = np.diff(self.times_s)[:, None]
        p0, rise = self.positions[:-1], np.diff(self.positions, axis=0)
        m0, m1 = span * self.velocities[:-1], span * self.velocities[1:]
        none = np.zeros_like(rise)
        if self.accelerations is None:
            return np.stack([p0, m0, 3 * rise - 2 * m0 - m1, m0 + m1 - 2 * rise, none, none])
        half0, half1 = (
            0.5 * span**2 * values for values in (self.accelerations[:-1], self.accelerations[1:])
        )
        return np.stack([
            p0, m0, half0,
            10 * rise - 6 * m0 - 4 * m1 - 3 * half0 + half1,
            -15 * rise + 8 * m0 + 7 * m1 + 3 * half0 - 2 * half1,
            6 * rise - 3 * m0 - 3 * m1 - half0 + half1,
        ])  # fmt: skip

    def at(self, now_ns: int) -> Array:
        """Return the state (3, N): positions, velocities, accelerations; the ends hold outside."""
        since_s = (now_ns - self.start_ns) * 1e-9
        row = int(np.searchsorted(self.times_s, since_s, side="right"))
        assert self.velocities is not None  # `joined` gave it some.
        if row == 0 or row == len(self.times_s):
            still = np.zeros_like(self.positions[0])
            return np.stack([self.positions[row - bool(row)], still if row else self.velocities[0], still])
        first, span = self.times_s[row - 1], self.times_s[row] - self.times_s[row - 1]
        return _state(self._coefficients[:, row - 1], (since_s - first) / span, span)

    def extremes(self) -> Array:
        """Return (K - 1, 3, N) between any two points: lowest and highest position, speed."""
        span = np.diff(self.times_s)[:, None]  # (K - 1, 1)
        rows = np.stack([_state(self._coefficients, s, span) for s in _SAMPLES])  # (17, 3, K - 1, N)
        low, high, largest = rows.min(0), rows.max(0), np.abs(rows).max(0)
        return np.stack([low[0], high[0], largest[1]], axis=1)

    def require(self, rules: TrajectoryConfig, columns: Sequence[int], all_names: Sequence[str]) -> None:
        """Refuse what its own points say already.

        Args:
            rules: Of all J joints.
            columns: (N,) which of those its joints are.
            all_names: J names.

        Raises:
            TrajectoryRefusedError: A joint is missing, leaves its limits at a point, or moves at the end.
        """
        missing = [name for name in all_names if name not in self.joint_names]
        if missing and not rules.allow_partial:
            raise TrajectoryRefusedError(
                f"the trajectory lacks {', '.join(missing)}; name every joint, or set "
                "allow_partial_joints_goal",
                TrajectoryCode.INVALID_JOINTS,
            )
        lower, upper = rules.lower[columns], rules.upper[columns]
        beyond = np.argwhere((self.positions < lower - _SLACK) | (self.positions > upper + _SLACK))
        if len(beyond):
            point, joint = beyond[0]
            raise TrajectoryRefusedError(
                f"{self.joint_names[joint]} is to be at {self.positions[point, joint]:.4g} rad "
                f"at point {point}, expected {lower[joint]:.4g} to {upper[joint]:.4g}"
            )
        if rules.must_end_at_rest and self.velocities is not None and self.velocities[-1].any():
            joint = int(np.argmax(np.abs(self.velocities[-1])))
            raise TrajectoryRefusedError(
                f"{self.joint_names[joint]} moves at {self.velocities[-1, joint]:.3g} rad/s at the last "
                "point, expected 0: it is held there"
            )

    def require_between(self, rules: TrajectoryConfig, columns: Sequence[int]) -> None:
        """Refuse a joined trajectory for what lies between its points.

        The way from a moving state, or into a trajectory that runs already, may ask for more acceleration
        than allowed: who follows it keeps the limit.

        Raises:
            TrajectoryRefusedError: A joint leaves its limits; the message names it and the value.
        """
        if self.velocities is None or len(self.times_s) < 2:
            return
        low, high, speed = np.moveaxis(self.extremes(), 1, 0)  # (K - 1, N) each
        lower, upper, velocity = (values[columns] for values in (rules.lower, rules.upper, rules.velocity))
        # What a point itself may be beyond a limit by rounding is not said a second time.
        above = high - np.maximum(upper + _SLACK, self.positions.max(0))
        below = np.minimum(lower - _SLACK, self.positions.min(0)) - low
        self._require(
            above, high, upper, "is to swing to {:.4g} rad between two points, expected at most {:.4g}"
        )
        self._require(
            below, low, lower, "is to swing to {:.4g} rad between two points, expected at least {:.4g}"
        )
        too_fast = speed / velocity - (1.0 + _SLACK)
        at_most = "expected at most {:.3g}; give it more time"
        self._require(too_fast, speed, velocity, f"is to move at {{:.3g}} rad/s, {at_most}")
        if rules.acceleration is not None:
            is_late = bool(self.velocities[0].any()) or self.times_s[0] > 0.0
            force = self._mean_accelerations(float(self.times_s[int(is_late)]))
            bound = rules.acceleration[columns]
            too_hard = force / bound - (1.0 + _SLACK)
            self._require(too_hard, force, bound, f"is to accelerate at {{:.3g}} rad/s^2, {at_most}")

    def _mean_accelerations(self, from_s: float) -> Array:
        """Return (n, N) accelerations over 40 ms each, in which the rounding of dense points evens out."""
        times_s = np.arange(from_s, float(self.times_s[-1]), _GRID_S)
        rows = np.searchsorted(self.times_s, times_s, side="right") - 1
        spans = np.diff(self.times_s)[rows]
        s = ((times_s - self.times_s[rows]) / spans)[:, None]
        positions = _state(self._coefficients[:, rows], s, spans[:, None])[0]
        mean: Array = np.abs(np.diff(positions, 2, axis=0)) / _GRID_S**2
        return mean

    def _require(self, excess: Array, values: Array, limits: Array, sentence: str) -> None:
        """Refuse where an excess (K, N) is above 0, with the value and the limit (N,) of the worst."""
        if excess.size and excess.max() > 0.0:
            row, joint = np.unravel_index(int(np.argmax(excess)), excess.shape)
            text = sentence.format(values[row, joint], limits[joint])
            raise TrajectoryRefusedError(f"{self.joint_names[joint]} {text}")


def trajectory_of(message: Any, now_ns: int) -> Trajectory:
    """Return a trajectory_msgs/JointTrajectory as arrays; an empty stamp means "from now on".

    Raises:
        TrajectoryRefusedError: A point has not one position of each joint, some points have velocities (or
            accelerations) and others not, there is effort, or what `Trajectory` refuses.
    """
    names, points = tuple(message.joint_names), message.points
    columns: dict[str, Array | None] = {}
    for kind in ("positions", "velocities", "accelerations"):
        rows = [getattr(point, kind) for point in points]
        sizes = [len(row) for row in rows]
        if kind != "positions" and not any(sizes):
            columns[kind] = None
            continue
        wrong = [number for number, size in enumerate(sizes) if size != len(names)]
        if wrong:
            raise TrajectoryRefusedError(
                f"point {wrong[0]} has {sizes[wrong[0]]} {kind}, expected one of each of {len(names)} joints"
                + ("" if kind == "positions" else f", or no {kind} at any point")
            )
        columns[kind] = np.array(rows, np.float64).reshape(len(points), len(names))
    if any(len(point.effort) for point in points):
        raise TrajectoryRefusedError("the trajectory has efforts, and these joints are commanded by position")
    times_s = [point.time_from_start.sec + 1e-9 * point.time_from_start.nanosec for point in points]
    positions = columns["positions"]
    assert positions is not None  # Only the others may lack.
    return Trajectory(
        names,
        message.header.stamp or now_ns,
        np.array(times_s, np.float64),
        positions,
        columns["velocities"],
        columns["accelerations"],
    )


def _state(coefficients: Array, s: Array | float, span_s: Array | float) -> Array:
    """Return (3, ...) position, velocity and acceleration of polynomials (6, ...) at s."""
    c0, c1, c2, c3, c4, c5 = coefficients
    position = c0 + s * (c1 + s * (c2 + s * (c3 + s * (c4 + s * c5))))
    velocity = c1 + s * (2 * c2 + s * (3 * c3 + s * (4 * c4 + s * 5 * c5)))
    acceleration = 2 * c2 + s * (6 * c3 + s * (12 * c4 + s * 20 * c5))
    return np.stack([position, velocity / span_s, acceleration / span_s**2])


def _listed(times_s: Array) -> str:
    shown = ", ".join(f"{time_s:g}" for time_s in times_s[:6])
    return shown + (", ..." if len(times_s) > 6 else "")
