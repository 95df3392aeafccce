"""Jobs for the engine: a conversation starts, a turn is made, turns are rolled back."""

from __future__ import annotations

import dataclasses
import enum

import numpy as np
import numpy.typing as npt
from timar_common.component import Job
from timar_common.messages import Message
from timar_model.gestures.gesture_layer import LayerInputs

from timar_inference.gesture_requests import RefusedGesture


class Decision(enum.IntEnum):
    """What the turn log says was done, numbered as in timar_msgs/TurnLog."""

    GENERATE = 0
    COMMIT_SKIPPED = 1
    ROLLBACK = 2
    RESET = 3


@dataclasses.dataclass(frozen=True, eq=False)
class TurnJob(Job):
    """What all jobs of the engine say."""

    conversation_id: str
    seed: int
    first_frame: int
    """Of the conversation's first turn, of the turn, or of the first turn rolled back."""
    inputs: tuple[Message, ...] = dataclasses.field(default=(), kw_only=True)
    """Input cursor (timar_msgs/InputCursor): the messages seen when the job was issued."""
    conversation_first_sample: int = dataclasses.field(default=0, kw_only=True)
    """First sample of the user's sound in this conversation."""


@dataclasses.dataclass(frozen=True, eq=False)
class StartConversation(TurnJob):
    """A new conversation begins: the session forgets everything."""

    is_urgent = True
    is_reset = True

    def withdraws(self, waiting: Job) -> bool:
        """Withdraw every turn that still waits."""
        return isinstance(waiting, TurnRequest)


@dataclasses.dataclass(frozen=True, eq=False)
class Rollback(TurnJob):
    """Turns from `first_frame` on are withdrawn, to be generated again."""

    is_urgent = True
    revision: int
    """Of the motion made from now on."""
    planned_revision: int

    def withdraws(self, waiting: Job) -> bool:
        """Withdraw the turns it rolls back that still wait."""
        return isinstance(waiting, TurnRequest) and waiting.first_frame >= self.first_frame


@dataclasses.dataclass(frozen=True, eq=False)
class PreviewRequest:
    """The frames after a turn, to be predicted from what is known before they can be made."""

    agent_speech: npt.NDArray[np.float32]
    """(640 frames,) in [-1, 1), as planned by now."""
    due_ns: int
    """When the first of them is seen, monotonic [ns]."""
    by_ns: int
    """When the next turn's user sound is complete and the engine must be free, monotonic [ns]."""


@dataclasses.dataclass(frozen=True, eq=False)
class TurnRequest(TurnJob):
    """Everything one turn is made from, and until when that is of use."""

    revision: int
    frames: int

    user_first_frame: int
    user_frames: int
    user_speech: npt.NDArray[np.float32]
    """(640 user_frames,) in [-1, 1)."""
    user_samples_filled: int
    """How many of them are silence that stands for lost sound."""
    user_motion: npt.NDArray[np.float32] | None
    """(user_frames, 56), or None when the user was not seen at all."""
    user_motion_valid: npt.NDArray[np.bool_] | None
    """(user_frames, 3): expression, jaw, neck."""
    agent_speech: npt.NDArray[np.float32]
    """(640 frames,) in [-1, 1)."""
    planned_revision: int
    layer: LayerInputs | None
    """What gestures are made from; None: nothing is laid over the motion (an older recording)."""
    refused: tuple[RefusedGesture, ...]
    """Requests that were refused since the turn before."""

    ready_ns: int
    """When the last input it needs had arrived, monotonic [ns]."""
    due_ns: int
    """When its first frame is seen, monotonic [ns]."""
    deadline_ns: int
    """When it must be finished to be seen in time, monotonic [ns]."""
    useless_ns: int
    """From when on it is committed to the history without sampling, monotonic [ns]."""
    final_until_frame: int
    """Frames before this one will not be rolled back any more."""
    next_ready_ns: int = 0
    """When the next turn's user sound is complete: until then there is other work, monotonic [ns]."""
    is_refill: bool = False
    """Whether it is of the time before a restart and only fills the history again."""
    preview: PreviewRequest | None = None
    """What to predict when the turn is made and there is time; None: nothing."""

    @property
    def end_frame(self) -> int:
        """One past its last frame."""
        return self.first_frame + self.frames

    @property
    def user_end_frame(self) -> int:
        """One past the last user frame it was made from."""
        return self.user_first_frame + self.user_frames


@dataclasses.dataclass(frozen=True)
class ModelIdentity:
    """Which engine and which weights made the motion."""

    engine: str
    model_sha256: str
