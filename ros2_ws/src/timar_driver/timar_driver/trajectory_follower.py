"""Joint trajectories in time: cubic interpolation, replacement from the start on, hold at the end."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence

import numpy as np
from timar_common.suggest import refuse_unknown

from timar_driver.driver import Array


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
    velocities: Array
    """(K, N) [rad/s]."""

    def __post_init__(self) -> None:
        names, times, shape = self.joint_names, self.times_s, (len(self.times_s), len(self.joint_names))
        if not names or len(set(names)) != len(names):
            raise ValueError(
                f"the trajectory's joints are {list(names)}, expected each at most once and at least one"
            )
        if not len(times) or self.positions.shape != shape or self.velocities.shape != shape:
            raise ValueError(
                f"positions have shape {self.positions.shape}, velocities {self.velocities.shape}, expected "
                f"{shape}: a position and a velocity of each joint at each of one or more points"
            )
        if not (np.isfinite(times).all() and (np.diff(times) > 0).all() and times[0] >= 0):
            raise ValueError(
                "the points' times must be finite, from 0 on, and rise from each point to the next"
            )
        for kind, values in (("position", self.positions), ("velocity", self.velocities)):
            bad = np.argwhere(~np.isfinite(values))
            if len(bad):
                raise ValueError(
                    f"the {kind} of {names[bad[0][1]]} at point {bad[0][0]} is not finite; send numbers"
                )

    @property
    def end_ns(self) -> int:
        """When the last point is due."""
        return self.start_ns + round(float(self.times_s[-1]) * 1e9)

    def at(self, now_ns: int) -> tuple[Array, Array]:
        """Return (N,) positions [rad] and velocities [rad/s] of its joints; the ends hold outside."""
        since_s = (now_ns - self.start_ns) * 1e-9
        row = int(np.searchsorted(self.times_s, since_s, side="right"))
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
    """

    MAX_PENDING = 4

    def __init__(self, joint_names: Sequence[str], positions: Array) -> None:
        self._column_of = {name: column for column, name in enumerate(joint_names)}
        self._held = np.array(positions, np.float64)
        self._running: Trajectory | None = None
        self._pending: collections.deque[Trajectory] = collections.deque()
        self.accepted = 0

    def accept(self, trajectory: Trajectory, now_ns: int) -> None:
        """Take a trajectory over, or reject it as a whole.

        Raises:
            ValueError: It has an unknown joint, or its last point is over already; the message says which.
        """
        refuse_unknown("joint", trajectory.joint_names, self._column_of)
        if trajectory.end_ns < now_ns:
            raise ValueError(
                f"the trajectory ended {(now_ns - trajectory.end_ns) * 1e-6:.0f} ms ago; "
                "check the clocks of both nodes"
            )
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
            self._held, _ = self._at(now_ns)
            self._running = self._pending.popleft()
        return self._at(now_ns)

    def hold(self, now_ns: int) -> None:
        """Forget every trajectory and hold where the joints ought to be now."""
        self._held, _ = self.sample(now_ns)
        self._running = None
        self._pending.clear()

    def _at(self, now_ns: int) -> tuple[Array, Array]:
        positions, velocities = self._held.copy(), np.zeros_like(self._held)
        if self._running is not None:
            columns = [self._column_of[name] for name in self._running.joint_names]
            positions[columns], velocities[columns] = self._running.at(now_ns)
        return positions, velocities
