"""What a workshop does with a running head: joints by hand, delays by steps, points to look at, outputs."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_arkit_map import expression_of, made_bs2exp, save_bs2exp
from node_process import PATIENCE_S

pytestmark = pytest.mark.ros

rclpy = pytest.importorskip("rclpy", reason="needs ROS 2: run `make setup`")

from geometry_msgs.msg import PointStamped  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.serialization import deserialize_message  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402
from std_msgs.msg import Float64MultiArray  # noqa: E402
from timar_common.base_node import message_type, qos_of  # noqa: E402
from timar_common.messages import encode  # noqa: E402
from timar_common.topics import TOPICS  # noqa: E402
from timar_common.user_motion import user_motion_message  # noqa: E402
from timar_description.find import find_joint_map  # noqa: E402
from timar_retargeting.face_poses import fit_poses  # noqa: E402
from timar_retargeting.robot import load_robot  # noqa: E402
from timar_retargeting.robot_tools_node import measure_delays, record_poses, tune  # noqa: E402
from timar_retargeting.step_response import StepResponse  # noqa: E402

ROBOT = load_robot(find_joint_map())
DRIVER = "timar_driver.driver_node:DriverNode"
RETARGETING = "timar_retargeting.retargeting_node:RetargetingNode"


@contextmanager
def running(*nodes: tuple[str, dict[str, Any]]) -> Iterator[str]:
    """Run nodes in processes of their own; yields their namespace when they can be spoken to."""
    namespace = f"/tools_{os.getpid()}_{time.monotonic_ns() % 1_000_000}"
    processes = []
    for component, parameters in nodes:
        words = [part for key, value in parameters.items() for part in ("-p", f"{key}:={value}")]
        command = [sys.executable, "-m", "timar_common.base_node", component]
        processes.append(subprocess.Popen([*command, "--ros-args", "-r", f"__ns:={namespace}", *words]))
    try:
        with listener(namespace) as node:
            states: list[JointState] = []
            topic = TOPICS["joint_states"]
            node.create_subscription(JointState, topic.name, states.append, qos_of(topic))
            spin_until(node, lambda: states and node.count_subscribers("joint_targets"))
        yield namespace
    finally:
        for process in processes:
            process.send_signal(signal.SIGINT)
        for process in processes:
            assert process.wait(PATIENCE_S) == 0


@contextmanager
def listener(namespace: str) -> Iterator[Node]:
    rclpy.init()
    node = Node("listener", namespace=namespace)
    try:
        yield node
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


def spin_until(node: Node, condition: Any, seconds: float = PATIENCE_S) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        rclpy.spin_once(node, timeout_sec=0.02)


def test_the_delay_of_simulated_servos_is_measured_to_a_few_milliseconds() -> None:
    slow = (DRIVER, {"servo_delay_ms": 45.0})
    with running(slow, (RETARGETING, {"idle_behavior": "false"})) as namespace:
        # Where the machine holds the driver up in the middle of a step, that is measured: then once more.
        for _ in range(3):
            results = measure_delays(ROBOT, namespace, ("neck_yaw", "jaw"), 0.2)
            responses = [found for found in results.values() if isinstance(found, StepResponse)]
            if all(found.delay_s == pytest.approx(0.045, abs=0.006) for found in responses):
                break
    assert list(results) == ["neck_yaw", "jaw"]
    for name, response in results.items():
        assert isinstance(response, StepResponse), f"{name}: {response}"
        assert response.delay_s == pytest.approx(0.045, abs=0.006)
        assert response.gain == pytest.approx(1.0, abs=0.03)


def test_a_head_that_does_not_run_is_told() -> None:
    with pytest.raises(RuntimeError, match="start the head first"):
        measure_delays(ROBOT, "/nobody_here", (), 0.2)


def test_lines_of_a_terminal_move_a_joint_and_keep_its_limit() -> None:
    with running((DRIVER, {}), (RETARGETING, {"idle_behavior": "false"})) as namespace:
        read_end, write_end = os.pipe()
        os.write(write_end, b"jaw 0.3\nhigh\nquit\n")
        os.close(write_end)
        answers = io.StringIO()
        with os.fdopen(read_end, buffering=1) as lines:
            kept = tune(ROBOT, namespace, _Unbuffered(lines), answers)  # type: ignore[arg-type]
        assert "jaw goes to +0.300" in answers.getvalue()
        assert "position_rad: [0, 0.3]" in kept
        with listener(namespace) as node:
            jaws: list[float] = []
            node.create_subscription(
                JointState,
                "joint_states",
                lambda m: jaws.append(m.position[m.name.index("jaw")]),
                qos_of(TOPICS["joint_states"]),
            )
            spin_until(node, lambda: jaws and abs(jaws[-1] - 0.3) < 2e-3)


class _Unbuffered:
    """Lines read one by one from a descriptor, so that waiting for it means waiting for the next line."""

    def __init__(self, file: Any) -> None:
        self._fd = file.fileno()

    def fileno(self) -> int:
        return self._fd

    def readline(self) -> str:
        line = b""
        while not line.endswith(b"\n"):
            byte = os.read(self._fd, 1)
            if not byte:
                break
            line += byte
        return line.decode()


def test_without_a_driver_the_head_lives_on_joint_states_and_looks_where_it_is_told() -> None:
    with running((RETARGETING, {"output": "joint_states"})) as namespace, listener(namespace) as node:
        states: list[tuple[float, Any]] = []
        node.create_subscription(
            JointState,
            "joint_states",
            lambda m: states.append((m.header.stamp.sec + 1e-9 * m.header.stamp.nanosec, m)),
            qos_of(TOPICS["joint_states"]),
        )
        look = node.create_publisher(PointStamped, "look_at", qos_of(TOPICS["look_at"]))
        spin_until(node, lambda: len(states) > 150 and look.get_subscription_count())
        point = PointStamped()
        point.header.frame_id = "base_link"
        point.point.x, point.point.y, point.point.z = 1.0, 0.6, 0.3
        look.publish(point)
        yaw, eyes = ROBOT.joint_names.index("neck_yaw"), ROBOT.joint_names.index("eyes_yaw")
        wanted = np.arctan2(0.6, 1.0 - 0.062)

        def line() -> float:
            return states[-1][1].position[yaw] + states[-1][1].position[eyes]

        spin_until(node, lambda: abs(line() - wanted) < 0.12)
        times = np.array([stamp for stamp, _ in states])
        assert 0.005 < np.median(np.diff(times)) < 0.03, (
            "a hundred times a second, less what a busy machine leaves out"
        )
        positions = np.array([message.position for _, message in states])
        since = np.diff(times)[:, None].clip(0.01)
        assert (np.abs(np.diff(positions, axis=0)) <= 1.2 * ROBOT.limits.velocity * since).all()


def test_positions_come_one_by_one_in_the_robots_order_when_asked_for() -> None:
    nodes = ((DRIVER, {}), (RETARGETING, {"output": "positions", "idle_behavior": "false"}))
    with running(*nodes) as namespace, listener(namespace) as node:
        commands: list[Any] = []
        topic = TOPICS["position_commands"]
        node.create_subscription(Float64MultiArray, topic.name, commands.append, qos_of(topic))
        hand = node.create_publisher(JointState, "joint_targets", qos_of(TOPICS["joint_targets"]))
        spin_until(node, lambda: commands and hand.get_subscription_count())
        hand.publish(JointState(name=["jaw"], position=[0.25]))
        jaw = ROBOT.joint_names.index("jaw")
        spin_until(node, lambda: abs(commands[-1].data[jaw] - 0.25) < 2e-3)
        assert len(commands[-1].data) == len(ROBOT.joint_names)


POSE_GAINS = {"mouthSmileLeft": ("left_lip_corner", 0.3), "browInnerUp": ("left_brow", 0.1)}


class _Operator:
    """Sets joints and makes that face, one pose a line, in a context of its own. The face is made up:
    user/motion as face tracking publishes it, from a made matrix."""

    def __init__(self, namespace: str, faces: list[dict[str, float]]) -> None:
        self._faces = iter(faces)
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self._node = Node("operator", namespace=namespace, context=self._context)
        self._targets = self._node.create_publisher(
            JointState, "joint_targets", qos_of(TOPICS["joint_targets"])
        )
        topic = TOPICS["user/motion"]
        self._motion = self._node.create_publisher(message_type(topic.type_name), topic.name, qos_of(topic))
        self._shapes: dict[str, float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._show)
        self._thread.start()

    def readline(self) -> str:
        face = next(self._faces, None)
        if face is None:
            return "q\n"
        self._shapes = face
        targets = {joint: gain * face.get(name, 0.0) for name, (joint, gain) in POSE_GAINS.items()}
        self._targets.publish(JointState(name=list(targets), position=list(targets.values())))
        if "hasty" not in face:
            time.sleep(1.5)
        return "\n"

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self._node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def _show(self) -> None:
        frame = 0
        while not self._ended.wait(0.04):
            motion = np.zeros((1, 56), np.float32)
            motion[0, :50] = expression_of(made_bs2exp(), **self._shapes)
            sent = user_motion_message(frame, motion, np.ones((1, 3), np.bool_), time.time_ns())
            self._motion.publish(
                deserialize_message(encode(sent, lambda ns: ns), message_type("timar_msgs/msg/UserMotion"))
            )
            frame += 1


def test_poses_set_on_the_running_head_and_seen_by_the_camera_give_gains(tmp_path: Path) -> None:
    robot = load_robot(find_joint_map(), str(save_bs2exp(tmp_path)))
    faces = [{}, {"mouthSmileLeft": 0.9, "hasty": 1.0}, {"mouthSmileLeft": 0.9}, {"mouthSmileLeft": 0.4}]
    faces.append({"browInnerUp": 0.8})
    answers = io.StringIO()
    with running((DRIVER, {}), (RETARGETING, {"idle_behavior": "false"})) as namespace:
        operator = _Operator(namespace, faces)
        try:
            positions, shapes = record_poses(robot, namespace, operator, answers)  # type: ignore[arg-type]
        finally:
            operator.close()
    said = answers.getvalue()
    assert "not taken: left_lip_corner moved by" in said
    assert "seen: mouthSmileLeft 0.9" in said
    assert len(positions) == 4
    fits = {fit.joint: fit for fit in fit_poses(robot.joint_names, positions, shapes)}
    assert fits["left_lip_corner"].gains == pytest.approx({"mouthSmileLeft": 0.3}, abs=0.03)
    assert fits["left_brow"].gains == pytest.approx({"browInnerUp": 0.1}, abs=0.02)
    assert fits["left_lip_corner"].rms_rad < 0.005
