"""Run a model over a recorded dyad as the live head would: turn by turn, streams paired on the one clock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
from timar_common.clock import SAMPLES_PER_FRAME
from timar_model.architecture.config import ModelConfig
from timar_model.architecture.inputs import next_turn
from timar_model.session.batch import BatchedSession, TurnArguments

from ..corpora.dyads import MOTION_SIZE, Motion

FloatArray = npt.NDArray[np.float32]
Recording = tuple[FloatArray, FloatArray, Motion | None]
"""The user's voice (n,) and the agent's (n,), 16 kHz, and the user's motion; None: unseen."""


class StepsThroughTurns(Protocol):
    """What is needed of `timar_model.session.Session`."""

    config: ModelConfig

    @property
    def next_frame(self) -> int:
        """First frame of the next turn."""

    def step(
        self,
        user_speech: FloatArray,
        user_motion: FloatArray | None,
        agent_speech: FloatArray,
        noise: FloatArray | None = None,
        user_motion_valid: npt.NDArray[np.bool_] | None = None,
    ) -> FloatArray:
        """Generate a turn."""


def converse(
    session: StepsThroughTurns,
    user_voice: FloatArray,
    agent_voice: FloatArray,
    user_motion: Motion | None = None,
    turn_frames: int | None = None,
) -> FloatArray:
    """Generate the agent's motion over a whole recording.

    Args:
        session: A fresh session.
        user_voice: (n,) 16 kHz.
        agent_voice: (n,) 16 kHz; the shorter of the two gives the length.
        user_motion: The user's motion; None: unseen.
        turn_frames: Length of every turn [frames]; None: the model's own.

    Returns:
        (frames, 56), whole turns only; frame f belongs to sample 640 f.
    """
    turn_frames = turn_frames or session.config.turn_frames
    turns = _turns((user_voice, agent_voice, user_motion), session.config, turn_frames)
    motion = [session.step(**vars(turn)) for turn in turns]
    return np.concatenate(motion) if motion else np.zeros((0, MOTION_SIZE), np.float32)


def converse_together(
    batch: BatchedSession, recordings: Sequence[Recording], turn_frames: int | None = None
) -> list[FloatArray]:
    """Generate the motion of several recordings by shared passes, one for each conversation of a fresh batch.

    Args:
        batch: As many conversations as there are recordings.
        recordings: User's voice, agent's voice and user's motion, as of `converse`.
        turn_frames: As of `converse`.

    Returns:
        What `converse` would return for each.
    """
    config = batch.rows[0].config
    turn_frames = turn_frames or config.turn_frames
    lengths = [_whole_turns(user, agent, turn_frames) for user, agent, _ in recordings]
    # A pass is shared only while all take part: the shorter ones go on in silence, and that part is cut.
    columns = [_turns(recording, config, turn_frames, max(lengths)) for recording in recordings]
    motion = [batch.step(row) for row in zip(*columns, strict=True)]
    made = (
        np.concatenate([np.zeros((0, MOTION_SIZE), np.float32), *row]) for row in zip(*motion, strict=True)
    )
    return [row[:frames] for row, frames in zip(made, lengths, strict=True)]


def _whole_turns(user_voice: FloatArray, agent_voice: FloatArray, turn_frames: int) -> int:
    """Return the frames of the whole turns that two voices fill."""
    frames = min(len(user_voice), len(agent_voice)) // SAMPLES_PER_FRAME
    return frames // turn_frames * turn_frames


def _turns(
    recording: Recording, config: ModelConfig, turn_frames: int, frames: int | None = None
) -> Iterator[TurnArguments]:
    """Yield what each turn of a recording is fed, on the one clock; after its end silence, unseen."""
    user_voice, agent_voice, user_motion = recording
    known = _whole_turns(user_voice, agent_voice, turn_frames)
    seen = Motion.unseen(known) if user_motion is None else user_motion.fitted_to(known)
    previous = None
    for first in range(0, known if frames is None else frames, turn_frames):
        turn = next_turn(first, turn_frames, previous, config)
        low, high = turn.user_first_frame, turn.user_first_frame + turn.user_frames
        valid = _cut(seen.valid, low, high)
        yield TurnArguments(
            user_speech=_cut(user_voice, low * SAMPLES_PER_FRAME, high * SAMPLES_PER_FRAME),
            user_motion=_cut(seen.vector, low, high) if valid.any() else None,
            agent_speech=_cut(agent_voice, first * SAMPLES_PER_FRAME, turn.end_frame * SAMPLES_PER_FRAME),
            user_motion_valid=valid if valid.any() else None,
        )
        previous = turn_frames


def _cut(array: npt.NDArray, low: int, high: int) -> npt.NDArray:
    """Return rows [low, high), zeros where they lie outside."""
    inside = array[max(0, low) : max(0, high)]
    before = np.zeros((max(0, min(0, high) - low), *array.shape[1:]), array.dtype)
    after = np.zeros((high - low - len(before) - len(inside), *array.shape[1:]), array.dtype)
    return np.concatenate([before, inside, after])
