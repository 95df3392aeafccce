"""Other projects' sound, in and out, against interface packages that look like theirs."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import threading
import time
from array import array
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from lookalikes import lookalike

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed; `make test` installs it")

from std_msgs.msg import UInt8MultiArray  # noqa: E402
from timar_common.base_node import message_type, qos_of  # noqa: E402
from timar_common.processes import START_REFUSED  # noqa: E402
from timar_common.topics import TOPICS  # noqa: E402
from timar_msgs.msg import AudioChunk, VoiceActivity  # noqa: E402

pytestmark = pytest.mark.ros

PEER = pathlib.Path(__file__).parents[1] / "support" / "foreign_peer.py"
BLOCK = 320
CHUNK = 512
RAMP = np.arange(1, 16_001) % 20_000 + 100
DIALECTS = ("ros_drivers", "mgonzs13")
AUDIO = "audio_common_msgs/msg"
PATIENCE_S = 180.0


@pytest.fixture(scope="module")
def sourced() -> dict[str, dict[str, str]]:
    """Return the environment with either package; both are built at once, the first time."""
    found: dict[str, dict[str, str]] = {}
    errors: list[Exception] = []

    def build(prefix: str) -> None:
        try:
            found[prefix] = lookalike(prefix)
        except RuntimeError as error:
            errors.append(error)

    builders = [threading.Thread(target=build, args=(prefix,)) for prefix in DIALECTS]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()
    if errors:
        raise errors[0]
    return found


class Stage:
    """This workspace's topics, and processes of other projects."""

    def __init__(self) -> None:
        rclpy.init()
        self.node = rclpy.create_node("stage")
        self.heard: dict[str, list] = collections.defaultdict(list)
        self.lines: list[dict] = []
        self._executor = rclpy.executors.SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._processes: list[subprocess.Popen[str]] = []

    def hear(self, name: str) -> None:
        topic = TOPICS[name]
        self.node.create_subscription(
            message_type(topic.type_name), name, self.heard[name].append, qos_of(topic)
        )

    def publisher(self, name: str) -> object:
        topic = TOPICS[name]
        return self.node.create_publisher(message_type(topic.type_name), name, qos_of(topic))

    def run(self, environment: dict[str, str], *command: str, **parameters: object) -> None:
        if command[0].startswith("timar_audio"):
            command = ("-m", "timar_common.base_node", *command, "--ros-args")
            command += tuple(word for key, value in parameters.items() for word in ("-p", f"{key}:={value}"))
        process = subprocess.Popen(
            [sys.executable, *command], env=environment, stdout=subprocess.PIPE, text=True
        )
        self._processes.append(process)

        def read() -> None:
            for line in process.stdout:
                self.lines.append(json.loads(line))

        threading.Thread(target=read, daemon=True).start()

    def spin_until(self, condition: Callable[[], bool], meanwhile: Callable[[], None] | None = None) -> None:
        end = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end, (self.lines[-3:], {k: len(v) for k, v in self.heard.items()})
            if meanwhile is not None:
                meanwhile()
            self._executor.spin_once(timeout_sec=0.02)

    def told(self, topic: str) -> list[dict]:
        return [line for line in list(self.lines) if line.get("topic") == topic]

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown()


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    with contextlib.closing(stage):
        yield stage


def sound_of(messages: list) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.int16), *(np.frombuffer(m.samples, np.int16) for m in messages)])


@pytest.mark.parametrize(
    ("dialect", "topic"), [("ros_drivers", "audio"), ("ros_drivers", "audio_stamped"), ("mgonzs13", "audio")]
)
def test_another_packages_microphone_is_heard_sample_by_sample(stage, sourced, dialect, topic):
    stage.hear("user/audio")
    stage.run(sourced[dialect], "timar_audio.capture_node:CaptureNode", source="topic", topic=topic)
    stage.run(sourced[dialect], str(PEER), "say", "audio")
    stage.spin_until(lambda: np.count_nonzero(sound_of(stage.heard["user/audio"])) >= RAMP.size)
    blocks = stage.heard["user/audio"]
    firsts = [block.first_sample for block in blocks]
    assert firsts == list(range(firsts[0], firsts[0] + BLOCK * len(blocks), BLOCK))
    sound = sound_of(blocks)
    np.testing.assert_array_equal(sound[sound != 0], RAMP)


def test_plain_bytes_are_heard_when_a_person_says_what_they_mean(stage):
    stage.hear("user/audio")
    plain = stage.node.create_publisher(UInt8MultiArray, "bytes", 50)
    command = ("timar_audio.capture_node:CaptureNode",)
    stage.run(dict(os.environ), *command, source="topic", topic="bytes", topic_layout="S16LE,16000,1")
    stage.spin_until(lambda: plain.get_subscription_count() == 1)
    pause = np.zeros(CHUNK, np.int16).tobytes()
    parts = [pause] * 40 + np.split(RAMP[: CHUNK * 20].astype(np.int16), 20) + [pause] * 2000
    waiting, due_s = iter(parts), time.monotonic()

    def send() -> None:
        nonlocal due_s
        while time.monotonic() >= due_s:
            plain.publish(UInt8MultiArray(data=array("B", bytes(next(waiting)))))
            due_s += CHUNK / 16_000

    wanted = RAMP[: CHUNK * 20]
    stage.spin_until(lambda: np.count_nonzero(sound_of(stage.heard["user/audio"])) >= wanted.size, send)
    sound = sound_of(stage.heard["user/audio"])
    np.testing.assert_array_equal(sound[sound != 0], wanted)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_the_user_says_is_told_as_either_package_writes_it(stage, sourced, dialect):
    kind = {"ros_drivers": "AudioData", "mgonzs13": "AudioStamped"}[dialect]
    topics = [f"voice={AUDIO}/{kind}"]
    if dialect == "ros_drivers":
        topics += [f"voice_stamped={AUDIO}/AudioDataStamped", f"audio_info={AUDIO}/AudioInfo"]
    stage.run(sourced[dialect], str(PEER), "hear", *topics)
    stage.spin_until(lambda: bool(stage.lines))
    user = stage.publisher("user/audio")
    stage.run(sourced[dialect], "timar_audio.audio_common_node:AudioCommonNode", user_topic="voice")
    stage.spin_until(lambda: user.get_subscription_count() == 1)
    place = 0

    def send() -> None:
        nonlocal place
        samples = RAMP[place % RAMP.size :][:BLOCK].astype(np.int16)
        user.publish(
            AudioChunk(sample_rate=16_000, first_sample=place, samples=array("h", samples.tobytes()))
        )
        place += BLOCK

    stage.spin_until(lambda: len(stage.told("voice")) >= 10, send)
    heard = np.concatenate([line["samples"] for line in stage.told("voice")])
    start = int(np.flatnonzero(heard[0] == RAMP)[0])
    np.testing.assert_array_equal(heard, np.resize(np.roll(RAMP, -start), heard.size))
    assert {line["rate_hz"] for line in stage.told("voice")} == {16_000}
    if dialect == "ros_drivers":
        stage.spin_until(lambda: len(stage.told("voice_stamped")) >= 10 and stage.told("audio_info"), send)
        assert stage.told("audio_info")[0]["info"] == [1, 16_000, "S16LE", "wave"]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_another_packages_synthesiser_is_said_and_its_utterance_ends_with_its_sound(stage, sourced, dialect):
    stage.hear("agent/speech")
    stage.run(
        sourced[dialect],
        "timar_audio.audio_common_node:AudioCommonNode",
        speech_topic="tts",
        utterance_gap_ms=200,
    )
    stage.run(sourced[dialect], str(PEER), "say", "tts")
    stage.spin_until(lambda: np.count_nonzero(sound_of(stage.heard["agent/speech"])) >= RAMP.size)
    chunks = stage.heard["agent/speech"]
    assert {chunk.sample_rate for chunk in chunks} == {16_000}
    sound = sound_of(chunks)
    np.testing.assert_array_equal(sound[sound != 0], RAMP)
    assert len({chunk.utterance_id for chunk in chunks}) == 1


def test_ros4hri_learns_which_voice_there_is_whether_it_speaks_and_its_sound(stage, sourced):
    stage.run(sourced["ros_drivers"], str(PEER), "hear", "/humans/voices/tracked=hri_msgs/msg/IdsList")
    stage.spin_until(lambda: bool(stage.lines))
    user, activity = stage.publisher("user/audio"), stage.publisher("voice_activity")
    stage.run(sourced["ros_drivers"], "timar_audio.ros4hri_node:Ros4HriNode", forget_after_s=1.0)
    stage.spin_until(lambda: activity.get_subscription_count() == user.get_subscription_count() == 1)
    place, is_speaking = 0, True

    def send() -> None:
        nonlocal place
        user.publish(AudioChunk(sample_rate=16_000, first_sample=place, samples=array("h", [7] * BLOCK)))
        activity.publish(
            VoiceActivity(
                speaker=VoiceActivity.USER, first_sample=place, samples=BLOCK, is_speaking=is_speaking
            )
        )
        place += BLOCK

    def ids() -> list[str]:
        told = stage.told("/humans/voices/tracked")
        return told[-1]["ids"] if told else []

    stage.spin_until(lambda: len(ids()) == 1, send)
    (voice,) = ids()
    own = f"/humans/voices/{voice}"
    stage.spin_until(lambda: bool(stage.told(f"{own}/is_speaking") and stage.told(f"{own}/audio")), send)
    assert stage.told(f"{own}/is_speaking")[-1]["data"] is True
    assert set(stage.told(f"{own}/audio")[-1]["samples"]) == {7}
    is_speaking = False
    stage.spin_until(lambda: stage.told(f"{own}/is_speaking")[-1]["data"] is False, send)
    stage.spin_until(lambda: ids() == [], send)
    is_speaking = True
    stage.spin_until(lambda: len(ids()) == 1, send)
    assert ids() != [voice]


@pytest.mark.parametrize(
    ("component", "parameters", "words"),
    [
        ("audio_common_node:AudioCommonNode", {"user_topic": "voice"}, "no audio_common_msgs is installed"),
        ("audio_common_node:AudioCommonNode", {}, "name a user_topic, agent_topic or speech_topic"),
        ("ros4hri_node:Ros4HriNode", {}, "hri_msgs is not installed"),
    ],
)
def test_an_adapter_without_its_package_or_work_refuses_with_a_sentence(component, parameters, words):
    command = [sys.executable, "-m", "timar_common.base_node", f"timar_audio.{component}", "--ros-args"]
    command += [word for key, value in parameters.items() for word in ("-p", f"{key}:={value}")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == START_REFUSED
    assert words in done.stderr
    assert "Traceback" not in done.stderr
