"""Moves joints of the running head from a terminal, and measures how far its servos are behind."""

from __future__ import annotations

import contextlib
import select
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

import numpy as np
import rclpy
from rclpy.duration import Duration
from rclpy.node import Node
from sensor_msgs.msg import JointState
from timar_common.arkit import ARKIT_NAMES, ArkitMap
from timar_common.base_node import message_type, qos_of
from timar_common.clock import FRAMES_PER_SECOND
from timar_common.topics import TOPICS
from timar_common.user_motion import MOTION_CHANNELS, PARTS, user_motion_from

from timar_retargeting.face_poses import MOST_POSES, SUGGESTED
from timar_retargeting.mapping import JointMap
from timar_retargeting.robot import RobotDescription
from timar_retargeting.signals import Array
from timar_retargeting.step_response import CommandTrack, StepResponse, measure_step
from timar_retargeting.tuner import HELP, Tuner

REPEAT_S = 1.0
"""Targets are sent again so often, so that the joints stay [s]."""
SETTLE_S, WATCH_S = 1.5, 1.2
POSE_S = 1.0
"""A pose and its face are held for so long [s]."""
MOVED_RAD = 0.02
"""A joint that moved further while its pose was recorded was not held [rad]."""
POSES_HELP = (
    "Set the joints by the sliders of the browser view (Move joints by hand) or by hand, make that face to\n"
    "the camera, hold both for a second and press Enter. Begin with a resting face. q and Enter ends.\n"
)


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


def record_poses(
    robot: RobotDescription, namespace: str, lines: TextIO, answers: TextIO
) -> tuple[Array, Array]:
    """Let the operator set joints and make that face to the camera, pose by pose.

    Args:
        robot: Whose joints; its map turns the seen expression into blendshapes.
        namespace: Of its topics.
        lines: An empty line records a pose, `q` or the end ends it.
        answers: Where prompts and findings go.

    Returns:
        (poses, J) positions [rad] and (poses, 52) blendshapes.

    Raises:
        ValueError: The robot has no map.
        RuntimeError: The head does not run.
    """
    if robot.arkit is None:
        raise ValueError("poses need your map from FLAME to ARKit's blendshapes; name it by --expression-map")
    positions: list[Array] = []
    shapes: list[Array] = []
    with _connected(namespace, needs_states=True) as node:
        faces: list[Any] = []
        topic = TOPICS["user/motion"]
        node.create_subscription(message_type(topic.type_name), topic.name, faces.append, qos_of(topic))
        answers.write(POSES_HELP)
        while len(positions) < MOST_POSES:
            hint = SUGGESTED[len(positions)]
            answers.write(f"pose {len(positions) + 1} of at most {MOST_POSES}, for example {hint}: ")
            answers.flush()
            line = lines.readline()
            if not line or line.strip():
                break
            node.states.clear()
            faces.clear()
            node.spin_for(POSE_S)
            try:
                held = _held_joints(node.states, robot.joint_names)
                seen = _seen_shapes(faces, robot.arkit)
            except ValueError as error:
                answers.write(f"not taken: {error}\n")
                continue
            positions.append(held)
            shapes.append(seen)
            strongest = np.argsort(seen)[:-4:-1]
            answers.write("seen: " + ", ".join(f"{ARKIT_NAMES[k]} {seen[k]:.2f}" for k in strongest) + "\n")
    width = len(robot.joints)
    return np.array(positions).reshape(-1, width), np.array(shapes).reshape(-1, len(ARKIT_NAMES))


def _held_joints(states: list[Any], joint_names: Sequence[str]) -> Array:
    """Return (J,) mean positions of joints that were held still."""
    if not states:
        raise ValueError("no joint_states came; is the driver running?")
    missing = [name for name in joint_names if name not in states[-1].name]
    if missing:
        raise ValueError(f"joint_states lack {', '.join(missing)}; is this the robot that runs?")
    rows = np.array([[state.position[state.name.index(name)] for name in joint_names] for state in states])
    spread = np.ptp(rows, axis=0)
    if spread.max() > MOVED_RAD:
        name = joint_names[int(spread.argmax())]
        raise ValueError(
            f"{name} moved by {spread.max():.3f} rad meanwhile; move joints by hand in the view, or hold them"
        )
    return np.asarray(rows.mean(0))


def _seen_shapes(faces: list[Any], arkit: ArkitMap) -> Array:
    """Return (52,) mean blendshapes of what face tracking saw of the user."""
    rows = [user_motion_from(message) for message in faces]
    motion = np.concatenate([row for row, _ in rows]) if rows else np.zeros((0, MOTION_CHANNELS))
    valid = np.concatenate([flags for _, flags in rows]) if rows else np.zeros((0, len(PARTS)), np.bool_)
    is_seen = valid[:, 0] & valid[:, 1]
    if is_seen.sum() < FRAMES_PER_SECOND * POSE_S / 2:
        raise ValueError(
            f"the camera saw a face with expression in {is_seen.sum()} frames, expected "
            f"{FRAMES_PER_SECOND * POSE_S / 2:.0f} or more: look into the camera, and start the head with "
            "perception:=true and expression_map:=FILE"
        )
    expression, jaw = motion[is_seen][:, PARTS["expression"]], motion[is_seen][:, PARTS["jaw"].start]
    seen = expression @ arkit.arkit_from_flame + jaw[:, None] * arkit.arkit_from_jaw
    return np.asarray(np.clip(seen, 0.0, 1.0).mean(0))


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
