"""A goal of the action follow_joint_trajectory: tolerances, feedback, how it ends; as ros2_control has it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from timar_common.joint_trajectory import Trajectory, TrajectoryCode, TrajectoryRefusedError
from timar_common.suggest import refuse_unknown

Array = npt.NDArray[np.float64]

QUANTITIES = ("position", "velocity", "acceleration")
ERASED = -1.0
"""A tolerance of this much means that there is none, whatever the default."""


@dataclasses.dataclass(frozen=True)
class JointTolerance:
    """How far a joint may be off, as control_msgs/JointTolerance: 0 the default, -1 no limit."""

    name: str
    position: float = 0.0
    """[rad]"""
    velocity: float = 0.0
    """[rad/s]"""
    acceleration: float = 0.0
    """[rad/s^2]; joint states carry none, so it cannot be checked, and is refused."""


@dataclasses.dataclass(frozen=True)
class GoalTolerances:
    """What a goal asks of the joints on the way and at its end."""

    path: tuple[JointTolerance, ...] = ()
    goal: tuple[JointTolerance, ...] = ()
    goal_time_s: float = 0.0
    """How much later the joints may be there; 0 the default, -1 without end [s]."""


@dataclasses.dataclass(frozen=True)
class TrajectoryResult:
    """How a goal ended."""

    goal_id: str
    code: TrajectoryCode
    text: str
    is_canceled: bool = False


@dataclasses.dataclass(frozen=True)
class TrajectoryFeedback:
    """Where the joints are to be and are; arrays are (3, N): positions, velocities, accelerations."""

    goal_id: str
    stamp_ns: int
    """Of the measurement, CLOCK_MONOTONIC [ns]."""
    joint_names: tuple[str, ...]
    desired: Array
    actual: Array
    index: int
    """Of the point that is led to."""


class TrajectoryGoal:
    """A goal on its way.

    Args:
        goal_id: Whose.
        trajectory: What is followed.
        tolerances: As the goal names them.
        joint_names: All J joints, in the order of every array.
        defaults: Where the goal names none: path and goal [rad] of every joint, and time [s]; 0: none.

    Raises:
        TrajectoryRefusedError: A tolerance is of a joint that there is not, or no number from 0 on or -1.
    """

    def __init__(
        self,
        goal_id: str,
        trajectory: Trajectory,
        tolerances: GoalTolerances,
        joint_names: Sequence[str],
        defaults: Mapping[str, float],
    ) -> None:
        self.goal_id, self.trajectory, self._names = goal_id, trajectory, tuple(joint_names)
        self._path = self._resolved("path", tolerances.path, defaults["path"])
        self._goal = self._resolved("goal", tolerances.goal, defaults["goal"])
        self._goal_time_s = _resolve("goal_time_tolerance", tolerances.goal_time_s, defaults["time"])

    def check(self, now_ns: int, desired: Array, actual: Array, measured_ns: int) -> TrajectoryResult | None:
        """Return how the goal ended when it has.

        Args:
            now_ns: CLOCK_MONOTONIC [ns].
            desired: (3, J) of the instant of the measurement.
            actual: (3, J) measured; NaN where it is not known.
            measured_ns: When it was measured.
        """
        if measured_ns < self.trajectory.end_ns:
            is_over = now_ns >= self.trajectory.end_ns
            worst = "" if is_over else self._worst(self._path, desired, actual)
            if worst:
                return self._ended(TrajectoryCode.PATH_TOLERANCE_VIOLATED, f"on the way {worst}")
            if not is_over:
                return None
        # Past the end only a later measurement can say that they are there.
        worst = self._worst(self._goal, desired, actual)
        if worst == "" and (measured_ns >= self.trajectory.end_ns or not self._goal.any()):
            return self._ended(TrajectoryCode.SUCCESSFUL, "the joints reached the last point")
        late_s = (now_ns - self.trajectory.end_ns) * 1e-9
        if self._goal_time_s and late_s > self._goal_time_s:
            worst = worst or "no joint states came"
            text = f"{late_s:.2f} s after the last point was due, {worst}"
            return self._ended(TrajectoryCode.GOAL_TOLERANCE_VIOLATED, text)
        return None

    def feedback(self, desired: Array, actual: Array, measured_ns: int) -> TrajectoryFeedback:
        """Return where the joints are; arrays as in `check`."""
        since_s = (measured_ns - self.trajectory.start_ns) * 1e-9
        index = int(np.searchsorted(self.trajectory.times_s, since_s, side="right"))
        index = min(index, len(self.trajectory.times_s) - 1)
        return TrajectoryFeedback(self.goal_id, measured_ns, self._names, desired, actual, index)

    def _ended(self, code: TrajectoryCode, text: str) -> TrajectoryResult:
        return TrajectoryResult(self.goal_id, code, text)

    def _worst(self, allowed: Array, desired: Array, actual: Array) -> str:
        """Say which joint is furthest beyond its tolerance (2, J); empty when none is."""
        error = np.abs(desired - actual)[:2]
        unknown = np.flatnonzero((allowed > 0.0).any(0) & np.isnan(error[0]))
        if unknown.size:
            return f"{self._names[unknown[0]]} is in no joint state, and its tolerance cannot be checked"
        share = np.where(allowed > 0.0, error / np.where(allowed > 0.0, allowed, 1.0), 0.0)
        kind, joint = np.unravel_index(int(np.nanargmax(share)), share.shape)
        if not share[kind, joint] > 1.0:
            return ""
        unit = ("rad", "rad/s")[kind]
        return (
            f"{self._names[joint]} was {error[kind, joint]:.3g} {unit} off in {QUANTITIES[kind]}, "
            f"allowed were {allowed[kind, joint]:.3g}"
        )

    def _resolved(self, which: str, tolerances: Sequence[JointTolerance], default_rad: float) -> Array:
        """Return (2, J) tolerances of position and velocity; 0: none."""
        resolved = np.zeros((2, len(self._names)))
        named = {*self.trajectory.joint_names}
        resolved[0, [column for column, name in enumerate(self._names) if name in named]] = default_rad
        for tolerance in tolerances:
            try:
                refuse_unknown("joint", [tolerance.name], self._names)
            except ValueError as error:
                raise TrajectoryRefusedError(f"{which}_tolerance: {error}") from None
            column = self._names.index(tolerance.name)
            where = f"{which}_tolerance of {tolerance.name}"
            if tolerance.acceleration not in (0.0, ERASED):
                raise TrajectoryRefusedError(
                    f"{where} has an acceleration, which joint states do not tell; leave it 0"
                )
            for row, value in enumerate((tolerance.position, tolerance.velocity)):
                resolved[row, column] = _resolve(f"{where} ({QUANTITIES[row]})", value, resolved[row, column])
        return resolved


def _resolve(where: str, value: float, default: float) -> float:
    if value == 0.0:
        return default
    if value == ERASED:
        return 0.0
    if not (math.isfinite(value) and value > 0.0):
        raise TrajectoryRefusedError(
            f"{where} is {value:g}, expected a number above 0, 0 for the default, or -1 for none"
        )
    return value
