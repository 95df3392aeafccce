"""Ears, voice and turns as real processes on real topics."""

from __future__ import annotations

import collections
import contextlib
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import soundfile
from node_process import PATIENCE_S

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed; `make test` installs it")

from rclpy.qos import HistoryPolicy  # noqa: E402
from rclpy.time import Time  # noqa: E402
from timar_common.base_node import message_type, qos_of  # noqa: E402
from timar_common.processes import START_REFUSED  # noqa: E402
from timar_common.topics import TOPICS  # noqa: E402
from timar_msgs.msg import AudioChunk, TurnEvent  # noqa: E402

pytestmark = pytest.mark.ros

BLOCK = 320
NODES = {"capture": "CaptureNode", "playback": "PlaybackNode", "turns": "TurnsNode"}
LISTENED = ("user/audio_raw", "user/audio", "agent/audio_planned", "agent/audio")
DECIDED = ("voice_activity", "turn_events", "floor", "/diagnostics")


class Probe:
    """Hear every topic of the audio room."""

    def __init__(self) -> None:
        rclpy.init()
        self.node = rclpy.create_node("probe")
        self.heard: dict[str, list] = collections.defaultdict(list)
        for name in (*LISTENED, *DECIDED):
            topic = TOPICS[name]
            qos = qos_of(topic)
            qos.history = HistoryPolicy.KEEP_ALL  # a probe that is held up on a busy machine loses nothing
            self.node.create_subscription(
                message_type(topic.type_name), topic.name, self.heard[name].append, qos
            )
        self._executor = rclpy.executors.SingleThreadedExecutor()
        self._executor.add_node(self.node)

    def spin_until(self, condition: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
        end = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end, {name: len(messages) for name, messages in self.heard.items()}
            self._executor.spin_once(timeout_sec=0.05)

    def health(self, node: str) -> tuple[int, str]:
        """Return level and message of a node's newest diagnostics."""
        for array in reversed(self.heard["/diagnostics"]):
            if array.status[0].name == f"/{node}":
                return array.status[0].level[0], array.status[0].message
        return -1, ""

    def value(self, node: str, key: str) -> str:
        for array in reversed(self.heard["/diagnostics"]):
            if array.status[0].name == f"/{node}":
                return {pair.key: pair.value for pair in array.status[0].values}[key]
        return ""

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown()


@pytest.fixture
def probe() -> Iterator[Probe]:
    probe = Probe()
    yield probe
    probe.close()


def start(name: str, **parameters: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "timar_common.base_node", f"timar_audio.{name}_node:{NODES[name]}"]
    command += ["--ros-args"]
    for key, value in parameters.items():
        command += ["-p", f"{key}:={value}"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


@contextlib.contextmanager
def running(*processes: subprocess.Popen[str]) -> Iterator[list[str]]:
    """End the processes in order at the end, and add what each wrote to the log."""
    logs: list[str] = []
    try:
        yield logs
        for process in processes:
            process.send_signal(signal.SIGINT)
        for process in processes:
            logs.append(process.communicate(timeout=PATIENCE_S)[1])
            assert process.returncode == 0, logs[-1]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def bursts(seconds: float, *spoken: tuple[float, float]) -> np.ndarray:
    """Return quiet noise with loud noise in the given stretches [s], which webrtcvad takes for speech."""
    rng = np.random.default_rng(0)
    samples = rng.standard_normal(round(seconds * 16_000)) * 1e-4
    for start_s, end_s in spoken:
        samples[round(start_s * 16_000) : round(end_s * 16_000)] *= 2000
    return samples


def write(path: pathlib.Path, samples: np.ndarray) -> str:
    soundfile.write(path, samples, 16_000, subtype="PCM_16")
    return str(path)


def sound_of(messages: list) -> np.ndarray:
    return np.concatenate([np.frombuffer(message.samples, np.int16) for message in messages])


def stamps_ns(messages: list) -> np.ndarray:
    return np.array([Time.from_msg(message.header.stamp).nanoseconds for message in messages])


def test_a_pair_of_files_of_different_length_runs_through_all_three_nodes(probe, tmp_path):
    user_file = write(tmp_path / "user.wav", bursts(3.0, (0.5, 1.5)))
    agent_file = write(tmp_path / "agent.wav", bursts(4.0, (2.0, 3.5)))
    turns = start("turns")
    playback = start(
        "playback", source="file", file=agent_file, wait_for_subscribers=2, wait_for_plan_subscribers=1,
        wait_timeout_s=PATIENCE_S,
    )  # fmt: skip
    capture = start(
        "capture",
        source="file",
        file=user_file,
        wait_for_subscribers=2,
        wait_for_raw_subscribers=2,
        wait_timeout_s=PATIENCE_S,
    )
    with running(capture, playback, turns) as logs:
        probe.spin_until(lambda: len(probe.heard["agent/audio"]) >= 250)
        probe.spin_until(lambda: len(probe.heard["floor"]) >= 4)

    blocks = {name: probe.heard[name] for name in ("user/audio_raw", "user/audio", "agent/audio")}
    for name, messages in blocks.items():
        firsts = [message.first_sample for message in messages]
        assert firsts == list(range(0, BLOCK * len(messages), BLOCK)), name
        assert {len(message.samples) for message in messages} == {BLOCK}
        assert {message.filled_samples for message in messages} == {0}
        steps_ms = np.diff(stamps_ns(messages)) / 1e6
        np.testing.assert_allclose(steps_ms, 20.0, atol=1.0)
    both = min(len(messages) for messages in blocks.values())
    apart_ms = (stamps_ns(blocks["user/audio"][:both]) - stamps_ns(blocks["agent/audio"][:both])) / 1e6
    np.testing.assert_allclose(apart_ms, 0.0, atol=2.0)

    for name, file in (("user/audio", user_file), ("agent/audio", agent_file)):
        wanted, _ = soundfile.read(file, dtype="int16")
        heard = sound_of(blocks[name])
        np.testing.assert_array_equal(heard[: wanted.size], wanted)
        assert not heard[wanted.size :].any()

    planned = probe.heard["agent/audio_planned"]
    np.testing.assert_array_equal(sound_of(planned), soundfile.read(agent_file, dtype="int16")[0])
    activity = [(a.speaker, a.first_sample) for a in probe.heard["voice_activity"]]
    for speaker in (0, 1):
        firsts = [first for who, first in activity if who == speaker]
        # The sources wait for those who hear them, and nobody for the probe: it may find the turns node late.
        assert firsts[0] < 0.5 * 16_000
        assert firsts == list(range(firsts[0], firsts[0] + BLOCK * len(firsts), BLOCK))

    events = [(e.speaker, e.kind, e.first_sample / 16_000) for e in probe.heard["turn_events"]]
    user, agent = TurnEvent.USER, TurnEvent.AGENT
    assert [event[:2] for event in events] == [
        (user, TurnEvent.START), (user, TurnEvent.END), (agent, TurnEvent.START), (agent, TurnEvent.END),
    ]  # fmt: skip
    np.testing.assert_allclose([event[2] for event in events], [0.5, 0.5, 2.0, 2.0], atol=0.06)
    start_ns = stamps_ns(blocks["user/audio"])[0]
    for event in probe.heard["turn_events"]:
        spoken = event.first_sample if event.kind == TurnEvent.START else event.end_sample
        stamp_ns = Time.from_msg(event.header.stamp).nanoseconds
        assert abs(stamp_ns - start_ns - spoken * 62_500) < 2e6
    assert [message.state for message in probe.heard["floor"][-4:]] == [1, 0, 2, 0]
    assert logs[0].count("user.wav ended after 3.00 s; silence follows") == 1
    assert logs[1].count("agent.wav is planned to its end; silence follows") == 1


def test_a_file_starts_without_its_subscribers_after_a_warning(probe, tmp_path):
    file = write(tmp_path / "user.wav", bursts(1.0))
    capture = start("capture", source="file", file=file, wait_for_subscribers=7, wait_timeout_s=0.5)
    with running(capture) as logs:
        probe.spin_until(lambda: len(probe.heard["user/audio"]) >= 10)
    assert "of 7 to user/audio subscribers came within 0.5 s; the file starts without the others" in logs[0]


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("capture", {"source": "file", "file": "/nowhere.wav"}, "there is no sound file /nowhere.wav"),
        ("capture", {"source": "file"}, "source is 'file' but file is empty"),
        ("capture", {"source": "microphone", "device": "elephant"}, "microphone"),
        ("capture", {"block_ms": 5}, "block_ms"),
        ("capture", {"blokk_ms": 20}, "no parameter 'blokk_ms'"),
        ("playback", {"source": "file", "file": "/nowhere.wav"}, "there is no sound file /nowhere.wav"),
        ("turns", {"frame_ms": 25}, "frame_ms is 25, expected 10, 20 or 30"),
    ],
)
def test_bad_input_refuses_the_start_with_a_sentence(name, parameters, words):
    process = start(name, **parameters)
    _, log = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == START_REFUSED
    assert words in log
    assert "Traceback" not in log


def test_a_truncated_file_plays_with_a_warning(probe, tmp_path):
    path = pathlib.Path(write(tmp_path / "cut.wav", bursts(2.0, (0.2, 0.8))))
    path.write_bytes(path.read_bytes()[: 44 + 2 * 16_000])
    capture = start("capture", source="file", file=path, wait_for_subscribers=1)
    with running(capture) as logs:
        probe.spin_until(lambda: len(probe.heard["user/audio"]) >= 70)
    assert logs[0].count("is cut short") == 1
    assert sound_of(probe.heard["user/audio"])[:16_000].any()


def chunk(first_sample: int, samples: int = BLOCK, **changes: object) -> AudioChunk:
    message = AudioChunk(sample_rate=16_000, first_sample=first_sample, samples=[0] * samples)
    message.header.stamp = Time(nanoseconds=time.time_ns()).to_msg()
    for name, value in changes.items():
        setattr(message, name, value)
    return message


@pytest.mark.parametrize(("name", "topic"), [("turns", "user/audio"), ("playback", "user/audio_raw")])
def test_impossible_messages_are_refused_counted_and_survived(probe, name, topic):
    publisher = probe.node.create_publisher(AudioChunk, topic, qos_of(TOPICS[topic]))
    bad = [
        chunk(BLOCK, sample_rate=48_000), chunk(BLOCK, samples=0), chunk(-BLOCK), chunk(1 << 50),
        chunk(BLOCK, filled_samples=BLOCK + 1),
    ]  # fmt: skip
    with running(start(name)):
        probe.spin_until(lambda: publisher.get_subscription_count() == 2)
        probe.spin_until(lambda: probe.health(name)[0] >= 0)
        publisher.publish(chunk(0))
        for message in bad:
            publisher.publish(message)
        publisher.publish(chunk(BLOCK))
        answers = "voice_activity" if name == "turns" else "agent/audio"
        probe.spin_until(lambda: len(probe.heard[answers]) >= 2)
        probe.spin_until(lambda: int(probe.value(name, "bad_messages")) == len(bad))


@pytest.mark.sound
def test_a_microphone_is_heard_and_its_vanishing_is_told_in_diagnostics(probe, virtual_sound):
    capture = start("capture", source="microphone", device="pulse", native_rate_hz=16_000)
    with running(capture) as logs:
        probe.spin_until(lambda: len(probe.heard["user/audio"]) >= 50)
        virtual_sound.stop()
        probe.spin_until(lambda: probe.health("capture")[0] == 2)
        assert "microphone 'pulse' has vanished" in probe.health("capture")[1]
    assert logs[0].count("has vanished") == 1
    firsts = [message.first_sample for message in probe.heard["user/audio"]]
    assert firsts == list(range(0, BLOCK * len(firsts), BLOCK))
