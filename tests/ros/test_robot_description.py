"""The URDF of a running graph, as robot_state_publisher publishes it, becomes the robot of ours."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from timar_description.find import find_urdf
from timar_retargeting.robot import load_robot
from timar_retargeting.robot_command import main

pytestmark = pytest.mark.ros

rclpy = pytest.importorskip("rclpy", reason="needs ROS 2: run `make setup`")

from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile  # noqa: E402
from std_msgs.msg import String  # noqa: E402

HEAD = find_urdf().read_text(encoding="utf-8")
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@pytest.fixture
def publisher() -> Iterator[Node]:
    """A node in the place of robot_state_publisher, in a namespace of its own."""
    rclpy.init()
    node = Node("robot_state_publisher", namespace=f"/describe_{os.getpid()}_{time.monotonic_ns() % 10**6}")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin)
    thread.start()
    yield node
    executor.shutdown()
    thread.join()
    node.destroy_node()
    rclpy.try_shutdown()


def publish(node: Node, topic: str, text: str, quality: Any = LATCHED) -> None:
    node.create_publisher(String, topic, quality).publish(String(data=text))


def fetch(node: Node, folder: Path, *words: str) -> int:
    where = ["--namespace", node.get_namespace(), "--out", str(folder), "--timeout", "4"]
    return main(["fetch", *where, "--joint-map", "timar_head", *words])


def test_a_latched_description_in_a_namespace_with_prefixed_joints_becomes_a_robot(
    publisher: Node, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(publisher, "robot_description", HEAD.replace('joint name="', 'joint name="h1_').replace(
        'mimic joint="', 'mimic joint="h1_'))  # fmt: skip
    publish(publisher, "robot_description_semantic", "<robot name='a'><group name='head'/></robot>")
    assert fetch(publisher, tmp_path) == 0
    said = capsys.readouterr().out
    assert "every joint's name begins with 'h1_'" in said
    assert "robot_description_semantic is an SRDF and is ignored" in said
    robot = load_robot(tmp_path / "fetched.yaml")
    assert "h1_neck_yaw" in robot.joint_names
    assert all(name.startswith("h1_") for name in robot.joint_names)


def test_a_nodes_parameter_is_read_as_well(publisher: Node, tmp_path: Path) -> None:
    publisher.declare_parameter("robot_description", HEAD)
    assert fetch(publisher, tmp_path, "--node", publisher.get_fully_qualified_name()) == 0
    assert (tmp_path / "fetched.urdf").read_text(encoding="utf-8") == HEAD


def refusal(node: Node, folder: Path, capsys: Any, *words: str) -> str:
    assert fetch(node, folder, *words) == 1
    said = str(capsys.readouterr().err)
    assert said.count("\n") == 1
    assert not list(folder.iterdir())
    return said


def test_what_no_graph_or_two_of_them_say_is_refused_in_one_sentence(
    publisher: Node, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = publisher.get_fully_qualified_name()
    topic = f"{publisher.get_namespace()}/robot_description"
    assert f"no URDF came on {topic}" in refusal(publisher, tmp_path, capsys)
    assert "has no text in its parameter" in refusal(publisher, tmp_path, capsys, "--node", name)
    assert "no node /absent answered" in refusal(publisher, tmp_path, capsys, "--node", "/absent")
    publish(publisher, "robot_description", HEAD)
    publish(publisher, "robot_description", HEAD.replace("neck_yaw", "pan"))
    assert "2 different URDFs came on" in refusal(publisher, tmp_path, capsys)


def test_a_description_that_is_not_latched_is_named(
    publisher: Node, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(publisher, "robot_description", HEAD, QoSProfile(depth=1))
    assert "but not latched" in refusal(publisher, tmp_path, capsys)
