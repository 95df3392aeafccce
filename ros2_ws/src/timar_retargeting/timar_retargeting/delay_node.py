"""Steps each joint through joint_targets and compares what was commanded with what joint_states report."""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
import rclpy
from rclpy.node import Node
from sensor_msgs.msg import JointState
from timar_common.base_node import qos_of
from timar_common.topics import TOPICS
from trajectory_msgs.msg import JointTrajectory

from timar_retargeting.mapping import JointMap
from timar_retargeting.robot import RobotDescription
from timar_retargeting.step_response import CommandTrack, StepResponse, measure_step

SETTLE_S, WATCH_S = 1.5, 1.2


class DelayNode(Node):
    """Records commands and measurements of all joints."""

    def __init__(self, namespace: str) -> None:
        super().__init__("measure_delay", namespace=namespace)
        self.trajectories: list[Any] = []
        self.states: list[Any] = []
        self._targets = self.create_publisher(JointState, "joint_targets", qos_of(TOPICS["joint_targets"]))
        self.create_subscription(
            JointTrajectory, "joint_trajectory", self.trajectories.append, qos_of(TOPICS["joint_trajectory"])
        )
        self.create_subscription(
            JointState, "joint_states", self.states.append, qos_of(TOPICS["joint_states"])
        )

    @property
    def is_connected(self) -> bool:
        """Whether retargeting listens and a driver reports."""
        return self._targets.get_subscription_count() > 0 and bool(self.states)

    def go(self, joint: str, position: float) -> None:
        """Send one joint to a position."""
        self._targets.publish(JointState(name=[joint], position=[position]))

    def spin_for(self, seconds: float) -> None:
        """Take messages in for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            rclpy.spin_once(self, timeout_sec=0.02)

    def measure(self, joint: JointMap, step_rad: float) -> StepResponse:
        """Step one joint up and back.

        Raises:
            ValueError: What was measured does not follow the command.
        """
        low = min(max(joint.offset_rad, joint.lower_rad), joint.upper_rad - step_rad)
        self.go(joint.name, low)
        self.spin_for(SETTLE_S)
        # The newest trajectory before the step says where the joint is held.
        self.trajectories[:-1], self.states[:] = [], []
        for position in (low + step_rad, low):
            self.go(joint.name, position)
            self.spin_for(WATCH_S)
        command = CommandTrack()
        for message in self.trajectories:
            column = message.joint_names.index(joint.name)
            rows = [(point.positions[column], point.velocities[column]) for point in message.points]
            times = [_seconds(point.time_from_start) for point in message.points]
            values = np.array(rows)
            command.add(_seconds(message.header.stamp), np.array(times), values[:, 0], values[:, 1])
        seen = [(_seconds(s.header.stamp), s.position[s.name.index(joint.name)]) for s in self.states]
        track = np.array(seen, np.float64).reshape(-1, 2)
        return measure_step(command, track[:, 0], track[:, 1])


def measure_delays(
    robot: RobotDescription, namespace: str, joints: tuple[str, ...], step_rad: float
) -> dict[str, StepResponse | str]:
    """Measure joints one after the other.

    Args:
        robot: Whose joints.
        namespace: Of its topics.
        joints: Names; empty: all.
        step_rad: Size of the step [rad], made smaller where a joint's range is.

    Returns:
        By joint, its response, or why there is none.

    Raises:
        RuntimeError: Retargeting or driver are not there.
    """
    rclpy.init(args=[])
    node = DelayNode(namespace)
    try:
        for _ in range(100):
            node.spin_for(0.05)
            if node.is_connected:
                break
        else:
            raise RuntimeError(
                "no joint_states came, or nobody listens to joint_targets; start the head first (timar run)"
            )
        results: dict[str, StepResponse | str] = {}
        for joint in robot.joints:
            if joints and joint.name not in joints:
                continue
            size = min(step_rad, 0.5 * (joint.upper_rad - joint.lower_rad))
            try:
                results[joint.name] = node.measure(joint, size)
            except ValueError as error:
                results[joint.name] = str(error)
        return results
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


def _seconds(stamp: Any) -> float:
    return float(stamp.sec) + 1e-9 * float(stamp.nanosec)


if __name__ == "__main__":
    sys.exit("run it as: timar robot measure-delay FILE")
