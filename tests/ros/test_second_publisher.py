"""A second publisher beside the one that may be there is named and moves nothing; who is missing is said.

Two robots in one namespace once moved one head by turns: a driver obeyed every trajectory that came. Every
node here is a process of its own.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from node_process import PATIENCE_S

pytestmark = pytest.mark.ros

rclpy = pytest.importorskip("rclpy", reason="needs ROS 2: run `make setup`")

from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402
from timar_common.base_node import qos_of  # noqa: E402
from timar_common.topics import TOPICS  # noqa: E402

DRIVER = [sys.executable, "-m", "timar_common.base_node", "timar_driver.driver_node:DriverNode", "--ros-args"]
MOVER = """
import sys
import rclpy
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint
rclpy.init()
node = rclpy.create_node(sys.argv[1], namespace=sys.argv[2])
publisher = node.create_publisher(JointTrajectory, "joint_trajectory", 10)
def send():
    point = JointTrajectoryPoint(positions=[float(sys.argv[3])], velocities=[0.0])
    point.time_from_start.nanosec = 500_000_000
    publisher.publish(JointTrajectory(joint_names=["neck_yaw"], points=[point]))
node.create_timer(0.1, send)
rclpy.spin(node)
"""


class Stage:
    """Starts processes in a namespace of their own, and looks on."""

    def __init__(self, folder: Path) -> None:
        self.namespace = f"/second_{os.getpid()}_{time.monotonic_ns() % 1_000_000}"
        self.yaw_rad: dict[bytes, list[float]] = {}
        """What each driver said of the neck, by its gid."""
        self.said: dict[str, str] = {}
        self._folder = folder
        self._stack = contextlib.ExitStack()
        self._node = rclpy.create_node("onlooker", namespace=self.namespace)
        self._node.create_subscription(
            JointState, "joint_states", self._on_joints, qos_of(TOPICS["joint_states"])
        )
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    def _on_joints(self, message: JointState, info: dict) -> None:
        yaw_rad = message.position[list(message.name).index("neck_yaw")]
        self.yaw_rad.setdefault(info["publisher_gid"]["data"][:16], []).append(yaw_rad)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.startswith(self.namespace):
                self.said[status.name] = status.message

    def start(self, name: str, command: list[str], **environment: str) -> subprocess.Popen:
        """Start a process; its log is `self.log(name)`."""
        log = self._stack.enter_context((self._folder / f"{name}.log").open("w"))
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **environment})
        self._stack.callback(_end, process)
        return process

    def start_driver(self, name: str = "driver", **environment: str) -> subprocess.Popen:
        return self.start(name, [*DRIVER, "-r", f"__ns:={self.namespace}"], **environment)

    def start_mover(self, name: str, yaw_rad: float) -> subprocess.Popen:
        return self.start(
            f"{name}_{yaw_rad}", [sys.executable, "-c", MOVER, name, self.namespace, str(yaw_rad)]
        )

    def log(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text(encoding="utf-8")

    def until(self, condition: Callable[[], object], what: str) -> None:
        end_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end_s, f"never: {what}; {self.said}"
            rclpy.spin_once(self._node, timeout_sec=0.05)

    def watch(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            rclpy.spin_once(self._node, timeout_sec=0.05)

    def close(self) -> None:
        self._stack.close()
        self._node.destroy_node()


def _end(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(PATIENCE_S)
    finally:
        process.kill()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    rclpy.init()
    stage = Stage(tmp_path)
    try:
        yield stage
    finally:
        stage.close()
        rclpy.try_shutdown()


def test_a_second_source_of_trajectories_is_named_and_moves_nothing(stage: Stage) -> None:
    stage.start_driver()
    first = stage.start_mover("retargeting", 0.1)
    states = stage.yaw_rad
    stage.until(lambda: any(abs(yaw[-1] - 0.1) < 0.005 for yaw in states.values()), "the first one moves")
    intruder = stage.start_mover("intruder", 0.4)
    stage.until(lambda: "second publisher" in stage.said.get(f"{stage.namespace}/driver", ""), "it is named")
    said = stage.said[f"{stage.namespace}/driver"]
    assert f"{stage.namespace}/intruder (process {intruder.pid} of this machine), which is not obeyed" in said
    assert f"{stage.namespace}/retargeting (process {first.pid} of this machine) stays in charge" in said
    stage.watch(1.0)
    (yaw_rad,) = states.values()
    assert max(yaw_rad) < 0.105
    # One that was killed and started again is obeyed again, though DDS still shows its former self.
    first.kill()
    first.wait()
    stage.start_mover("retargeting", -0.1)
    stage.until(lambda: abs(yaw_rad[-1] + 0.1) < 0.005, "the first one is back")
    assert max(yaw_rad) < 0.105


def test_a_second_driver_is_named_and_does_not_obey(stage: Stage) -> None:
    first = stage.start_driver()
    stage.until(lambda: stage.yaw_rad, "the first driver speaks")
    (gid,) = stage.yaw_rad
    stage.start_driver("another")
    stage.until(lambda: len(stage.yaw_rad) == 2, "the second driver speaks")
    (other,) = set(stage.yaw_rad) - {gid}
    stage.start_mover("retargeting", 0.1)
    stage.until(lambda: abs(stage.yaw_rad[gid][-1] - 0.1) < 0.005, "the first driver moves")
    words = (
        f"joint_states is published by {stage.namespace}/driver (process {first.pid} of this machine) as well"
    )
    stage.until(lambda: words in stage.log("another"), "the second one says who was there")
    assert max(map(abs, stage.yaw_rad[other])) < 0.01


@pytest.mark.parametrize(
    "variables",
    [{"ROS_DISCOVERY_SERVER": "127.0.0.1:11999"}, {"ROS_DOMAIN_ID": "0"}],
    ids=["a discovery server that is not there", "another domain"],
)
def test_nodes_that_do_not_meet_say_who_misses_whom_and_what_the_environment_says(
    stage: Stage, variables: dict[str, str]
) -> None:
    stage.start_mover("retargeting", 0.1)
    stage.start_driver(**variables)
    words = "driver misses retargeting: nobody publishes joint_trajectory"
    stage.until(lambda: words in stage.log("driver"), "who is missing is said")
    (name, value) = next(iter(variables.items()))
    found = re.search(rf"{words}; here: rmw_fastrtps_cpp, domain .*{re.escape(value)}.*", stage.log("driver"))
    assert found, stage.log("driver")
    assert "every process" in found[0]
    assert name in found[0]
