"""What a training run is: one YAML file, checked before anything is computed."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import yaml
from timar_model.config import ModelConfig, ObjectiveConfig, SamplingConfig

from .windows import Augmentation

PRECISIONS = ("float32", "bfloat16")
SCHEDULES = ("constant", "cosine")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """One training run."""

    data: str = ""
    """Folder of dyads with train.txt and validation.txt."""
    out: str = ""
    """Folder of checkpoints, log and the finished model."""
    start_from: str = ""
    """Model folder whose weights the run starts from; empty: random ones."""
    model_size: str = "tiny"
    """Size the model starts from."""
    model: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Fields of ModelConfig that differ; `objective` and `sampling` may be given in part."""
    augmentation: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Fields of Augmentation that differ."""
    window_frames: int = 100
    """Length of a training window [frames]; a multiple of the model's turn."""
    batch: int = 8
    """Windows per step."""
    steps: int = 2000
    """Optimiser steps."""
    stop_step: int = 0
    """Stop after this step, though the learning rate is planned for `steps`; 0 means after `steps`."""
    max_minutes: float = 0.0
    """Stop (and keep the best) after this time [min]; 0 means no limit."""
    learning_rate: float = 1e-3
    """Largest learning rate."""
    schedule: str = "cosine"
    """After the warm-up: "constant" as published, or "cosine" down to a twentieth."""
    warmup_steps: int = 100
    """Steps of linear warm-up."""
    weight_decay: float = 0.02
    """Of matrices of the backbone; none on norms, biases and the diffusion head."""
    clip_norm: float = 3.0
    """Largest norm of the gradient."""
    ema_decay: float = 0.998
    """Decay of the averaged weights, which are what is kept; slower at the start."""
    precision: str = "bfloat16"
    """Of the network's matrix products; the diffusion loss is always float32."""
    threads: int = 2
    """Threads of the CPU."""
    validate_every: int = 100
    """Steps between two validations."""
    validation_batches: int = 6
    """Fixed batches of each validation."""
    checkpoint_every: int = 100
    """Steps between two checkpoints."""
    keep_checkpoints: int = 2
    """How many of the newest checkpoints stay."""
    seed: int = 1
    """Fixes initial weights, order of windows, masks and noise."""

    def __post_init__(self) -> None:
        positive = ("window_frames", "batch", "steps", "threads", "validate_every", "validation_batches")
        for name in (*positive, "checkpoint_every", "keep_checkpoints"):
            self._require(name, int, 1)
        for name in ("warmup_steps", "seed", "stop_step"):
            self._require(name, int, 0)
        for name in ("learning_rate", "weight_decay", "clip_norm", "max_minutes"):
            self._require(name, (int, float), 0)
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"TrainConfig.ema_decay is {self.ema_decay}, expected at least 0 and below 1")
        for name, choices in (("precision", PRECISIONS), ("schedule", SCHEDULES)):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"TrainConfig.{name} is {getattr(self, name)!r}, expected one of {', '.join(choices)}"
                )
        for name in ("data", "out"):
            if not getattr(self, name):
                raise ValueError(f"TrainConfig.{name} is empty, expected a folder")
        turn = self.model_config().turn_frames
        if self.window_frames % turn:
            raise ValueError(
                f"TrainConfig.window_frames is {self.window_frames}, expected a multiple of the turn, {turn}"
            )
        self.augmentation_config()

    @classmethod
    def from_yaml(cls, path: Path, **changes: Any) -> TrainConfig:
        """Read a run's file.

        Args:
            path: The YAML file.
            changes: Fields given elsewhere, which win.

        Raises:
            ValueError: It is no mapping, has an unknown key, or a value that does not fit.
            OSError: It cannot be read.
        """
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except yaml.YAMLError as error:
            raise ValueError(
                f"{path} is not YAML ({error}); see training/timar_training/configs/tiny.yaml"
            ) from error
        known = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(values, dict):
            raise ValueError(f"{path} holds {type(values).__name__}, expected a mapping of keys to values")
        if unknown := sorted(set(values) - known):
            raise ValueError(
                f"{path} has the unknown key {unknown[0]!r}; known are {', '.join(sorted(known))}"
            )
        return cls(**{**values, **changes})

    @property
    def last_step(self) -> int:
        """The step after which the run ends."""
        return min(self.stop_step or self.steps, self.steps)

    def model_config(self) -> ModelConfig:
        """Return the model's configuration.

        Raises:
            ValueError: A field is unknown or does not fit.
        """
        changes = dict(self.model)
        base = ModelConfig.of_size(self.model_size)
        for name, kind in (("objective", ObjectiveConfig), ("sampling", SamplingConfig)):
            if name in changes:
                changes[name] = _replace(getattr(base, name), changes[name], kind.__name__)
        return ModelConfig.of_size(self.model_size, **changes)

    def augmentation_config(self) -> Augmentation:
        """Return the augmentation.

        Raises:
            ValueError: A field is unknown or does not fit.
        """
        return _replace(Augmentation(), self.augmentation, "Augmentation")

    def _require(self, name: str, kind: type | tuple[type, ...], minimum: float) -> None:
        value = getattr(self, name)
        is_number = isinstance(value, kind) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value) or value < minimum:
            raise ValueError(f"TrainConfig.{name} is {value!r}, expected a number of at least {minimum}")


def _replace(base: Any, changes: dict[str, Any], name: str) -> Any:
    known = {field.name for field in dataclasses.fields(base)}
    if unknown := sorted(set(changes) - known):
        raise ValueError(f"{name} has no field {unknown[0]!r}; its fields are {', '.join(sorted(known))}")
    return dataclasses.replace(base, **changes)
