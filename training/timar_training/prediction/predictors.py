"""Opening of predictors by name: model folders, shipped models, ablations, baselines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from timar_model.loading import LoadedModel, find_model
from timar_model.model_folder import read_model

from ..corpora.dyads import read_split
from .baselines import BASELINES, fit_baseline
from .predictor import Predictor, SessionPredictor
from .whole_sequence import WHOLE_SEQUENCE, RegressingModel


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
        return [(None, fit_baseline(name, read_split(data, "train")))]
    folder = read_model(find_model(name))
    settings = folder.manifest["provenance"].get("training", {}).get("settings", {})
    architecture = settings.get("architecture", "timar")
    if architecture in WHOLE_SEQUENCE:
        return [(None, WHOLE_SEQUENCE[architecture](folder, int(settings["window_frames"]), sampling or {}))]
    model = RegressingModel.of(folder) if architecture == "timar-mlp-head" else LoadedModel.of(folder)
    return [
        (turns, SessionPredictor(model, turns, threads, sampling, frames))
        for frames in turn_lengths
        for turns in histories
    ]
