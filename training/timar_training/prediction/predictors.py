"""Everything that makes an agent's motion, opened by name: models, ablations, baselines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from timar_model.architecture.config import ModelConfig
from timar_model.loading import LoadedModel, find_model
from timar_model.model_folder import read_model

from ..corpora import dyads
from .baselines import BASELINES, fit_baseline
from .conversing import Recording, converse, converse_together
from .predictor import Dyad, FloatArray, Predictor
from .whole_sequence import RegressingModel, open_whole_sequence

COMPUTE_FRAMES = 1
"""A model without a user lag is shown one turn and its computing time late; a frame is allowed for that."""


class SessionPredictor:
    """A model through its live session, turn by turn.

    Args:
        model: The model.
        history_turns: How many turns before the newest it sees; None: its whole window.
        threads: Of the arithmetic.
        sampling: Options that differ from the model's own.
        turn_frames: Length of its turns [frames]; None: the model's own.

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
    ) -> None:
        config = model.config
        self.name = model.path.name
        self.turn_frames = turn_frames or config.turn_frames
        self.delay_frames = delay_of(config, self.turn_frames)
        self._model = model
        self._options: dict[str, Any] = {"threads": threads, **(sampling or {})}
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
        session = self._model.session(engine="torch", seed=seed, **self._options)
        return converse(session, *_recording(dyad), turn_frames=self.turn_frames)

    def predict_together(self, dyads: Sequence[Dyad], seed: int) -> list[FloatArray]:
        """Return what `predict` would for each dyad, computed side by side."""
        batch = self._model.batch([seed] * len(dyads), engine="torch", **self._options)
        return converse_together(batch, [_recording(dyad) for dyad in dyads], self.turn_frames)


def _recording(dyad: Dyad) -> Recording:
    return dyad.user_voice, dyad.agent_voice, dyad.user_motion


def predict_all(predictor: Predictor, dyads: Sequence[Dyad], seed: int) -> list[FloatArray]:
    """Return the motion of each dyad, by shared passes where the predictor has them."""
    if isinstance(predictor, SessionPredictor):
        return predictor.predict_together(dyads, seed)
    return [predictor.predict(dyad, seed) for dyad in dyads]


def delay_of(config: ModelConfig, turn_frames: int) -> int:
    """Return by how many frames a model's motion is shown after the voice it belongs to."""
    return 0 if config.user_lag == "turn" else turn_frames + COMPUTE_FRAMES


def open_predictors(
    name: str,
    data: Path,
    histories: Sequence[int | None] = (None,),
    threads: int = 1,
    sampling: dict[str, Any] | None = None,
    turn_lengths: Sequence[int | None] = (None,),
) -> list[tuple[int | None, Predictor]]:
    """Return what a name stands for, once for each history and each length of turns it knows.

    Args:
        name: A model folder, a shipped model, or one of `baselines.BASELINES`, fitted on the train list.
        data: Folder of dyads.
        histories: Turns seen before the newest; only models have any.
        threads: Of the arithmetic.
        sampling: Options that differ from a model's own.
        turn_lengths: Lengths of turns [frames]; only models that stream have any. None: the model's own.

    Raises:
        FileNotFoundError: There is no such thing.
        ValueError: A history does not fit the model.
    """
    if name in BASELINES:
        return [(None, fit_baseline(name, dyads.read_split(data, "train")))]
    folder = read_model(find_model(name))
    settings = folder.manifest["provenance"].get("training", {}).get("settings", {})
    architecture = settings.get("architecture", "timar")
    if architecture in ("dualtalk", "timar-full-attention"):
        return [(None, open_whole_sequence(folder, architecture, settings, sampling or {}))]
    model: LoadedModel = LoadedModel(folder)
    if architecture == "timar-mlp-head":
        model = RegressingModel(folder)
    return [
        (turns, SessionPredictor(model, turns, threads, sampling, frames))
        for frames in turn_lengths
        for turns in histories
    ]
