"""Transitions without a wanted curve: come to rest, go to a posture. By ruckig, local calculation only.

Source: L. Berscheid, T. Kroeger, "Jerk-limited Real-time Trajectory Generation with Arbitrary Target States",
2021.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import ruckig

from timar_retargeting.limits import Limits

Array = npt.NDArray[np.float64]

JERK_RAMP_S = 0.02
"""Acceleration rises from zero to its limit in this time [s]."""


def stop_positions(start: Array, limits: Limits, share: float, step_s: float, max_steps: int) -> Array:
    """Return positions of the shortest jerk-limited stop, each joint for itself.

    Args:
        start: (3, J) state in which the stop begins; finite.
        limits: Velocity and acceleration of the J joints; positions are clipped to them.
        share: Which part of velocity and acceleration is used, 0..1.
        step_s: Sampling step [s].
        max_steps: At most this many are returned.

    Returns:
        (steps, J) positions at step_s, 2 step_s, ... until all rest [rad].
    """
    parameters = _parameters(start, limits, share)
    parameters.control_interface = ruckig.ControlInterface.Velocity
    return _sample(parameters, limits, step_s, max_steps)


def move_positions(
    start: Array,
    target: Array,
    limits: Limits,
    share: float,
    shortest_s: float,
    step_s: float,
    max_steps: int,
) -> Array:
    """Return positions of a jerk-limited move to rest in a posture, each joint for itself.

    Args:
        start: (3, J) state in which the move begins; finite.
        target: (J,) posture [rad].
        limits: Velocity and acceleration of the J joints; positions are clipped to them.
        share: Which part of velocity and acceleration is used, 0..1.
        shortest_s: No joint takes less than this, so that small moves are gentle as well [s].
        step_s: Sampling step [s].
        max_steps: At most this many are returned.

    Returns:
        (steps, J) positions at step_s, 2 step_s, ... until all rest [rad].
    """
    parameters = _parameters(start, limits, share)
    parameters.target_position = target.tolist()
    parameters.minimum_duration = shortest_s
    return _sample(parameters, limits, step_s, max_steps)


def _parameters(start: Array, limits: Limits, share: float) -> ruckig.InputParameter:
    joints = start.shape[1]
    position, velocity, acceleration = start
    max_velocity, max_acceleration = share * limits.velocity, share * limits.acceleration
    parameters = ruckig.InputParameter(joints)
    parameters.synchronization = ruckig.Synchronization.No
    parameters.current_position = position.tolist()
    parameters.current_velocity = velocity.tolist()
    parameters.current_acceleration = np.clip(acceleration, -max_acceleration, max_acceleration).tolist()
    parameters.target_position = position.tolist()
    parameters.target_velocity = parameters.target_acceleration = [0.0] * joints
    parameters.max_velocity = max_velocity.tolist()
    parameters.max_acceleration = max_acceleration.tolist()
    parameters.max_jerk = (max_acceleration / JERK_RAMP_S).tolist()
    return parameters


def _sample(parameters: ruckig.InputParameter, limits: Limits, step_s: float, max_steps: int) -> Array:
    trajectory = ruckig.Trajectory(parameters.degrees_of_freedom)
    result = ruckig.Ruckig(parameters.degrees_of_freedom).calculate(parameters, trajectory)
    if result not in (ruckig.Result.Working, ruckig.Result.Finished):
        # The certified plan goes on when no transition is found; holding the position is the reference it is
        # given.
        return np.clip(np.array([parameters.current_position]), limits.lower, limits.upper)
    steps = min(max(1, int(np.ceil(trajectory.duration / step_s))), max_steps)
    positions = np.array([trajectory.at_time((k + 1) * step_s)[0] for k in range(steps)])
    return np.clip(positions, limits.lower, limits.upper)
