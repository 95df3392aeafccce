"""Trajectories from outside: one that waits for its start, and those that are followed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from timar_common.joint_trajectory import Trajectory, TrajectoryConfig
from timar_common.trajectory_follower import TrajectoryFollower

from timar_retargeting.robot import RobotDescription

Array = npt.NDArray[np.float64]


class ExternalTrajectories:
    """What trajectories from outside want of the joints.

    Args:
        robot: Its joints and certified limits.
        allow_partial: Whether a trajectory may leave joints out.
    """

    def __init__(self, robot: RobotDescription, *, allow_partial: bool = True) -> None:
        limits = robot.limits
        self._names, self._limits = robot.joint_names, limits
        self._rules = TrajectoryConfig(
            limits.lower,
            limits.upper,
            limits.velocity,
            limits.acceleration,
            allow_partial,
            must_end_at_rest=True,
        )
        self.waiting: Trajectory | None = None
        """It takes the joints over at its start."""
        self._begin_ns = self._rested_ns = 0
        self._begin_state = np.stack([robot.offsets_rad, *np.zeros((2, len(self._names)))])
        self._follower = self._at_rest(robot.offsets_rad)

    @property
    def end_ns(self) -> int:
        """When the last point of what is followed is due, or the joints were brought to rest."""
        return self._follower.end_ns or self._rested_ns

    def wait(self, trajectory: Trajectory, now_ns: int, state: Array) -> None:
        """Keep a trajectory until its start; another that waits is replaced.

        Args:
            trajectory: Its start is in the future.
            now_ns: CLOCK_MONOTONIC [ns].
            state: (3, J) in which the joints would be then, as far as it is known.

        Raises:
            TrajectoryRefusedError: It cannot be followed.
        """
        self._follower.require(trajectory, now_ns, state)
        self.waiting = trajectory

    def begin(self, trajectory: Trajectory, now_ns: int, state: Array, rest_rad: Array) -> None:
        """Follow a trajectory, and nothing else, from a state on.

        Args:
            trajectory: From outside.
            now_ns: When it takes over, CLOCK_MONOTONIC [ns].
            state: (3, J) of the joints then.
            rest_rad: (J,) where joints that it does not name come to rest [rad].

        Raises:
            TrajectoryRefusedError: It cannot be followed from there; nothing has changed.
        """
        follower = self._at_rest(rest_rad)
        follower.begin(trajectory, now_ns, state, rest_rad)
        self._follower, self._begin_ns, self._begin_state = follower, now_ns, state
        self.waiting = None

    def replace(self, trajectory: Trajectory, now_ns: int) -> None:
        """Let a trajectory follow what is followed now, from its start on.

        Raises:
            TrajectoryRefusedError: It cannot be followed from there; the running one goes on.
        """
        self._follower.accept(trajectory, now_ns)

    def rest(self, positions: Array, now_ns: int) -> None:
        """Forget every trajectory; the joints rest from now on, at (J,) positions [rad]."""
        self._follower, self._rested_ns, self.waiting = self._at_rest(positions), now_ns, None

    def wanted(self, times_ns: npt.NDArray[np.int64]) -> Array:
        """Return (n, J) positions within the limits at rising instants, the first of which is past [rad].

        What was due before the first instant is not asked for again.
        """
        follower = self._follower
        follower.sample(max(int(times_ns[0]), self._begin_ns))
        ahead = follower.copy()
        rows = np.stack([ahead.sample(max(int(time_ns), self._begin_ns))[0] for time_ns in times_ns])
        for row in np.flatnonzero(times_ns < self._begin_ns):
            # The way on which the joints came, so that the first wanted velocity is theirs.
            position, velocity, acceleration = self._begin_state
            since_s = (times_ns[row] - self._begin_ns) * 1e-9
            rows[row] = position + since_s * (velocity + 0.5 * since_s * acceleration)
        return np.clip(rows, self._limits.lower, self._limits.upper)

    def desired(self, time_ns: int) -> Array:
        """Return the state (3, J) that was wanted at an instant, not long past."""
        return self._follower.copy().sample(max(time_ns, self._begin_ns))

    def take_waiting(self, until_ns: int) -> Trajectory | None:
        """Return the trajectory that waits when its start has come, and forget it."""
        if self.waiting is None or self.waiting.start_ns > until_ns:
            return None
        taken, self.waiting = self.waiting, None
        return taken

    def _at_rest(self, positions: Array) -> TrajectoryFollower:
        return TrajectoryFollower(self._names, positions, self._rules, is_outside=True)
