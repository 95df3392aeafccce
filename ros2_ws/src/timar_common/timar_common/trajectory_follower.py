"""Trajectory follower: waits for a trajectory's start, joins it to what runs, holds the last point."""

from __future__ import annotations

import collections
from collections.abc import Sequence

import numpy as np

from timar_common.joint_trajectory import (
    SHORTEST_JOIN_S,
    Array,
    Trajectory,
    TrajectoryCode,
    TrajectoryConfig,
    TrajectoryRefusedError,
)
from timar_common.suggest import refuse_unknown


class TrajectoryFollower:
    """Where every joint ought to be, at any instant.

    A new trajectory takes over at its start (at once, when that is past); until then the old one goes on.
    Joints that it does not name go on with the old one, or stay where they were. After the last point the
    joints hold it.

    Args:
        joint_names: All joints, in the order of every answer.
        positions: (J,) where they stand now [rad].
        rules: What a trajectory must keep to; None: it is not checked here.
        is_outside: As in `Trajectory.joined`.
    """

    MAX_PENDING = 4

    def __init__(
        self,
        joint_names: Sequence[str],
        positions: Array,
        rules: TrajectoryConfig | None = None,
        *,
        is_outside: bool = False,
    ) -> None:
        self._names, self._rules, self._is_outside = tuple(joint_names), rules, is_outside
        self._column_of = {name: column for column, name in enumerate(joint_names)}
        self._held = np.array(positions, np.float64)
        self._running: tuple[Trajectory, ...] = ()
        """Older ones first; each has a joint that no later one has."""
        self._pending: collections.deque[Trajectory] = collections.deque()
        self.accepted = 0

    @property
    def end_ns(self) -> int:
        """When the last point of all that run or wait is due; 0 without any."""
        return max((trajectory.end_ns for trajectory in (*self._running, *self._pending)), default=0)

    def copy(self) -> TrajectoryFollower:
        """Return a follower in the same state, for a look ahead."""
        other = TrajectoryFollower(self._names, self._held, self._rules, is_outside=self._is_outside)
        other._running, other._pending = self._running, self._pending.copy()
        return other

    def accept(self, trajectory: Trajectory, now_ns: int) -> None:
        """Take a trajectory over, or reject it as a whole.

        Raises:
            TrajectoryRefusedError: It has an unknown joint, its last point is over already, or it breaks a
                rule; the message says which, and the joint.
        """
        begin_ns = max(now_ns, trajectory.start_ns)
        self.require(trajectory, now_ns, self._at(begin_ns))
        # What was to begin at or after the new one is replaced with it.
        while self._pending and self._pending[-1].start_ns >= trajectory.start_ns:
            self._pending.pop()
        if len(self._pending) == self.MAX_PENDING:
            self._pending.popleft()
        self._pending.append(trajectory)
        self.accepted += 1

    def require(self, trajectory: Trajectory, now_ns: int, state: Array | None) -> None:
        """Refuse a trajectory that cannot be followed.

        Args:
            trajectory: From outside.
            now_ns: CLOCK_MONOTONIC [ns].
            state: (3, J) of all joints when it will take over; None: not known yet.

        Raises:
            TrajectoryRefusedError: The message says why.
        """
        try:
            refuse_unknown("joint", trajectory.joint_names, self._column_of)
        except ValueError as error:
            raise TrajectoryRefusedError(str(error), TrajectoryCode.INVALID_JOINTS) from None
        if trajectory.end_ns < now_ns:
            raise TrajectoryRefusedError(
                f"the trajectory ended {(now_ns - trajectory.end_ns) * 1e-6:.0f} ms ago; "
                "check the clocks of both nodes",
                TrajectoryCode.OLD_HEADER_TIMESTAMP,
            )
        if self._rules is None:
            return
        columns, rules, is_outside = self._columns(trajectory), self._rules, self._is_outside
        trajectory.require(rules, columns, self._names)
        begin_ns = max(now_ns, trajectory.start_ns)
        if begin_ns - trajectory.start_ns < SHORTEST_JOIN_S * 1e9:
            # One that starts now is judged as it was sent, and not for what came between.
            begin_ns = trajectory.start_ns
        if state is not None:
            joined = trajectory.joined(begin_ns, state[:, columns], is_outside=is_outside)
            joined.require_between(rules, columns)

    def begin(self, trajectory: Trajectory, now_ns: int, state: Array, rest_rad: Array) -> None:
        """Follow a trajectory from a state (3, J) of all joints on, and forget what there was.

        Joints that it does not name are to be at (J,) `rest_rad` [rad].

        Raises:
            TrajectoryRefusedError: It cannot be followed from there; nothing has changed.
        """
        self.require(trajectory, now_ns, state)
        joined = trajectory.joined(now_ns, state[:, self._columns(trajectory)], is_outside=self._is_outside)
        self._running, self._held = (joined,), rest_rad.copy()
        self._pending.clear()
        self.accepted += 1

    def sample(self, now_ns: int) -> Array:
        """Return the state (3, J) at an instant: positions, velocities, accelerations.

        Instants must not go back.
        """
        while self._pending and self._pending[0].start_ns <= now_ns:
            state = self._at(now_ns)
            taken = self._pending.popleft()
            joined = taken.joined(now_ns, state[:, self._columns(taken)], is_outside=self._is_outside)
            self._held, later = state[0], {*taken.joint_names}
            kept = []
            for running in reversed(self._running):
                if not later.issuperset(running.joint_names):
                    kept.append(running)
                later |= {*running.joint_names}
            self._running = (*reversed(kept), joined)
        return self._at(now_ns)

    def hold(self, now_ns: int) -> None:
        """Forget every trajectory and hold where the joints ought to be now."""
        self._held = self.sample(now_ns)[0]
        self._running = ()
        self._pending.clear()

    def _at(self, now_ns: int) -> Array:
        state = np.zeros((3, len(self._held)))
        state[0] = self._held
        for running in self._running:
            state[:, self._columns(running)] = running.at(now_ns)
        return state

    def _columns(self, trajectory: Trajectory) -> list[int]:
        return [self._column_of[name] for name in trajectory.joint_names]
