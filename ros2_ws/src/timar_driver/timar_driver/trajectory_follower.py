"""Joint trajectories in time: cubic interpolation, replacement from the start on, hold at the end.

As ros2_control's joint_trajectory_controller takes them: points are due at `time_from_start` after the stamp,
and a trajectory that does not begin with a point at 0 leads there from where the joints ought to be when it
takes over. Positions alone are joined smoothly; the controller joins them by straight lines, which no servo
follows.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence

import numpy as np
from timar_common.suggest import refuse_unknown

from timar_driver.driver import Array, JointLimits

_SLACK = 1e-3
"""Rounding, of a position [rad] and as a share of a speed."""


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """Points of some joints over time; between them runs the cubic with the positions and velocities of both.

    Raises:
        ValueError: No points or joints, a joint twice, wrong shapes, a number that is not finite, or times
            that do not rise; the message says which.
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

    def __post_init__(self) -> None:
        names, times, shape = self.joint_names, self.times_s, (len(self.times_s), len(self.joint_names))
        if not names or len(set(names)) != len(names):
            raise ValueError(
                f"the trajectory's joints are {list(names)}, expected each at most once and at least one"
            )
        velocities = np.zeros(shape) if self.velocities is None else self.velocities
        if not len(times) or self.positions.shape != shape or velocities.shape != shape:
            raise ValueError(
                f"positions have shape {self.positions.shape}, velocities {velocities.shape}, expected "
                f"{shape}: a position and a velocity of each joint at each of one or more points"
            )
        if not (np.isfinite(times).all() and (np.diff(times) > 0).all() and times[0] >= 0):
            raise ValueError(
                "the points' times must be finite, from 0 on, and rise from each point to the next"
            )
        for kind, values in (("position", self.positions), ("velocity", velocities)):
            bad = np.argwhere(~np.isfinite(values))
            if len(bad):
                raise ValueError(
                    f"the {kind} of {names[bad[0][1]]} at point {bad[0][0]} is not finite; send numbers"
                )

    @property
    def end_ns(self) -> int:
        """When the last point is due."""
        return self.start_ns + round(float(self.times_s[-1]) * 1e9)

    def joined(self, now_ns: int, position: Array, velocity: Array) -> Trajectory:
        """Return it with the way from a state to its next point, and with a velocity at every point.

        One whose first point is due at its start, with a velocity, says itself where it comes from.

        Args:
            now_ns: When it takes over.
            position: (N,) of its joints then [rad].
            velocity: (N,) [rad/s].
        """
        since_s = max(0.0, (now_ns - self.start_ns) * 1e-9)
        ahead = self.times_s > since_s
        if (self.times_s[0] == 0.0 and self.velocities is not None) or not ahead.any():
            return self if self.velocities is not None else self._with(self.times_s, self.positions)
        times = np.concatenate([[since_s], self.times_s[ahead]])
        positions = np.concatenate([position[None], self.positions[ahead]])
        if self.velocities is None:
            return self._with(times, positions, velocity)
        velocities = np.concatenate([velocity[None], self.velocities[ahead]])
        return dataclasses.replace(self, times_s=times, positions=positions, velocities=velocities)

    def _with(self, times_s: Array, positions: Array, first_velocity: Array | float = 0.0) -> Trajectory:
        """Return it through points, with velocities under which no joint turns back between two of them.

        Source: F. N. Fritsch and J. Butland, A method for constructing local monotone piecewise cubic
        interpolants, 1984: the harmonic mean of the slopes on both sides, 0 where they differ in sign.
        """
        velocities = np.zeros_like(positions)
        velocities[0] = first_velocity
        slopes = np.diff(positions, axis=0) / np.diff(times_s)[:, None]
        before, after = slopes[:-1], slopes[1:]
        is_going_on = before * after > 0.0
        total = np.where(is_going_on, before + after, 1.0)
        velocities[1:-1] = np.where(is_going_on, 2.0 * before * after / total, 0.0)
        return dataclasses.replace(self, times_s=times_s, positions=positions, velocities=velocities)

    def fastest(self) -> Array:
        """Return (N,) the largest speed of each joint between the points [rad/s]."""
        if self.velocities is None or len(self.times_s) < 2:
            return np.zeros(len(self.joint_names))
        span = np.diff(self.times_s)[:, None]
        rise, v0, v1 = np.diff(self.positions, axis=0) / span, self.velocities[:-1], self.velocities[1:]
        # Velocity over a span is v0 + 2 b s + 3 c s^2, with its extreme at s = -b / 3 c.
        c, b = v0 + v1 - 2.0 * rise, 3.0 * rise - 2.0 * v0 - v1
        s = np.clip(-b / np.where(c == 0.0, 1.0, 3.0 * c), 0.0, 1.0)
        speeds = np.abs(np.stack([v0, v1, v0 + s * (2.0 * b + 3.0 * c * s)]))
        fastest: Array = speeds.max(axis=(0, 1))
        return fastest

    def at(self, now_ns: int) -> tuple[Array, Array]:
        """Return (N,) positions [rad] and velocities [rad/s] of its joints; the ends hold outside."""
        since_s = (now_ns - self.start_ns) * 1e-9
        row = int(np.searchsorted(self.times_s, since_s, side="right"))
        assert self.velocities is not None  # `joined` gave it some.
        if row == 0:
            return self.positions[0], self.velocities[0]
        p0, v0 = self.positions[row - 1], self.velocities[row - 1]
        if row == len(self.times_s):
            return p0, np.zeros_like(p0)
        # Cubic Hermite: s runs from 0 to 1, m0 and m1 are the slopes over the whole span.
        first, span = self.times_s[row - 1], self.times_s[row] - self.times_s[row - 1]
        s = (since_s - first) / span
        p1, m0, m1 = self.positions[row], span * v0, span * self.velocities[row]
        cubic, square = 2 * (p0 - p1) + m0 + m1, 3 * (p1 - p0) - 2 * m0 - m1
        position = p0 + s * (m0 + s * (square + s * cubic))
        return position, (m0 + s * (2 * square + 3 * s * cubic)) / span


class TrajectoryFollower:
    """Where every joint ought to be, at any instant.

    A new trajectory takes over at its start (at once, when that is past); until then the old one goes on.
    After the last point the joints hold it; joints that it does not name stay where they were.

    Args:
        joint_names: All joints, in the order of every answer.
        positions: (J,) where they stand now [rad].
        limits: What a trajectory must keep to; None: it is not checked here.
    """

    MAX_PENDING = 4

    def __init__(
        self, joint_names: Sequence[str], positions: Array, limits: JointLimits | None = None
    ) -> None:
        self._limits = limits
        self._column_of = {name: column for column, name in enumerate(joint_names)}
        self._held = np.array(positions, np.float64)
        self._running: Trajectory | None = None
        self._pending: collections.deque[Trajectory] = collections.deque()
        self.accepted = 0

    def accept(self, trajectory: Trajectory, now_ns: int) -> None:
        """Take a trajectory over, or reject it as a whole.

        Raises:
            ValueError: It has an unknown joint, its last point is over already, or it leaves a joint's
                limits; the message says which, and the joint.
        """
        refuse_unknown("joint", trajectory.joint_names, self._column_of)
        if trajectory.end_ns < now_ns:
            raise ValueError(
                f"the trajectory ended {(now_ns - trajectory.end_ns) * 1e-6:.0f} ms ago; "
                "check the clocks of both nodes"
            )
        self._require_limits(trajectory, now_ns)
        # What was to begin at or after the new one is replaced with it.
        while self._pending and self._pending[-1].start_ns >= trajectory.start_ns:
            self._pending.pop()
        if len(self._pending) == self.MAX_PENDING:
            self._pending.popleft()
        self._pending.append(trajectory)
        self.accepted += 1

    def sample(self, now_ns: int) -> tuple[Array, Array]:
        """Return (J,) positions [rad] and velocities [rad/s] at an instant; instants must not go back."""
        while self._pending and self._pending[0].start_ns <= now_ns:
            self._held, velocities = self._at(now_ns)
            taken = self._pending.popleft()
            columns = self._columns(taken)
            self._running = taken.joined(now_ns, self._held[columns], velocities[columns])
        return self._at(now_ns)

    def hold(self, now_ns: int) -> None:
        """Forget every trajectory and hold where the joints ought to be now."""
        self._held, _ = self.sample(now_ns)
        self._running = None
        self._pending.clear()

    def _at(self, now_ns: int) -> tuple[Array, Array]:
        positions, velocities = self._held.copy(), np.zeros_like(self._held)
        if self._running is not None:
            columns = self._columns(self._running)
            positions[columns], velocities[columns] = self._running.at(now_ns)
        return positions, velocities

    def _columns(self, trajectory: Trajectory) -> list[int]:
        return [self._column_of[name] for name in trajectory.joint_names]

    def _require_limits(self, trajectory: Trajectory, now_ns: int) -> None:
        if self._limits is None:
            return
        columns = self._columns(trajectory)
        lower, upper, velocity = (
            values[columns] for values in (self._limits.lower, self._limits.upper, self._limits.velocity)
        )
        beyond = np.argwhere(
            (trajectory.positions < lower - _SLACK) | (trajectory.positions > upper + _SLACK)
        )
        if len(beyond):
            point, joint = beyond[0]
            raise ValueError(
                f"{trajectory.joint_names[joint]} is to be at {trajectory.positions[point, joint]:.4g} rad "
                f"at point {point}, expected {lower[joint]:.4g} to {upper[joint]:.4g}"
            )
        begin_ns = max(now_ns, trajectory.start_ns)
        positions, velocities = self._at(begin_ns)
        fastest = trajectory.joined(begin_ns, positions[columns], velocities[columns]).fastest()
        joint = int(np.argmax(fastest / velocity))
        if fastest[joint] > (1.0 + _SLACK) * velocity[joint]:
            raise ValueError(
                f"{trajectory.joint_names[joint]} is to move at {fastest[joint]:.3g} rad/s, expected at most "
                f"{velocity[joint]:.3g}; give it more time"
            )
