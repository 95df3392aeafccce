"""A whole recording through a session: turn by turn, both voices paired on the one clock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
from timar_common.motion_file import MotionTrack
from timar_common.units import Frames, Samples, frames_of, samples_of
from timar_common.user_motion import MOTION_CHANNELS

from timar_model.architecture.config import ModelConfig
from timar_model.architecture.inputs import next_turn
from timar_model.session.batch import BatchedSession, TurnArguments
from timar_model.session.session import Session

FloatArray = npt.NDArray[np.float32]
RecordedVoices = tuple[FloatArray, FloatArray, MotionTrack | None]
"""The user's voice (n,) and the agent's (n,), 16 kHz, and the user's motion; None: unseen."""


def run_session(
    session: Session,
    user_voice: FloatArray,
    agent_voice: FloatArray,
    user_motion: MotionTrack | None = None,
    turn_frames: int | None = None,
) -> FloatArray:
    """Generate the agent's motion over a whole recording: turn by turn, streams paired on the one clock.

    Args:
        session: A fresh session.
        user_voice: (n,) 16 kHz.
        agent_voice: (n,) 16 kHz; the shorter of the two gives the length.
        user_motion: The user's motion; None: unseen.
        turn_frames: Length of every turn [frames]; None: the model's own.

    Returns:
        (frames, 56), whole turns only; frame f belongs to sample 640 f.
    """
    return _joined(session_turns(session, (user_voice, agent_voice, user_motion), turn_frames))


def session_turns(
    session: Session, voices: RecordedVoices, turn_frames: int | None = None
) -> Iterator[FloatArray]:
    """Yield the motion of each whole turn of a recording, (F, 56), as of `run_session`."""
    for turn in _turns(voices, session.config, turn_frames or session.config.turn_frames):
        yield session.step(**vars(turn))


def run_sessions(
    batch: BatchedSession, recordings: Sequence[RecordedVoices], turn_frames: int | None = None
) -> list[FloatArray]:
    """Generate the motion of several recordings by shared passes, one for each conversation of a fresh batch.

    Args:
        batch: As many conversations as there are recordings.
        recordings: User's voice, agent's voice and user's motion, as of `run_session`.
        turn_frames: As of `run_session`.

    Returns:
        What `run_session` would return for each.
    """
    config = batch.rows[0].config
    turn_frames = turn_frames or config.turn_frames
    lengths = [_whole_turns(user, agent, turn_frames) for user, agent, _ in recordings]
    # A pass is shared only while all take part: the shorter ones go on in silence, and that part is cut.
    columns = [_turns(recording, config, turn_frames, max(lengths)) for recording in recordings]
    rows = zip(*(batch.step(turns) for turns in zip(*columns, strict=True)), strict=True)
    made = [_joined(row) for row in rows] or [_joined(())] * len(lengths)
    return [row[:frames] for row, frames in zip(made, lengths, strict=True)]


def _joined(turns: Iterable[FloatArray]) -> FloatArray:
    return np.concatenate([np.zeros((0, MOTION_CHANNELS), np.float32), *turns])


def _whole_turns(user_voice: FloatArray, agent_voice: FloatArray, turn_frames: int) -> Frames:
    """Return the frames of the whole turns that two voices fill."""
    frames = frames_of(Samples(min(len(user_voice), len(agent_voice))))
    return Frames(frames // turn_frames * turn_frames)


def _turns(
    recording: RecordedVoices, config: ModelConfig, turn_frames: int, frames: Frames | None = None
) -> Iterator[TurnArguments]:
    """Yield what each turn of a recording is fed, on the one clock; after its end silence, unseen."""
    user_voice, agent_voice, user_motion = recording
    known = _whole_turns(user_voice, agent_voice, turn_frames)
    seen = MotionTrack.unseen(known) if user_motion is None else user_motion.fitted_to(known)
    previous = None
    for first in range(0, known if frames is None else frames, turn_frames):
        turn = next_turn(first, turn_frames, previous, config)
        low, high = Frames(turn.user_first_frame), Frames(turn.user_first_frame + turn.user_frames)
        valid = _cut(seen.valid, low, high)
        yield TurnArguments(
            user_speech=_cut(user_voice, samples_of(low), samples_of(high)),
            user_motion=_cut(seen.vector, low, high) if valid.any() else None,
            agent_speech=_cut(agent_voice, samples_of(Frames(first)), samples_of(Frames(turn.end_frame))),
            user_motion_valid=valid if valid.any() else None,
        )
        previous = turn_frames


def _cut(array: npt.NDArray, low: int, high: int) -> npt.NDArray:
    """Return rows [low, high), zeros where they lie outside."""
    inside = array[max(0, low) : max(0, high)]
    before = np.zeros((max(0, min(0, high) - low), *array.shape[1:]), array.dtype)
    after = np.zeros((high - low - len(before) - len(inside), *array.shape[1:]), array.dtype)
    return np.concatenate([before, inside, after])
