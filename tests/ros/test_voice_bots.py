"""Genuine Pipecat and LiveKit bots speak, listen and are interrupted through the running graph.

The graph: capture from a virtual microphone, playback, turns, the WebSocket. The bots run in an environment
of their own, .venv/voice-bots, without ROS.
"""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from labelled_speech import USER_VOICE
from node_process import PATIENCE_S, running_nodes
from timar_websocket.address import address_file
from virtual_sound import VirtualSound
from voice_bots import voice_bot
from voice_services import SECONDS_PER_WORD, VoiceServices

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed; `make test` installs it")

from timar_common.base_node import message_type, qos_of  # noqa: E402
from timar_common.topics import TOPICS  # noqa: E402

pytestmark = [
    pytest.mark.ros,
    pytest.mark.sound,
    pytest.mark.bots,
    pytest.mark.slow,
    pytest.mark.usefixtures("virtual_sound"),
]

ROOT = Path(__file__).resolve().parents[2]
NODES = [
    "timar_websocket.websocket_node:WebsocketNode",
    "timar_audio.playback_node:PlaybackNode",
    "timar_audio.turns_node:TurnsNode",
    "timar_audio.capture_node:CaptureNode",
]
PARAMETERS = {"capture:source": "microphone", "capture:device": "pulse"}
SPEECH_S = 6.1
"""From there on somebody speaks for four seconds without a pause [s]."""
EXAMPLES = {"pipecat": "03_pipecat_bot.py", "livekit": "04_livekit_agent.py"}


class Room:
    """What is heard in the graph: the head's voice and the turns."""

    def __init__(self) -> None:
        rclpy.init()
        self.node = rclpy.create_node("room")
        self.voice: list[np.ndarray] = []
        self.events: list = []
        self.bots = 0
        """How many are connected, by diagnostics."""
        self.node.create_subscription(*_of("agent/audio", self._on_voice))
        self.node.create_subscription(*_of("turn_events", self.events.append))
        self.node.create_subscription(*_of("/diagnostics", self._on_diagnostics))
        self._executor = rclpy.executors.SingleThreadedExecutor()
        self._executor.add_node(self.node)

    def spin_until(self, condition: Callable[[], bool], timeout_s: float = 3 * PATIENCE_S) -> None:
        end_s = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end_s, [(event.speaker, event.kind) for event in self.events]
            self._executor.spin_once(timeout_sec=0.01)

    def spin(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        self.spin_until(lambda: time.monotonic() > end_s)

    def spoken_s(self) -> float:
        """Return for how long the head's voice was heard [s]."""
        loud = sum(int(np.count_nonzero(np.abs(block) > 300)) for block in self.voice)
        return loud / 16_000 / LOUD_SHARE

    def is_silent(self, blocks: int) -> bool:
        return len(self.voice) >= blocks and not np.concatenate(self.voice[-blocks:]).any()

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown()

    def _on_voice(self, message: object) -> None:
        self.voice.append(np.frombuffer(message.samples, np.int16))

    def _on_diagnostics(self, message: object) -> None:
        for status in message.status:
            if status.name == "/websocket":
                self.bots = int({value.key: value.value for value in status.values}["bots"])


LOUD_SHARE = 1.0 - 2.0 / np.pi * np.arcsin(300 / 8000)
"""Share of a tone's samples that are louder than 300 of its amplitude of 8000."""


def _of(name: str, callback: Callable) -> tuple:
    topic = TOPICS[name]
    return message_type(topic.type_name), topic.name, callback, qos_of(topic)


@pytest.fixture
def room() -> Iterator[Room]:
    room = Room()
    yield room
    room.close()


@contextlib.contextmanager
def graph(room: Room) -> Iterator[list[str]]:
    """Run the graph, and wait until bots find it and the head's clock runs."""
    with running_nodes(NODES, PARAMETERS) as log:
        room.spin_until(lambda: address_file().exists() and len(room.voice) > 20)
        yield log


@pytest.fixture
def user(virtual_sound: VirtualSound, tmp_path: Path) -> Callable[[float], None]:
    """Return what lets the user say something of so many seconds; PulseAudio swallows its first silence."""
    samples, rate_hz = soundfile.read(USER_VOICE, dtype="int16")

    def say(seconds: float) -> None:
        path = tmp_path / f"{seconds}.wav"
        spoken = samples[round(SPEECH_S * rate_hz) :][: round(seconds * rate_hz)]
        soundfile.write(path, np.concatenate([np.zeros(1600, np.int16), spoken]), rate_hz)
        virtual_sound.play(path)

    return say


@pytest.mark.parametrize("framework", EXAMPLES)
def test_the_example_answers_is_interrupted_and_its_context_holds_what_was_heard(
    framework: str, room: Room, user: Callable[[float], None]
) -> None:
    words = [f"w{number}" for number in range(60)]
    with VoiceServices(["tell me a story", "no stop"], [" ".join(words) + ".", "All right."]) as services:
        script = ROOT / "examples" / EXAMPLES[framework]
        keys = {"OPENAI_API_KEY": "none", "OPENAI_BASE_URL": services.url}
        with graph(room), voice_bot(script, **keys) as process:
            room.spin_until(lambda: room.bots == 1)
            room.spin(1.0)  # the framework starts its pipeline
            user(1.6)
            room.spin_until(lambda: room.spoken_s() > 1.0)
            user(2.0)
            room.spin_until(lambda: room.is_silent(15))
            heard_s = room.spoken_s()
            room.spin_until(lambda: len(services.spoken) > 1 and room.spoken_s() > heard_s)
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE_S) == 0, process.stderr.read()[-2000:]
    asked = [message for message in services.asked[-1] if message["role"] != "system"]
    assert [message["role"] for message in asked] == ["user", "assistant", "user"]
    assert (asked[0]["content"], asked[2]["content"]) == ("tell me a story", "no stop")
    said = asked[1]["content"].split()
    assert said == words[: len(said)]
    assert len(said) * SECONDS_PER_WORD == pytest.approx(heard_s, abs=0.5)


@pytest.mark.parametrize("framework", EXAMPLES)
def test_a_pipeline_of_ones_own_is_heard_whole_and_told_the_truth(framework: str, room: Room) -> None:
    script = ROOT / "tests" / "support" / f"{framework}_scenarios.py"
    with graph(room), voice_bot(script) as process:
        room.spin_until(lambda: process.poll() is not None)
        assert process.returncode == 0, process.stderr.read()[-2000:]
        found = json.loads(process.stdout.read())
        room.spin_until(lambda: room.is_silent(10))
    # LiveKit's synthesisers end in a few milliseconds of silence.
    for name in ("say 8000 1", "say 16000 1", "say 24000 1", "say 48000 1", "say 48000 2"):
        assert found[name]["text"] == "one two three"
        assert found[name]["heard_s"] == pytest.approx(0.75, abs=0.06), name
    cut = found["interrupted"]
    assert "one two three four five six seven eight nine ten".startswith(cut["text"])
    # LiveKit paces its transcript by itself and may be behind what was heard, never far ahead.
    assert -1.0 < len(cut["text"].split()) * SECONDS_PER_WORD - cut["heard_s"] < 0.4
    assert cut["took_s"] < 1.0
    assert found["resumed"]["text"] == "then thirteen fourteen"
    assert found["resumed"]["heard_s"] == pytest.approx(0.75, abs=0.06)
    assert found["two"]["text"] == ["first of two", "second of two"]
    assert found["two"]["heard_s"] == pytest.approx([0.75, 0.75], abs=0.06)
    assert (found["after an empty one"]["text"], found["after an empty one"]["started"]) == ("four five", 1)
    assert found["stalled"]["heard_s"] == pytest.approx(0.75, abs=0.06)
    # The edges of each of the ten utterances are heard to a block of 20 ms.
    assert room.spoken_s() == pytest.approx(7 * 0.75 + 2 * 0.75 + 0.5 + cut["heard_s"], abs=0.4)


def test_when_a_bot_is_killed_the_head_falls_silent_and_the_next_one_is_heard(room: Room) -> None:
    script = ROOT / "tests" / "support" / "pipecat_scenarios.py"
    with graph(room) as log:
        with voice_bot(script) as process:
            room.spin_until(lambda: room.spoken_s() > 0.3)
            process.kill()
        blocks, killed_s = len(room.voice), room.spoken_s()
        room.spin_until(lambda: len(room.voice) > blocks + 60)
        assert room.is_silent(30)
        assert room.spoken_s() - killed_s < 0.4
        with voice_bot(script):
            room.spin_until(lambda: room.spoken_s() > killed_s + 0.8)
    assert "a bot has gone" in log[0]
