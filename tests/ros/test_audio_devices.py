"""Sound devices that come, go and come back, and a voice that is heard by the microphone beside it."""

from __future__ import annotations

import collections
import contextlib
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from node_process import running_nodes

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed; `make test` installs it")

from timar_common.room_node import message_type, qos_of  # noqa: E402
from timar_common.topics import TOPICS  # noqa: E402
from timar_msgs.msg import SpeechChunk  # noqa: E402

pytestmark = [pytest.mark.ros, pytest.mark.sound]

BLOCK = 320
MICROPHONE = {"source": "microphone", "device": "pulse", "native_rate_hz": 16_000}


class Probe:
    def __init__(self) -> None:
        rclpy.init()
        self.node = rclpy.create_node("probe")
        self.heard: dict[str, list] = collections.defaultdict(list)
        for name in ("user/audio_raw", "user/audio", "agent/audio", "/diagnostics"):
            topic = TOPICS[name]
            self.node.create_subscription(
                message_type(topic.type_name), name, self.heard[name].append, qos_of(topic)
            )
        self.speech = self.node.create_publisher(SpeechChunk, "agent/speech", qos_of(TOPICS["agent/speech"]))
        self._executor = rclpy.executors.SingleThreadedExecutor()
        self._executor.add_node(self.node)

    def spin_until(self, condition: Callable[[], bool], timeout_s: float = 20.0) -> float:
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
        # A second until it is told in the log, and up to one more until the next diagnostics.
        assert probe.spin_until(lambda: probe.status("capture")[0] == 2) < 2.2
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
    assert np.abs(elapsed - 0.02 * np.arange(len(blocks))).max() < 0.05
    assert log[0].count("has vanished") == 1
    assert log[0].count("it is back") == 1


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


def test_the_voice_comes_out_of_the_loudspeaker_at_its_place_on_the_microphones_clock(probe, virtual_sound):
    """The virtual device plays into its own microphone, so the agent's samples are seen in user/audio_raw."""
    rng = np.random.default_rng(0)
    burst = (rng.standard_normal(64_000) * 3000).astype(np.int16)
    options = {"playback__sink": "speaker", "playback__device": "pulse", "playback__speaker_rate_hz": 16_000}
    options |= {f"capture__{key}": value for key, value in MICROPHONE.items()}
    with running("capture", "playback", **options):
        probe.spin_until(lambda: len(probe.heard["agent/audio"]) >= 100)
        probe.spin_until(lambda: probe.speech.get_subscription_count() == 1)
        probe.speech.publish(
            SpeechChunk(utterance_id="a", sample_rate=16_000, is_last=True, samples=burst.tolist())
        )
        probe.spin_until(lambda: np.count_nonzero(probe.sound("agent/audio")) >= 63_000)
        blocks = len(probe.heard["user/audio_raw"])
        probe.spin_until(lambda: len(probe.heard["user/audio_raw"]) >= blocks + 50)
        values = probe.status("playback")[2]
    agent, user = (probe.sound(name).astype(np.float64) for name in ("agent/audio", "user/audio_raw"))
    start = int(np.flatnonzero(agent)[0])
    lags = []
    for part in (start + 8000, start + 24_000, start + 44_000):
        piece = agent[part : part + 8000]
        around = user[part - 3200 : part + 8000 + 6400]
        lags.append(int(np.correlate(around, piece, "valid").argmax()) - 3200)
    # PulseAudio's own buffers are not told to anybody: a constant delay, the same from start to end.
    assert max(lags) - min(lags) < 48, lags
    assert -160 < min(lags) < 3200, lags
    assert int(values["speaker_jumps"]) <= 2
