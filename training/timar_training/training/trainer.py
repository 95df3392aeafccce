"""The training loop: one seed fixes everything, every step can be resumed from, nothing non-finite passes."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from timar_model.architecture.inputs import MotionStatistics
from timar_model.architecture.model import TimarModel, TrainingBatch
from timar_model.model_folder import read_model, save_model
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ..corpora import dyads
from ..corpora.index import CACHE_FOLDER, check_splits
from ..networks.variants import DistilledTimar, TrainingStep, build_network
from ..preparation.prepare import prepare
from ..preparation.windows import WindowSampler, motion_statistics, window_lead
from .checkpoints import (
    load_checkpoint,
    newest_checkpoint,
    put_moments,
    put_weights,
    save_checkpoint,
    whole_moments,
    whole_weights,
)
from .config import TrainConfig
from .validation import drawn_metric

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
    """Share of the step's time that it waited for data."""
    gradient_norm: float = 0.0
    """Before clipping."""
    learning_rate: float = 0.0
    took_s: float = 1.0
    """The whole step [s]."""


class Trainer:
    """One run, on one process or on many: `accelerate` says how they share it (DDP, FSDP, one CPU).

    Args:
        config: What to do.
        train: Windows to learn from.
        validation: Windows to judge by, without augmentation.
        statistics: Units of motion, stored with the model.
        provenance: Stored with the model as well.
        validation_clips: Whole dyads, needed where `best_by` draws motion.
    """

    def __init__(
        self,
        config: TrainConfig,
        train: WindowSampler,
        validation: WindowSampler,
        statistics: MotionStatistics,
        provenance: dict[str, Any],
        validation_clips: Sequence[dyads.Clip] = (),
    ) -> None:
        # Narrow numbers are the training step's own business, so that every kind of launch multiplies alike.
        self.accelerator = Accelerator(mixed_precision="no")
        if config.batch % self.accelerator.num_processes:
            raise ValueError(
                f"TrainConfig.batch is {config.batch}, expected a multiple of the "
                f"{self.accelerator.num_processes} processes"
            )
        self.config = config
        self.step = 0
        self.best_loss = math.inf
        self.out = Path(config.out)
        self._train = train
        self._validation = validation
        self._statistics = statistics
        self._provenance = provenance
        self._validation_clips = validation_clips
        torch.manual_seed(config.seed)
        network = build_network(config.architecture, config.model_config())
        if config.start_from:
            _start_from(Path(config.start_from), network)
        if isinstance(network, DistilledTimar):
            network.learn_from_itself()
        optimiser = _optimiser(network, config)
        self._module, self._optimiser = self.accelerator.prepare(
            TrainingStep(network, config.precision), optimiser
        )
        # Each process averages what it holds of the weights, be that all of them or a shard.
        self._average = {name: value.detach().clone() for name, value in self._module.named_parameters()}

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
        put_weights(self._module, _under("average/", tensors))
        self._average = {name: value.detach().clone() for name, value in self._module.named_parameters()}
        put_weights(self._module, _under("model/", tensors))
        put_moments(self._module, self._optimiser.optimizer, _under("optimiser/", tensors))
        self.step, self.best_loss = int(facts["step"]), float(facts["best_loss"])
        return True

    def run(self, report: Callable[[Progress], None] = lambda progress: None) -> float:
        """Train to the end and return the best validation metric.

        Raises:
            NonFiniteLossError: Training broke; the message says where the batch lies.
        """
        config = self.config
        torch.set_num_threads(config.threads)
        started_s = time.monotonic()
        with ThreadPoolExecutor(1) as reader, self._open_log() as log:
            next_batch = reader.submit(self._train.draw, self.step)
            while self.step < config.last_step:
                progress, next_batch = self._one_step(reader, next_batch)
                is_out_of_time = config.max_minutes and time.monotonic() - started_s > 60 * config.max_minutes
                is_last = self.step >= config.last_step or bool(self._any(is_out_of_time))
                if self.step % config.validate_every == 0 or is_last:
                    progress = dataclasses.replace(progress, validation_loss=self._validate_and_keep())
                if self.step % config.checkpoint_every == 0 or is_last:
                    self._checkpoint()
                log(progress)
                report(progress)
                if is_last:
                    break
        return self.best_loss

    def averaged_weights(self) -> dict[str, Tensor]:
        """Return the averaged weights by name, whole, on every process."""
        with self._averaged():
            return whole_weights(self._module)

    def weights(self) -> dict[str, Tensor]:
        """Return the weights as they are being trained, whole, on every process."""
        return whole_weights(self._module)

    def validate(self) -> float:
        """Return the averaged weights' validation metric, as `best_by` names it; the smaller the better."""
        if self.config.best_by != "loss":
            network = cast(TimarModel, build_network(self.config.architecture, self.config.model_config()))
            network.load_state_dict(self.averaged_weights())
            return drawn_metric(network, self._statistics, self._validation_clips, self.config)
        losses = []
        self._module.eval()
        with self._averaged(), torch.no_grad():
            for index in range(self.config.validation_batches):
                batch = self._own_share(self._validation.draw(index))
                loss = self._module(batch, self._generator(7, index)).detach()
                losses.append(float(self.accelerator.reduce(loss, "mean")))
        return float(np.mean(losses))

    def _one_step(
        self, reader: ThreadPoolExecutor, coming: Future[TrainingBatch]
    ) -> tuple[Progress, Future[TrainingBatch]]:
        """Do a step with the batch that was read meanwhile, and have the next one read."""
        config = self.config
        began_s = time.perf_counter()
        batch = coming.result()
        following = reader.submit(self._train.draw, self.step + 1)
        batch = self._own_share(batch)
        read_s = time.perf_counter()
        rate = learning_rate(self.step, config)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._module.train()
        self._optimiser.zero_grad(set_to_none=True)
        loss = self._module(batch, self._generator(5, self.step))
        self.accelerator.backward(loss)
        norm = self.accelerator.clip_grad_norm_(self._module.parameters(), config.clip_norm)
        # Sharded weights give each process its part of the norm; all must see the same.
        norm = norm.full_tensor() if isinstance(norm, DTensor) else torch.as_tensor(norm)
        if not (torch.isfinite(loss) and torch.isfinite(norm)):
            self._refuse(batch, float(loss.detach()), float(norm))
        self._optimiser.step()
        self.step += 1
        self._follow()
        took_s = max(time.perf_counter() - began_s, 1e-9)
        share = (read_s - began_s) / took_s
        return Progress(self.step, float(loss.detach()), None, share, float(norm), rate, took_s), following

    def _own_share(self, batch: TrainingBatch) -> TrainingBatch:
        """Return this process's rows of a batch, on its device."""
        rank, count = self.accelerator.process_index, self.accelerator.num_processes
        own: dict[str, Any] = {
            name: value[rank::count].to(self.accelerator.device, non_blocking=True)
            for name, value in vars(batch).items()
            if isinstance(value, Tensor)
        }
        return dataclasses.replace(batch, **own)

    def _generator(self, *numbers: int) -> torch.Generator:
        """Return a generator that depends on the numbers alone: a resumed step draws what it would have."""
        rank = self.accelerator.process_index
        numbers = (self.config.seed, *numbers, *([rank] if rank else []))
        state = np.random.SeedSequence(numbers).generate_state(2, np.uint32)
        generator = torch.Generator(self.accelerator.device)
        return generator.manual_seed(int(state[0]) << 31 ^ int(state[1]))

    def _any(self, flag: object) -> bool:
        """Tell whether a flag is set on any process, so that all of them stop at one step."""
        if self.accelerator.num_processes == 1:
            return bool(flag)
        value = torch.tensor(float(bool(flag)), device=self.accelerator.device)
        return float(self.accelerator.reduce(value, "sum")) > 0

    @contextlib.contextmanager
    def _averaged(self) -> Iterator[None]:
        """Put the averaged weights in the place of the trained ones for a while."""
        with torch.no_grad():
            trained = {name: value.detach().clone() for name, value in self._module.named_parameters()}
            for name, value in self._module.named_parameters():
                value.copy_(self._average[name])
            try:
                yield
            finally:
                for name, value in self._module.named_parameters():
                    value.copy_(trained[name])

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the averaged weights; a young average forgets faster, so that it is not stuck at the start."""
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        for name, current in self._module.named_parameters():
            self._average[name].lerp_(current, 1.0 - decay)

    def _validate_and_keep(self) -> float:
        loss = self.validate()
        if loss < self.best_loss:
            self.best_loss = loss
            weights = self.averaged_weights()
            if self.accelerator.is_main_process:
                facts = {"steps": self.step, "validation_loss": loss, "settings": self._settings()}
                network = build_network(self.config.architecture, self.config.model_config())
                network.load_state_dict(weights)
                provenance = {**self._provenance, "training": facts}
                # Every network of ours has a configuration and weights by name, which is all a folder holds.
                save_model(self.out / "model", cast(TimarModel, network), self._statistics, provenance)
        return loss

    def _checkpoint(self) -> None:
        tensors = {f"model/{name}": value for name, value in self.weights().items()}
        tensors |= {f"average/{name}": value for name, value in self.averaged_weights().items()}
        moments = whole_moments(self._module, self._optimiser.optimizer)
        tensors |= {f"optimiser/{name}": value for name, value in moments.items()}
        facts = {"best_loss": self.best_loss, "settings": self._settings()}
        if self.accelerator.is_main_process:
            save_checkpoint(self.out, self.step, tensors, facts, self.config.keep_checkpoints)
        self.accelerator.wait_for_everyone()

    @contextlib.contextmanager
    def _open_log(self) -> Iterator[Callable[[Progress], None]]:
        """Yield what writes a step's numbers for TensorBoard; a resumed run overwrites what it does again."""
        every = self.config.log_every
        if not every or not self.accelerator.is_main_process:
            yield lambda progress: None
            return
        # Only here, for it takes a second to import.
        from torch.utils.tensorboard import SummaryWriter

        writer = SummaryWriter(str(self.out / "log"), purge_step=self.step)

        def write(progress: Progress) -> None:
            scalars = {
                "train/loss": progress.loss,
                "train/gradient_norm": progress.gradient_norm,
                "train/learning_rate": progress.learning_rate,
                "speed/steps_per_s": 1.0 / progress.took_s,
                "speed/data_share": progress.data_share,
            }
            if progress.step % every == 0:
                for name, value in scalars.items():
                    writer.add_scalar(name, value, progress.step)
            if progress.validation_loss is not None:
                name = f"validation/{self.config.best_by}"
                writer.add_scalar(name, progress.validation_loss, progress.step)

        try:
            yield write
        finally:
            writer.close()

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
            "log_every",
        }
        settings = {key: value for key, value in dataclasses.asdict(self.config).items() if key not in free}
        return json.loads(json.dumps(settings))

    def _refuse(self, batch: TrainingBatch, loss: float, norm: float) -> None:
        path = self.out / f"nonfinite_batch_{self.step}.npz"
        self.out.mkdir(parents=True, exist_ok=True)
        arrays = {
            name: value.cpu().numpy() for name, value in vars(batch).items() if isinstance(value, Tensor)
        }
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
    lead = window_lead(turns, config.turn_lengths, model_config)
    folder = Path(config.data)
    lists = check_splits(folder)
    splits = {split: lists.get(split) or dyads.read_split(folder, split) for split in ("train", "validation")}
    cache = folder / CACHE_FOLDER
    if config.both_roles:
        splits["both roles"] = splits["train"] + [clip.swapped() for clip in splits["train"]]
    prepared = {
        split: prepare(
            clips, model_config, lead, cache, processes=processes, advance=functools.partial(advance, split)
        )
        for split, clips in splits.items()
    }
    statistics = motion_statistics(prepared["train"])
    shared_arguments = (statistics, model_config, turns, config.batch)
    augmentation = config.augmentation_config()
    train = WindowSampler(
        prepared["both roles" if config.both_roles else "train"],
        *shared_arguments,
        config.seed,
        augmentation,
        config.turn_lengths,
    )
    validation = WindowSampler(prepared["validation"], *shared_arguments, 0, None, config.turn_lengths)
    provenance = _provenance(folder, command)
    return Trainer(config, train, validation, statistics, provenance, splits["validation"])


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


def _start_from(folder: Path, model: nn.Module) -> None:
    """Put the weights of a model folder into a network of the same shapes."""
    weights = read_model(folder).weights()
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    _widen_speech(weights, shapes)
    found = {name: array.shape for name, array in weights.items()}
    if found != shapes:
        other = sorted(name for name in {*found, *shapes} if found.get(name) != shapes.get(name))[0]
        raise ValueError(
            f"start_from {folder} has {other} of shape {found.get(other)}, expected {shapes.get(other)}; "
            "give a model of the same size"
        )
    model.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})


def _optimiser(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """Return AdamW that decays matrices of the backbone only."""
    decayed: list[Tensor] = []
    free: list[Tensor] = []
    for name, parameter in model.named_parameters():
        is_matrix = parameter.ndim > 1 and not name.startswith("head.")
        (decayed if is_matrix else free).append(parameter)
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": free, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95))


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}


def _widen_speech(weights: dict[str, np.ndarray], shapes: dict[str, tuple[int, ...]]) -> None:
    """Let a network with level memories start from one without: they count for nothing at first."""
    name = "speech.0.weight"
    if name in weights and name in shapes:
        missing = shapes[name][1] - weights[name].shape[1]
        if missing > 0:
            weights[name] = np.pad(weights[name], ((0, 0), (0, missing)))
