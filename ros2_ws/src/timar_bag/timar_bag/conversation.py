"""What a bag says about one conversation, as arrays: voices, decisions, motion, commands, joints, events."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from timar_bag.bag import BagMessage, BagReader
from timar_bag.joint_track import CommandTrack, JointSeries, StateTrack
from timar_bag.voice import Voice, VoiceTrack

Floats = npt.NDArray[np.float64]

VOICES = ("user/audio_raw", "user/audio", "agent/audio")
NEEDED = ("user/audio", "agent/audio", "turn_log", "agent/motion", "joint_trajectory")
"""Topics without which a summary lacks numbers."""
LIMIT_VALUE = ".clipped"
"""End of a key that only retargeting's counts of its limits have."""


class Decision(NamedTuple):
    """One entry of the turn log (see timar_msgs/TurnLog)."""

    receive_ns: int
    conversation_id: str
    sequence: int
    kind: int
    first_frame: int
    frames: int
    user_first_sample: int
    user_end_sample: int
    user_samples_filled: int
    revision: int
    is_late: bool
    queue_ms: float
    speech_ms: float
    backbone_ms: float
    head_ms: float
    compute_ms: float
    engine: str
    model_sha256: str


GENERATE, COMMIT_UNSAMPLED, TAKE_BACK, RESET = range(4)
"""Kinds of decision, as in timar_msgs/TurnLog."""


class Motion(NamedTuple):
    """One run of generated frames (see timar_msgs/HeadMotion)."""

    receive_ns: int
    shown_ns: int
    """ROS time at which the first frame is to be seen [ns]."""
    conversation_id: str
    first_frame: int
    revision: int
    compute_ms: float
    jaw: Floats
    """(F, 3) axis-angle [rad]."""
    neck: Floats
    """(F, 3) axis-angle [rad]."""


class FloorChange(NamedTuple):
    """From when on who holds the floor."""

    stamp_ns: int
    since_sample: int
    state: int


FLOOR_NAMES = ("idle", "user", "agent", "both")
"""By the state's number, as in timar_msgs/FloorState."""


class SpeechTurnEvent(NamedTuple):
    """A change in a speech turn (see timar_msgs/TurnEvent)."""

    stamp_ns: int
    speaker: int
    kind: int
    first_sample: int
    end_sample: int


EVENT_NAMES = ("start", "end", "backchannel", "barge-in")
"""By the kind's number, as in timar_msgs/TurnEvent."""


@dataclasses.dataclass(frozen=True)
class Conversation:
    """Everything of a bag that a summary, a picture or a score needs; no sound, only its envelope."""

    bag: Path
    begin_ns: int
    """ROS time of the first message [ns]."""
    end_ns: int
    counts: dict[str, int]
    """Messages read, by topic."""
    voices: dict[str, Voice]
    """By topic; only voices of which something was heard."""
    decisions: list[Decision]
    """In order of their sequence number."""
    motions: list[Motion]
    """Of turns that were made; a bag shows these, whatever was guessed before them."""
    previews: int
    """Messages of motion that was a guess at frames to come."""
    floor: list[FloorChange]
    events: list[SpeechTurnEvent]
    commands: JointSeries
    """Commanded positions, each command as far as it was in force."""
    states: JointSeries
    """Where the joints were."""
    limit_values: dict[str, str]
    """Values of retargeting's newest diagnostics that count what the limits did to each joint's plans."""
    losses: list[str]
    """One sentence for each thing that is missing or could not be read."""


def read_conversation(
    bag: Path, namespace: str | None = None, also: Callable[[BagMessage], None] | None = None
) -> Conversation:
    """Read a bag once, from front to back, and keep what describes the conversation.

    Args:
        bag: A rosbag2 folder or file; damaged ones are read as far as they go.
        namespace: The robot's; found by itself unless the bag holds several robots.
        also: Called with every message, for what is not kept here; a ValueError refuses the message.

    Raises:
        FileNotFoundError: There is no bag.
        ValueError: Nothing in it can be read, or it holds no message.
    """
    collector = _Collector()
    with BagReader(bag, namespace) as reader:
        for message in reader.messages():
            collector.take(message, also)
        losses = list(reader.losses)
        missing = [topic for topic in NEEDED if not collector.counts[topic]]
    if not collector.counts:
        raise ValueError(f"the bag {bag} holds no message: nothing was recorded")
    losses.extend(f"the bag has no message of {topic}" for topic in missing)
    return collector.finish(bag, losses)


class _Collector:
    """Take the messages of a bag one by one."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._begin_ns = 2**63 - 1
        self._end_ns = 0
        self._voices = {topic: VoiceTrack() for topic in VOICES}
        self._decisions: list[Decision] = []
        self._motions: list[Motion] = []
        self._previews = 0
        self._floor: list[FloorChange] = []
        self._events: list[SpeechTurnEvent] = []
        self._commands = CommandTrack()
        self._states = StateTrack()
        self._limits: dict[str, str] = {}
        self._refused: Counter[str] = Counter()

    def take(self, entry: BagMessage, also: Callable[[BagMessage], None] | None) -> None:
        self.counts[entry.topic] += 1
        self._begin_ns = min(self._begin_ns, entry.receive_ns)
        self._end_ns = max(self._end_ns, entry.receive_ns)
        try:
            self._keep(entry.topic, entry.receive_ns, entry.message)
            if also is not None:
                also(entry)
        except ValueError as error:
            self._refused[f"{entry.topic}: {error}"] += 1

    def _keep(self, topic: str, receive_ns: int, message: Any) -> None:
        if topic in self._voices:
            self._voices[topic].push(
                message.first_sample, message.samples, message.filled_samples, stamp_ns(message), receive_ns
            )
        elif topic == "turn_log":
            self._decisions.append(_decision(receive_ns, message))
        elif topic == "agent/motion":
            motion = _motion(receive_ns, message)
            # Bags from before there were previews lack the field.
            if getattr(message, "is_preview", False):
                self._previews += 1
            else:
                self._motions.append(motion)
        elif topic == "joint_trajectory":
            self._commands.push(receive_ns, stamp_ns(message), message)
        elif topic == "joint_states":
            self._states.push(stamp_ns(message) or receive_ns, message)
        elif topic == "/diagnostics":
            for status in message.status:
                if status.name.endswith("/retargeting"):
                    values = {item.key: item.value for item in status.values}
                    if any(key.endswith(LIMIT_VALUE) for key in values):
                        self._limits = values
        elif topic == "floor":
            self._floor.append(FloorChange(stamp_ns(message), message.since_sample, message.state))
        elif topic == "turn_events":
            self._events.append(
                SpeechTurnEvent(
                    stamp_ns(message), message.speaker, message.kind, message.first_sample, message.end_sample
                )
            )

    def finish(self, bag: Path, losses: list[str]) -> Conversation:
        losses = losses + [f"{count} messages refused: {why}" for why, count in self._refused.items()]
        decisions = sorted(self._decisions, key=lambda decision: decision.sequence)
        if decisions:
            missing = (
                decisions[-1].sequence - decisions[0].sequence + 1 - len({d.sequence for d in decisions})
            )
            if missing > 0:
                losses.append(f"{missing} decisions are missing in turn_log")
        return Conversation(
            bag=bag,
            begin_ns=self._begin_ns,
            end_ns=self._end_ns,
            counts=dict(self.counts),
            voices={topic: track.finish() for topic, track in self._voices.items() if track.is_started},
            decisions=decisions,
            motions=self._motions,
            previews=self._previews,
            floor=sorted(self._floor, key=lambda change: change.since_sample),
            events=self._events,
            commands=self._commands.finish(),
            states=self._states.finish(),
            limit_values=self._limits,
            losses=losses,
        )


def stamp_ns(message: Any) -> int:
    """Return a message's header stamp [ns]."""
    stamp = message.header.stamp
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def _decision(receive_ns: int, message: Any) -> Decision:
    return Decision(
        receive_ns=receive_ns,
        kind=message.decision,
        is_late=bool(message.is_late),
        **{
            name: getattr(message, name)
            for name in Decision._fields
            if name not in ("receive_ns", "kind", "is_late")
        },
    )


def _motion(receive_ns: int, message: Any) -> Motion:
    jaw, neck = message.jaw, message.neck
    if len(jaw) != 3 * message.frames or len(neck) != 3 * message.frames or not message.frames:
        raise ValueError(
            f"{len(jaw)} jaw and {len(neck)} neck numbers do not make {message.frames} frames of 3"
        )
    if not (np.isfinite(jaw).all() and np.isfinite(neck).all()):
        raise ValueError("a jaw or neck number is not finite")
    return Motion(
        receive_ns,
        stamp_ns(message),
        message.conversation_id,
        message.first_frame,
        message.revision,
        message.compute_ms,
        np.asarray(jaw, np.float64).reshape(-1, 3),
        np.asarray(neck, np.float64).reshape(-1, 3),
    )
