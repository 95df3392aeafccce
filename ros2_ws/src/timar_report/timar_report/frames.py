"""A conversation by frames: what was shown, what was true, who held the floor, how loud the voices were."""

from __future__ import annotations

import array
import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt
from timar_bag.bag import BagMessage
from timar_bag.conversation import Conversation, read_conversation
from timar_bag.shown import FrameRows, ShownCounters, ShownMotion
from timar_bag.truth import TRUTH_EVENTS, TRUTH_MOTION
from timar_bag.voice import HOP_SAMPLES, SILENCE_DBFS, Voice
from timar_common.clock import SAMPLES_PER_FRAME
from timar_common.user_motion import user_motion_from

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Motion32 = npt.NDArray[np.float32]

HOPS_PER_FRAME = SAMPLES_PER_FRAME // HOP_SAMPLES
USER, AGENT = 0, 1
START, END = 0, 1


@dataclasses.dataclass(frozen=True)
class Stretch:
    """Speech of one voice, on the conversation clock."""

    speaker: int
    first_sample: int
    end_sample: int


@dataclasses.dataclass(frozen=True)
class Frames:
    """Everything a score needs, on the conversation's frame counter from frame 0 on."""

    conversation: Conversation
    shown: Motion32
    """(T, 56) as a watcher saw it; held where nothing new was shown."""
    is_shown: Flags
    """(T,) whether the frame was shown in time."""
    made: Motion32
    """(T, 56) as generated, late or not."""
    is_made: Flags
    truth: Motion32 | None
    """(T, 56) how the agent's person moved."""
    is_true: Flags
    """(T,) where the truth is known."""
    user: Motion32 | None
    is_seen: Flags
    """(T,) where the user was seen whole."""
    floor: npt.NDArray[np.int8]
    """(T,) state as in FloorState."""
    level_dbfs: dict[str, Floats]
    """(T,) by topic of the heard voices."""
    speaking: dict[int, Flags]
    """(T,) by speaker: voice activity at the frame."""
    labels: list[Stretch]
    counters: ShownCounters

    def __len__(self) -> int:
        return len(self.shown)


def read_frames(bag: Path, namespace: str | None = None) -> Frames:
    """Read a bag once and put everything on the frame counter.

    Raises:
        FileNotFoundError: There is no bag.
        ValueError: Nothing in it can be read.
    """
    collector = _Collector()
    conversation = read_conversation(bag, namespace, also=collector.take)
    return collector.finish(conversation)


class _Track:
    """Motion of one person by frame, the first report of a frame standing."""

    def __init__(self) -> None:
        self._rows = FrameRows()

    def take(self, message: object) -> None:
        motion, valid = user_motion_from(message)
        self._rows.add(int(message.first_frame), motion, np.asarray(valid.all(axis=1)))  # type: ignore[attr-defined]

    def whole(self, frames: int) -> tuple[Motion32 | None, Flags]:
        """Return (T, 56) motion, None without any, and (T,) where all of it is known."""
        rows, known = self._rows.whole(frames)
        return (rows if self._rows.end else None), known


class _Collector:
    """Take what `read_conversation` does not keep."""

    def __init__(self) -> None:
        self._shown = ShownMotion()
        self._tracks = {"user/motion": _Track(), TRUTH_MOTION: _Track()}
        self._activity = {
            USER: (array.array("q"), array.array("b")),
            AGENT: (array.array("q"), array.array("b")),
        }
        self._labels: list[Stretch] = []

    def take(self, entry: BagMessage) -> None:
        message = entry.message
        if entry.topic == "agent/motion":
            self._shown.take(entry.receive_ns, message)
        elif entry.topic in self._tracks:
            self._tracks[entry.topic].take(message)
        elif entry.topic == "voice_activity":
            if message.speaker in self._activity:
                ends, flags = self._activity[message.speaker]
                ends.append(message.first_sample + message.samples)
                flags.append(bool(message.is_speaking))
        elif entry.topic == TRUTH_EVENTS and message.kind == END:
            self._labels.append(Stretch(message.speaker, message.first_sample, message.end_sample))

    def finish(self, conversation: Conversation) -> Frames:
        voice = conversation.voices.get("user/audio") or conversation.voices.get("user/audio_raw")
        heard = voice.end_sample // SAMPLES_PER_FRAME if voice else 0
        frames = max(heard, 0) or self._shown.end_frame
        shown, is_shown = self._shown.track(frames)
        made, is_made = self._shown.as_generated(frames)
        truth, is_true = self._tracks[TRUTH_MOTION].whole(frames)
        user, is_seen = self._tracks["user/motion"].whole(frames)
        return Frames(
            conversation=conversation,
            shown=shown,
            is_shown=is_shown,
            made=made,
            is_made=is_made,
            truth=truth,
            is_true=is_true,
            user=user,
            is_seen=is_seen,
            floor=_floor(conversation, frames),
            level_dbfs={topic: _level(known, frames) for topic, known in conversation.voices.items()},
            speaking={speaker: _speaking(*kept, frames) for speaker, kept in self._activity.items()},
            labels=self._labels,
            counters=self._shown.counters,
        )


def _floor(conversation: Conversation, frames: int) -> npt.NDArray[np.int8]:
    state = np.zeros(frames, np.int8)
    for change in conversation.floor:
        state[max(change.since_sample, 0) // SAMPLES_PER_FRAME :] = change.state
    return state


def _level(voice: Voice, frames: int) -> Floats:
    """Return the level of each frame of a voice [dBFS], at least -60."""
    hops = np.zeros(frames * HOPS_PER_FRAME)
    first = voice.envelope_first_sample // HOP_SAMPLES
    known = voice.mean_square[: max(0, hops.size - first)]
    hops[first : first + known.size] = known
    power = hops.reshape(frames, HOPS_PER_FRAME).mean(axis=1)
    return np.asarray(10.0 * np.log10(np.maximum(power, 10 ** (SILENCE_DBFS / 10))), np.float64)


def _speaking(ends: array.array, flags: array.array, frames: int) -> Flags:
    found = np.zeros(frames, np.bool_)
    if len(ends):
        # The decision at the frame's end, as of the newest piece that reaches to it.
        place = np.searchsorted(np.array(ends, np.int64), SAMPLES_PER_FRAME * (np.arange(frames) + 1))
        inside = place < len(ends)
        found[inside] = np.array(flags, np.bool_)[place[inside]]
    return found
