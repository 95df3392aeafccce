"""Reads the sound of other packages' nodes in a bag as this workspace's capture would have published it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from timar_audio.capture import Capture
from timar_audio.external_audio import ExternalStream
from timar_audio.floor import Speaker
from timar_audio.topic_source import TopicSource
from timar_common.clock import NOMINAL_NS_PER_SAMPLE
from timar_common.messages import Message, wire_header
from timar_common.resample import MIX

from timar_bag.bag import BagMessage, BagReader
from timar_bag.bag_writer import FRAME_IDS
from timar_bag.recovery import reason_of

SOUND_TYPES = (
    *tuple(
        f"audio_common_msgs/msg/{name}" for name in ("AudioData", "AudioDataStamped", "Audio", "AudioStamped")
    ),
    "foxglove_msgs/msg/RawAudio",
)
ARRAY_TYPES = tuple(f"std_msgs/msg/{kind}MultiArray" for kind in ("UInt8", "Int16", "Float32"))
"""What may be sound, and is taken for it when its topic is named."""
INFO_TYPE = "audio_common_msgs/msg/AudioInfo"
BLOCK_SAMPLES = 320
TRIED_MESSAGES = 50
"""When none of so many of a topic's first messages can be read, the topic is refused."""
LAYOUT_OPTION = "--sound-layout"
APART_SAMPLES = 320
"""An agent's counter that is further from the user's than this is set again."""
EVER_MS = 10**9
TARGETS = {Speaker.USER: "user/audio", Speaker.AGENT: "agent/audio"}


def find_external_sound(
    reader: BagReader, user_topic: str = "", agent_topic: str = "", layout: str = ""
) -> dict[str, Speaker]:
    """Return which voice each topic of sound in other packages' types is; empty when the bag has none.

    Args:
        reader: The open bag.
        user_topic: Full name of the user's sound; empty: the bag's only sound topic, if it has one.
        agent_topic: Full name of the head's own voice; empty: it is taken to have been silent.
        layout: What plain bytes mean where nothing in the bag says so (`Layout.parse`), or empty.

    Raises:
        ValueError: A topic that was named holds no sound, there are several and none was named, or nothing
            says what the sound of one is.
    """
    found = _topics_of(reader, SOUND_TYPES)
    arrays = _topics_of(reader, ARRAY_TYPES)
    for topic in filter(None, (user_topic, agent_topic)):
        if topic not in found + arrays:
            listed = ", ".join(found + arrays) or "none"
            raise ValueError(f"{topic} holds no sound; topics that do, or may: {listed}")
    if not user_topic and len(found) > 1:
        raise ValueError(
            f"{reader.path} holds several topics of sound: {', '.join(found)}; name the user's by "
            "--user-sound and, if it is there, the head's by --agent-sound"
        )
    named = {user_topic or "".join(found): Speaker.USER, agent_topic: Speaker.AGENT}
    voices = {topic: speaker for topic, speaker in named.items() if topic}
    for topic in voices:
        _try(reader, topic, layout)
    return voices


def _topics_of(reader: BagReader, types: tuple[str, ...]) -> list[str]:
    return sorted(
        topic.name for topic in reader.topics.values() if topic.type_name in types and topic.messages
    )


def _try(reader: BagReader, topic: str, layout: str) -> None:
    """Read the first messages of a topic.

    Raises:
        ValueError: None of them can be read; why the first one cannot.
    """
    stream, failures = _stream_of(reader, topic, layout), list[ValueError]()
    for entry in itertools.islice(reader.messages({topic}), TRIED_MESSAGES):
        try:
            if stream.read(entry.message).samples.size:
                return
        except ValueError as error:
            failures.append(error)
    if failures:
        raise ValueError(f"{reader.path} cannot be heard: {failures[0]}")


class ExternalSound:
    """Reads the messages of external sound as user/audio and agent/audio, in one pass over the bag.

    The same core puts them on the conversation's clock that does so live, for another node's microphone.

    Args:
        reader: The open bag.
        voices: Which voice each topic is, as `find_external_sound` returns them.
        layout: What plain bytes mean where nothing in the bag says so.
        rejected: The first reason by topic for which a message was left out is put here.
    """

    def __init__(
        self,
        reader: BagReader,
        voices: Mapping[str, Speaker],
        layout: str,
        rejected: dict[str, str],
    ) -> None:
        self._voices = voices
        self._captures = {topic: _TopicCapture(topic, _stream_of(reader, topic, layout)) for topic in voices}
        self._rejected = rejected
        self._newest_user: tuple[int, int] | None = None
        """Sample and ROS time [ns] at which the user's newest block begins."""
        self._agent_offset: int | None = None

    def read(self, entry: BagMessage) -> Iterator[BagMessage]:
        """Yield what a message of sound becomes: blocks on the conversation's clock."""
        speaker = self._voices[entry.topic]
        try:
            chunks = self._captures[entry.topic].append(entry, FRAME_IDS[speaker])
        except ValueError as error:
            self._rejected.setdefault(entry.topic, reason_of(error))
            return
        for chunk in chunks:
            first, stamp_ns = chunk.first_sample, chunk.header.stamp
            if speaker is Speaker.USER:
                self._newest_user = first, stamp_ns
            else:
                first = self._on_user_counter(first, stamp_ns)
            if first is not None:
                chunk.first_sample = first
                chunk.header = wire_header(stamp_ns, chunk.header.frame_id)
                yield BagMessage(TARGETS[speaker], entry.receive_ns, chunk)

    def _on_user_counter(self, first_sample: int, stamp_ns: int) -> int | None:
        """Return where a block of the agent's begins on the user's counter; None before its begin."""
        if self._newest_user is None:
            return None
        user_first_sample, user_stamp_ns = self._newest_user
        apart = round((stamp_ns - user_stamp_ns) / NOMINAL_NS_PER_SAMPLE)
        offset = user_first_sample + apart - first_sample
        if self._agent_offset is None or abs(offset - self._agent_offset) > APART_SAMPLES:
            self._agent_offset = offset
        first = first_sample + self._agent_offset
        return first if first >= 0 else None


class _TopicCapture:
    """One topic through the cores of capture, in the bag's time."""

    def __init__(self, topic: str, stream: ExternalStream) -> None:
        self._stream = stream
        self._now_ns = 0
        self._source = TopicSource(topic, MIX, EVER_MS, EVER_MS, clock=lambda: self._now_ns)
        self._source.open()
        self._capture = Capture(BLOCK_SAMPLES)

    def append(self, entry: BagMessage, frame_id: str) -> list[Message]:
        sound = self._stream.read(entry.message)
        if not sound.samples.size:
            return []
        self._now_ns = entry.receive_ns
        self._source.push(sound, sound.first_ros_ns, entry.receive_ns)
        blocks = [block for part in self._source.read() for block in self._capture.push(part)]
        return [block.message(frame_id) for block in blocks]


def _stream_of(reader: BagReader, topic: str, layout: str) -> ExternalStream:
    """Return what reads the messages of a topic; the AudioInfo beside it says what plain bytes mean."""
    stream = ExternalStream(topic, layout, LAYOUT_OPTION)
    folder = PurePosixPath(topic).parent
    infos = {
        name
        for name, found in reader.topics.items()
        if found.type_name == INFO_TYPE and PurePosixPath(name).parent == folder
    }
    first = next(reader.messages(infos), None) if infos else None
    if first is not None and hasattr(first.message, "coding_format"):
        stream.describe(first.message)
    return stream
