"""The training loop: one seed fixes everything, every step can be resumed from, nothing non-finite passes."""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timar_model.checkpoint import read_model, save_model
from timar_model.model import TimarModel, TrainingBatch
from timar_model.statistics import MotionStatistics
from timar_model.turns import lead_frames
from torch import Tensor

from . import dyads
from .checkpoints import (
    load_checkpoint,
    newest_checkpoint,
    optimiser_tensors,
    restore_optimiser,
    save_checkpoint,
)
from .prepare import CACHE_FOLDER, prepare
from .train_config import TrainConfig
from .windows import WindowSampler, motion_statistics

LEAST_RATE = 0.05


class NonFiniteLossError(FloatingPointError):
    """The loss or the gradient is no finite number; the batch was saved."""


@dataclasses.dataclass(frozen=True)
class Progress:
    """What the loop tells after each step."""

    step: int
    loss: float
    validation_loss: float | None
    """Set after a validation."""
    data_share: float
    """Share of the step's time that went into reading data."""


class Trainer:
    """One run.

    Args:
        config: What to do.
        train: Windows to learn from.
        validation: Windows to judge by, without augmentation.
        statistics: Units of motion, stored with the model.
        provenance: Stored with the model as well.
    """

    def __init__(
        self,
        config: TrainConfig,
        train: WindowSampler,
        validation: WindowSampler,
        statistics: MotionStatistics,
        provenance: dict[str, Any],
    ) -> None:
        self.config = config
        self.step = 0
        self.best_loss = math.inf
        self.out = Path(config.out)
        self._train = train
        self._validation = validation
        self._statistics = statistics
        self._provenance = provenance
        torch.manual_seed(config.seed)
        self.model = TimarModel(config.model_config())
        if config.start_from:
            _start_from(Path(config.start_from), self.model)
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self._names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        self._optimiser = _optimiser(self.model, config)

    def resume(self) -> bool:
        """Continue from the newest checkpoint of the run, if there is one.

        Raises:
            ValueError: It was made with other settings.
        """
        path = newest_checkpoint(self.out)
        if path is None:
            return False
        tensors, facts = load_checkpoint(path)
        if facts["settings"] != self._settings():
            raise ValueError(
                f"{path} was made with other settings; give another `out` folder or the same settings"
            )
        self.model.load_state_dict(_under("model/", tensors))
        self.average.load_state_dict(_under("average/", tensors))
        restore_optimiser(self._optimiser, _under("optimiser/", tensors), self._names)
        self.step, self.best_loss = int(facts["step"]), float(facts["best_loss"])
        return True

    def run(self, report: Callable[[Progress], None] = lambda progress: None) -> float:
        """Train to the end and return the best validation loss.

        Raises:
            NonFiniteLossError: Training broke; the message says where the batch lies.
        """
        config = self.config
        torch.set_num_threads(config.threads)
        started_s = time.monotonic()
        while self.step < config.last_step:
            progress = self._one_step()
            is_out_of_time = config.max_minutes and time.monotonic() - started_s > 60 * config.max_minutes
            is_last = self.step >= config.last_step or is_out_of_time
            if self.step % config.validate_every == 0 or is_last:
                progress = dataclasses.replace(progress, validation_loss=self._validate_and_keep())
            if self.step % config.checkpoint_every == 0 or is_last:
                self._checkpoint()
            report(progress)
            if is_last:
                break
        return self.best_loss

    def validate(self) -> float:
        """Return the averaged weights' loss on the fixed validation batches."""
        self.average.eval()
        losses = []
        with torch.no_grad():
            for index in range(self.config.validation_batches):
                batch = self._validation.draw(index)
                losses.append(float(self._loss(self.average, batch, _generator(self.config.seed, 7, index))))
        return float(np.mean(losses))

    def _one_step(self) -> Progress:
        config = self.config
        began_s = time.perf_counter()
        batch = self._train.draw(self.step)
        read_s = time.perf_counter()
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate(self.step, config)
        self.model.train()
        self._optimiser.zero_grad(set_to_none=True)
        loss = self._loss(self.model, batch, _generator(config.seed, 5, self.step))
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm)
        if not (torch.isfinite(loss) and torch.isfinite(norm)):
            self._refuse(batch, float(loss.detach()), float(norm))
        self._optimiser.step()
        self.step += 1
        self._follow()
        ended_s = time.perf_counter()
        share = (read_s - began_s) / max(ended_s - began_s, 1e-9)
        return Progress(self.step, float(loss.detach()), None, share)

    def _loss(self, model: TimarModel, batch: TrainingBatch, generator: torch.Generator) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.config.precision == "bfloat16"):
            return model.training_loss(batch, generator).total

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the averaged weights; a young average forgets faster, so that it is not stuck at the start."""
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        pairs = zip(self.average.parameters(), self.model.parameters(), strict=True)
        for averaged, current in pairs:
            averaged.lerp_(current, 1.0 - decay)

    def _validate_and_keep(self) -> float:
        loss = self.validate()
        if loss < self.best_loss:
            self.best_loss = loss
            facts = {"steps": self.step, "validation_loss": loss, "settings": self._settings()}
            save_model(
                self.out / "model", self.average, self._statistics, {**self._provenance, "training": facts}
            )
        return loss

    def _checkpoint(self) -> None:
        tensors = {f"model/{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"average/{name}": value for name, value in self.average.state_dict().items()}
        moments = optimiser_tensors(self._optimiser, self._names)
        tensors |= {f"optimiser/{name}": value for name, value in moments.items()}
        facts = {"best_loss": self.best_loss, "settings": self._settings()}
        save_checkpoint(self.out, self.step, tensors, facts, self.config.keep_checkpoints)

    def _settings(self) -> dict[str, Any]:
        """Return what must not change within a run; how long and how watched it is may."""
        free = {
            "out",
            "stop_step",
            "max_minutes",
            "threads",
            "validate_every",
            "checkpoint_every",
            "keep_checkpoints",
        }
        settings = {key: value for key, value in dataclasses.asdict(self.config).items() if key not in free}
        return json.loads(json.dumps(settings))

    def _refuse(self, batch: TrainingBatch, loss: float, norm: float) -> None:
        path = self.out / f"nonfinite_batch_{self.step}.npz"
        self.out.mkdir(parents=True, exist_ok=True)
        arrays = {name: value.numpy() for name, value in vars(batch).items() if isinstance(value, Tensor)}
        np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
        raise NonFiniteLossError(
            f"step {self.step} has the loss {loss} and the gradient norm {norm}, expected finite numbers; "
            f"its batch is in {path}: look for broken data there, or lower learning_rate"
        )


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
        advance: Told (split, done, total) while clips are prepared.

    Raises:
        BadClipError: The data is not what it must be, or a clip stands in both splits.
    """
    model_config = config.model_config()
    turns = [model_config.turn_frames] * (config.window_frames // model_config.turn_frames)
    lead = lead_frames(turns, model_config)
    folder = Path(config.data)
    splits = {split: dyads.read_split(folder, split) for split in ("train", "validation")}
    if shared := {clip.name for clip in splits["train"]} & {clip.name for clip in splits["validation"]}:
        raise dyads.BadClipError(
            f"{sorted(shared)[0]} stands in train.txt and validation.txt; a clip has one split"
        )
    cache = folder / CACHE_FOLDER
    prepared = {
        split: prepare(
            clips, model_config, lead, cache, processes=processes, advance=functools.partial(advance, split)
        )
        for split, clips in splits.items()
    }
    statistics = motion_statistics(prepared["train"])
    shared_arguments = (statistics, model_config, turns, config.batch)
    train = WindowSampler(prepared["train"], *shared_arguments, config.seed, config.augmentation_config())
    validation = WindowSampler(prepared["validation"], *shared_arguments, seed=0)
    return Trainer(config, train, validation, statistics, _provenance(folder, command))


def learning_rate(step: int, config: TrainConfig) -> float:
    """Return the learning rate of a step: linear warm-up, then constant or half a cosine."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.learning_rate
    phase = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return config.learning_rate * (
        LEAST_RATE + (1 - LEAST_RATE) * 0.5 * (1 + math.cos(math.pi * min(1.0, phase)))
    )


def _provenance(folder: Path, command: str) -> dict[str, Any]:
    manifest = folder / "manifest.json"
    facts = json.loads(manifest.read_text(encoding="utf-8")) if manifest.is_file() else {}
    return {
        "command": command,
        "data": folder.name,
        "data_kind": facts.get("kind", "recorded"),
        "data_config": facts.get("config", {}),
        "voices": facts.get("voices", {}),
        "licence": "Apache-2.0",
    }


def _start_from(folder: Path, model: TimarModel) -> None:
    """Put the weights of a model folder into a network of the same shapes."""
    weights = read_model(folder).weights()
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = {name: array.shape for name, array in weights.items()}
    if found != shapes:
        other = sorted(name for name in {*found, *shapes} if found.get(name) != shapes.get(name))[0]
        raise ValueError(
            f"start_from {folder} has {other} of shape {found.get(other)}, expected {shapes.get(other)}; "
            "give a model of the same size"
        )
    model.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})


def _optimiser(model: TimarModel, config: TrainConfig) -> torch.optim.AdamW:
    """Return AdamW that decays matrices of the backbone only."""
    decayed: list[Tensor] = []
    free: list[Tensor] = []
    for name, parameter in model.named_parameters():
        is_matrix = parameter.ndim > 1 and not name.startswith("head.")
        (decayed if is_matrix else free).append(parameter)
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": free, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95))


def _generator(*numbers: int) -> torch.Generator:
    """Return a generator that depends on the numbers alone: a resumed step draws what it would have drawn."""
    state = np.random.SeedSequence(numbers).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(state[0]) << 31 ^ int(state[1]))


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
