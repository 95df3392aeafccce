"""Predictors of an agent's motion, and a model's live session run over a recorded dyad."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from timar_common.motion_file import MotionTrack
from timar_common.units import Frames, Samples, frames_of, samples_of
from timar_common.user_motion import MOTION_CHANNELS
from timar_model.architecture.config import ModelConfig
from timar_model.architecture.inputs import next_turn
from timar_model.loading import LoadedModel
from timar_model.session.batch import BatchedSession, TurnArguments
from timar_model.session.session import Session

from ..corpora.dyads import Dyad, FloatArray

COMPUTE_FRAMES = 1
"""A model without a user lag is shown one turn and its computing time late; a frame is allowed for that."""

RecordedVoices = tuple[FloatArray, FloatArray, MotionTrack | None]
"""The user's voice (n,) and the agent's (n,), 16 kHz, and the user's motion; None: unseen."""


class Predictor(Protocol):
    """Generates the agent's motion of a whole dyad; it never looks at `Dyad.agent_motion`."""

    name: str
    turn_frames: int
    """Its step [frames]; 1 for what has none."""
    delay_frames: int
    """By how much its motion is shown after the voice it belongs to [frames]."""

    def predict(self, dyad: Dyad, seed: int) -> FloatArray:
        """Return (T', 56), T' at most the dyad's frames, frame f made for sample 640 f."""


class SessionPredictor:
    """A model through its live session, turn by turn.

    Args:
        model: The model.
        history_turns: How many turns before the newest it sees; None: its whole window.
        threads: Of the arithmetic.
        sampling: Options that differ from the model's own.
        turn_frames: Length of its turns [frames]; None: the model's own.
        engine: What computes it.

    Raises:
        ValueError: The model's window does not hold so many turns.
    """

    def __init__(
        self,
        model: LoadedModel,
        history_turns: int | None = None,
        threads: int = 1,
        sampling: dict[str, Any] | None = None,
        turn_frames: int | None = None,
        engine: str = "torch",
    ) -> None:
        config = model.config
        self.name = model.path.name
        self.turn_frames = turn_frames or config.turn_frames
        # Without a user lag in training, motion can be shown only after the whole turn's audio has arrived.
        self.delay_frames = 0 if config.user_lag == "turn" else self.turn_frames + COMPUTE_FRAMES
        self._model = model
        self._options: dict[str, Any] = {"engine": engine, "threads": threads, **(sampling or {})}
        if history_turns is not None:
            window = (history_turns + 1) * self.turn_frames
            if window > config.window_frames:
                raise ValueError(
                    f"a history of {history_turns} turns needs a window of {window} frames, but the model "
                    f"has {config.window_frames}; ask for at most "
                    f"{config.window_frames // self.turn_frames - 1}"
                )
            self._options["window_frames"] = window

    def predict(self, dyad: Dyad, seed: int) -> FloatArray:
        """Return (T', 56) of whole turns."""
        session = self._model.session(seed=seed, **self._options)
        return run_session(session, *_recorded(dyad), turn_frames=self.turn_frames)

    def predict_batch(self, dyads: Sequence[Dyad], seed: int) -> list[FloatArray]:
        """Return what `predict` would for each dyad, computed side by side."""
        batch = self._model.batch([seed] * len(dyads), **self._options)
        return run_sessions(batch, [_recorded(dyad) for dyad in dyads], self.turn_frames)


def predict_all(predictor: Predictor, dyads: Sequence[Dyad], seed: int) -> list[FloatArray]:
    """Return the motion of each dyad, by shared passes where the predictor has them."""
    if isinstance(predictor, SessionPredictor):
        return predictor.predict_batch(dyads, seed)
    return [predictor.predict(dyad, seed) for dyad in dyads]


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
    turn_frames = turn_frames or session.config.turn_frames
    turns = _turns((user_voice, agent_voice, user_motion), session.config, turn_frames)
    return _joined(session.step(**vars(turn)) for turn in turns)


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


def _recorded(dyad: Dyad) -> RecordedVoices:
    return dyad.user_voice, dyad.agent_voice, dyad.user_motion


def _joined(turns: Any) -> FloatArray:
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
