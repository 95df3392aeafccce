"""Retargeting and driver as real nodes: motion moves the joints; its end brings the head to neutral."""

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
from node_process import PATIENCE_S

pytestmark = pytest.mark.ros

rclpy = pytest.importorskip("rclpy", reason="needs ROS 2: run `make setup`")
messages = pytest.importorskip("timar_msgs.msg", reason="needs the built workspace: run `make build`")

from builtin_interfaces.msg import Duration  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from rclpy.node import Node  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402
from timar_common.base_node import qos_of  # noqa: E402
from timar_common.topics import TOPICS  # noqa: E402
from timar_description.find import find_joint_map  # noqa: E402
from timar_retargeting.robot import load_robot  # noqa: E402
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint  # noqa: E402

ROBOT = load_robot(find_joint_map())
YAW = ROBOT.joint_names.index("neck_yaw")
FRAME_NS = 40_000_000
AMPLITUDE_RAD, FREQUENCY_HZ = 0.25, 0.5


class Stage(Node):
    """Plays the inference node and watches the joints."""

    def __init__(self, namespace: str) -> None:
        super().__init__("stage", namespace=namespace)
        self.states: list[tuple[float, JointState]] = []
        self.trajectories: list[JointTrajectory] = []
        self.diagnostics: dict[str, dict[str, str]] = {}
        self.processes: dict[str, subprocess.Popen] = {}
        self.motion = self.create_publisher(
            messages.HeadMotion, "agent/motion", qos_of(TOPICS["agent/motion"])
        )
        self.create_subscription(
            DiagnosticArray, "/diagnostics", self._on_diagnostics, qos_of(TOPICS["/diagnostics"])
        )
        self.create_subscription(JointState, "joint_states", self._on_states, qos_of(TOPICS["joint_states"]))
        self.create_subscription(
            JointTrajectory, "joint_trajectory", self.trajectories.append, qos_of(TOPICS["joint_trajectory"])
        )

    def _on_states(self, message: JointState) -> None:
        self.states.append((_seconds(message.header.stamp), message))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.startswith(self.get_namespace()):
                name = status.name.rsplit("/", 1)[-1]
                self.diagnostics[name] = {item.key: item.value for item in status.values}

    def spin_until(self, condition: Any, seconds: float = PATIENCE_S) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "the condition did not come true in time"
            rclpy.spin_once(self, timeout_sec=0.02)

    def now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    def watch(self, seconds: float) -> None:
        """Look on until joint states of so much later have come, however long that takes."""
        end = self.now_ns() * 1e-9 + seconds
        self.spin_until(lambda: self.states[-1][0] >= end)

    def position(self) -> np.ndarray:
        """(J,) where the joints stand, in the robot's order."""
        state = self.states[-1][1]
        return np.array([state.position[state.name.index(name)] for name in ROBOT.joint_names])

    def settle_at(self, positions: np.ndarray) -> None:
        self.spin_until(lambda: np.abs(self.position() - positions).max() < 2e-3)

    def send_turn(self, first_frame: int, start_ns: int, motion: np.ndarray) -> None:
        message = messages.HeadMotion(
            conversation_id="test",
            first_frame=first_frame,
            fps=25.0,
            frames=len(motion),
            final_until_frame=first_frame,
        )
        stamp = rclpy.time.Time(nanoseconds=start_ns + first_frame * FRAME_NS).to_msg()
        message.header.stamp = stamp
        message.expression = motion[:, :50].astype(np.float32).ravel().tolist()
        message.jaw = motion[:, 50:53].astype(np.float32).ravel().tolist()
        message.neck = motion[:, 53:56].astype(np.float32).ravel().tolist()
        self.motion.publish(message)

    def stream(self, start_ns: int, turns: int, frames: int = 5, ahead_ms: int = 60) -> None:
        """Send turns, each so long before its first frame is due."""
        for turn in range(turns):
            first = turn * frames
            send_ns = start_ns + first * FRAME_NS - ahead_ms * 1_000_000
            self.spin_until(lambda send_ns=send_ns: self.now_ns() >= send_ns)
            self.send_turn(first, start_ns, _motion(first + np.arange(frames)))


def _motion(frames: np.ndarray) -> np.ndarray:
    motion = np.zeros((len(frames), 56))
    motion[:, 54] = AMPLITUDE_RAD * np.sin(2 * np.pi * FREQUENCY_HZ * frames / 25.0)
    motion[:, 50] = 0.06 - 0.06 * np.cos(2 * np.pi * 2.0 * frames / 25.0)
    return motion


def _seconds(stamp: Any) -> float:
    return float(stamp.sec + 1e-9 * stamp.nanosec)


@pytest.fixture
def stage() -> Iterator[Stage]:
    namespace = f"body_{os.getpid()}_{time.monotonic_ns() % 1_000_000}"
    command = [sys.executable, "-m", "timar_common.base_node"]
    ros_args = ["--ros-args", "-r", f"__ns:=/{namespace}"]
    driver = subprocess.Popen([*command, "timar_driver.driver_node:DriverNode", *ros_args])
    retargeting = subprocess.Popen(
        [
            *command,
            "timar_retargeting.retargeting_node:RetargetingNode",
            *ros_args,
            "-p",
            "idle_behavior:=false",
        ]
    )
    rclpy.init()
    node = Stage(namespace)
    node.processes = {"driver": driver, "retargeting": retargeting}
    try:
        node.spin_until(lambda: node.trajectories and node.states and node.motion.get_subscription_count())
        yield node
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
        for process in node.processes.values():
            process.send_signal(signal.SIGINT)
        for process in node.processes.values():
            assert process.wait(PATIENCE_S) == 0


def _track(stage: Stage) -> tuple[np.ndarray, np.ndarray]:
    times = np.array([stamp for stamp, _ in stage.states])
    order = [stage.states[0][1].name.index(name) for name in ROBOT.joint_names]
    return times, np.array([np.array(state.position)[order] for _, state in stage.states])


def test_joints_follow_a_stream_of_motion_and_ease_to_neutral_when_it_ends(stage: Stage) -> None:
    # Known two turns ahead, so that a busy machine delays the telling and not the motion.
    start_ns = stage.now_ns() + 600_000_000
    stage.stream(start_ns, turns=23, ahead_ms=400)
    stream_end = start_ns * 1e-9 + 4.6
    stage.watch(2.4)
    times, positions = _track(stage)

    since = times - start_ns * 1e-9
    during = (since > 0.6) & (since < 4.5)
    wanted = AMPLITUDE_RAD * np.sin(2 * np.pi * FREQUENCY_HZ * since)
    error = np.sqrt(np.mean((positions[during, YAW] - wanted[during]) ** 2)) / AMPLITUDE_RAD
    assert during.sum() > 150, "joint states come fifty times a second"
    assert error < 0.08

    limits = ROBOT.limits
    assert (positions >= limits.lower - 1e-6).all()
    assert (positions <= limits.upper + 1e-6).all()
    speed = np.abs(np.diff(positions, axis=0)) / np.diff(times)[:, None].clip(0.01)
    assert (speed <= 1.25 * limits.velocity).all(), "no jump, also where the stream ends"

    settled = times > stream_end + 1.0
    assert settled.sum() > 20
    np.testing.assert_allclose(positions[settled], np.tile(ROBOT.offsets_rad, (settled.sum(), 1)), atol=2e-3)


def test_every_published_trajectory_starts_where_the_last_one_was_and_ends_at_rest(stage: Stage) -> None:
    start_ns = stage.now_ns() + 300_000_000
    stage.stream(start_ns, turns=8)
    stage.watch(0.5)
    limits = ROBOT.limits
    assert len(stage.trajectories) >= 8
    for trajectory in stage.trajectories:
        velocities = np.array([point.velocities for point in trajectory.points])
        accelerations = np.array([point.accelerations for point in trajectory.points])
        assert (np.abs(velocities) <= limits.velocity + 1e-9).all()
        assert (np.abs(accelerations) <= limits.acceleration + 1e-9).all()
        assert (velocities[-1] == 0.0).all()
    for earlier, later in zip(stage.trajectories[:-1], stage.trajectories[1:], strict=True):
        shift = round((_seconds(later.header.stamp) - _seconds(earlier.header.stamp)) / 0.02)
        place = min(shift, len(earlier.points) - 1)
        np.testing.assert_allclose(later.points[0].positions, earlier.points[place].positions, atol=1e-9)
        np.testing.assert_allclose(later.points[0].velocities, earlier.points[place].velocities, atol=1e-9)


def test_motion_that_cannot_be_is_refused_and_the_head_goes_on(stage: Stage) -> None:
    now_ns = stage.now_ns()
    broken = messages.HeadMotion(conversation_id="test", fps=25.0, frames=5)
    broken.header.stamp = rclpy.time.Time(nanoseconds=now_ns).to_msg()
    broken.neck = [float("nan")] * 15
    stage.motion.publish(broken)
    poison = _motion(np.arange(5))
    poison[2] = np.nan
    stage.send_turn(0, now_ns + 200_000_000, poison)
    stage.watch(0.6)
    _, positions = _track(stage)
    assert np.isfinite(positions).all()
    before = len(stage.trajectories)
    start_ns = stage.now_ns() + 600_000_000 - 50 * FRAME_NS
    stage.send_turn(50, start_ns, _motion(np.arange(50, 55)))
    stage.spin_until(lambda: len(stage.trajectories) > before)
    stage.diagnostics.clear()
    stage.spin_until(lambda: "retargeting" in stage.diagnostics)
    assert stage.diagnostics["retargeting"]["bad_messages"] == "1"
    assert stage.diagnostics["retargeting"]["refused_frames"] == "1"


def test_a_bad_trajectory_does_not_reach_the_joints(stage: Stage) -> None:
    publisher = stage.create_publisher(
        JointTrajectory, "joint_trajectory", qos_of(TOPICS["joint_trajectory"])
    )
    stage.spin_until(lambda: publisher.get_subscription_count() >= 2)
    stage.settle_at(ROBOT.offsets_rad)
    # While it lives, nobody else is heard.
    killed = stage.processes.pop("retargeting")
    killed.kill()
    killed.wait(10)
    stage.watch(1.5)
    for name, position in (("tail", 0.1), ("neck_yaw", float("nan"))):
        message = JointTrajectory(joint_names=[name])
        message.points = [JointTrajectoryPoint(positions=[position], velocities=[0.0])]
        publisher.publish(message)
    stage.diagnostics.clear()
    stage.spin_until(lambda: stage.diagnostics.get("driver", {}).get("bad_messages") == "2")
    np.testing.assert_allclose(stage.position(), ROBOT.offsets_rad, atol=2e-3)


def test_trajectories_from_outside_have_one_way_to_the_joints(stage: Stage) -> None:
    """Through retargeting while it runs, and straight to the driver when it does not."""
    held: list[str] = []
    quality = qos_of(TOPICS["joints_held_by"])
    stage.create_subscription(String, "joints_held_by", lambda message: held.append(message.data), quality)
    topics = ("external/joint_trajectory", "joint_trajectory")
    outside, direct = (stage.create_publisher(JointTrajectory, name, qos_of(TOPICS[name])) for name in topics)
    stage.spin_until(lambda: outside.get_subscription_count() == 2 and direct.get_subscription_count() == 2)
    stage.settle_at(ROBOT.offsets_rad)

    def goes_to(publisher: Any, yaw_rad: float) -> np.ndarray:
        due = Duration(sec=1)
        point = JointTrajectoryPoint(positions=[yaw_rad], velocities=[0.0], time_from_start=due)
        publisher.publish(JointTrajectory(joint_names=["neck_yaw"], points=[point]))
        wanted = ROBOT.offsets_rad.copy()
        wanted[YAW] = yaw_rad
        return wanted

    goes_to(direct, -0.3)
    stage.watch(1.2)
    np.testing.assert_allclose(stage.position(), ROBOT.offsets_rad, atol=2e-3)
    stage.destroy_publisher(direct)
    stage.settle_at(goes_to(outside, 0.3))
    assert held[-1] == "trajectory"
    killed = stage.processes.pop("retargeting")
    killed.kill()
    killed.wait(10)
    stage.spin_until(lambda: not stage.count_publishers("joint_trajectory"))
    stage.watch(0.5)
    stage.settle_at(goes_to(outside, -0.2))


def test_when_retargeting_is_killed_the_joints_end_in_their_stop_without_a_jump(stage: Stage) -> None:
    """Joint states once stood still for a second while the middleware waited for the dead process."""
    start_ns = stage.now_ns() + 300_000_000
    stage.stream(start_ns, turns=8)
    killed = stage.processes.pop("retargeting")
    killed.kill()
    killed.wait(10)
    killed_s = stage.now_ns() * 1e-9
    stage.watch(1.2)
    last = stage.trajectories[-1]
    end = _seconds(last.header.stamp) + _seconds(last.points[-1].time_from_start)
    assert end < killed_s + 2.0, "a plan soon ends by itself"
    stage.spin_until(lambda: stage.states[-1][0] > end + 0.5)
    times, positions = _track(stage)
    speed = np.abs(np.diff(positions, axis=0)) / np.diff(times)[:, None].clip(0.01)
    assert (speed <= 1.25 * ROBOT.limits.velocity).all()
    # A servo stands its own delay behind what it is told.
    still = times > end + 0.2
    assert still.sum() > 10
    assert np.ptp(positions[still], axis=0).max() < 1e-3


def test_stop_brings_the_head_to_rest_until_it_is_resumed(stage: Stage) -> None:
    stop = stage.create_client(Trigger, "stop")
    resume = stage.create_client(Trigger, "resume")
    stage.spin_until(lambda: stop.service_is_ready() and resume.service_is_ready())
    start_ns = stage.now_ns() + 200_000_000
    stage.stream(start_ns, turns=4)
    call = stop.call_async(Trigger.Request())
    stage.spin_until(call.done)
    assert call.result().success
    stage.watch(0.6)
    stopped = stage.position()
    # Due soon, so that only the stop can be why nothing moves.
    stage.send_turn(20, stage.now_ns() + 200_000_000 - 20 * FRAME_NS, _motion(np.arange(20, 25)))
    stage.watch(0.6)
    np.testing.assert_allclose(stage.position(), stopped, atol=1e-3)
    call = resume.call_async(Trigger.Request())
    stage.spin_until(call.done)
    assert call.result().success
    stage.settle_at(ROBOT.offsets_rad)
