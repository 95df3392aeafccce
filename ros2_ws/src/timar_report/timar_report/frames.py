"""A conversation by frames: shown and generated motion, ground truth, floor, levels and voice activity."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np
import numpy.typing as npt
from timar_bag.conversation import AGENT, FLOOR_NAMES, USER, RecordedConversation, read_conversation
from timar_bag.voice import HOP_SAMPLES, RecordedVoice, decibels
from timar_common.clock import SAMPLES_PER_FRAME

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Motion32 = npt.NDArray[np.float32]

HOPS_PER_FRAME = SAMPLES_PER_FRAME // HOP_SAMPLES


@dataclasses.dataclass(frozen=True)
class ConversationFrames:
    """Everything a score needs, on the conversation's frame counter from frame 0 on."""

    conversation: RecordedConversation
    shown: Motion32
    """(T, 56) as a watcher saw it; held where nothing new was shown."""
    is_shown: Flags
    """(T,) whether the frame was shown in time."""
    made: Motion32
    """(T, 56) as generated, late or not."""
    is_made: Flags
    truth: Motion32 | None
    """(T, 56) ground truth: how the agent's person moved."""
    is_true: Flags
    """(T,) where the ground truth is known."""
    user: Motion32 | None
    is_seen: Flags
    """(T,) where the user was seen whole."""
    floor: npt.NDArray[np.int8]
    """(T,) state as in FloorState."""
    level_dbfs: dict[str, Floats]
    """(T,) by topic of the heard voices."""
    speaking: dict[int, Flags]
    """(T,) by speaker: voice activity at the frame."""

    def __len__(self) -> int:
        return len(self.shown)

    def has_floor(self, name: str) -> Flags:
        """Return (T,) where the floor's state is the named one."""
        return self.floor == FLOOR_NAMES.index(name)

    @functools.cached_property
    def agent_level_dbfs(self) -> Floats | None:
        """(T,) level of the head's own voice; None when it was not recorded."""
        return self.level_dbfs.get("agent/audio")


def read_frames(bag: Path, namespace: str | None = None) -> ConversationFrames:
    """Read a bag once and put everything on the frame counter.

    Raises:
        FileNotFoundError: There is no bag.
        ValueError: Nothing in it can be read.
    """
    return frames_of(read_conversation(bag, namespace))


def frames_of(conversation: RecordedConversation) -> ConversationFrames:
    """Put a conversation that was read on the frame counter."""
    voice, motion = conversation.user_voice, conversation.shown
    frames = (voice.end_sample // SAMPLES_PER_FRAME if voice else 0) or motion.end_frame
    truth, is_true = conversation.true_motion.whole(frames)
    user, is_seen = conversation.user_motion.whole(frames)
    floor = np.zeros(frames, np.int8)
    for change in conversation.floor:
        floor[max(change.since_sample, 0) // SAMPLES_PER_FRAME :] = change.state
    return ConversationFrames(
        conversation,
        *motion.track(frames),
        *motion.as_generated(frames),
        truth=truth if conversation.true_motion.end else None,
        is_true=is_true,
        user=user if conversation.user_motion.end else None,
        is_seen=is_seen,
        floor=floor,
        level_dbfs={topic: _level(heard, frames) for topic, heard in conversation.voices.items()},
        speaking={speaker: _speaking(conversation, speaker, frames) for speaker in (USER, AGENT)},
    )


def _level(voice: RecordedVoice, frames: int) -> Floats:
    """Return the level of each frame of a voice [dBFS], at least -60."""
    hops = np.zeros(frames * HOPS_PER_FRAME)
    first = voice.envelope_first_sample // HOP_SAMPLES
    known = voice.mean_square[: max(0, hops.size - first)]
    hops[first : first + known.size] = known
    return decibels(hops.reshape(frames, HOPS_PER_FRAME).mean(axis=1))


def _speaking(conversation: RecordedConversation, speaker: int, frames: int) -> Flags:
    found = np.zeros(frames, np.bool_)
    if speaker in conversation.activity:
        ends, flags = (np.array(column, np.int64) for column in conversation.activity[speaker])
        # The decision at the frame's end, as of the newest piece that reaches to it.
        newest = np.searchsorted(ends, SAMPLES_PER_FRAME * (np.arange(frames) + 1))
        inside = newest < len(ends)
        found[inside] = flags[newest[inside]] > 0
    return found
