"""Calibration of servo noise: moves one joint after the other and records the microphone's level."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.time import Time
from sensor_msgs.msg import JointState
from timar_common.base_node import message_type, qos_of
from timar_common.topics import TOPICS

from timar_audio.levels import level_dbfs
from timar_audio.motion_noise import MotionNoise, fit_motion_noise, speeds_of

_SWING_RAD = 0.35
_STILL_S = 1.0
_HALF_BLOCK_S = 0.01
_NEAR_S = 0.04
"""Sound without a joint state so near teaches nothing [s]."""


class CalibrationNode(Node):
    """Records the user's sound and the joints' speeds, and moves joints by joint_targets."""

    def __init__(self, namespace: str) -> None:
        super().__init__("calibrate_motion_noise", namespace=namespace)
        self.levels: list[tuple[float, float]] = []
        self.speeds: list[tuple[float, dict[str, float]]] = []
        self.positions: dict[str, float] = {}
        self._targets = self.create_publisher(JointState, "joint_targets", qos_of(TOPICS["joint_targets"]))
        audio = TOPICS["user/audio"]
        self.create_subscription(message_type(audio.type_name), audio.name, self._on_audio, qos_of(audio))
        self.create_subscription(
            JointState, "joint_states", self._on_joint_states, qos_of(TOPICS["joint_states"])
        )

    def _on_audio(self, message: Any) -> None:
        samples = np.frombuffer(message.samples, np.int16)
        if not message.filled_samples:
            self.levels.append((_seconds(message.header.stamp), level_dbfs(samples)))

    def _on_joint_states(self, message: Any) -> None:
        self.speeds.append((_seconds(message.header.stamp), speeds_of(message.name, message.velocity)))
        self.positions = dict(zip(message.name, message.position, strict=False))

    @property
    def lacks(self) -> str:
        """What is not there yet; empty when all is."""
        missing = {
            "user/audio (capture)": self.levels,
            "joint_states (a driver)": self.speeds,
            "anybody who follows joint_targets (retargeting)": self._targets.get_subscription_count(),
        }
        return ", ".join(name for name, is_there in missing.items() if not is_there)

    def spin_for(self, seconds: float) -> None:
        """Take messages in for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            rclpy.spin_once(self, timeout_sec=0.02)

    def swing(self, joint: str, seconds: float) -> None:
        """Move one joint up, down and back; retargeting keeps it within its limits."""
        middle = self.positions[joint]
        for offset in (_SWING_RAD, -_SWING_RAD, 0.0):
            self._targets.publish(JointState(name=[joint], position=[middle + offset]))
            self.spin_for(seconds / 3)

    def aligned(self) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Return joint names, (n, joints) speeds [rad/s] and (n,) levels [dBFS] at the frames of sound."""
        names = sorted(self.positions)
        times = np.array([at for at, _ in self.speeds])
        table = np.array([[speeds.get(name, 0.0) for name in names] for _, speeds in self.speeds])
        middles = [(at + _HALF_BLOCK_S, level) for at, level in self.levels]
        heard = [(at, level) for at, level in middles if np.abs(times - at).min() < _NEAR_S]
        at = np.array([at for at, _ in heard])
        speeds = np.column_stack([np.interp(at, times, np.abs(column)) for column in table.T])
        return names, speeds, np.array([level for _, level in heard])


def calibrate(namespace: str, seconds: float, wait_s: float) -> MotionNoise:
    """Move every joint within so long, and fit what was heard.

    Args:
        namespace: Of the robot's topics.
        seconds: How long it takes [s].
        wait_s: How long sound, joint states and retargeting are waited for [s].

    Raises:
        RuntimeError: Something that is needed is not running.
        ValueError: What was heard teaches nothing.
    """
    rclpy.init(args=[])
    node = CalibrationNode(namespace)
    try:
        end = time.monotonic() + wait_s
        while node.lacks:
            if time.monotonic() > end:
                raise RuntimeError(f"there is no {node.lacks}; start the head first (timar run)")
            node.spin_for(0.05)
        node.spin_for(_STILL_S)
        joints = sorted(node.positions)
        for joint in joints:
            node.swing(joint, (seconds - _STILL_S) / len(joints))
        return fit_motion_noise(*node.aligned())
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


def _seconds(stamp: Any) -> float:
    return Time.from_msg(stamp).nanoseconds * 1e-9
