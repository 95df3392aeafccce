"""A synthesiser, a dialogue and a user who interrupts, on real topics."""

from __future__ import annotations

import collections
import contextlib
import os
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from node_process import PATIENCE_S, running_nodes

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed; `make test` installs it")

from rclpy.action import ActionClient  # noqa: E402
from rclpy.time import Time  # noqa: E402
from timar_common.base_node import message_type, qos_of  # noqa: E402
from timar_common.topics import TOPICS  # noqa: E402
from timar_msgs.action import Speak  # noqa: E402
from timar_msgs.msg import AudioChunk, SpeechChunk, TurnEvent  # noqa: E402

pytestmark = pytest.mark.ros

BLOCK = 320
MEASURE_S = 2.0


class Dialogue:
    """Speaks for a dialogue manager, a synthesiser, the microphone and the turns node."""

    def __init__(self) -> None:
        rclpy.init()
        self.node = rclpy.create_node("dialogue")
        self.heard: dict[str, list] = collections.defaultdict(list)
        for name in ("agent/audio", "agent/audio_planned", "/diagnostics"):
            self.node.create_subscription(*self._of(name), self.heard[name].append, qos_of(TOPICS[name]))
        self.publishers = {
            name: self.node.create_publisher(*self._of(name), qos_of(TOPICS[name]))
            for name in ("user/audio_raw", "agent/speech", "turn_events")
        }
        self.speak = ActionClient(self.node, Speak, "speak")
        self.feedback: list = []
        self._executor = rclpy.executors.SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._start_s = time.monotonic()
        self._place = 0

    @staticmethod
    def _of(name: str) -> tuple:
        return message_type(TOPICS[name].type_name), name

    def spin_until(self, condition: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
        end = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end, {name: len(messages) for name, messages in self.heard.items()}
            self.send_user_audio()
            self._executor.spin_once(timeout_sec=0.005)

    def send_user_audio(self) -> None:
        while (time.monotonic() - self._start_s) * 16_000 >= self._place + BLOCK:
            message = AudioChunk(sample_rate=16_000, first_sample=self._place, samples=[0] * BLOCK)
            heard_s = time.time() - (time.monotonic() - self._start_s) + self._place / 16_000
            message.header.stamp = Time(nanoseconds=round(heard_s * 1e9)).to_msg()
            self.publishers["user/audio_raw"].publish(message)
            self._place += BLOCK

    def restart_capture(self) -> None:
        self._start_s, self._place = time.monotonic(), 0

    def say(self, utterance_id: str, samples: np.ndarray, *, is_last: bool = True) -> None:
        self.publishers["agent/speech"].publish(
            SpeechChunk(
                utterance_id=utterance_id,
                sample_rate=16_000,
                is_last=is_last,
                samples=array("h", samples.astype(np.int16).tobytes()),
            )
        )

    def goal(self, utterance_id: str, samples: np.ndarray | None = None) -> object:
        goal = Speak.Goal(utterance_id=utterance_id, sample_rate=16_000)
        if samples is not None:
            goal.samples = array("h", samples.astype(np.int16).tobytes())
        sent = self.speak.send_goal_async(goal, lambda message: self.feedback.append(message.feedback))
        self.spin_until(sent.done)
        return sent.result()

    def result_of(self, handle: object) -> object:
        result = handle.get_result_async()
        self.spin_until(result.done)
        return result.result().result

    def barge_in(self) -> None:
        self.publishers["turn_events"].publish(TurnEvent(speaker=TurnEvent.USER, kind=TurnEvent.INTERRUPTED))

    def sound(self) -> np.ndarray:
        return np.concatenate(
            [np.frombuffer(message.samples, np.int16) for message in self.heard["agent/audio"]]
        )

    def has_heard(self, samples: int) -> bool:
        return bool(self.heard["agent/audio"]) and np.count_nonzero(self.sound()) >= samples

    def close(self) -> None:
        self.speak.destroy()
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown()


def playback(**parameters: object) -> contextlib.AbstractContextManager[list[str]]:
    return running_nodes(["timar_audio.playback_node:PlaybackNode"], parameters)


@pytest.fixture
def dialogue() -> Iterator[Dialogue]:
    dialogue = Dialogue()
    yield dialogue
    dialogue.close()


def processor_s(dialogue: Dialogue, pid: int) -> float:
    """Return the processor time that a process takes within `MEASURE_S` [s]."""

    def used_s() -> float:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    begin_s, end_s = used_s(), time.monotonic() + MEASURE_S
    dialogue.spin_until(lambda: time.monotonic() >= end_s)
    return used_s() - begin_s


def children(pid: int) -> list[int]:
    """Return the nodes that a process has started."""
    found = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [one for one in found if b"PlaybackNode" in Path(f"/proc/{one}/cmdline").read_bytes()]


def ready(dialogue: Dialogue) -> None:
    dialogue.spin_until(lambda: dialogue.speak.server_is_ready() and len(dialogue.heard["agent/audio"]) > 5)
    dialogue.spin_until(lambda: dialogue.publishers["agent/speech"].get_subscription_count() == 1)
    dialogue.spin_until(lambda: dialogue.publishers["turn_events"].get_subscription_count() == 1)


def ramp(samples: int) -> np.ndarray:
    return np.arange(1, samples + 1) % 20_000 + 100


def test_a_goal_with_its_audio_is_heard_whole_and_reported(dialogue):
    with playback():
        ready(dialogue)
        handle = dialogue.goal("hello", ramp(12_000))
        result = dialogue.result_of(handle)
        assert (result.outcome, result.samples_heard) == (Speak.Result.FINISHED, 12_000)
        dialogue.spin_until(lambda: dialogue.has_heard(12_000))
    sound = dialogue.sound()
    np.testing.assert_array_equal(sound[np.flatnonzero(sound)], ramp(12_000))
    heard = [feedback.samples_heard for feedback in dialogue.feedback]
    assert heard == sorted(heard)
    assert {feedback.samples_wanted for feedback in dialogue.feedback} <= set(range(948_000, 960_001))
    planned = np.concatenate(
        [np.frombuffer(c.samples, np.int16) for c in dialogue.heard["agent/audio_planned"]]
    )
    np.testing.assert_array_equal(planned, ramp(12_000))


def test_speech_without_a_goal_is_said_as_well(dialogue, tmp_path):
    with playback(sink="file", sink_file=str(tmp_path / "heard.wav")):
        ready(dialogue)
        for number, part in enumerate(np.array_split(ramp(9000), 5)):
            dialogue.say("hi", part, is_last=number == 4)
        dialogue.spin_until(lambda: dialogue.has_heard(9000))
    import soundfile

    written = soundfile.read(tmp_path / "heard.wav", dtype="int16")[0]
    np.testing.assert_array_equal(written[np.flatnonzero(written)], ramp(9000))


def test_a_barge_in_silences_the_voice_within_two_blocks_and_tells_what_was_heard(dialogue):
    with playback():
        ready(dialogue)
        handle = dialogue.goal("story", np.full(80_000, 9000))
        dialogue.spin_until(lambda: dialogue.has_heard(16_000))
        before = np.count_nonzero(dialogue.sound())
        dialogue.barge_in()
        result = dialogue.result_of(handle)
        blocks = len(dialogue.heard["agent/audio"])
        dialogue.spin_until(lambda: len(dialogue.heard["agent/audio"]) >= blocks + 20)
    heard = np.count_nonzero(dialogue.sound())
    assert result.outcome == Speak.Result.INTERRUPTED
    assert result.samples_heard == pytest.approx(heard, abs=3)
    assert heard - before < 16_000 * 0.3
    assert dialogue.heard["agent/audio_planned"][-1].revision == 1


def test_a_cancelled_goal_ends_and_the_next_is_said(dialogue):
    with playback():
        ready(dialogue)
        first = dialogue.goal("first", np.full(160_000, 9000))
        second = dialogue.goal("second", ramp(6000))
        dialogue.spin_until(lambda: dialogue.has_heard(8000))
        cancelled = first.cancel_goal_async()
        dialogue.spin_until(cancelled.done)
        assert dialogue.result_of(first).outcome == Speak.Result.CANCELED
        assert dialogue.result_of(second).samples_heard == 6000
        # The result may come before the last of the sound.
        dialogue.spin_until(lambda: dialogue.sound()[dialogue.sound() > 0][-1] == ramp(6000)[-1])
    np.testing.assert_array_equal(dialogue.sound()[dialogue.sound() > 0][-6000:], ramp(6000))


def test_an_impossible_goal_is_refused_and_said(dialogue):
    with playback(max_waiting_s=1.0) as log:
        ready(dialogue)
        assert not dialogue.goal("", ramp(10)).accepted
        assert not dialogue.goal("long", ramp(32_000)).accepted
        assert dialogue.goal("short", ramp(8000)).accepted
    assert "needs an utterance_id" in log[0]


def test_a_goal_under_an_id_that_was_used_is_refused_with_and_without_samples(dialogue):
    """With samples it was accepted and never ended, nor by cancelling."""
    with playback():
        ready(dialogue)
        assert dialogue.result_of(dialogue.goal("once", ramp(3200))).outcome == Speak.Result.FINISHED
        assert dialogue.goal("waiting").accepted
        for used in ("once", "waiting"):
            assert not dialogue.goal(used, ramp(3200)).accepted
            assert not dialogue.goal(used).accepted


def test_a_pending_goal_costs_no_more_than_none(dialogue):
    """While a goal waited for its end, rclpy's EventsExecutor took a whole core."""
    with playback():
        ready(dialogue)
        (pid,) = children(os.getpid())
        idle_s = processor_s(dialogue, pid)
        assert dialogue.goal("patient").accepted
        pending_s = processor_s(dialogue, pid)
    assert idle_s > 0.0
    # Feedback ten times a second comes with a goal.
    assert pending_s < idle_s + 0.1 * MEASURE_S


def test_when_capture_alone_starts_again_playback_says_so_and_goes_on(dialogue):
    with playback() as log:
        ready(dialogue)
        story = dialogue.goal("story", np.full(160_000, 9000))
        dialogue.spin_until(lambda: dialogue.has_heard(8000))
        time.sleep(1.0)
        dialogue.restart_capture()
        assert dialogue.result_of(story).outcome == Speak.Result.INTERRUPTED
        dialogue.heard["agent/audio"].clear()
        assert dialogue.result_of(dialogue.goal("again", ramp(6000))).samples_heard == 6000
        dialogue.spin_until(lambda: dialogue.has_heard(6000))
    firsts = [message.first_sample for message in dialogue.heard["agent/audio"]]
    assert firsts == list(range(firsts[0], firsts[0] + BLOCK * len(firsts), BLOCK))
    assert firsts[0] < 16_000 * 3
    assert log[0].count("capture was started again") == 1
