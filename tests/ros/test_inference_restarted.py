"""An inference process that was started again hears what both voices' publishers still hold."""

from __future__ import annotations

import time
from array import array
from pathlib import Path

import numpy as np
import pytest
from node_process import PATIENCE_S, running_nodes

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed; `make test` installs it")

from timar_common.base_node import message_type, publisher_qos, qos_of  # noqa: E402
from timar_common.processes import RESTARTS_VARIABLE  # noqa: E402
from timar_common.topics import TOPICS  # noqa: E402
from timar_msgs.msg import AudioChunk, PlannedAudio, TurnLog  # noqa: E402

pytestmark = pytest.mark.ros

BLOCK = 320
NS_PER_SAMPLE = 62_500


class Sound:
    """A process of sound that has been there all the time."""

    def __init__(self, node: rclpy.node.Node) -> None:
        self._node, self.sent = node, 0
        self._began_ns, self._began_ros_ns = time.monotonic_ns(), node.get_clock().now().nanoseconds
        self._user, self._plan = (
            node.create_publisher(message_type(TOPICS[name].type_name), name, publisher_qos(TOPICS[name]))
            for name in ("user/audio", "agent/audio_planned")
        )
        self._rng = np.random.default_rng(0)
        self.log: list[TurnLog] = []
        node.create_subscription(TurnLog, "turn_log", self.log.append, qos_of(TOPICS["turn_log"]))

    def go_on(self) -> None:
        """Say what has been heard since, and plan a second ahead."""
        while (self.sent + BLOCK) * NS_PER_SAMPLE <= time.monotonic_ns() - self._began_ns:
            stamp = rclpy.time.Time(nanoseconds=self._began_ros_ns + self.sent * NS_PER_SAMPLE).to_msg()
            noise = array("h", self._rng.integers(-3000, 3000, BLOCK).astype(np.int16).tobytes())
            block = AudioChunk(sample_rate=16_000, first_sample=self.sent, samples=noise)
            plan = PlannedAudio(sample_rate=16_000, first_sample=self.sent + 16_000, samples=noise)
            block.header.stamp = plan.header.stamp = stamp
            self._user.publish(block)
            self._plan.publish(plan)
            self.sent += BLOCK
        rclpy.spin_once(self._node, timeout_sec=0.01)


def test_history_begins_with_sound_from_before_the_process(
    random_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(RESTARTS_VARIABLE, "1")
    rclpy.init()
    node = rclpy.create_node("sound")
    heard_when_said: list[int] = []
    try:
        sound = Sound(node)
        parameters = {"model": random_model, "engine": "torch", "threads": 1, "margin_frames": 2}
        with running_nodes(["timar_inference.inference_node:InferenceNode"], parameters) as log:
            end_s = time.monotonic() + 2 * PATIENCE_S
            # Either history is filled and turns are generated, or a busy machine says that it takes too long.
            while not (
                any(entry.decision == TurnLog.GENERATE for entry in sound.log)
                or sum(entry.decision == TurnLog.RESET for entry in sound.log) > 1
            ):
                assert time.monotonic() < end_s, [entry.decision for entry in sound.log]
                sound.go_on()
                heard_when_said += [sound.sent] * (len(sound.log) - len(heard_when_said))
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
    assert sound.log[0].decision == TurnLog.RESET
    assert 640 * sound.log[0].first_frame < heard_when_said[0] - 16_000
    assert sound.log[1].decision == TurnLog.COMMIT_SKIPPED
    assert sound.log[1].user_samples_filled == 0
    assert "of history were filled in" in log[0] or "it begins fresh" in log[0]
