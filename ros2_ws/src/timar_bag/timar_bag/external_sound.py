"""Reads the sound of other packages' nodes in a bag as this workspace's capture would have published it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from timar_audio.blocks import AudioBlock
from timar_audio.capture import Capture
from timar_audio.external_audio import Layout, read_layout, read_sound
from timar_audio.floor import Speaker
from timar_audio.topic_source import TopicSource
from timar_common.clock import NOMINAL_NS_PER_SAMPLE
from timar_common.messages import wire_header
from timar_common.resample import MIX

from timar_bag.bag import BagMessage, BagReader
from timar_bag.bag_writer import FRAME_IDS, audio_chunk
from timar_bag.recovery import reason_of

SOUND_TYPES = tuple(
    f"audio_common_msgs/msg/{name}" for name in ("AudioData", "AudioDataStamped", "Audio", "AudioStamped")
)
INFO_TYPE = "audio_common_msgs/msg/AudioInfo"
BLOCK_SAMPLES = 320
APART_SAMPLES = 320
"""An agent's counter that is further from the user's than this is set again."""
EVER_MS = 10**9
TARGETS = {Speaker.USER: "user/audio", Speaker.AGENT: "agent/audio"}


def find_external_sound(reader: BagReader, user_topic: str = "", agent_topic: str = "") -> dict[str, Speaker]:
    """Return which voice each topic of sound in other packages' types is; empty when the bag has none.

    Args:
        reader: The open bag.
        user_topic: Full name of the user's sound; empty: the bag's only sound topic, if it has one.
        agent_topic: Full name of the head's own voice; empty: it is taken to have been silent.

    Raises:
        ValueError: A topic that was named holds no sound, or there are several and none was named.
    """
    found = sorted(t.name for t in reader.topics.values() if t.type_name in SOUND_TYPES and t.messages)
    for topic in filter(None, (user_topic, agent_topic)):
        if topic not in found:
            raise ValueError(f"{topic} holds no sound; topics that do: {', '.join(found) or 'none'}")
    if not user_topic and len(found) > 1:
        raise ValueError(
            f"{reader.path} holds several topics of sound: {', '.join(found)}; name the user's by "
            "--user-sound and, if it is there, the head's by --agent-sound"
        )
    named = {user_topic or "".join(found): Speaker.USER, agent_topic: Speaker.AGENT}
    return {topic: speaker for topic, speaker in named.items() if topic}


class ExternalSound:
    """Reads the messages of external sound as user/audio and agent/audio, in one pass over the bag.

    The same core puts them on the conversation's clock that does so live, for another node's microphone.

    Args:
        reader: The open bag.
        voices: Which voice each topic is, as `find_external_sound` returns them.
        rejected: The first reason by topic for which a message was left out is put here.
    """

    def __init__(self, reader: BagReader, voices: Mapping[str, Speaker], rejected: dict[str, str]) -> None:
        self._voices = voices
        self._captures = {topic: _TopicCapture(topic, _layout_of(reader, topic)) for topic in voices}
        self._rejected = rejected
        self._newest_user: AudioBlock | None = None
        self._agent_offset: int | None = None

    def read(self, entry: BagMessage) -> Iterator[BagMessage]:
        """Yield what a message of sound becomes: blocks on the conversation's clock."""
        speaker = self._voices[entry.topic]
        try:
            blocks = self._captures[entry.topic].append(entry)
        except ValueError as error:
            self._rejected.setdefault(entry.topic, reason_of(error))
            return
        for block in blocks:
            if speaker is Speaker.USER:
                self._newest_user = block
            first = block.first_sample if speaker is Speaker.USER else self._on_user_counter(block)
            if first is not None:
                header = wire_header(block.monotonic_ns, FRAME_IDS[speaker])
                message = audio_chunk(first, block.samples, header, block.filled_samples)
                yield BagMessage(TARGETS[speaker], entry.receive_ns, message)

    def _on_user_counter(self, block: AudioBlock) -> int | None:
        """Return where a block of the agent's begins on the user's counter; None before its begin."""
        user = self._newest_user
        if user is None:
            return None
        apart = round((block.monotonic_ns - user.monotonic_ns) / NOMINAL_NS_PER_SAMPLE)
        offset = user.first_sample + apart - block.first_sample
        if self._agent_offset is None or abs(offset - self._agent_offset) > APART_SAMPLES:
            self._agent_offset = offset
        first = block.first_sample + self._agent_offset
        return first if first >= 0 else None


class _TopicCapture:
    """One topic through the cores of capture, in the bag's time."""

    def __init__(self, topic: str, layout: Layout | None) -> None:
        self._layout = layout
        self._now_ns = 0
        self._source = TopicSource(topic, MIX, EVER_MS, EVER_MS, clock=lambda: self._now_ns)
        self._source.open()
        self._capture = Capture(BLOCK_SAMPLES)

    def append(self, entry: BagMessage) -> list[AudioBlock]:
        sound = read_sound(entry.message, self._layout)
        self._now_ns = entry.receive_ns
        self._source.push(sound, sound.first_ros_ns, entry.receive_ns)
        return [block for part in self._source.read() for block in self._capture.push(part)]


def _layout_of(reader: BagReader, topic: str) -> Layout | None:
    """Return what the bytes of a topic mean, from the AudioInfo beside it; None when there is none."""
    folder = PurePosixPath(topic).parent
    infos = {
        name
        for name, found in reader.topics.items()
        if found.type_name == INFO_TYPE and PurePosixPath(name).parent == folder
    }
    return next((read_layout(entry.message) for entry in reader.messages(infos)), None) if infos else None
