"""Setting up of a training run: prepared data, samplers, start weights, provenance."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timar_model.loading import find_model
from timar_model.model_folder import read_model
from torch import nn

from ..corpora.dyads import read_split
from ..corpora.index import CACHE_FOLDER
from ..corpora.splits import check_splits, corpus_manifest
from ..preparation.prepare import prepare
from ..preparation.windows import WindowSampler, motion_statistics, window_lead
from .config import TrainConfig
from .trainer import Trainer


def open_run(
    config: TrainConfig,
    *,
    processes: int = 1,
    command: str = "",
    advance: Callable[[str, int, int], None] = lambda split, done, total: None,
) -> Trainer:
    """Prepare the data of a run and return its trainer.

    Args:
        config: The run.
        processes: How many prepare data at once.
        command: Kept in the model's manifest as what made it.
        advance: Called with (split, done, total) while clips are prepared.

    Raises:
        BadClipError: The data is not what it must be, or a clip stands in both splits.
    """
    model_config = config.model_config()
    turns = [model_config.turn_frames] * (config.window_frames // model_config.turn_frames)
    lead = window_lead(turns, config.turn_lengths, model_config)
    folder = Path(config.data)
    lists = check_splits(folder)
    splits = {split: lists.get(split) or read_split(folder, split) for split in ("train", "validation")}
    if config.both_roles:
        splits["both roles"] = splits["train"] + [clip.swapped() for clip in splits["train"]]
    prepared = {
        split: prepare(
            clips,
            model_config,
            lead,
            folder / CACHE_FOLDER,
            processes=processes,
            advance=functools.partial(advance, split),
        )
        for split, clips in splits.items()
    }
    begun = read_model(find_model(config.start_from)) if config.fine_tuning else None
    statistics = begun.statistics if begun else motion_statistics(prepared["train"])
    learned = prepared["both roles" if config.both_roles else "train"]
    shared = (statistics, model_config, turns, config.batch)
    lengths, augmentation = config.turn_lengths, config.augmentation_config()
    train = WindowSampler(learned, *shared, config.seed, augmentation, lengths)
    validation = WindowSampler(prepared["validation"], *shared, 0, None, lengths)
    start = None
    if config.start_from:
        start = functools.partial(load_start_weights, begun.path if begun else find_model(config.start_from))
    facts = _provenance(folder, command)
    if begun:
        facts["started_from"] = {"sha256": begun.sha256, **begun.manifest["provenance"]}
        facts["licence"] = begun.manifest["provenance"].get("licence", "that of the model it started from")
    return Trainer(config, train, validation, statistics, facts, splits["validation"], start)


def load_start_weights(folder: Path, network: nn.Module) -> None:
    """Put the weights of a model folder into a network of the same shapes.

    Raises:
        ValueError: The shapes differ.
    """
    weights = read_model(folder).weights()
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    _widen_speech(weights, shapes)
    found = {name: array.shape for name, array in weights.items()}
    if found != shapes:
        other = sorted(name for name in {*found, *shapes} if found.get(name) != shapes.get(name))[0]
        raise ValueError(
            f"start_from {folder} has {other} of shape {found.get(other)}, expected {shapes.get(other)}; "
            "give a model of the same size"
        )
    network.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})


def _widen_speech(weights: dict[str, np.ndarray], shapes: dict[str, tuple[int, ...]]) -> None:
    """Let a network with level memories start from one without: they count for nothing at first."""
    name = "speech.0.weight"
    if name in weights and name in shapes:
        missing = max(0, shapes[name][1] - weights[name].shape[1])
        weights[name] = np.pad(weights[name], ((0, 0), (0, missing)))


def _provenance(folder: Path, command: str) -> dict[str, Any]:
    facts = corpus_manifest(folder)
    return {
        "command": command,
        "data": folder.name,
        "data_kind": facts.get("kind", "recorded"),
        "data_config": facts.get("config", {}),
        "voices": facts.get("voices", {}),
        "licence": "Apache-2.0",
    }
