"""Moves joints from a terminal: a line of text in, joint_targets out."""

from __future__ import annotations

import select
import sys
from typing import Any, TextIO

import rclpy
from rclpy.duration import Duration
from rclpy.node import Node
from sensor_msgs.msg import JointState
from timar_common.base_node import qos_of
from timar_common.topics import TOPICS

from timar_retargeting.robot import RobotDescription
from timar_retargeting.tuner import HELP, Tuner

REPEAT_S = 1.0


class TuneNode(Node):
    """Sends what the tuner wants, again and again, so that the joints stay."""

    def __init__(self, robot: RobotDescription, namespace: str) -> None:
        super().__init__("tune", namespace=namespace)
        self.tuner = Tuner(robot.joints)
        self._targets = self.create_publisher(JointState, "joint_targets", qos_of(TOPICS["joint_targets"]))
        self.create_subscription(JointState, "joint_states", self._on_states, qos_of(TOPICS["joint_states"]))
        self.create_timer(REPEAT_S, self.send)

    @property
    def has_listener(self) -> bool:
        """Whether retargeting is there."""
        return self._targets.get_subscription_count() > 0

    def send(self) -> None:
        """Send every target."""
        if self.tuner.targets:
            names, positions = list(self.tuner.targets), list(self.tuner.targets.values())
            self._targets.publish(JointState(name=names, position=positions))

    def finish(self) -> None:
        """Wait until the last word has arrived."""
        self._targets.wait_for_all_acked(Duration(seconds=1))

    def _on_states(self, message: Any) -> None:
        if len(message.name) == len(message.position):
            self.tuner.hear(dict(zip(message.name, message.position, strict=True)))


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
    rclpy.init(args=[])
    node = TuneNode(robot, namespace)
    try:
        _wait_for_listener(node)
        answers.write(HELP)
        while not node.tuner.is_over:
            rclpy.spin_once(node, timeout_sec=0.02)
            if not select.select([lines], [], [], 0.0)[0]:
                continue
            line = lines.readline()
            if not line:
                break
            # What the joints report in the meantime comes first, so that the answer is true.
            for _ in range(20):
                rclpy.spin_once(node, timeout_sec=0.0)
            answer = node.tuner.say(line)
            node.send()
            if answer:
                answers.write(answer + "\n")
            answers.flush()
        node.finish()
        return node.tuner.yaml()
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


def _wait_for_listener(node: TuneNode) -> None:
    for _ in range(100):
        rclpy.spin_once(node, timeout_sec=0.05)
        if node.has_listener:
            return
    raise RuntimeError(
        "nobody listens to joint_targets; start the head first (timar run), or name its --namespace"
    )


if __name__ == "__main__":
    sys.exit("run it as: timar robot tune FILE")
