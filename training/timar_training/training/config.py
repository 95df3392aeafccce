"""What a training run is: one YAML file, checked before anything is computed."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import yaml
from timar_model.architecture.config import ModelConfig, ObjectiveConfig, SamplingConfig

from ..preparation.windows import Augmentation

ARCHITECTURES = ("timar", "timar-distilled", "timar-mlp-head", "timar-full-attention", "dualtalk")
"""The system; its head taught to draw in fewer steps; it with a regression head, or with attention to later
turns; the whole-sequence baseline."""
BEST_BY = ("loss", "mse_jaw", "mse_pose", "fid_jaw", "fid_pose", "energy_jaw", "energy_pose")
PRECISIONS = ("float32", "bfloat16")
SCHEDULES = ("constant", "cosine")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """One training run."""

    data: str = ""
    """Folder of dyads with train.txt and validation.txt."""
    both_roles: bool = False
    """Learn each training clip a second time with the roles swapped, where the user's motion is known."""
    out: str = ""
    """Folder of checkpoints, log and the finished model."""
    start_from: str = ""
    """Model folder whose weights the run starts from; empty: random ones."""
    architecture: str = "timar"
    """One of ARCHITECTURES; "timar-distilled" goes on from `start_from`, the others after it are there to be
    compared with."""
    model_size: str = "tiny"
    """Size the model starts from."""
    model: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Fields of ModelConfig that differ; `objective` and `sampling` may be given in part."""
    augmentation: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Fields of Augmentation that differ."""
    window_frames: int = 100
    """Length of a training window [frames]; a multiple of the model's turn."""
    turn_lengths: tuple[int, ...] = ()
    """Lengths of turns [frames] of which each batch draws its own mixture; empty: the model's turn alone."""
    batch: int = 8
    """Windows per step, of all processes together."""
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
    best_by: str = "loss"
    """Which validation metric says which weights are kept (BEST_BY; the smallest wins). All but "loss" are
    measured on motion drawn by the live session."""
    best_by_seconds: float = 8.0
    """How much of each validation clip is drawn for it [s]."""
    best_by_clips: int = 4
    """Of how many validation clips."""
    log_every: int = 10
    """Steps between two entries of the TensorBoard log in `out`/log; 0: none is written."""
    checkpoint_every: int = 100
    """Steps between two checkpoints."""
    keep_checkpoints: int = 2
    """How many of the newest checkpoints stay."""
    seed: int = 1
    """Fixes initial weights, order of windows, masks and noise."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "turn_lengths", tuple(self.turn_lengths))
        positive = ("window_frames", "batch", "steps", "threads", "validate_every", "validation_batches")
        for name in (*positive, "checkpoint_every", "keep_checkpoints", "best_by_clips"):
            self._require(name, int, 1)
        for name in ("warmup_steps", "seed", "stop_step", "log_every"):
            self._require(name, int, 0)
        for name in ("learning_rate", "weight_decay", "clip_norm", "max_minutes", "best_by_seconds"):
            self._require(name, (int, float), 0)
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"TrainConfig.ema_decay is {self.ema_decay}, expected at least 0 and below 1")
        for name, choices in (
            ("precision", PRECISIONS),
            ("schedule", SCHEDULES),
            ("architecture", ARCHITECTURES),
            ("best_by", BEST_BY),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"TrainConfig.{name} is {getattr(self, name)!r}, expected one of {', '.join(choices)}"
                )
        for name in ("data", "out"):
            if not getattr(self, name):
                raise ValueError(f"TrainConfig.{name} is empty, expected a folder")
        self._check_together(self.model_config())
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

    def _check_together(self, model: ModelConfig) -> None:
        if self.window_frames % model.turn_frames:
            raise ValueError(
                f"TrainConfig.window_frames is {self.window_frames}, expected a multiple of the turn, "
                f"{model.turn_frames}"
            )
        if model.positions == "window" and self.window_frames > model.window_frames:
            raise ValueError(
                f"TrainConfig.window_frames is {self.window_frames}, but this model has learned positions "
                f"for {model.window_frames} frames; shorten the one or lengthen model.window_frames"
            )
        for frames in self.turn_lengths:
            if not isinstance(frames, int) or not 1 <= frames <= min(self.window_frames, model.window_frames):
                raise ValueError(
                    f"TrainConfig.turn_lengths holds {frames!r}, expected frames from 1 to the window's "
                    f"{min(self.window_frames, model.window_frames)}"
                )
        is_per_turn = model.speech_encoder == "wav2vec2" or model.has_fixed_turns
        if is_per_turn and set(self.turn_lengths) - {model.turn_frames}:
            raise ValueError(
                f"TrainConfig.turn_lengths is {list(self.turn_lengths)}, but this model hears and places "
                f"turns of {model.turn_frames} frames only; leave it empty"
            )
        if self.architecture == "timar-distilled" and not self.start_from:
            raise ValueError(
                "TrainConfig.architecture is 'timar-distilled' without start_from, expected the folder of "
                "the model to distil"
            )
        if self.architecture == "timar-full-attention" and model.past_frames:
            raise ValueError(
                f"TrainConfig.architecture 'timar-full-attention' draws all turns of a window at once, so "
                f"none is past to another; set model.past_frames to 0, not {model.past_frames}"
            )
        if self.best_by != "loss" and self.architecture in ("timar-full-attention", "dualtalk"):
            raise ValueError(
                f"TrainConfig.best_by is {self.best_by!r}, but {self.architecture} has no live session; "
                "say loss"
            )
        if self.warmup_steps >= self.steps:
            raise ValueError(
                f"TrainConfig.warmup_steps is {self.warmup_steps}, expected fewer than the {self.steps} steps"
            )

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
