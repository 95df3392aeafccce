"""The action follow_joint_trajectory, driver and retargeting as real nodes and a client as MoveIt has one.

Run by tests/ros/test_follow_joint_trajectory.py in an environment that has control_msgs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import rclpy
from action_msgs.msg import GoalStatus
from builtin_interfaces.msg import Duration
from control_msgs.action import FollowJointTrajectory
from control_msgs.msg import JointTolerance as ToleranceMessage
from node_process import PATIENCE_S
from rclpy.action import ActionClient
from rclpy.node import Node
from sensor_msgs.msg import JointState
from timar_common.base_node import qos_of
from timar_common.topics import TOPICS
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

RESULT = FollowJointTrajectory.Result


class Client(Node):
    """Sends goals, and watches the joints."""

    def __init__(self, namespace: str) -> None:
        super().__init__("client", namespace=namespace)
        self.yaw: list[tuple[float, float]] = []
        self.feedback: list[Any] = []
        self.action = ActionClient(self, FollowJointTrajectory, "follow_joint_trajectory")
        states = TOPICS["joint_states"]
        self.create_subscription(JointState, "joint_states", self._on_states, qos_of(states))

    def _on_states(self, message: JointState) -> None:
        yaw = message.position[list(message.name).index("neck_yaw")]
        self.yaw.append((message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec, yaw))

    def spin_until(self, condition: Any, seconds: float = PATIENCE_S) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "the condition did not come true in time"
            rclpy.spin_once(self, timeout_sec=0.02)

    def send(self, *points: tuple[float, float], name: str = "neck_yaw", **tolerances: Any) -> Any:
        """Send a goal of (seconds, yaw) points; return its handle."""
        rows = [
            JointTrajectoryPoint(positions=[rad], time_from_start=_duration(seconds))
            for seconds, rad in points
        ]
        trajectory = JointTrajectory(joint_names=[name], points=rows)
        goal = FollowJointTrajectory.Goal(trajectory=trajectory, **tolerances)
        future = self.action.send_goal_async(goal, feedback_callback=self._on_feedback)
        self.spin_until(future.done)
        return future.result()

    def _on_feedback(self, message: Any) -> None:
        self.feedback.append(message.feedback)

    def result(self, handle: Any) -> Any:
        future = handle.get_result_async()
        self.spin_until(future.done)
        return future.result()


def _duration(seconds: float) -> Duration:
    return Duration(sec=int(seconds), nanosec=round(seconds % 1.0 * 1e9))


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    namespace = f"arm_{os.getpid()}"
    nodes = ("timar_driver.driver_node:DriverNode", "timar_retargeting.retargeting_node:RetargetingNode")
    ros_args = ["--ros-args", "-r", f"__ns:=/{namespace}", "-p"]
    said = ("seed:=0", "idle_behavior:=false")
    command = [sys.executable, "-m", "timar_common.base_node"]
    processes = [
        subprocess.Popen([*command, node, *ros_args, extra]) for node, extra in zip(nodes, said, strict=True)
    ]
    rclpy.init()
    node = Client(namespace)
    try:
        node.spin_until(lambda: node.action.server_is_ready() and len(node.yaw) > 10)
        yield node
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
        for process in processes:
            process.send_signal(signal.SIGINT)
        assert [process.wait(PATIENCE_S) for process in processes] == [0, 0]


def test_a_goal_is_followed_with_feedback_and_succeeds(client: Client) -> None:
    tolerance = ToleranceMessage(name="neck_yaw", position=0.02)
    began = time.monotonic()
    handle = client.send((0.6, 0.3), (1.2, 0.2), goal_tolerance=[tolerance])
    assert handle.accepted
    answer = client.result(handle)
    assert (answer.status, answer.result.error_code) == (GoalStatus.STATUS_SUCCEEDED, RESULT.SUCCESSFUL)
    assert time.monotonic() - began > 1.15
    assert abs(client.yaw[-1][1] - 0.2) < 0.02
    assert len(client.feedback) > 10, "twenty times a second"
    one = client.feedback[-3]
    yaw = one.joint_names.index("neck_yaw")
    assert one.desired.positions[yaw] - one.actual.positions[yaw] == pytest.approx(one.error.positions[yaw])
    assert {feedback.index for feedback in client.feedback} == {0, 1}
    assert abs(client.yaw[-1][0] - one.header.stamp.sec) < 3.0


@pytest.mark.parametrize(
    ("name", "point", "code", "said"),
    [
        ("tail", (1.0, 0.1), RESULT.INVALID_JOINTS, "there is no joint 'tail'"),
        ("neck_yaw", (1.0, 2.0), RESULT.INVALID_GOAL, "neck_yaw is to be at 2 rad"),
        ("neck_yaw", (0.02, 0.5), RESULT.INVALID_GOAL, "neck_yaw is to move at"),
    ],
)
def test_a_goal_that_cannot_be_followed_is_aborted_with_its_code_and_the_reason(
    client: Client, name: str, point: tuple[float, float], code: int, said: str
) -> None:
    answer = client.result(client.send(point, name=name))
    assert (answer.status, answer.result.error_code) == (GoalStatus.STATUS_ABORTED, code)
    assert said in answer.result.error_string


def test_an_old_stamp_has_its_own_code(client: Client) -> None:
    point = JointTrajectoryPoint(positions=[0.1], time_from_start=_duration(1.0))
    trajectory = JointTrajectory(joint_names=["neck_yaw"], points=[point])
    trajectory.header.stamp.sec = client.get_clock().now().to_msg().sec - 60
    future = client.action.send_goal_async(FollowJointTrajectory.Goal(trajectory=trajectory))
    client.spin_until(future.done)
    assert client.result(future.result()).result.error_code == RESULT.OLD_HEADER_TIMESTAMP


def test_a_servo_that_stands_behind_its_way_violates_the_path(client: Client) -> None:
    """The simulated servo's 20 ms are more than this tolerance at half a radian a second."""
    handle = client.send((1.0, -0.3), path_tolerance=[ToleranceMessage(name="neck_yaw", position=0.002)])
    answer = client.result(handle)
    assert answer.status == GoalStatus.STATUS_ABORTED
    assert answer.result.error_code == RESULT.PATH_TOLERANCE_VIOLATED
    assert "neck_yaw was" in answer.result.error_string


def test_a_goal_that_is_not_reached_in_time_violates_the_goal(client: Client) -> None:
    tolerance = ToleranceMessage(name="neck_yaw", position=1e-12)
    handle = client.send((0.5, 0.1), goal_tolerance=[tolerance], goal_time_tolerance=_duration(0.05))
    answer = client.result(handle)
    assert answer.result.error_code == RESULT.GOAL_TOLERANCE_VIOLATED


def test_a_canceled_goal_stops_and_the_joints_stay(client: Client) -> None:
    handle = client.send((3.0, 0.5))
    begun = len(client.yaw)
    client.spin_until(lambda: len(client.yaw) > begun + 50)
    future = handle.cancel_goal_async()
    client.spin_until(future.done)
    answer = client.result(handle)
    assert answer.status == GoalStatus.STATUS_CANCELED
    begun = len(client.yaw)
    client.spin_until(lambda: len(client.yaw) > begun + 40)
    rest = np.array([yaw for _, yaw in client.yaw[begun + 20 :]])
    assert np.ptp(rest) < 1e-3
    assert 0.05 < rest[-1] < 0.45


def test_a_newer_goal_aborts_the_one_before(client: Client) -> None:
    first = client.send((2.0, 0.4))
    second = client.send((0.8, 0.0))
    old, new = client.result(first), client.result(second)
    assert (old.status, old.result.error_code) == (GoalStatus.STATUS_ABORTED, RESULT.INVALID_GOAL)
    assert old.result.error_string == "another goal came"
    assert (new.status, new.result.error_code) == (GoalStatus.STATUS_SUCCEEDED, RESULT.SUCCESSFUL)
