"""Predictors of an agent's motion over a recorded dyad."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from timar_model.loading import LoadedModel
from timar_model.session.recording import RecordedVoices, run_session, run_sessions

from ..corpora.dyads import Dyad, FloatArray

COMPUTE_FRAMES = 1
"""A model without a user lag is shown one turn and its computing time late; a frame is allowed for that."""


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


def _recorded(dyad: Dyad) -> RecordedVoices:
    return dyad.user_voice, dyad.agent_voice, dyad.user_motion
