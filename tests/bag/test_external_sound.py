"""Bags of other packages' nodes: their sound is heard as ours, whatever its type, rate and channels."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from timar_audio.mpeg_stream import read_frame
from timar_bag.bag import BagReader
from timar_bag.graph_inputs import GraphInputs
from timar_common.messages import stamp_ns

SECONDS = 2.0
BEGIN_NS = 1_700_000_000_000_000_000
# The two packages of one name, as they are: ros-drivers/audio_common (ros2) and mgonzs13/audio_common 4.0.
DRIVERS = {
    "AudioData": "uint8[] data",
    "AudioDataStamped": "std_msgs/Header header\naudio_common_msgs/AudioData audio",
    "AudioInfo": "uint8 channels\nuint32 sample_rate\nstring sample_format\nuint32 bitrate\n"
    "string coding_format",
}
FOXGLOVE = {
    "RawAudio": "builtin_interfaces/Time timestamp\nuint8[] data\nstring format\nuint32 sample_rate\n"
    "uint32 number_of_channels",
}
MGONZS = {
    "AudioInfo": "int32 format\nint32 channels\nint32 rate\nint32 chunk",
    "AudioData": "float32[] float32_data\nint32[] int32_data\nint16[] int16_data\nint8[] int8_data\n"
    "uint8[] uint8_data",
    "Audio": "audio_common_msgs/AudioData audio_data\naudio_common_msgs/AudioInfo info",
    "AudioStamped": "std_msgs/Header header\naudio_common_msgs/Audio audio",
}  # fmt: skip


def voice(rate_hz: int, pitch_hz: float) -> np.ndarray:
    time_s = np.arange(round(SECONDS * rate_hz)) / rate_hz
    return np.rint(6000 * np.sin(2 * np.pi * pitch_hz * time_s) * np.sin(np.pi * time_s)).astype(np.int16)


class Foreign:
    """A bag written message by message, with the types of one of the packages."""

    def __init__(self, path: Path, definitions: dict[str, str], package: str = "audio_common_msgs") -> None:
        self.types, self._package = get_typestore(Stores.ROS2_KILTED), package
        for name, text in definitions.items():
            self.types.register(get_types_from_msg(text, f"{package}/msg/{name}"))
        self._writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
        self._writer.open()
        self._topics: dict[str, Any] = {}
        self._entries: list[tuple[int, str, bytes]] = []

    def make(self, name: str, **fields: Any) -> Any:
        full = name if "/" in name else f"{self._package}/msg/{name}"
        return self.types.types[full](**fields)

    def header(self, ns: int) -> Any:
        stamp = self.make("builtin_interfaces/msg/Time", sec=ns // 10**9, nanosec=ns % 10**9)
        return self.make("std_msgs/msg/Header", stamp=stamp, frame_id="mic")

    def add(self, topic: str, name: str, receive_ns: int, message: Any) -> None:
        full = name if "/" in name else f"{self._package}/msg/{name}"
        if topic not in self._topics:
            self._topics[topic] = self._writer.add_connection(topic, full, typestore=self.types)
        self._entries.append((receive_ns, topic, bytes(self.types.serialize_cdr(message, full))))

    def close(self) -> None:
        for receive_ns, topic, data in sorted(self._entries):
            self._writer.write(self._topics[topic], receive_ns, data)
        self._writer.close()


def blocks(samples: np.ndarray, rate_hz: int, ms: int) -> list[tuple[int, np.ndarray]]:
    """Return (ROS time of the first sample, samples) of messages of some length."""
    size = rate_hz * ms // 1000
    return [
        (BEGIN_NS + round(first * 1e9 / rate_hz), samples[first : first + size])
        for first in range(0, len(samples) - size + 1, size)
    ]


def info_of(bag: Foreign, rate_hz: int, channels: int, coding: str = "wave") -> Any:
    return bag.make(
        "AudioInfo",
        channels=channels,
        sample_rate=rate_hz,
        sample_format="S16LE",
        bitrate=0,
        coding_format=coding,
    )


def ros_drivers(path: Path) -> None:
    """Stamped bytes of two channels at 44.1 kHz; what they mean stands in AudioInfo."""
    bag, rate = Foreign(path, DRIVERS), 44_100
    bag.add("/audio/audio_info", "AudioInfo", BEGIN_NS, info_of(bag, rate, 2))
    for first_ns, part in blocks(voice(rate, 220.0), rate, 20):
        data = bag.make("AudioData", data=np.frombuffer(np.repeat(part, 2).tobytes(), np.uint8))
        message = bag.make("AudioDataStamped", header=bag.header(first_ns), audio=data)
        bag.add("/audio/audio_stamped", "AudioDataStamped", first_ns + 22_000_000, message)
    bag.close()


def mgonzs13(path: Path) -> None:
    """Stamped numbers at 48 kHz, once as int16 and once as float32."""
    bag, rate = Foreign(path, MGONZS), 48_000
    empty = {f"{kind}_data": np.zeros(0, kind) for kind in ("float32", "int32", "int16", "int8", "uint8")}
    for first_ns, part in blocks(voice(rate, 220.0), rate, 32):
        is_float = (first_ns - BEGIN_NS) // 10**9 == 0
        field = {"float32_data": (part / 32768).astype(np.float32)} if is_float else {"int16_data": part}
        info = bag.make("AudioInfo", format=1 if is_float else 8, channels=1, rate=rate, chunk=len(part))
        audio = bag.make("Audio", audio_data=bag.make("AudioData", **{**empty, **field}), info=info)
        message = bag.make("AudioStamped", header=bag.header(first_ns), audio=audio)
        bag.add("/microphone", "AudioStamped", first_ns + 33_000_000, message)
    bag.close()


def ros4hri(path: Path) -> None:
    """Bytes without stamp: 16 kHz, one channel, as REP-155 has voices; what they mean stands beside them."""
    bag, rate = Foreign(path, DRIVERS), 16_000
    bag.add("/humans/voices/abcde/audio_info", "AudioInfo", BEGIN_NS, info_of(bag, rate, 1))
    for first_ns, part in blocks(voice(rate, 220.0), rate, 20):
        data = bag.make("AudioData", data=np.frombuffer(part.tobytes(), np.uint8))
        bag.add("/humans/voices/abcde/audio", "AudioData", first_ns + 20_000_000, data)
    bag.close()


def pieces(path: Path, data: bytes, rate_hz: int, bytes_per_s: float) -> None:
    """AudioData of a coded stream, cut as a network cuts it, without info."""
    bag = Foreign(path, DRIVERS)
    for at in range(0, len(data), 700):
        message = bag.make("AudioData", data=np.frombuffer(data[at : at + 700], np.uint8))
        bag.add("/audio", "AudioData", BEGIN_NS + round(1e9 * (at + 700) / bytes_per_s), message)
    bag.close()


def wav_in_pieces(path: Path) -> None:
    """audio_capture with format:=wave behind wavenc: a header, then samples of 32 kHz."""
    file = io.BytesIO()
    soundfile.write(file, voice(32_000, 220.0), 32_000, "PCM_16", format="WAV")
    pieces(path, file.getvalue(), 32_000, 64_000.0)


def mp3(path: Path) -> None:
    """audio_capture as it comes: MP3, a frame a message, and no info in old ones."""
    file = io.BytesIO()
    soundfile.write(file, voice(32_000, 220.0), 32_000, format="MP3")
    data, bag = file.getvalue(), Foreign(path, DRIVERS)
    at, sent_ns = read_frame(data).size, BEGIN_NS  # Without the Xing frame, which a stream has not.
    while (frame := read_frame(data, at)) is not None:
        sent_ns += round(1e9 * frame.samples / frame.rate_hz)
        message = bag.make("AudioData", data=np.frombuffer(data[at : at + frame.size], np.uint8))
        bag.add("/audio", "AudioData", sent_ns, message)
        at += frame.size
    bag.close()


def foxglove(path: Path) -> None:
    """RawAudio at 48 kHz stereo, which says all."""
    bag, rate = Foreign(path, FOXGLOVE, "foxglove_msgs"), 48_000
    for first_ns, part in blocks(voice(rate, 220.0), rate, 20):
        stamp = bag.make("builtin_interfaces/msg/Time", sec=first_ns // 10**9, nanosec=first_ns % 10**9)
        data = np.frombuffer(np.repeat(part, 2).tobytes(), np.uint8)
        message = bag.make(
            "RawAudio", timestamp=stamp, data=data, format="pcm-s16", sample_rate=rate, number_of_channels=2
        )
        bag.add("/mic", "RawAudio", first_ns + 21_000_000, message)
    bag.close()


def ros_1(path: Path) -> None:
    """audio_capture of ROS 1 beside its AudioInfo, 32 kHz mono, in a .bag file."""
    store, rate = get_typestore(Stores.ROS1_NOETIC), 32_000
    names = {name: f"audio_common_msgs/msg/{name}" for name in DRIVERS}
    for name in ("AudioData", "AudioDataStamped", "AudioInfo"):
        store.register(get_types_from_msg(DRIVERS[name], names[name]))
    made = store.types
    with Ros1Writer(path.with_suffix(".bag")) as writer:
        topics = {
            name: writer.add_connection(f"/audio/{topic}", names[name], typestore=store)
            for name, topic in (("AudioInfo", "audio_info"), ("AudioDataStamped", "audio_stamped"))
        }
        info = made[names["AudioInfo"]](
            channels=1, sample_rate=rate, sample_format="S16LE", bitrate=0, coding_format="wave"
        )
        writer.write(topics["AudioInfo"], BEGIN_NS, store.serialize_ros1(info, names["AudioInfo"]))
        for number, (first_ns, part) in enumerate(blocks(voice(rate, 220.0), rate, 20)):
            stamp = made["builtin_interfaces/msg/Time"](sec=first_ns // 10**9, nanosec=first_ns % 10**9)
            header = made["std_msgs/msg/Header"](seq=number, stamp=stamp, frame_id="mic")
            audio = made[names["AudioData"]](data=np.frombuffer(part.tobytes(), np.uint8))
            message = made[names["AudioDataStamped"]](header=header, audio=audio)
            data = store.serialize_ros1(message, names["AudioDataStamped"])
            writer.write(topics["AudioDataStamped"], first_ns + 21_000_000, data)


CONVENTIONS = [ros_drivers, mgonzs13, ros4hri, wav_in_pieces, mp3, foxglove, ros_1]


def heard(bag: Path, topic: str = "user/audio", **named: str) -> tuple[np.ndarray, list[Any], GraphInputs]:
    """Return a voice as one row by its place, its messages, and what read it."""
    with BagReader(bag) as reader:
        source = GraphInputs(reader, **named)
        found = [entry.message for entry, _ in source.messages({topic}) if entry.topic == topic]
    samples = np.zeros(found[-1].first_sample + len(found[-1].samples))
    for message in found:
        samples[message.first_sample : message.first_sample + len(message.samples)] = message.samples
    return samples, found, source


@pytest.mark.slow
@pytest.mark.parametrize("write", CONVENTIONS, ids=lambda write: write.__name__)
def test_external_sound_is_heard_as_ours(write: Callable[[Path], None], tmp_path: Path):
    write(tmp_path / "bag")
    samples, found, source = heard(next(tmp_path.glob("bag*")))
    assert any("was taken as user/audio" in note for note in source.notes)
    assert source.issues() == []
    wanted = voice(16_000, 220.0)
    count = min(len(samples), len(wanted)) - 400
    assert count > 0.9 * len(wanted)
    lag = max(range(-200, 201), key=lambda k: float(samples[400 + k : count + k] @ wanted[400:count]))
    alike = np.corrcoef(samples[400 + lag : count + lag], wanted[400:count])[0, 1]
    place_ms = (stamp_ns(found[0]) - BEGIN_NS) / 1e6 - found[0].first_sample / 16 + lag / 16
    # MP3 loses a little, and what its encoder holds back is no part of any message.
    assert alike > (0.99 if write is mp3 else 0.999)
    assert abs(place_ms) < (60 if write is mp3 else 5), "stamped when it was heard"
    assert all(len(message.samples) == 320 and message.sample_rate == 16_000 for message in found)


def test_a_lost_message_of_external_sound_is_silence_of_its_length(tmp_path: Path):
    bag, rate = Foreign(tmp_path / "bag", DRIVERS), 16_000
    bag.add("/mic/audio_info", "AudioInfo", BEGIN_NS, info_of(bag, rate, 1))
    for number, (first_ns, part) in enumerate(blocks(voice(rate, 220.0), rate, 20)):
        if number not in range(40, 50):
            data = bag.make("AudioData", data=np.frombuffer(part.tobytes(), np.uint8))
            message = bag.make("AudioDataStamped", header=bag.header(first_ns), audio=data)
            bag.add("/mic/audio", "AudioDataStamped", first_ns + 20_000_000, message)
    bag.close()
    _, found, _ = heard(tmp_path / "bag")
    filled = sum(message.filled_samples for message in found)
    assert filled == pytest.approx(10 * 320, abs=320)
    end = found[-1].first_sample + 320
    assert end == pytest.approx(len(voice(rate, 220.0)), abs=640)


def test_both_voices_are_named_and_stand_on_one_counter(tmp_path: Path):
    bag, rate = Foreign(tmp_path / "bag", DRIVERS), 16_000
    for topic, late_ns in (("/mic/audio", 0), ("/head/audio", 500_000_000)):
        for first_ns, part in blocks(voice(rate, 220.0), rate, 20):
            data = bag.make("AudioData", data=np.frombuffer(part.tobytes(), np.uint8))
            message = bag.make("AudioDataStamped", header=bag.header(first_ns + late_ns), audio=data)
            bag.add(topic, "AudioDataStamped", first_ns + late_ns + 20_000_000, message)
    bag.close()
    with BagReader(tmp_path / "bag") as reader, pytest.raises(ValueError, match="several topics of sound"):
        GraphInputs(reader)
    named = {"user_sound": "/mic/audio", "agent_sound": "/head/audio", "sound_layout": "S16LE,16000,1"}
    _, found, source = heard(tmp_path / "bag", "agent/audio", **named)
    assert found[0].first_sample == pytest.approx(8000, abs=320)
    planned = heard(tmp_path / "bag", "agent/audio_planned", **named)[1]
    assert [m.first_sample for m in planned] == [m.first_sample for m in found]
    assert any("no agent/audio_planned" in note for note in source.notes)


def test_topic_that_holds_no_sound_is_refused(tmp_path: Path):
    ros4hri(tmp_path / "bag")
    with BagReader(tmp_path / "bag") as reader, pytest.raises(ValueError, match="/talk holds no sound"):
        GraphInputs(reader, user_sound="/talk")


@pytest.mark.parametrize("kind", ["AudioData", "UInt8MultiArray", "Int16MultiArray"])
def test_sound_of_which_nothing_says_what_it_is_is_asked_for_and_never_guessed(kind: str, tmp_path: Path):
    """12 s of 44.1 kHz stereo once became 66 s of 16 kHz mono."""
    bag, rate = Foreign(tmp_path / "bag", DRIVERS), 44_100
    name = kind if kind == "AudioData" else f"std_msgs/msg/{kind}"
    layout = (
        {}
        if kind == "AudioData"
        else {"layout": bag.make("std_msgs/msg/MultiArrayLayout", dim=[], data_offset=0)}
    )
    for first_ns, part in blocks(voice(rate, 220.0), rate, 20):
        stereo = np.repeat(part, 2)
        data = stereo if kind == "Int16MultiArray" else np.frombuffer(stereo.tobytes(), np.uint8)
        bag.add("/mic", name, first_ns + 20_000_000, bag.make(name, data=data, **layout))
    bag.close()
    named = {} if kind == "AudioData" else {"user_sound": "/mic"}
    with (
        BagReader(tmp_path / "bag") as reader,
        pytest.raises(
            ValueError,
            match=r"/mic brings 3528 bytes a message and nothing says what they mean.*--sound-layout",
        ),
    ):
        GraphInputs(reader, **named)
    samples, _, source = heard(tmp_path / "bag", **named, sound_layout="S16LE,44100,2")
    assert source.issues() == []
    assert len(samples) == pytest.approx(SECONDS * 16_000, abs=640)


def test_an_array_is_no_sound_until_its_topic_is_named(tmp_path: Path):
    bag = Foreign(tmp_path / "bag", DRIVERS)
    layout = bag.make("std_msgs/msg/MultiArrayLayout", dim=[], data_offset=0)
    array = bag.make("std_msgs/msg/UInt8MultiArray", layout=layout, data=np.zeros(64, np.uint8))
    bag.add("/lidar", "std_msgs/msg/UInt8MultiArray", BEGIN_NS, array)
    bag.close()
    with BagReader(tmp_path / "bag") as reader:
        assert not GraphInputs(reader).has("user/audio")


def test_a_ros_1_bag_that_is_cut_or_none_is_refused_with_what_mends_it(tmp_path: Path):
    ros_1(tmp_path / "a")
    whole = (tmp_path / "a.bag").read_bytes()
    for content in (whole[: len(whole) // 2], b"#ROSBAG V2.0\n", b""):
        (tmp_path / "b.bag").write_bytes(content)
        with (
            pytest.raises(ValueError, match=r"b\.bag cannot be read .*`rosbag reindex`"),
            BagReader(tmp_path / "b.bag"),
        ):
            pass
