"""Sound devices that come, go and come back, and a voice that is heard by the microphone beside it."""

from __future__ import annotations

import collections
import contextlib
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from node_process import PATIENCE_S, running_nodes

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed; `make test` installs it")

from rclpy.qos import HistoryPolicy  # noqa: E402
from timar_common.base_node import message_type, qos_of  # noqa: E402
from timar_common.topics import TOPICS  # noqa: E402
from timar_msgs.msg import SpeechChunk  # noqa: E402

pytestmark = [pytest.mark.ros, pytest.mark.sound]

BLOCK = 320
MICROPHONE = {"source": "microphone", "device": "pulse", "native_rate_hz": 16_000}
BOTH = {"playback__sink": "speaker", "playback__device": "pulse", "playback__speaker_rate_hz": 16_000}
BOTH |= {f"capture__{key}": value for key, value in MICROPHONE.items()}


class Probe:
    def __init__(self) -> None:
        rclpy.init()
        self.node = rclpy.create_node("probe")
        self.heard: dict[str, list] = collections.defaultdict(list)
        for name in ("user/audio_raw", "user/audio", "agent/audio", "/diagnostics"):
            topic = TOPICS[name]
            qos = qos_of(topic)
            qos.history = HistoryPolicy.KEEP_ALL  # a probe that is held up on a busy machine loses nothing
            self.node.create_subscription(message_type(topic.type_name), name, self.heard[name].append, qos)
        self.speech = self.node.create_publisher(SpeechChunk, "agent/speech", qos_of(TOPICS["agent/speech"]))
        self._executor = rclpy.executors.SingleThreadedExecutor()
        self._executor.add_node(self.node)

    def spin_until(self, condition: Callable[[], bool], timeout_s: float = PATIENCE_S) -> float:
        """Return how long it took [s]."""
        start = time.monotonic()
        while not condition():
            counts = {name: len(messages) for name, messages in self.heard.items()}
            assert time.monotonic() < start + timeout_s, counts
            self._executor.spin_once(timeout_sec=0.02)
        return time.monotonic() - start

    def status(self, node: str) -> tuple[int, str, dict[str, str]]:
        for array in reversed(self.heard["/diagnostics"]):
            status = array.status[0]
            if status.name == f"/{node}":
                return status.level[0], status.message, {pair.key: pair.value for pair in status.values}
        return -1, "", {}

    def sound(self, name: str) -> np.ndarray:
        """Return the sound of a topic, each sample in its place."""
        messages = self.heard[name]
        out = np.zeros(messages[-1].first_sample + len(messages[-1].samples), np.int16)
        for message in messages:
            out[message.first_sample : message.first_sample + len(message.samples)] = message.samples
        return out

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown()


@pytest.fixture
def probe() -> Iterator[Probe]:
    probe = Probe()
    yield probe
    probe.close()


def running(*nodes: str, **parameters: object) -> contextlib.AbstractContextManager[list[str]]:
    """Run nodes of this room in one process; parameters are written node__name."""
    classes = {"capture": "CaptureNode", "playback": "PlaybackNode"}
    return running_nodes(
        [f"timar_audio.{node}_node:{classes[node]}" for node in nodes],
        {key.replace("__", ":"): value for key, value in parameters.items()},
    )


def test_an_unplugged_microphone_is_told_and_comes_back_while_the_clock_goes_on(probe, virtual_sound):
    with running("capture", **MICROPHONE) as log:
        probe.spin_until(lambda: len(probe.heard["user/audio"]) >= 50)
        virtual_sound.stop()
        # A second until it is told in the log, one until the next diagnostics; a busy machine adds its own.
        assert probe.spin_until(lambda: probe.status("capture")[0] == 2) < 8.0
        before = len(probe.heard["user/audio"])
        probe.spin_until(lambda: len(probe.heard["user/audio"]) >= before + 50)
        assert probe.heard["user/audio"][-1].filled_samples == BLOCK
        virtual_sound.start()
        probe.spin_until(lambda: probe.heard["user/audio"][-1].filled_samples == 0)
        probe.spin_until(lambda: len(probe.heard["user/audio"]) >= before + 150)
    blocks = probe.heard["user/audio"]
    assert [b.first_sample for b in blocks] == list(range(0, BLOCK * len(blocks), BLOCK))
    stamps = np.array([b.header.stamp.sec + b.header.stamp.nanosec * 1e-9 for b in blocks])
    elapsed = stamps - stamps[0]
    # The time without a microphone was a second and more; what is left is how late a busy machine hears.
    assert np.abs(elapsed - 0.02 * np.arange(len(blocks))).max() < 0.3
    assert log[0].count("has vanished") == 1
    assert log[0].count("it is back") == 1


def test_the_clock_goes_on_while_the_sound_server_is_frozen_and_nothing_shifts_afterwards(
    probe, virtual_sound
):
    """Every call of PortAudio may hang then: no block came for as long as the server stood still."""
    with running("capture", "playback", **BOTH) as log:
        probe.spin_until(lambda: len(probe.heard["agent/audio"]) >= 100)
        before = lag_of(*utter_whole(probe, seconds=1), 4000)
        with virtual_sound.frozen():
            count = len(probe.heard["user/audio"])
            took_s = probe.spin_until(lambda: len(probe.heard["user/audio"]) >= count + 150)
        assert took_s < 6.0  # three seconds of silence, in their time
        probe.spin_until(lambda: probe.heard["user/audio"][-1].filled_samples == 0)
        after = lag_of(*utter_whole(probe, seconds=1), 4000)
        probe.heard["/diagnostics"].clear()
        probe.spin_until(lambda: "samples_lost" in probe.status("capture")[2])
        lost = int(probe.status("capture")[2]["samples_lost"])
    blocks = probe.heard["user/audio"]
    assert [b.first_sample for b in blocks] == list(range(0, BLOCK * len(blocks), BLOCK))
    assert sum(b.filled_samples for b in blocks) == pytest.approx(lost, abs=BLOCK)
    assert 2.0 * 16_000 < lost < 6.0 * 16_000
    stamps = np.array([b.header.stamp.sec + b.header.stamp.nanosec * 1e-9 for b in blocks])
    assert np.abs(stamps - stamps[0] - 0.02 * np.arange(len(blocks))).max() < 0.1
    # The voice comes back to the microphone at its place as before: both devices were opened again.
    assert abs(after - before) < 160, (before, after)
    assert log[0].count("microphone 'pulse' has vanished") == 1
    assert "it is back" in log[0]


def test_a_device_that_is_unloaded_and_loaded_again_is_heard_again(probe, virtual_sound):
    """PulseAudio moves the stream to nothing: the microphone brings no sound until its device is back."""
    with running("capture", **MICROPHONE) as log:
        probe.spin_until(lambda: len(probe.heard["user/audio"]) >= 50)
        virtual_sound.unplug()
        probe.spin_until(lambda: probe.status("capture")[0] == 2)
        virtual_sound.plug_in()
        probe.spin_until(lambda: probe.heard["user/audio"][-1].filled_samples == 0)
        before = len(probe.heard["user/audio"])
        probe.spin_until(lambda: len(probe.heard["user/audio"]) >= before + 50)
    blocks = probe.heard["user/audio"]
    assert [b.first_sample for b in blocks] == list(range(0, BLOCK * len(blocks), BLOCK))
    assert "it is back" in log[0]


@pytest.mark.parametrize("virtual_sound", [48_000], indirect=True)
def test_a_headset_that_switches_its_profile_in_mid_sentence_hears_and_speaks_on(probe, virtual_sound):
    """As Bluetooth does when its microphone is opened: 48 kHz vanish, and 8 kHz come under the same name."""
    with running("capture", "playback", **BOTH) as log:
        probe.spin_until(lambda: len(probe.heard["agent/audio"]) >= 100)
        noise = (np.random.default_rng(0).standard_normal(8 * 16_000) * 3000).astype(np.int16)
        probe.spin_until(lambda: probe.speech.get_subscription_count() == 1)
        probe.speech.publish(
            SpeechChunk(utterance_id="cut", sample_rate=16_000, is_last=True, samples=noise.tolist())
        )
        probe.spin_until(lambda: np.count_nonzero(probe.sound("agent/audio")) > 16_000)
        virtual_sound.unplug()
        virtual_sound.plug_in(8_000)
        count = len(probe.heard["user/audio"])
        probe.spin_until(lambda: len(probe.heard["user/audio"]) >= count + 100)
        probe.spin_until(lambda: probe.heard["user/audio"][-1].filled_samples == 0)
        # What was being said is over by now, heard or not; what is said next is heard whole.
        probe.spin_until(lambda: not probe.sound("agent/audio")[-32_000:].any())
        lag = lag_of(*utter_whole(probe, seconds=1), 4000)
    blocks = probe.heard["user/audio"]
    assert [b.first_sample for b in blocks] == list(range(0, BLOCK * len(blocks), BLOCK))
    assert -160 < lag < 3200, (lag, log)


def test_the_voice_comes_out_of_the_loudspeaker_at_its_place_on_the_microphones_clock(probe, virtual_sound):
    """The virtual device plays into its own microphone, so the agent's samples are seen in user/audio_raw."""
    with running("capture", "playback", **BOTH):
        probe.spin_until(lambda: len(probe.heard["agent/audio"]) >= 100)
        said = utter_whole(probe)
    lags = [lag_of(*said, part) for part in (8000, 24_000, 44_000)]
    # PulseAudio's own buffers are not told to anybody: a constant delay, the same from start to end.
    assert max(lags) - min(lags) < 48, lags
    assert -160 < min(lags) < 3200, lags


def lag_of(start: int, agent: np.ndarray, user: np.ndarray, part: int) -> int:
    """Return how much later half a second of what was said is heard by the microphone [samples]."""
    around = user[start + part - 3200 : start + part + 8000 + 6400]
    return int(np.correlate(around, agent[part : part + 8000], "valid").argmax()) - 3200


def jumps_told(probe: Probe) -> int:
    """Return how often playback has set its place on the microphone's clock anew, up to now."""
    probe.heard["/diagnostics"].clear()
    probe.spin_until(lambda: "speaker_jumps" in probe.status("playback")[2])
    return int(probe.status("playback")[2]["speaker_jumps"])


def utter_whole(probe: Probe, seconds: int = 4) -> tuple[int, np.ndarray, np.ndarray]:
    """Say noise until it was played whole: a loudspeaker that was held up says nothing of its clock."""
    probe.spin_until(lambda: probe.speech.get_subscription_count() == 1)
    for _ in range(8):
        jumps = jumps_told(probe)
        start, agent, user = utter(probe, seconds)
        if np.count_nonzero(agent) == agent.size and jumps_told(probe) == jumps:
            return start, agent, user
    pytest.fail("the loudspeaker ran dry in every one of eight utterances")


def utter(probe: Probe, seconds: int) -> tuple[int, np.ndarray, np.ndarray]:
    """Say some seconds of noise.

    Returns:
        The sample it was heard from, its samples of agent/audio from there on, and all of user/audio_raw.
    """
    before, size = len(probe.sound("agent/audio")), seconds * 16_000
    noise = (np.random.default_rng(before).standard_normal(size) * 3000).astype(np.int16)
    noise[noise == 0] = 1
    chunk = SpeechChunk(utterance_id=f"u{before}", sample_rate=16_000, is_last=True, samples=noise.tolist())
    probe.speech.publish(chunk)
    probe.spin_until(lambda: probe.sound("agent/audio")[before:].any())
    start = before + int(np.flatnonzero(probe.sound("agent/audio")[before:])[0])
    for name in ("agent/audio", "user/audio_raw"):
        probe.spin_until(lambda name=name: len(probe.sound(name)) >= start + size + 8000)
    agent, user = (probe.sound(name).astype(np.float64) for name in ("agent/audio", "user/audio_raw"))
    return start, agent[start : start + size], user
