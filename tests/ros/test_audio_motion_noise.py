"""A head whose servos are loud: it learns how loud, and no longer takes itself for a speaker."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from array import array
from collections.abc import Iterator

import numpy as np
import pytest
from node_process import running_nodes

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed; `make test` installs it")

from rclpy.time import Time  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402
from timar_common.base_node import message_type, qos_of  # noqa: E402
from timar_common.topics import TOPICS  # noqa: E402
from timar_msgs.msg import AudioChunk, TurnEvent  # noqa: E402

pytestmark = pytest.mark.ros

BLOCK = 320
NAMES = ["neck_pitch", "neck_yaw"]
LOUDNESS = {"neck_pitch": 0.08, "neck_yaw": 0.04}
"""Root mean square at 1 rad/s, full scale being 1."""


class LoudHead:
    """Follows joint_targets, reports joint_states, and hears its own servos, whose noise is synthetic."""

    def __init__(self) -> None:
        rclpy.init()
        self.node = rclpy.create_node("loud_head")
        self.events: list = []
        self._targets = {name: 0.0 for name in NAMES}
        self._positions = {name: 0.0 for name in NAMES}
        self.is_shaking = False
        self._rng = np.random.default_rng(0)
        self._audio = self.node.create_publisher(AudioChunk, "user/audio", qos_of(TOPICS["user/audio"]))
        self._states = self.node.create_publisher(JointState, "joint_states", qos_of(TOPICS["joint_states"]))
        targets, events = TOPICS["joint_targets"], TOPICS["turn_events"]
        self.node.create_subscription(JointState, targets.name, self._on_target, qos_of(targets))
        self.node.create_subscription(
            message_type(events.type_name), events.name, self.events.append, qos_of(events)
        )
        self._executor = rclpy.executors.SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._began_ns, self.place = time.time_ns(), 0

    def _on_target(self, message: JointState) -> None:
        self._targets |= dict(zip(message.name, message.position, strict=True))

    def spin(self, timeout_s: float = 0.005) -> None:
        """Live on: 20 ms of sound and a joint state at a time, each stamped with its own instant."""
        while (time.time_ns() - self._began_ns) * 16 // 1_000_000 >= self.place + BLOCK:
            speeds = self._step()
            stamp = Time(nanoseconds=self._began_ns + self.place * 62_500).to_msg()
            state = JointState(name=NAMES, velocity=[speeds[name] for name in NAMES])
            state.header.stamp = stamp
            state.position = [self._positions[name] for name in NAMES]
            self._states.publish(state)
            gain = 1e-3 + math.hypot(*(LOUDNESS[name] * speeds[name] for name in NAMES))
            sound = np.clip(32_767 * gain * self._rng.standard_normal(BLOCK), -32_768, 32_767)
            message = AudioChunk(sample_rate=16_000, first_sample=self.place)
            message.header.stamp = stamp
            message.samples = array("h", sound.astype(np.int16).tobytes())
            self._audio.publish(message)
            self.place += BLOCK
        self._executor.spin_once(timeout_sec=timeout_s)

    def _step(self) -> dict[str, float]:
        speeds = {}
        for number, name in enumerate(NAMES):
            if self.is_shaking:
                phase = self.place / 16_000 * 2 * math.pi / 2.0 + number
                speeds[name] = max(0.0, 1.5 * math.sin(phase))
            else:
                speeds[name] = max(-1.5, min(1.5, 8.0 * (self._targets[name] - self._positions[name])))
            self._positions[name] += 0.02 * speeds[name]
        return speeds

    def spin_until(self, condition, timeout_s: float = 120.0) -> None:
        end = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end, self.events[-3:]
            self.spin()

    def shake(self, seconds: float) -> int:
        """Shake the head for so long, and return how many turns of the user began."""
        self.events.clear()
        self.is_shaking = True
        end = self.place + round(seconds * 16_000)
        self.spin_until(lambda: self.place >= end)
        self.is_shaking = False
        self.spin_until(lambda: self.place >= end + 16_000)
        return sum(event.kind == TurnEvent.START for event in self.events)

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown()


@pytest.fixture
def head() -> Iterator[LoudHead]:
    head = LoudHead()
    yield head
    head.close()


def test_a_calibration_keeps_the_heads_own_motion_from_starting_turns(head, tmp_path):
    path = tmp_path / "motion_noise.yaml"
    command = [sys.executable, "-m", "timar_common.cli", "audio", "calibrate-motion-noise"]
    command += ["--seconds", "6", "--wait", "60", "--out", str(path)]
    calibration = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    head.spin_until(lambda: calibration.poll() is not None)
    said = calibration.communicate()[0]
    assert calibration.returncode == 0, said
    assert "neck_pitch" in said
    starts = []
    for parameters in ({}, {"motion_noise_file": path}):
        with running_nodes(["timar_audio.turns_node:TurnsNode"], parameters):
            head.spin_until(lambda: head.node.count_subscribers("user/audio") == 1)
            head.spin_until(lambda: head.node.count_publishers("turn_events") == 1)
            settled = head.place + 16_000
            head.spin_until(lambda: head.place >= settled)  # noqa: B023 - called before the next round
            starts.append(head.shake(4.0))
        head.spin_until(lambda: head.node.count_subscribers("user/audio") == 0)
    assert starts[0] >= 2
    assert starts[1] == 0


def test_without_a_running_head_it_is_said_what_lacks():
    command = [sys.executable, "-m", "timar_common.cli", "audio", "calibrate-motion-noise"]
    command += ["--namespace", "no", "--wait", "0.5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 1
    assert "there is no user/audio (capture), joint_states (a driver), anybody" in done.stderr
