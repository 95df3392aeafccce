"""The dialogue node answers turns, and neither an interruption nor a dead playback silences it for good."""

from __future__ import annotations

import collections
import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest
from node_process import PATIENCE_S

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed; `make test` installs it")

from rclpy.time import Time  # noqa: E402
from timar_common.base_node import message_type, qos_of  # noqa: E402
from timar_common.topics import TOPICS  # noqa: E402
from timar_msgs.msg import AudioChunk, Gesture, SpeechChunk, TurnEvent  # noqa: E402

pytestmark = pytest.mark.ros

SUPPORT = pathlib.Path(__file__).parents[1] / "support"
BLOCK = 320


class Stage:
    """The user, and who watches."""

    def __init__(self) -> None:
        rclpy.init()
        self.node = rclpy.create_node("stage")
        self.heard: dict[str, list] = collections.defaultdict(list)
        for name in ("agent/audio", "agent/words", "user/words", "gesture", "agent/intent_request"):
            self.node.create_subscription(
                message_type(TOPICS[name].type_name), name, self.heard[name].append, qos_of(TOPICS[name])
            )
        self.publishers = {
            name: self.node.create_publisher(message_type(TOPICS[name].type_name), name, qos_of(TOPICS[name]))
            for name in ("user/audio_raw", "user/audio", "turn_events", "agent/speech")
        }
        self._executor = rclpy.executors.SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._start_s, self.place = time.monotonic(), 0

    def spin_until(self, condition, timeout_s: float = PATIENCE_S) -> None:
        end = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end
            while (time.monotonic() - self._start_s) * 16_000 >= self.place + BLOCK:
                message = AudioChunk(sample_rate=16_000, first_sample=self.place, samples=[50] * BLOCK)
                message.header.stamp = Time(nanoseconds=time.time_ns() - 20_000_000).to_msg()
                self.publishers["user/audio_raw"].publish(message)
                self.publishers["user/audio"].publish(message)
                self.place += BLOCK
            self._executor.spin_once(timeout_sec=0.005)

    def event(self, kind: int, turn: int, length: int = 16_000) -> None:
        first = max(0, self.place - length)
        end = first if kind == TurnEvent.START else self.place
        self.publishers["turn_events"].publish(
            TurnEvent(speaker=TurnEvent.USER, kind=kind, speech_turn=turn, first_sample=first, end_sample=end)
        )

    def say_turn(self, turn: int) -> None:
        self.event(TurnEvent.START, turn)
        self.event(TurnEvent.END, turn)

    def loud(self) -> int:
        """How many samples of the head's voice were heard."""
        parts = [np.frombuffer(m.samples, np.int16) for m in self.heard["agent/audio"]]
        return int(np.count_nonzero(np.abs(np.concatenate([np.zeros(1, np.int16), *parts])) > 100))

    def is_silent(self) -> bool:
        """Whether the head's voice was not heard for a second: long before its answer would have ended."""
        return not any(np.frombuffer(m.samples, np.int16).any() for m in self.heard["agent/audio"][-50:])

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown()


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


def start(spec: str, *parameters: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "timar_common.base_node", spec, "--ros-args"]
    command += [word for parameter in parameters for word in ("-p", parameter)]
    path = os.pathsep.join([str(SUPPORT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)


def end(*processes: subprocess.Popen[str]) -> list[str]:
    logs = []
    for process in processes:
        process.send_signal(signal.SIGINT)
        try:
            logs.append(process.communicate(timeout=PATIENCE_S)[1])
        finally:
            process.kill()
    return logs


def test_turns_are_answered_and_interruptions_two_clients_and_a_dead_playback_are_survived(stage):
    playback = start("timar_audio.playback_node:PlaybackNode")
    dialogue = start(
        "timar_dialogue.dialogue_node:DialogueNode",
        "dialogue:=dialogue_plugins:Long",
        "voice:=dialogue_plugins:Tone",
        "recogniser:=dialogue_plugins:OneWord",
    )
    try:
        stage.spin_until(lambda: stage.publishers["turn_events"].get_subscription_count() == 2)
        stage.spin_until(lambda: len(stage.heard["agent/audio"]) > 50)
        stage.event(TurnEvent.START, 0)
        stage.event(TurnEvent.BACKCHANNEL, 0)
        stage.event(TurnEvent.END, 0)
        before = len(stage.heard["agent/audio"])
        stage.spin_until(lambda: len(stage.heard["agent/audio"]) > before + 50)
        assert (stage.heard["user/words"], stage.loud()) == ([], 0)

        stage.say_turn(1)
        stage.spin_until(lambda: stage.loud() > 40_000)
        assert [m.gesture.kind for m in stage.heard["gesture"]] == [Gesture.NOD]
        assert stage.heard["user/words"][-1].text == "hello"
        # Another client wants to speak at the same time: it waits, and goes with the interruption.
        stage.publishers["agent/speech"].publish(
            SpeechChunk(utterance_id="other", sample_rate=16_000, is_last=True, samples=[20_000] * 16_000)
        )
        stage.event(TurnEvent.INTERRUPTED, 2)
        stage.spin_until(lambda: stage.heard["agent/words"])
        words = stage.heard["agent/words"][-1]
        assert words.text == " ".join(["hello and so on now."] * 6)[: len(words.text)]
        assert 40_000 <= words.end_sample < 6 * 32_000
        stage.spin_until(stage.is_silent)

        stage.say_turn(3)
        before = stage.loud()
        stage.spin_until(lambda: stage.loud() > before + 8_000)
        playback.kill()
        playback.wait()
        killed_s = time.monotonic()
        stage.spin_until(lambda: len(stage.heard["agent/words"]) > 1)
        assert time.monotonic() - killed_s < 10.0
        playback = start("timar_audio.playback_node:PlaybackNode")
        before = len(stage.heard["agent/audio"])
        stage.spin_until(lambda: len(stage.heard["agent/audio"]) > before + 50)
        before = stage.loud()
        for turn in range(4, 9):  # The dead playback's action is known for some seconds, and then not found.
            stage.say_turn(turn)
            with contextlib.suppress(AssertionError):
                stage.spin_until(lambda: stage.loud() > before + 8_000, timeout_s=6.0)
                break
        assert stage.loud() > before + 8_000
    finally:
        logs = end(dialogue, playback)
    assert "Traceback" not in logs[0]
    assert "the answer was not heard to its end" in logs[0]
