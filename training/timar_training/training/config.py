"""Configuration of a training run: one YAML file, checked before anything is computed."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Annotated, Any

from timar_common.config import Count, CountOrZero, NonNegative, OneOf, Range, check
from timar_common.config_file import read_config, replace_fields
from timar_model.architecture.config import ModelConfig
from timar_model.loading import find_model
from timar_model.model_folder import CONFIG

from ..preparation.windows import Augmentation

ARCHITECTURES = ("timar", "timar-distilled", "timar-mlp-head", "timar-full-attention", "dualtalk")
"""The system; its head taught to draw in fewer steps; it with a regression head, or with attention to later
turns; the whole-sequence baseline."""
FINE_TUNING = ("", "full", "low-rank")
BEST_BY = ("loss", "mse_jaw", "mse_pose", "fid_jaw", "fid_pose", "energy_jaw", "energy_pose")
FREE_WITHIN_A_RUN = {"out", "stop_step", "max_minutes", "threads", "validate_every", "checkpoint_every"}
FREE_WITHIN_A_RUN |= {"keep_checkpoints", "log_every"}
"""Fields that may change when a run is resumed: how long and how watched it is."""


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
    """Model folder, or name of a shipped or imported model, whose weights the run starts from; empty: random
    ones."""
    fine_tuning: Annotated[str, OneOf(FINE_TUNING)] = ""
    """How `start_from` is fine-tuned, whose configuration and units of motion are kept: "full" learns all its
    weights, "low-rank" a change of low rank of each layer; its speech encoder is frozen. Empty: the model is
    made by `model_size` and `model`."""
    rank: Count = 8
    """Rank of the changes that fine_tuning "low-rank" learns."""
    architecture: Annotated[str, OneOf(ARCHITECTURES)] = "timar"
    """One of ARCHITECTURES; "timar-distilled" goes on from `start_from`, the others after it are there to be
    compared with."""
    model_size: str = "tiny"
    """Size the model starts from."""
    model: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Fields of ModelConfig that differ; `objective` and `sampling` may be given in part."""
    augmentation: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Fields of Augmentation that differ."""
    window_frames: Count = 100
    """Length of a training window [frames]; a multiple of the model's turn."""
    turn_lengths: tuple[Count, ...] = ()
    """Lengths of turns [frames] of which each batch draws its own mixture; empty: the model's turn alone."""
    batch: Count = 8
    """Windows per step, of all processes together."""
    steps: Count = 2000
    """Optimiser steps."""
    stop_step: CountOrZero = 0
    """Stop after this step, though the learning rate is planned for `steps`; 0 means after `steps`."""
    max_minutes: NonNegative = 0.0
    """Stop (and keep the best) after this time [min]; 0 means no limit."""
    learning_rate: NonNegative = 1e-3
    """Largest learning rate."""
    schedule: Annotated[str, OneOf(("constant", "cosine"))] = "cosine"
    """After the warm-up: "constant" as published, or "cosine" down to a twentieth."""
    warmup_steps: CountOrZero = 100
    """Steps of linear warm-up."""
    weight_decay: NonNegative = 0.02
    """Of matrices of the backbone; none on norms, biases and the diffusion head."""
    clip_norm: NonNegative = 3.0
    """Largest norm of the gradient."""
    ema_decay: Annotated[float, Range(0.0, 1.0, is_maximum_excluded=True)] = 0.998
    """Decay of the averaged weights, which are what is kept; slower at the start."""
    precision: Annotated[str, OneOf(("float32", "bfloat16"))] = "bfloat16"
    """Of the network's matrix products; the diffusion loss is always float32."""
    threads: Count = 2
    """Threads of the CPU."""
    validate_every: Count = 100
    """Steps between two validations."""
    validation_batches: Count = 6
    """Fixed batches of each validation."""
    best_by: Annotated[str, OneOf(BEST_BY)] = "loss"
    """Which validation metric says which weights are kept (BEST_BY; the smallest wins). All but "loss" are
    measured on motion drawn by the live session."""
    best_by_seconds: NonNegative = 8.0
    """How much of each validation clip is drawn for it [s]."""
    best_by_clips: Count = 4
    """Of how many validation clips."""
    log_every: CountOrZero = 10
    """Steps between two entries of the TensorBoard log in `out`/log; 0: none is written."""
    checkpoint_every: Count = 100
    """Steps between two checkpoints."""
    keep_checkpoints: Count = 2
    """How many of the newest checkpoints stay."""
    seed: CountOrZero = 1
    """Fixes initial weights, order of windows, masks and noise."""

    def __post_init__(self) -> None:
        check(self)
        for name in ("data", "out"):
            if not getattr(self, name):
                raise ValueError(f"TrainConfig.{name} is empty, expected a folder")
        if self.fine_tuning and not self.start_from:
            raise ValueError(
                f"TrainConfig.fine_tuning is {self.fine_tuning!r} without start_from, expected a model"
            )
        self._check_together(self.model_config())
        self.augmentation_config()

    @classmethod
    def from_yaml(cls, path: Path, **changes: Any) -> TrainConfig:
        """Read a run's file.

        Args:
            path: The YAML file; see training/timar_training/configs/tiny.yaml.
            changes: Fields given elsewhere, which win.

        Raises:
            ValueError: It is no mapping, has an unknown key, or a value that does not fit.
            OSError: It cannot be read.
        """
        return read_config(cls, path, **changes)

    @property
    def last_step(self) -> int:
        """The step after which the run ends."""
        return min(self.stop_step or self.steps, self.steps)

    def fixed_settings(self) -> dict[str, Any]:
        """Return the fields that must not change within a run."""
        return {key: value for key, value in dataclasses.asdict(self).items() if key not in FREE_WITHIN_A_RUN}

    def model_config(self) -> ModelConfig:
        """Return the model's configuration.

        Raises:
            ValueError: A field is unknown or does not fit.
        """
        changes = dict(self.model)
        base = start_config(self.start_from) if self.fine_tuning else ModelConfig.of_size(self.model_size)
        for name in {"objective", "sampling"} & changes.keys():
            changes[name] = replace_fields(getattr(base, name), changes[name])
        return replace_fields(base, changes)

    def augmentation_config(self) -> Augmentation:
        """Return the augmentation.

        Raises:
            ValueError: A field is unknown or does not fit.
        """
        return replace_fields(Augmentation(), self.augmentation)

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
        longest = min(self.window_frames, model.window_frames)
        if too_long := [frames for frames in self.turn_lengths if frames > longest]:
            raise ValueError(
                f"TrainConfig.turn_lengths holds {too_long[0]}, expected frames up to the window's {longest}"
            )
        is_per_turn = model.speech_encoder == "wav2vec2" or model.has_fixed_turns
        if is_per_turn and set(self.turn_lengths) - {model.turn_frames}:
            raise ValueError(
                f"TrainConfig.turn_lengths is {list(self.turn_lengths)}, but this model encodes and places "
                f"turns of {model.turn_frames} frames only; leave it empty"
            )
        if self.fine_tuning and self.architecture != "timar":
            raise ValueError(
                f"TrainConfig.fine_tuning is {self.fine_tuning!r} with architecture {self.architecture!r}, "
                "expected architecture timar"
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


@functools.lru_cache(maxsize=4)
def start_config(model: str) -> ModelConfig:
    """Return the configuration of a model that a run starts from.

    Raises:
        OSError: There is no such model.
        ValueError: Its configuration makes no sense.
    """
    return ModelConfig.from_json((find_model(model) / CONFIG).read_text(encoding="utf-8"))
