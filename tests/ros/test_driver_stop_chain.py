"""The driver node on simulated servos in a process of their own: however it ends, they end safely."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from node_process import PATIENCE_S

pytestmark = pytest.mark.ros

rclpy = pytest.importorskip("rclpy", reason="needs ROS 2: run `make setup`")

from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from rclpy.node import Node  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402
from timar_common.base_node import END_WITHIN_S, qos_of  # noqa: E402
from timar_common.processes import START_REFUSED  # noqa: E402
from timar_common.topics import TOPICS  # noqa: E402
from timar_description.find import find_urdf  # noqa: E402
from timar_driver.driver import read_driven_joints  # noqa: E402
from timar_driver.hardware_file import hardware_file_of, read_hardware  # noqa: E402
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint  # noqa: E402

NAMES, LIMITS = read_driven_joints(find_urdf())
HARDWARE = read_hardware(hardware_file_of(find_urdf()), NAMES, LIMITS)
assert HARDWARE.bus is not None
YAW = HARDWARE.bus.servos[NAMES.index("neck_yaw")]
SPEED_RAD_S = 0.5
NODE = (sys.executable, "-m", "timar_common.base_node", "timar_driver.driver_node:DriverNode")


class Servos:
    """`timar bus simulate` as a person would start it."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "timar_driver.bus_command", "simulate"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = self._answer().split()[-1]

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def say(self, words: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(words + "\n")
        self.process.stdin.flush()
        return self._answer()

    def state(self) -> dict[str, dict[str, Any]]:
        state: dict[str, dict[str, Any]] = json.loads(self.say("state"))
        return state

    def yaw(self) -> dict[str, Any]:
        return self.state()[str(YAW.servo_id)]

    def torques(self) -> set[bool]:
        return {servo["has_torque"] for servo in self.state().values()}


class Stage(Node):
    """Plays retargeting and looks on."""

    def __init__(self, namespace: str, servos: Servos) -> None:
        super().__init__("stage", namespace=namespace)
        self.servos = servos
        self.states: list[JointState] = []
        self.status: Any = None
        self.driver: subprocess.Popen | None = None
        self.trajectories = self.create_publisher(
            JointTrajectory, "joint_trajectory", qos_of(TOPICS["joint_trajectory"])
        )
        self.create_subscription(
            JointState, "joint_states", self.states.append, qos_of(TOPICS["joint_states"])
        )
        self.create_subscription(
            DiagnosticArray, "/diagnostics", self._on_diagnostics, qos_of(TOPICS["/diagnostics"])
        )

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == f"{self.get_namespace()}/driver":
                self.status = status

    def start_driver(self, before: Sequence[str] = (), **parameters: str) -> None:
        """Start the node, by the command `before` where that is given, and wait for its first state."""
        settings = {"driver": "hardware", "port": self.servos.port, **parameters}
        words = [word for key, value in settings.items() for word in ("-p", f"{key}:={value}")]
        began_ns = self.get_clock().now().nanoseconds
        self.driver = subprocess.Popen(
            [*before, *NODE, "--ros-args", "-r", f"__ns:={self.get_namespace()}", *words]
        )  # fmt: skip

        def is_heard() -> bool:
            # What a killed driver said last may still be on its way.
            stamps = [state.header.stamp for state in self.states[-1:]]
            return any(stamp.sec * 10**9 + stamp.nanosec > began_ns for stamp in stamps)

        self.spin_until(lambda: is_heard() and self.trajectories.get_subscription_count() > 0)

    def spin_until(self, condition: Callable[[], Any], seconds: float = PATIENCE_S) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "the condition did not come true in time"
            rclpy.spin_once(self, timeout_sec=0.02)

    def spin_for(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            rclpy.spin_once(self, timeout_sec=0.02)

    def move(self, seconds: float = 1.2) -> None:
        """Turn the neck to its left at a steady speed, from where it stands."""
        position = self.position()
        end = position + SPEED_RAD_S * seconds
        message = JointTrajectory(joint_names=["neck_yaw"])
        message.points = [
            JointTrajectoryPoint(positions=[position], velocities=[SPEED_RAD_S]),
            JointTrajectoryPoint(positions=[end], velocities=[SPEED_RAD_S]),
        ]
        message.points[1].time_from_start.sec = int(seconds)
        message.points[1].time_from_start.nanosec = int((seconds % 1.0) * 1e9)
        self.trajectories.publish(message)

    def values(self) -> dict[str, str]:
        """Return the newest diagnostics of the driver by name."""
        return {item.key: item.value for item in self.status.values}

    def position(self) -> float:
        state = self.states[-1]
        return float(state.position[list(state.name).index("neck_yaw")])

    def call(self, name: str) -> Any:
        client = self.create_client(Trigger, f"driver/{name}")
        self.spin_until(client.service_is_ready)
        future = client.call_async(Trigger.Request())
        self.spin_until(future.done)
        return future.result()


@pytest.fixture
def stage() -> Iterator[Stage]:
    servos = Servos()
    rclpy.init()
    node = Stage(f"/driver_{os.getpid()}_{time.monotonic_ns() % 1_000_000}", servos)
    try:
        yield node
    finally:
        status = 0
        if node.driver is not None and node.driver.poll() is None:
            node.driver.send_signal(signal.SIGINT)
            status = node.driver.wait(PATIENCE_S)
        node.destroy_node()
        rclpy.try_shutdown()
        servos.process.terminate()
        servos.process.wait(PATIENCE_S)
        assert status == 0


def test_a_trajectory_moves_the_servos_and_they_are_seen_moving(stage: Stage) -> None:
    stage.start_driver()
    stage.move(0.6)
    stage.spin_until(lambda: abs(stage.position() - 0.3) < 0.01)
    stage.spin_for(0.2)
    tick = stage.servos.yaw()["position"]
    assert tick == pytest.approx(YAW.tick(0.3), abs=5)
    stage.spin_until(
        lambda: stage.status is not None and "neck_yaw.temperature_c" in str(stage.status.values)
    )
    stage.spin_until(lambda: int(stage.values()["bus_replies"]) > 300)
    assert stage.values()["phase"] == "following"
    assert float(stage.values()["neck_yaw.voltage_v"]) > 4.0


def test_a_killed_driver_leaves_the_servos_stopped_by_their_watchdog(stage: Stage) -> None:
    """How soon, tests/driver/test_stop_chain.py says, in a time of its own."""
    stage.start_driver()
    stage.move()
    stage.spin_until(lambda: abs(stage.servos.yaw()["velocity"]) > 50)
    assert stage.driver is not None
    stage.driver.kill()
    stage.driver.wait(PATIENCE_S)

    def have_stopped() -> bool:
        return all(s["is_tripped"] and abs(s["velocity"]) < 20 for s in stage.servos.state().values())

    stage.spin_until(have_stopped)
    first = stage.servos.state()
    time.sleep(0.3)
    second = stage.servos.state()
    here, there = (state[str(YAW.servo_id)]["position"] for state in (first, second))
    assert here == pytest.approx(there, abs=1)
    assert stage.servos.torques() == {True}, "stopped and holding"
    # The next driver takes the head over as it stands: watchdogs cleared, nothing jumps.
    stage.start_driver()
    assert stage.servos.yaw()["position"] == pytest.approx(there, abs=2)
    stage.spin_until(lambda: not stage.servos.yaw()["is_tripped"])
    # The killed node's subscription stays matched for a while: the first message may reach nobody.
    for _ in range(10):
        stage.move(0.2)
        stage.spin_for(0.6)
        if stage.servos.yaw()["position"] > there + 30:
            break
    assert stage.servos.yaw()["position"] > there + 30


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and nobody waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(("category", "torque"), [("hold", True), ("park_then_release", False)])
def test_a_driver_whose_starter_is_killed_stops_the_robot_and_ends(
    stage: Stage, category: str, torque: bool, tmp_path: Path
) -> None:
    """A test that was killed once left a driver behind, which went on commanding servos."""
    pid_file = tmp_path / "pid"
    starter = (
        "import pathlib, subprocess, sys\n"
        "child = subprocess.Popen(sys.argv[2:])\n"
        "pathlib.Path(sys.argv[1]).write_text(str(child.pid))\n"
        "child.wait()\n"
    )
    stage.start_driver((sys.executable, "-c", starter, str(pid_file)), stop_category=category)
    driver = int(pid_file.read_text())
    stage.move()
    stage.spin_until(lambda: abs(stage.servos.yaw()["velocity"]) > 50)
    assert stage.driver is not None
    stage.driver.kill()
    stage.driver.wait(PATIENCE_S)
    stage.spin_until(lambda: not is_alive(driver))
    assert stage.servos.torques() == {torque}
    assert not stage.servos.yaw()["is_tripped"], "stopped by the driver, not by the watchdog"
    assert abs(stage.servos.yaw()["velocity"]) < 20


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
@pytest.mark.parametrize(
    ("category", "within_s", "torque"),
    [("hold", 0.25, True), ("ease_and_release", 0.75, False), ("park_then_release", 4.25, False)],
)
def test_a_signal_in_motion_ends_in_the_stop_of_the_category(
    stage: Stage, number: signal.Signals, category: str, within_s: float, torque: bool
) -> None:
    stage.start_driver(stop_category=category)
    stage.move()
    stage.spin_until(lambda: abs(stage.servos.yaw()["velocity"]) > 50)
    assert stage.driver is not None
    stage.driver.send_signal(number)
    # A process that has not ended its stop after END_WITHIN_S is ended, and its status is not 0.
    assert within_s < END_WITHIN_S
    assert stage.driver.wait(PATIENCE_S) == 0
    state = stage.servos.yaw()
    assert state["velocity"] == 0.0 or abs(state["velocity"]) < 20
    assert stage.servos.torques() == {torque}
    assert not state["is_tripped"]
    if category == "park_then_release":
        pitch = HARDWARE.bus.servos[NAMES.index("neck_pitch")]
        parked = stage.servos.state()[str(pitch.servo_id)]["position"]
        assert parked == pytest.approx(pitch.tick(0.3), abs=40)


def test_the_stop_service_stops_and_resume_goes_on(stage: Stage) -> None:
    stage.start_driver()
    stage.move()
    stage.spin_for(0.4)
    answer = stage.call("stop")
    assert answer.success
    assert answer.message.startswith("ease_and_release, at most 0.8 s")
    stage.spin_until(lambda: stage.servos.torques() == {False})
    stage.states.clear()
    stage.spin_until(lambda: len(stage.states) > 10)
    here = stage.position()
    stage.move()
    stage.spin_for(0.3)
    assert stage.position() == pytest.approx(here, abs=3e-3), "a stopped driver leaves trajectories out"
    assert stage.call("resume").success
    stage.spin_until(lambda: stage.servos.torques() == {True})
    stage.spin_for(0.2)
    stage.move(0.3)
    stage.spin_until(lambda: stage.position() > here + 0.1)


def test_a_lost_servo_stops_the_robot_and_is_named_in_the_diagnostics(stage: Stage) -> None:
    stage.start_driver(stop_category="hold")
    stage.servos.say("lose 4")
    stage.spin_until(lambda: stage.status is not None and "jaw (servo 4)" in stage.status.message)
    assert "has been silent" in stage.status.message
    assert stage.status.level == b"\x02"
    stage.servos.say("find 4")
    # It is told before the stop has ended, and until then there is nothing to resume.
    stage.spin_until(lambda: stage.call("resume").success)
    stage.spin_until(lambda: stage.values()["phase"] == "following")


def test_a_noisy_bus_moves_the_head_all_the_same(stage: Stage) -> None:
    stage.start_driver()
    for words in ("set noise 0.1", "set corrupt 0.03", "set lost 0.03"):
        assert stage.servos.say(words) == "done\n"
    stage.move(0.6)
    stage.spin_for(1.0)
    stage.servos.say("heal")
    stage.spin_until(lambda: abs(stage.position() - 0.3) < 0.01)
    positions = [list(state.position) for state in stage.states]
    assert np.isfinite(positions).all()


def test_a_driver_without_its_servos_refuses_to_start_and_names_them() -> None:
    ended = subprocess.run(
        [*NODE, "--ros-args", "-p", "driver:=hardware", "-p", "port:=/dev/no-such-port"],
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert ended.returncode == START_REFUSED
    assert "the servo bus /dev/no-such-port cannot be opened at 1000000 baud" in ended.stdout + ended.stderr


def test_the_driver_brings_a_simulated_bus_of_its_own(stage: Stage) -> None:
    stage.start_driver(port="simulated")
    stage.move(0.4)
    stage.spin_until(lambda: abs(stage.position() - 0.2) < 0.01)
