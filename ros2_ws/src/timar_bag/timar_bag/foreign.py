"""Voices in a bag of other packages' nodes, as this workspace's ears would have published them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from timar_audio.blocks import AudioBlock
from timar_audio.capture import Capture
from timar_audio.external_audio import Layout, read_layout, read_sound
from timar_audio.floor import Speaker
from timar_audio.topic_source import TopicSource
from timar_common.clock import NOMINAL_NS_PER_SAMPLE
from timar_common.messages import Header
from timar_common.resample import MIX

from timar_bag.bag import BagMessage, BagReader
from timar_bag.out_bag import FRAME_IDS, audio_chunk

SOUND_TYPES = tuple(
    f"audio_common_msgs/msg/{name}" for name in ("AudioData", "AudioDataStamped", "Audio", "AudioStamped")
)
INFO_TYPE = "audio_common_msgs/msg/AudioInfo"
BLOCK_SAMPLES = 320
APART_SAMPLES = 320
"""An agent's counter that is further from the user's than this is set anew."""
EVER_MS = 10**9
TARGETS = {Speaker.USER: "user/audio", Speaker.AGENT: "agent/audio"}


class ForeignVoices:
    """Find the sound topics of a bag and read them as user/audio and agent/audio.

    The same core puts them on the conversation's clock that does so live, for another node's microphone.

    Args:
        reader: The open bag.
        user_topic: Full name of the user's sound; empty: the bag's only sound topic, if it has one.
        agent_topic: Full name of the head's own voice; empty: it is taken to have been silent.

    Raises:
        ValueError: A topic that was named holds no sound, or there are several and none was named.
    """

    def __init__(self, reader: BagReader, user_topic: str = "", agent_topic: str = "") -> None:
        found = sorted(t.name for t in reader.topics.values() if t.type_name in SOUND_TYPES and t.messages)
        for topic in filter(None, (user_topic, agent_topic)):
            if topic not in found:
                raise ValueError(f"{topic} holds no sound; topics that do: {', '.join(found) or 'none'}")
        if not user_topic and len(found) > 1:
            raise ValueError(
                f"{reader.path} holds several topics of sound: {', '.join(found)}; name the user's by "
                "--user-sound and, if it is there, the head's by --agent-sound"
            )
        user_topic = user_topic or "".join(found)
        self.by_topic = {user_topic: Speaker.USER} if user_topic else {}
        """Which voice each topic is; empty when the bag has none."""
        if agent_topic:
            self.by_topic[agent_topic] = Speaker.AGENT
        self._layouts = {topic: _layout_of(reader, topic) for topic in self.by_topic}
        self._ears = {topic: _Ear(topic) for topic in self.by_topic}
        self._newest_user: AudioBlock | None = None
        self._agent_offset: int | None = None
        self.refused: dict[str, str] = {}
        """The first reason by topic for which a message was left out."""

    def notes(self) -> list[str]:
        """Say which topic was taken for which voice."""
        return [f"{topic} was taken as {TARGETS[speaker]}" for topic, speaker in self.by_topic.items()]

    def read(self, entry: BagMessage) -> Iterator[BagMessage]:
        """Yield what a message of sound becomes: blocks on the conversation's clock."""
        speaker = self.by_topic[entry.topic]
        try:
            blocks = self._ears[entry.topic].hear(entry, self._layouts[entry.topic])
        except ValueError as error:
            self.refused.setdefault(entry.topic, " ".join(str(error).split()))
            return
        for block in blocks:
            first = block.first_sample
            if speaker is Speaker.USER:
                self._newest_user = block
            elif (placed := self._place(block)) is not None:
                first = placed
            else:
                continue
            header = Header(block.monotonic_ns, FRAME_IDS[speaker])
            message = audio_chunk(first, block.samples, header, block.filled_samples)
            yield BagMessage(TARGETS[speaker], entry.receive_ns, message)

    def _place(self, block: AudioBlock) -> int | None:
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


class _Ear:
    """One topic through the cores of capture."""

    def __init__(self, topic: str) -> None:
        self._now_ns = 0
        self._source = TopicSource(topic, MIX, EVER_MS, EVER_MS, clock=lambda: self._now_ns)
        self._source.open()
        self._capture = Capture(BLOCK_SAMPLES)

    def hear(self, entry: BagMessage, layout: Layout | None) -> list[AudioBlock]:
        sound = read_sound(entry.message, layout)
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
    for entry in reader.messages(infos) if infos else ():
        return read_layout(entry.message)
    return None
