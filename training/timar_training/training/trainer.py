"""The training loop: one seed fixes everything, every step can be resumed from, nothing non-finite passes."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from timar_model.architecture.inputs import MotionStatistics
from timar_model.architecture.model import TimarModel, TrainingBatch
from timar_model.model_folder import save_model
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ..corpora.dyads import Clip
from ..networks.low_rank import add_low_rank, merged
from ..networks.variants import DistilledTimar, TrainingStep, build_network
from ..preparation.windows import WindowSampler
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
from .log import StepReport, step_log
from .optimisation import WeightAverage, learning_rate, make_optimiser, refuse_non_finite
from .validation import drawn_metric


class Trainer:
    """One run, on one process or on many: `accelerate` says how they share it (DDP, FSDP, one CPU).

    Args:
        config: What to do.
        train: Windows to learn from.
        validation: Windows to judge by, without augmentation.
        statistics: Units of motion, stored with the model.
        provenance: Stored with the model as well.
        validation_clips: Whole dyads, needed where `best_by` draws motion.
        start: Puts start weights into the network; None: they are random.
    """

    def __init__(
        self,
        config: TrainConfig,
        train: WindowSampler,
        validation: WindowSampler,
        statistics: MotionStatistics,
        provenance: dict[str, Any],
        validation_clips: Sequence[Clip] = (),
        start: Callable[[nn.Module], None] | None = None,
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
        network = self._build_network()
        if start is not None:
            start(network)
        if config.fine_tuning == "low-rank":
            add_low_rank(network, config.rank)
        if isinstance(network, DistilledTimar):
            network.learn_from_itself()
        self._module, self._optimiser = self.accelerator.prepare(
            TrainingStep(network, config.precision), make_optimiser(network, config)
        )
        self._average = WeightAverage(self._module, config.ema_decay)

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
        self._average.restart()
        put_weights(self._module, _under("model/", tensors))
        put_moments(self._module, self._optimiser.optimizer, _under("optimiser/", tensors))
        self.step, self.best_loss = int(facts["step"]), float(facts["best_loss"])
        return True

    def run(self, report: Callable[[StepReport], None] = lambda step: None) -> float:
        """Train to the end and return the best validation metric.

        Raises:
            NonFiniteLossError: Training broke; the message says where the batch lies.
        """
        config = self.config
        torch.set_num_threads(config.threads)
        started_s = time.monotonic()
        log_every = config.log_every if self.accelerator.is_main_process else 0
        with (
            ThreadPoolExecutor(1) as reader,
            step_log(self.out / "log", log_every, self.step, config.best_by) as log,
        ):
            next_batch = reader.submit(self._train.draw, self.step)
            while self.step < config.last_step:
                done, next_batch = self._one_step(reader, next_batch)
                is_out_of_time = config.max_minutes and time.monotonic() - started_s > 60 * config.max_minutes
                is_last = self.step >= config.last_step or self._any(bool(is_out_of_time))
                if self.step % config.validate_every == 0 or is_last:
                    done = dataclasses.replace(done, validation_loss=self._validate_and_keep())
                if self.step % config.checkpoint_every == 0 or is_last:
                    self._checkpoint()
                log(done)
                report(done)
                if is_last:
                    break
        return self.best_loss

    def averaged_weights(self) -> dict[str, Tensor]:
        """Return the averaged weights by name, whole, on every process."""
        with self._average.applied():
            return whole_weights(self._module)

    def weights(self) -> dict[str, Tensor]:
        """Return the weights as they are being trained, whole, on every process."""
        return whole_weights(self._module)

    def validate(self) -> float:
        """Return the averaged weights' validation metric, as `best_by` names it; the smaller the better."""
        if self.config.best_by != "loss":
            network = self._build_network(self.averaged_weights())
            return drawn_metric(network, self._statistics, self._validation_clips, self.config)
        losses = []
        self._module.eval()
        with self._average.applied(), torch.no_grad():
            for index in range(self.config.validation_batches):
                batch = self._own_share(self._validation.draw(index))
                loss = self._module(batch, self._generator(7, index)).detach()
                losses.append(float(self.accelerator.reduce(loss, "mean")))
        return float(np.mean(losses))

    def _one_step(
        self, reader: ThreadPoolExecutor, coming: Future[TrainingBatch]
    ) -> tuple[StepReport, Future[TrainingBatch]]:
        """Do a step with the batch that was read meanwhile, and have the next one read."""
        began_s = time.perf_counter()
        batch = coming.result()
        following = reader.submit(self._train.draw, self.step + 1)
        batch = self._own_share(batch)
        read_s = time.perf_counter()
        rate = learning_rate(self.step, self.config)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._module.train()
        self._optimiser.zero_grad(set_to_none=True)
        loss = self._module(batch, self._generator(5, self.step))
        self.accelerator.backward(loss)
        norm = self.accelerator.clip_grad_norm_(self._module.parameters(), self.config.clip_norm)
        # Sharded weights give each process its part of the norm; all must see the same.
        norm = norm.full_tensor() if isinstance(norm, DTensor) else torch.as_tensor(norm)
        refuse_non_finite(batch, loss, norm, self.out, self.step)
        self._optimiser.step()
        self.step += 1
        self._average.update(self.step)
        took_s = max(time.perf_counter() - began_s, 1e-9)
        share = (read_s - began_s) / took_s
        return StepReport(self.step, float(loss.detach()), None, share, float(norm), rate, took_s), following

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

    def _any(self, flag: bool) -> bool:
        """Return whether a flag is set on any process, so that all of them stop at one step."""
        if self.accelerator.num_processes == 1:
            return flag
        value = torch.tensor(float(flag), device=self.accelerator.device)
        return float(self.accelerator.reduce(value, "sum")) > 0

    def _build_network(self, weights: dict[str, Tensor] | None = None) -> TimarModel:
        """Return a fresh network of the run's kind.

        Every network of ours has a configuration and weights by name, which is all a model folder holds.
        """
        network = build_network(self.config.architecture, self.config.model_config())
        if weights is not None:
            network.load_state_dict(merged(weights))
        return cast(TimarModel, network)

    def _validate_and_keep(self) -> float:
        loss = self.validate()
        if loss < self.best_loss:
            self.best_loss = loss
            weights = self.averaged_weights()
            if self.accelerator.is_main_process:
                facts = {"steps": self.step, "validation_loss": loss, "settings": self._settings()}
                provenance = {**self._provenance, "training": facts}
                save_model(self.out / "model", self._build_network(weights), self._statistics, provenance)
        return loss

    def _checkpoint(self) -> None:
        parts = {
            "model": self.weights(),
            "average": self.averaged_weights(),
            "optimiser": whole_moments(self._module, self._optimiser.optimizer),
        }
        tensors = {f"{part}/{name}": value for part, named in parts.items() for name, value in named.items()}
        facts = {"best_loss": self.best_loss, "settings": self._settings()}
        if self.accelerator.is_main_process:
            save_checkpoint(self.out, self.step, tensors, facts, self.config.keep_checkpoints)
        self.accelerator.wait_for_everyone()

    def _settings(self) -> dict[str, Any]:
        """Return what must not change within a run, as JSON gives it back."""
        settings: dict[str, Any] = json.loads(json.dumps(self.config.fixed_settings()))
        return settings


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
