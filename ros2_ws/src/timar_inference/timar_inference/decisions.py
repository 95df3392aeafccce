"""What the inference room decides, as plain data: jobs for the engine and the log that repeats them."""

from __future__ import annotations

import dataclasses
import enum

import numpy as np
import numpy.typing as npt
from timar_common.clock import SAMPLES_PER_FRAME


class Decision(enum.IntEnum):
    """As in timar_msgs/TurnLog."""

    GENERATE = 0
    COMMIT_UNSAMPLED = 1
    TAKE_BACK = 2
    RESET = 3


@dataclasses.dataclass(frozen=True)
class StartConversation:
    """A new conversation begins: the session forgets everything."""

    conversation_id: str
    seed: int
    first_frame: int
    """First frame of its first turn."""


@dataclasses.dataclass(frozen=True)
class TakeBack:
    """Turns from `first_frame` on are withdrawn, to be made again."""

    conversation_id: str
    seed: int
    first_frame: int
    revision: int
    """Of the motion made from now on."""
    planned_revision: int


@dataclasses.dataclass(frozen=True, eq=False)
class PreviewRequest:
    """The frames after a turn, to be guessed from what is known before they can be made."""

    agent_speech: npt.NDArray[np.float32]
    """(640 frames,) in [-1, 1], as planned by now."""
    due_ns: int
    """When the first of them is seen, monotonic [ns]."""
    by_ns: int
    """When the next turn's user sound is complete and the engine must be free, monotonic [ns]."""


@dataclasses.dataclass(frozen=True, eq=False)
class TurnRequest:
    """Everything one turn is made from, and until when that is of use."""

    conversation_id: str
    seed: int
    revision: int
    first_frame: int
    frames: int

    user_first_frame: int
    user_frames: int
    user_speech: npt.NDArray[np.float32]
    """(640 user_frames,) in [-1, 1]."""
    user_samples_filled: int
    """How many of them are silence that stands for lost sound."""
    user_motion: npt.NDArray[np.float32] | None
    """(user_frames, 56), or None when the user was not seen at all."""
    user_motion_valid: npt.NDArray[np.bool_] | None
    """(user_frames, 3): expression, jaw, neck."""
    agent_speech: npt.NDArray[np.float32]
    """(640 frames,) in [-1, 1]."""
    planned_revision: int

    ready_ns: int
    """When the last input it needs had arrived, monotonic [ns]."""
    due_ns: int
    """When its first frame is seen, monotonic [ns]."""
    deadline_ns: int
    """When it must be finished to be seen in time, monotonic [ns]."""
    useless_ns: int
    """From when on it is committed to the history without sampling, monotonic [ns]."""
    final_until_frame: int
    """Frames before this one will not be taken back any more."""
    preview: PreviewRequest | None = None
    """What to guess when the turn is made and there is time; None: nothing."""

    @property
    def end_frame(self) -> int:
        """One past its last frame."""
        return self.first_frame + self.frames

    @property
    def user_end_frame(self) -> int:
        """One past the last user frame it was made from."""
        return self.user_first_frame + self.user_frames


Job = StartConversation | TakeBack | TurnRequest


@dataclasses.dataclass(frozen=True)
class Timings:
    """Where a turn's time went [ms]."""

    queue_ms: float = 0.0
    speech_ms: float = 0.0
    backbone_ms: float = 0.0
    head_ms: float = 0.0
    compute_ms: float = 0.0

    @property
    def publish_ms(self) -> float:
        """What is left of the whole: checks, the message, handing it over."""
        return max(0.0, self.compute_ms - self.speech_ms - self.backbone_ms - self.head_ms)


@dataclasses.dataclass(frozen=True)
class LogEntry:
    """One decision, with the fields of timar_msgs/TurnLog; enough to repeat it."""

    decision: Decision
    conversation_id: str
    sequence: int
    first_frame: int
    frames: int
    seed: int
    revision: int
    engine: str
    model_sha256: str
    user_first_sample: int = 0
    user_end_sample: int = 0
    agent_first_sample: int = 0
    agent_end_sample: int = 0
    planned_revision: int = 0
    user_samples_filled: int = 0
    user_motion_valid: tuple[bool, ...] = ()
    is_late: bool = False
    timings: Timings = Timings()


@dataclasses.dataclass(frozen=True, eq=False)
class MotionRun:
    """Motion to be shown, with the fields of timar_msgs/HeadMotion."""

    conversation_id: str
    first_frame: int
    revision: int
    motion: npt.NDArray[np.float32]
    """(frames, 56), finite, rotations within half a turn."""
    due_ns: int
    """When its first frame is seen, monotonic [ns]."""
    final_until_frame: int
    compute_ms: float
    is_preview: bool = False
    """Whether it is a guess, to be replaced by the turn of the same frames."""


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """A decision carried out: what to log and, for a sampled turn, what to show."""

    entry: LogEntry
    finished_ns: int
    """Monotonic [ns]."""
    motion: npt.NDArray[np.float32] | None = None
    """(frames, 56), finite, rotations within half a turn; None when nothing was sampled."""
    due_ns: int = 0
    final_until_frame: int = 0

    @property
    def shown(self) -> MotionRun | None:
        """What is to be shown; None when nothing was sampled."""
        if self.motion is None:
            return None
        entry = self.entry
        return MotionRun(
            entry.conversation_id,
            entry.first_frame,
            entry.revision,
            self.motion,
            self.due_ns,
            self.final_until_frame,
            entry.timings.compute_ms,
        )


@dataclasses.dataclass(frozen=True)
class Identity:
    """Which engine and which weights made the motion."""

    engine: str
    model_sha256: str


def log_turn(
    request: TurnRequest,
    decision: Decision,
    sequence: int,
    identity: Identity,
    *,
    is_late: bool,
    timings: Timings,
) -> LogEntry:
    """Return the log entry of a turn that was generated or committed unsampled."""
    valid = request.user_motion_valid
    return LogEntry(
        decision=decision,
        conversation_id=request.conversation_id,
        sequence=sequence,
        first_frame=request.first_frame,
        frames=request.frames,
        seed=request.seed,
        revision=request.revision,
        engine=identity.engine,
        model_sha256=identity.model_sha256,
        user_first_sample=SAMPLES_PER_FRAME * request.user_first_frame,
        user_end_sample=SAMPLES_PER_FRAME * request.user_end_frame,
        agent_first_sample=SAMPLES_PER_FRAME * request.first_frame,
        agent_end_sample=SAMPLES_PER_FRAME * request.end_frame,
        planned_revision=request.planned_revision,
        user_samples_filled=request.user_samples_filled,
        user_motion_valid=() if valid is None else tuple(map(bool, np.any(valid, axis=1).tolist())),
        is_late=is_late,
        timings=timings,
    )
