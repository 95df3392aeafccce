"""Follow joint trajectories in time: replace from the start on, hold at the end, refuse bad ones whole."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence

import numpy as np
from timar_common.suggest import refuse_unknown

from timar_driver.driver import Array


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """Points of some joints over time, as they came."""

    joint_names: tuple[str, ...]
    start_ns: int
    """CLOCK_MONOTONIC [ns]."""
    times_s: Array
    """(K,) after the start [s]."""
    positions: Array
    """(K, N) [rad]."""
    velocities: Array
    """(K, N) [rad/s]."""


class TrajectoryFollower:
    """Where every joint ought to be, at any instant.

    Between points positions follow the cubic that has the positions and velocities of both. A new trajectory
    takes over at its start (at once, when that is past); until then the old one goes on. After the last point
    the joints hold it.

    Args:
        joint_names: All joints, in the order of every answer.
        positions: (J,) where they stand now [rad].
    """

    MAX_PENDING = 4

    def __init__(self, joint_names: Sequence[str], positions: Array) -> None:
        self._places = {name: place for place, name in enumerate(joint_names)}
        self._held = np.array(positions, np.float64)
        self._rest = np.zeros_like(self._held)
        self._running: _ActiveTrajectory | None = None
        self._pending: collections.deque[_ActiveTrajectory] = collections.deque()
        self.accepted = 0

    def accept(self, trajectory: Trajectory, now_ns: int) -> None:
        """Take a trajectory over, or refuse it as a whole.

        Raises:
            ValueError: It has an unknown or repeated joint, no points, wrong shapes, a number that is not
            finite,
                times that do not rise, or a last point that is over already; the message says which.
        """
        running = self._checked(trajectory)
        if running.end_ns < now_ns:
            raise ValueError(
                f"the trajectory ended {(now_ns - running.end_ns) * 1e-6:.0f} ms ago; "
                "check the clocks of both nodes"
            )
        # What was to begin at or after the new one is replaced with it.
        while self._pending and self._pending[-1].start_ns >= running.start_ns:
            self._pending.pop()
        if len(self._pending) == self.MAX_PENDING:
            self._pending.popleft()
        self._pending.append(running)
        self.accepted += 1

    def sample(self, now_ns: int) -> tuple[Array, Array]:
        """Return (J,) positions [rad] and velocities [rad/s] at an instant; instants must not go back."""
        while self._pending and self._pending[0].start_ns <= now_ns:
            if self._running is not None:
                self._held, _ = self._running.at(now_ns, self._held)
            self._running = self._pending.popleft()
        if self._running is None:
            return self._held.copy(), self._rest.copy()
        return self._running.at(now_ns, self._held)

    def is_resting(self, now_ns: int) -> bool:
        """Whether the last point of everything known is reached."""
        return not self._pending and (self._running is None or now_ns >= self._running.end_ns)

    def hold(self, now_ns: int) -> None:
        """Forget every trajectory and hold where the joints ought to be now."""
        self._held, _ = self.sample(now_ns)
        self._running = None
        self._pending.clear()

    def _checked(self, trajectory: Trajectory) -> _ActiveTrajectory:
        names = trajectory.joint_names
        refuse_unknown("joint", names, self._places)
        if not names or len(set(names)) != len(names):
            raise ValueError(
                f"the trajectory's joints are {list(names)}, expected each at most once and at least one"
            )
        times, shape = trajectory.times_s, (len(trajectory.times_s), len(names))
        if not len(times) or trajectory.positions.shape != shape or trajectory.velocities.shape != shape:
            raise ValueError(
                f"positions have shape {trajectory.positions.shape}, "
                f"velocities {trajectory.velocities.shape}, expected "
                f"{shape}: a position and a velocity of each joint at each of one or more points"
            )
        if not (np.isfinite(times).all() and (np.diff(times) > 0).all() and times[0] >= 0):
            raise ValueError(
                "the points' times must be finite, from 0 on, and rise from each point to the next"
            )
        for kind, values in (("position", trajectory.positions), ("velocity", trajectory.velocities)):
            bad = np.argwhere(~np.isfinite(values))
            if len(bad):
                raise ValueError(
                    f"the {kind} of {names[bad[0][1]]} at point {bad[0][0]} is not finite; send numbers"
                )
        places = np.array([self._places[name] for name in names])
        return _ActiveTrajectory(
            places, trajectory.start_ns, np.asarray(times), trajectory.positions, trajectory.velocities
        )


@dataclasses.dataclass(frozen=True)
class _ActiveTrajectory:
    places: np.ndarray
    start_ns: int
    times_s: Array
    positions: Array
    velocities: Array

    @property
    def end_ns(self) -> int:
        return self.start_ns + round(float(self.times_s[-1]) * 1e9)

    def at(self, now_ns: int, held: Array) -> tuple[Array, Array]:
        """Positions and velocities of all joints; those not in the trajectory stay held."""
        positions, velocities = held.copy(), np.zeros_like(held)
        since_s = (now_ns - self.start_ns) * 1e-9
        row = int(np.searchsorted(self.times_s, since_s, side="right"))
        if row == 0:
            positions[self.places], velocities[self.places] = self.positions[0], self.velocities[0]
        elif row == len(self.times_s):
            positions[self.places] = self.positions[-1]
        else:
            positions[self.places], velocities[self.places] = self._between(row, since_s)
        return positions, velocities

    def _between(self, row: int, since_s: float) -> tuple[Array, Array]:
        first, span = self.times_s[row - 1], self.times_s[row] - self.times_s[row - 1]
        s = (since_s - first) / span
        p0, p1 = self.positions[row - 1], self.positions[row]
        m0, m1 = span * self.velocities[row - 1], span * self.velocities[row]
        bow, tilt = 2 * (p0 - p1) + m0 + m1, 3 * (p1 - p0) - 2 * m0 - m1
        position = p0 + s * (m0 + s * (tilt + s * bow))
        velocity = (m0 + s * (2 * tilt + 3 * s * bow)) / span
        return position, velocity
