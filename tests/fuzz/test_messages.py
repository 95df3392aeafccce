"""Whatever a message of another node or program holds, it is taken, or refused by the documented error.

What a component publishes stays finite whatever it was told before.
"""

from __future__ import annotations

import functools
import io
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import soundfile
from component_scenarios import NoddingLandmarker, configurations
from fuzzing import Arrays, Reader, try_mutated
from mutations import Edit, Mutate, mutate_bytes, mutate_fields, mutate_text
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from scripted_bag import BagMaker, Script, add_floor, add_states, add_turns, add_voices
from timar_audio.capture_component import CaptureComponent
from timar_audio.external_audio import ExternalStream
from timar_audio.mpeg_stream import MpegStream
from timar_audio.playback_component import PlaybackComponent
from timar_audio.turns_component import TurnsComponent
from timar_bag.bag import BagReader
from timar_common.component import Component, Publish
from timar_common.messages import decode, new, standard_types
from timar_common.topics import TOPICS
from timar_driver.driver_component import DriverComponent
from timar_perception.images import rgb_of_compressed
from timar_perception.perception_component import PerceptionComponent
from timar_retargeting.retargeting_component import RetargetingComponent
from timar_view.station import HEADER, read_block, read_message, read_start
from timar_view.view_component import ViewComponent
from timar_websocket.protocol import SpeakMessage, decode_from_bot
from timar_websocket.relay import SpeechRelay

MS = 1_000_000
COMPONENTS: dict[str, Callable[[Any], Component]] = {
    "capture": CaptureComponent,
    "playback": PlaybackComponent,
    "turns": TurnsComponent,
    "retargeting": RetargetingComponent,
    "driver": DriverComponent,
    "perception": lambda config: PerceptionComponent(config, NoddingLandmarker()),
    "view": ViewComponent,
}
SOUND_TYPES = {
    "audio_common_msgs/msg/AudioData": "uint8[] data",
    "audio_common_msgs/msg/AudioDataStamped": "std_msgs/Header header\naudio_common_msgs/AudioData audio",
    "foxglove_msgs/msg/RawAudio": "builtin_interfaces/Time timestamp\nuint8[] data\nstring format\n"
    "uint32 sample_rate\nuint32 number_of_channels",
    "mgonzs13_msgs/msg/AudioInfo": "int32 format\nint32 channels\nint32 rate\nint32 chunk",
    "mgonzs13_msgs/msg/AudioData": "float32[] float32_data\nint32[] int32_data\nint16[] int16_data\n"
    "int8[] int8_data\nuint8[] uint8_data",
    "mgonzs13_msgs/msg/Audio": "mgonzs13_msgs/AudioData audio_data\nmgonzs13_msgs/AudioInfo info",
}


def seeds_of(component: Component, folder: Path) -> list[bytes]:
    """Return "TOPIC\\n" and the bytes of good messages of each of its inputs."""
    bag = BagMaker(Script(seconds=1.0), standard_types())
    for part in (add_voices, add_turns, add_states, add_floor):
        part(bag)
    with BagReader(bag.write(folder / "bag")) as reader:
        recorded: dict[str, list[bytes]] = {}
        for topic, _, data in reader.raw_messages(set(component.inputs)):
            recorded.setdefault(topic, []).append(bytes(data))
    types, seeds = standard_types(), []
    for topic in component.inputs:
        empty = new(TOPICS[topic].type_name)
        fresh = bytes(types.serialize_cdr(_on_the_wire(empty), TOPICS[topic].type_name))
        for data in (*recorded.get(topic, [])[:3], fresh):
            seeds.append(topic.encode() + b"\n" + data)
    return seeds


def _on_the_wire(message: Any) -> Any:
    if hasattr(message, "header"):
        message.header = standard_types().types["std_msgs/msg/Header"](
            stamp=standard_types().types["builtin_interfaces/msg/Time"](sec=0, nanosec=0), frame_id=""
        )
    return message


def mutate_serialized(types: Any, type_of: Callable[[str], str]) -> Mutate:
    """Return what changes the fields of "NAME\\n" and a serialized message, or now and then its bytes."""

    def mutate(data: bytes, edits: Sequence[Edit]) -> bytes:
        name, _, body = data.partition(b"\n")
        if edits[0][0] % 4 == 0:
            return name + b"\n" + mutate_bytes(body, edits)
        type_name = type_of(name.decode())
        message = mutate_fields(types.deserialize_cdr(body, type_name), edits)
        try:
            return name + b"\n" + bytes(types.serialize_cdr(message, type_name))
        except Exception:  # Whoever sends cannot write what its type does not hold.
            return name + b"\n" + mutate_bytes(body, edits)

    return mutate


class Listener:
    """Gives a component messages in a time that goes on, and returns what it publishes."""

    def __init__(self, make: Callable[[Any], Component], config: Any) -> None:
        self.component = make(config)
        self.now_ns = itertools.count(10_000 * MS, 10 * MS)
        list(self.component.start(next(self.now_ns)))

    def read(self, path: Path) -> Arrays:
        topic, _, body = path.read_bytes().partition(b"\n")
        now_ns = next(self.now_ns)
        name = topic.decode()
        message = decode(body, TOPICS[name].type_name, lambda ros_ns: now_ns if ros_ns else 0)
        outputs = list(self.component.handle(name, message, now_ns))
        outputs += list(self.component.tick(now_ns + MS))
        outputs += list(self.component.report().values.items())
        return [
            array
            for output in outputs
            if isinstance(output, Publish)
            for array in _numbers(output.message)
            if array.dtype.kind in "fiu"
        ]


def is_taken(listener: Listener, seed: bytes, folder: Path) -> bool:
    """Tell whether a message is a good one: an empty one of most topics is none."""
    path = folder / "seed.bin"
    path.write_bytes(seed)
    try:
        listener.read(path)
    except ValueError:
        return False
    return True


def _numbers(message: Any) -> list[np.ndarray]:
    found = []
    for value in vars(message).values():
        if isinstance(value, (float, int, np.ndarray)):
            found.append(np.asarray(value))
        elif isinstance(value, list):
            found += [array for item in value if hasattr(item, "__dict__") for array in _numbers(item)]
    return found


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_component_takes_or_refuses_whatever_a_message_holds(name: str, tmp_path: Path) -> None:
    config = configurations(tmp_path / "none", tmp_path)[name]
    listener = Listener(COMPONENTS[name], config)
    mutate = mutate_serialized(standard_types(), lambda topic: TOPICS[topic].type_name)
    seeds = [seed for seed in seeds_of(listener.component, tmp_path) if is_taken(listener, seed, tmp_path)]
    assert {seed.partition(b"\n")[0] for seed in seeds}, "none of its inputs is tried"
    try_mutated(Reader(f"messages to {name}", lambda folder: seeds, mutate, listener.read), tmp_path)


@functools.lru_cache
def sound_store() -> Any:
    store = get_typestore(Stores.ROS2_HUMBLE)
    for name, text in SOUND_TYPES.items():
        store.register(get_types_from_msg(text, name))
    return store


def sounds_of_others(folder: Path) -> list[bytes]:
    store, tone = sound_store(), (3000 * np.sin(np.arange(320) / 10)).astype("<i2")
    data = np.frombuffer(tone.tobytes(), np.uint8)
    wav = io.BytesIO()
    soundfile.write(wav, tone, 16_000, "PCM_16", format="WAV")

    def make(name: str, **fields: Any) -> Any:
        return store.types[name](**fields)

    time = make("builtin_interfaces/msg/Time", sec=3, nanosec=5)
    plain = make("audio_common_msgs/msg/AudioData", data=np.frombuffer(wav.getvalue(), np.uint8))
    empty = {f"{kind}_data": np.zeros(0, kind) for kind in ("float32", "int32", "int16", "int8", "uint8")}
    info = make("mgonzs13_msgs/msg/AudioInfo", format=8, channels=1, rate=16_000, chunk=320)
    typed = make("mgonzs13_msgs/msg/AudioData", **{**empty, "int16_data": tone})
    messages = {
        "audio_common_msgs/msg/AudioData": plain,
        "audio_common_msgs/msg/AudioDataStamped": make(
            "audio_common_msgs/msg/AudioDataStamped",
            header=make("std_msgs/msg/Header", stamp=time, frame_id="mic"), audio=plain,
        ),
        "foxglove_msgs/msg/RawAudio": make(
            "foxglove_msgs/msg/RawAudio", timestamp=time, data=data, format="pcm-s16", sample_rate=16_000,
            number_of_channels=1,
        ),
        "mgonzs13_msgs/msg/Audio": make("mgonzs13_msgs/msg/Audio", audio_data=typed, info=info),
    }  # fmt: skip
    return [name.encode() + b"\n" + bytes(store.serialize_cdr(m, name)) for name, m in messages.items()]


def read_sound_of_others(path: Path) -> Arrays:
    name, _, body = path.read_bytes().partition(b"\n")
    try:
        message = sound_store().deserialize_cdr(body, name.decode())
    except Exception as error:  # rclpy would not have handed it on.
        raise ValueError(f"no message: {error!r}") from error
    return [ExternalStream("/audio").read(message).samples]


def mp3(folder: Path) -> list[bytes]:
    found = []
    for rate_hz, channels in ((16_000, 1), (44_100, 2)):
        file = io.BytesIO()
        tone = 0.3 * np.sin(np.arange(rate_hz // 3) / 10)
        soundfile.write(file, np.repeat(tone[:, None], channels, 1), rate_hz, format="MP3")
        found.append(file.getvalue())
    return found


def read_mp3(path: Path) -> Arrays:
    stream, data = MpegStream(), path.read_bytes()
    return [stream.push(data[at : at + 500])[0] for at in range(0, len(data), 500)]


def bot_texts(folder: Path) -> list[bytes]:
    return [
        b'{"type": "speak", "id": "a", "sample_rate": 24000, "channels": 2, "hold_s": 0.1}',
        b'{"type": "intent", "intent": "thinking", "hold_s": 3.5}',
        b'{"type": "listen"}',
        b'{"type": "end"}',
        b'{"type": "clear"}',
    ]


def read_bot_text(path: Path) -> Arrays:
    message = decode_from_bot(path.read_bytes().decode("utf-8", "surrogateescape"))
    relay = SpeechRelay("bot")
    if isinstance(message, SpeakMessage):
        relay.begin(message, MS)
        relay.append(bytes(4 * message.channels), 2 * MS)
        relay.end(3 * MS)
    relay.tick(4 * MS)
    return [np.array([getattr(message, "hold_s", 0.0)])]


def bot_sound(folder: Path) -> list[bytes]:
    return [np.arange(960, dtype="<i2").tobytes()]


def read_bot_sound(path: Path) -> Arrays:
    relay = SpeechRelay("bot")
    relay.begin(SpeakMessage(id="a", sample_rate=24_000, channels=2), MS)
    relay.append(path.read_bytes(), 2 * MS)
    return ()


def page_blocks(folder: Path) -> list[bytes]:
    return [
        HEADER.pack(48_000.0, 1234.5, 0.0, 0.0, 12.5, 480) + np.arange(480, dtype="<i2").tobytes(),
        HEADER.pack(0.0, 0.0, 3.0, 0.0, 0.0, 128),
    ]


def read_page_block(path: Path) -> Arrays:
    block = read_block(path.read_bytes(), 48_000)
    return [np.array([block.page_ms, block.output_latency_ms]), block.samples]


def page_texts(folder: Path) -> list[bytes]:
    return [b'{"type": "start", "tab": "a1", "rate_hz": 48000, "label": "Mic", "takes_over": true}']


def read_page_text(path: Path) -> Arrays:
    message = read_message(path.read_bytes().decode("utf-8", "replace"))
    start = read_start(message)
    return [np.array([start.rate_hz])]


def images(folder: Path) -> list[bytes]:
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8)
    return [cv2.imencode(kind, pixels)[1].tobytes() for kind in (".jpg", ".png")]


READERS = [
    Reader(
        "sound of others", sounds_of_others, mutate_serialized(sound_store(), str), read_sound_of_others,
        allowed=(ValueError,),
    ),
    Reader("MP3 in pieces", mp3, mutate_bytes, read_mp3, allowed=()),
    Reader("WebSocket text", bot_texts, mutate_text, read_bot_text, allowed=(ValueError,)),
    Reader("WebSocket sound", bot_sound, mutate_bytes, read_bot_sound, allowed=(ValueError,)),
    Reader("page sound", page_blocks, mutate_bytes, read_page_block, allowed=(ValueError,)),
    Reader("page text", page_texts, mutate_text, read_page_text, allowed=(ValueError,)),
    Reader(
        "coded images", images, mutate_bytes, lambda path: [rgb_of_compressed(path.read_bytes())],
        allowed=(ValueError,),
    ),
]  # fmt: skip


@pytest.mark.parametrize("reader", READERS, ids=[reader.name for reader in READERS])
def test_whatever_another_program_sends_is_read_right_or_refused(reader: Reader, tmp_path: Path) -> None:
    try_mutated(reader, tmp_path)
