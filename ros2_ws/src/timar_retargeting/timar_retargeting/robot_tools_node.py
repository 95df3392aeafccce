"""Moves joints of the running head from a terminal, and measures how far its servos are behind."""

from __future__ import annotations

import contextlib
import select
import time
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

import numpy as np
import rclpy
from rclpy.duration import Duration
from rclpy.node import Node
from sensor_msgs.msg import JointState
from timar_common.base_node import message_type, qos_of
from timar_common.topics import TOPICS

from timar_retargeting.mapping import JointMap
from timar_retargeting.robot import RobotDescription
from timar_retargeting.step_response import CommandTrack, StepResponse, measure_step
from timar_retargeting.tuner import HELP, Tuner

REPEAT_S = 1.0
"""Targets are sent again so often, so that the joints stay [s]."""
SETTLE_S, WATCH_S = 1.5, 1.2


class RobotToolNode(Node):
    """Sends joint targets, and records what is commanded and measured."""

    def __init__(self, namespace: str) -> None:
        super().__init__("robot_tool", namespace=namespace)
        self.trajectories: list[Any] = []
        self.states: list[Any] = []
        self._targets = self.create_publisher(JointState, "joint_targets", qos_of(TOPICS["joint_targets"]))
        for name, received in (("joint_trajectory", self.trajectories), ("joint_states", self.states)):
            topic = TOPICS[name]
            self.create_subscription(message_type(topic.type_name), name, received.append, qos_of(topic))

    def send(self, targets: Mapping[str, float]) -> None:
        """Send joints to positions [rad]."""
        if targets:
            self._targets.publish(JointState(name=list(targets), position=list(targets.values())))

    def finish(self) -> None:
        """Wait until the last message has arrived."""
        self._targets.wait_for_all_acked(Duration(seconds=1))

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
        self.send({joint.name: low})
        self.spin_for(SETTLE_S)
        # The newest trajectory before the step says where the joint is held.
        self.trajectories[:-1], self.states[:] = [], []
        for position in (low + step_rad, low):
            self.send({joint.name: position})
            self.spin_for(WATCH_S)
        command = CommandTrack()
        for message in self.trajectories:
            column = message.joint_names.index(joint.name)
            values = np.array(
                [(point.positions[column], point.velocities[column]) for point in message.points]
            )
            times = np.array([_seconds(point.time_from_start) for point in message.points])
            command.add(_seconds(message.header.stamp), times, values[:, 0], values[:, 1])
        seen = [(_seconds(s.header.stamp), s.position[s.name.index(joint.name)]) for s in self.states]
        track = np.array(seen, np.float64).reshape(-1, 2)
        return measure_step(command, track[:, 0], track[:, 1])


@contextlib.contextmanager
def _connected(namespace: str, needs_states: bool) -> Iterator[RobotToolNode]:
    """Run the node once retargeting, and if need be a driver, are there.

    Raises:
        RuntimeError: They are not.
    """
    rclpy.init(args=[])
    node = RobotToolNode(namespace)
    try:
        for _ in range(100):
            node.spin_for(0.05)
            if node.count_subscribers("joint_targets") and (node.states or not needs_states):
                break
        else:
            lacking = "no joint_states came, or nobody" if needs_states else "nobody"
            raise RuntimeError(
                f"{lacking} listens to joint_targets; start the head first (timar run), or name its "
                "--namespace"
            )
        yield node
        node.finish()
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


def tune(robot: RobotDescription, namespace: str, lines: TextIO, answers: TextIO) -> str:
    """Obey lines until their end or `quit`.

    Args:
        robot: Whose joints.
        namespace: Of its topics.
        lines: Where commands come from; a file that can be waited for.
        answers: Where answers go.

    Returns:
        What was kept, as YAML; empty when nothing was.

    Raises:
        RuntimeError: Nobody listens to joint_targets.
    """
    tuner, sent_s = Tuner(robot.joints), 0.0
    with _connected(namespace, needs_states=False) as node:
        answers.write(HELP)
        while not tuner.is_over:
            node.spin_for(0.02)
            if time.monotonic() - sent_s > REPEAT_S:
                node.send(tuner.targets)
                sent_s = time.monotonic()
            # What the joints report comes first, so that the answer is true.
            for state in node.states:
                tuner.update(dict(zip(state.name, state.position, strict=False)))
            node.states.clear()
            node.trajectories.clear()
            if not select.select([lines], [], [], 0.0)[0]:
                continue
            line = lines.readline()
            if not line:
                break
            answer = tuner.execute(line)
            node.send(tuner.targets)
            answers.write(answer + "\n" if answer else "")
            answers.flush()
    return tuner.yaml()


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
    results: dict[str, StepResponse | str] = {}
    with _connected(namespace, needs_states=True) as node:
        for joint in robot.joints:
            if joints and joint.name not in joints:
                continue
            try:
                size = min(step_rad, 0.5 * (joint.upper_rad - joint.lower_rad))
                results[joint.name] = node.measure(joint, size)
            except ValueError as error:
                results[joint.name] = str(error)
    return results


def _seconds(stamp: Any) -> float:
    return float(stamp.sec) + 1e-9 * float(stamp.nanosec)
