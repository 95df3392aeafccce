"""Reads a bag once into what describes its conversation: voices, decisions, motion, joints, events."""

from __future__ import annotations

import array
import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from timar_common.messages import stamp_ns
from timar_common.units import Frames, Samples
from timar_common.user_motion import user_motion_from

from timar_bag.bag import BagMessage, BagReader
from timar_bag.ground_truth import GROUND_TRUTH_LABELS, GROUND_TRUTH_MOTION
from timar_bag.joint_track import JointSeries, RecordedCommands, StateTrack
from timar_bag.shown import FrameRows, ShownMotion
from timar_bag.voice import RecordedVoice, VoiceTrack

VOICES = ("user/audio_raw", "user/audio", "agent/audio")
NEEDED = ("user/audio", "agent/audio", "turn_log", "agent/motion", "joint_trajectory")
"""Topics without which a summary lacks numbers."""
LIMIT_VALUE = ".clipped"
"""End of a key that only retargeting's counts of its limits have."""
USER, AGENT = 0, 1
"""Speakers, as in timar_msgs/TurnEvent."""
START, END = 0, 1
"""Kinds of event, likewise."""
GENERATE, COMMIT_SKIPPED, ROLLBACK, RESET = range(4)
"""Kinds of decision, as in timar_msgs/TurnLog."""
FLOOR_NAMES = ("idle", "user", "agent", "both")
"""By the state's number, as in timar_msgs/FloorState."""
EVENT_NAMES = ("start", "end", "backchannel", "interrupted", "lowered", "paused", "resumed", "judged")
"""By the kind's number, as in timar_msgs/TurnEvent."""


class LoggedDecision(NamedTuple):
    """One entry of the turn log (see timar_msgs/TurnLog)."""

    receive_ns: int
    decision: int
    conversation_id: str
    sequence: int
    first_frame: Frames
    frames: Frames
    user_first_sample: Samples
    user_end_sample: Samples
    user_samples_filled: Samples
    revision: int
    is_late: bool
    queue_ms: float
    speech_ms: float
    backbone_ms: float
    head_ms: float
    compute_ms: float
    engine: str
    model_sha256: str


class RecordedMotion(NamedTuple):
    """One run of generated frames (see timar_msgs/HeadMotion), without its numbers."""

    receive_ns: int
    stamp_ns: int
    """ROS time at which the first frame is to be seen [ns]."""
    conversation_id: str
    first_frame: Frames
    revision: int
    compute_ms: float


class LoggedFloorChange(NamedTuple):
    """From when on who holds the floor."""

    since_sample: Samples
    state: int


class SpeechTurnEvent(NamedTuple):
    """A change in a speech turn (see timar_msgs/TurnEvent)."""

    speaker: int
    kind: int
    first_sample: Samples
    end_sample: Samples


Row = TypeVar("Row", LoggedDecision, RecordedMotion, LoggedFloorChange, SpeechTurnEvent)


def row_of(kind: type[Row], message: Any, **known: Any) -> Row:
    """Return a row of the message's fields of the same names."""
    return kind(**known, **{name: getattr(message, name) for name in kind._fields if name not in known})


@dataclasses.dataclass
class TopicArrivals:
    """How the messages of one topic came."""

    name: str
    type_name: str
    messages: int = 0
    first_ns: int = 0
    last_ns: int = 0
    """Times of arrival [ns]."""
    backwards: int = 0
    """Messages that stand before their predecessor in time."""

    def append(self, receive_ns: int) -> None:
        """Note an arrival."""
        self.first_ns = self.first_ns if self.messages else receive_ns
        self.backwards += self.messages > 0 and receive_ns < self.last_ns
        self.messages += 1
        self.last_ns = max(self.last_ns, receive_ns)

    @property
    def rate_hz(self) -> float | None:
        """Messages per second; None for fewer than two."""
        span_ns = self.last_ns - self.first_ns
        return (self.messages - 1) * 1e9 / span_ns if span_ns > 0 else None


@dataclasses.dataclass
class RecordedConversation:
    """Everything of a bag that a summary, a picture or a score needs; no sound, only its envelope."""

    bag: Path
    namespace: str
    topics: dict[str, TopicArrivals]
    issues: list[str]
    """One sentence for each thing that is missing or could not be read."""
    voices: dict[str, RecordedVoice] = dataclasses.field(default_factory=dict)
    """By topic; only voices of which something was heard."""
    decisions: list[LoggedDecision] = dataclasses.field(default_factory=list)
    """In order of their sequence number."""
    motions: list[RecordedMotion] = dataclasses.field(default_factory=list)
    """Of turns that were made; a bag shows these, whatever was predicted before them."""
    previews: int = 0
    """Messages of motion that was a prediction of frames to come."""
    shown: ShownMotion = dataclasses.field(default_factory=ShownMotion)
    user_motion: FrameRows = dataclasses.field(default_factory=FrameRows)
    true_motion: FrameRows = dataclasses.field(default_factory=FrameRows)
    """How the agent's person moved, where the bag holds it."""
    floor: list[LoggedFloorChange] = dataclasses.field(default_factory=list)
    events: list[SpeechTurnEvent] = dataclasses.field(default_factory=list)
    labels: list[SpeechTurnEvent] = dataclasses.field(default_factory=list)
    """Speech turns marked by hand, one event (its end) each."""
    activity: dict[int, tuple[array.array, array.array]] = dataclasses.field(default_factory=dict)
    """By speaker: end samples of the pieces that voice activity decided on, and what it decided."""
    commands: JointSeries = dataclasses.field(default_factory=lambda: StateTrack().finish())
    """Commanded positions, each command as far as it was in force."""
    states: JointSeries = dataclasses.field(default_factory=lambda: StateTrack().finish())
    """Where the joints were."""
    limit_values: dict[str, str] = dataclasses.field(default_factory=dict)
    """Values of retargeting's newest diagnostics that count what the limits did to each joint's plans."""

    @property
    def counts(self) -> dict[str, int]:
        """Messages read, by topic."""
        return {name: topic.messages for name, topic in sorted(self.topics.items()) if topic.messages}

    @property
    def begin_ns(self) -> int:
        """ROS time of the first message [ns]."""
        return min(topic.first_ns for topic in self.topics.values() if topic.messages)

    @property
    def end_ns(self) -> int:
        """ROS time of the last message [ns]."""
        return max(topic.last_ns for topic in self.topics.values())

    @property
    def user_voice(self) -> RecordedVoice | None:
        """The user's voice as the graph heard it, else as it was captured."""
        return self.voices.get("user/audio") or self.voices.get("user/audio_raw")

    @property
    def raw_user_voice(self) -> RecordedVoice | None:
        """The user's voice as it was captured, else as the graph heard it."""
        return self.voices.get("user/audio_raw") or self.voices.get("user/audio")

    @property
    def generated(self) -> list[LoggedDecision]:
        """Decisions by which a turn was generated."""
        return [decision for decision in self.decisions if decision.decision == GENERATE]

    def floor_stretches(self, end_sample: int) -> list[tuple[int, int, str]]:
        """Return (first sample, end sample, name of the state) of each time the floor was held."""
        ends = [change.since_sample for change in self.floor[1:]] + [end_sample]
        return [
            (change.since_sample, end, FLOOR_NAMES[change.state])
            for change, end in zip(self.floor, ends, strict=False)
            if change.state < len(FLOOR_NAMES)
        ]


def read_conversation(bag: Path, namespace: str | None = None) -> RecordedConversation:
    """Read a bag once, from front to back, and keep what describes the conversation.

    Args:
        bag: A rosbag2 folder or file; damaged ones are read as far as they go.
        namespace: The robot's; found by itself unless the bag holds several robots.

    Raises:
        FileNotFoundError: There is no bag.
        ValueError: Nothing in it can be read, or it holds no message.
    """
    with BagReader(bag, namespace) as reader:
        topics = {name: TopicArrivals(name, topic.type_name) for name, topic in reader.topics.items()}
        conversation = RecordedConversation(bag, reader.namespace, topics, [])
        collector = _MessageCollector(conversation)
        for message in reader.messages():
            topics[message.topic].append(message.receive_ns)
            collector.append(message)
        conversation.issues += reader.issues
    if not conversation.counts:
        raise ValueError(f"the bag {bag} holds no message: nothing was recorded")
    missing = [topic for topic in NEEDED if topic not in conversation.counts]
    conversation.issues += [f"the bag has no message of {topic}" for topic in missing]
    collector.finish()
    return conversation


class _MessageCollector:
    """Sort the messages of a bag into a conversation, one by one."""

    def __init__(self, conversation: RecordedConversation) -> None:
        self._conversation = conversation
        self._voices = {topic: VoiceTrack() for topic in VOICES}
        self._commands, self._states = RecordedCommands(), StateTrack()
        self._rejected: Counter[str] = Counter()

    def append(self, entry: BagMessage) -> None:
        try:
            self._append(entry.topic, entry.receive_ns, entry.message)
        except ValueError as error:
            self._rejected[f"{entry.topic}: {error}"] += 1

    def _append(self, topic: str, receive_ns: int, message: Any) -> None:
        kept = self._conversation
        if topic in self._voices:
            self._voices[topic].append(
                message.first_sample, message.samples, message.filled_samples, stamp_ns(message), receive_ns,
                message.sample_rate,
            )  # fmt: skip
        elif topic == "turn_log":
            kept.decisions.append(row_of(LoggedDecision, message, receive_ns=receive_ns))
        elif topic == "agent/motion":
            kept.shown.append(receive_ns, message)
            # Bags from before there were previews lack the field.
            if getattr(message, "is_preview", False):
                kept.previews += 1
            else:
                stamped = {"receive_ns": receive_ns, "stamp_ns": stamp_ns(message)}
                kept.motions.append(row_of(RecordedMotion, message, **stamped))
        elif topic == "joint_trajectory":
            self._commands.append(receive_ns, stamp_ns(message), message)
        elif topic == "joint_states":
            self._states.append(stamp_ns(message) or receive_ns, message)
        elif topic == "/diagnostics":
            for status in message.status:
                values = {item.key: item.value for item in status.values}
                if status.name.endswith("/retargeting") and any(key.endswith(LIMIT_VALUE) for key in values):
                    kept.limit_values = values
        elif topic == "floor":
            kept.floor.append(row_of(LoggedFloorChange, message))
        elif topic == "turn_events":
            kept.events.append(row_of(SpeechTurnEvent, message))
        elif topic == "voice_activity":
            ends, flags = kept.activity.setdefault(message.speaker, (array.array("q"), array.array("b")))
            ends.append(message.first_sample + message.samples)
            flags.append(bool(message.is_speaking))
        elif topic in ("user/motion", GROUND_TRUTH_MOTION):
            motion, valid = user_motion_from(message)
            rows = kept.user_motion if topic == "user/motion" else kept.true_motion
            rows.add(int(message.first_frame), motion, np.asarray(valid.all(axis=1)))
        elif topic == GROUND_TRUTH_LABELS and message.kind == END:
            kept.labels.append(row_of(SpeechTurnEvent, message))

    def finish(self) -> None:
        kept = self._conversation
        kept.issues += [f"{count} messages rejected: {why}" for why, count in self._rejected.items()]
        kept.decisions.sort(key=lambda decision: decision.sequence)
        kept.floor.sort(key=lambda change: change.since_sample)
        numbers = {decision.sequence for decision in kept.decisions}
        missing = max(numbers) - min(numbers) + 1 - len(numbers) if numbers else 0
        if missing:
            kept.issues.append(f"{missing} decisions are missing in turn_log")
        kept.voices = {topic: track.finish() for topic, track in self._voices.items() if track.is_started}
        kept.commands, kept.states = self._commands.finish(), self._states.finish()
