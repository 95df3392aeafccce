"""Optimiser, learning rate, averaged weights, and the stop at a loss that is not finite."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from timar_model.architecture.model import TrainingBatch
from torch import Tensor, nn

from .config import TrainConfig

LEAST_RATE = 0.05
"""The cosine schedule's last learning rate, of the largest."""


class NonFiniteLossError(FloatingPointError):
    """The loss or the gradient is no finite number; the batch was saved."""


def learning_rate(step: int, config: TrainConfig) -> float:
    """Return the learning rate of a step: linear warm-up, then constant or half a cosine."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.learning_rate
    phase = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, phase)))
    return config.learning_rate * (LEAST_RATE + (1 - LEAST_RATE) * cosine)


def make_optimiser(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """Return AdamW that decays matrices of the backbone only."""
    decayed: list[Tensor] = []
    free: list[Tensor] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        is_matrix = parameter.ndim > 1 and not name.startswith("head.")
        (decayed if is_matrix else free).append(parameter)
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": free, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95))


class WeightAverage:
    """Exponential moving average of a module's weights; each process averages what it holds of them.

    Args:
        module: Whose weights; a shard of them where they are sharded.
        decay: Share of the average that a step keeps, less at the start.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._module = module
        self._decay = decay
        self._average: dict[str, Tensor] = {}
        self.restart()

    def restart(self) -> None:
        """Take the weights as they are for the average."""
        self._average = self._copy()

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average; a young one forgets faster, so that it is not stuck at the start."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for name, current in self._learned():
            self._average[name].lerp_(current, 1.0 - decay)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Put the averaged weights in the place of the trained ones for a while."""
        trained = self._copy()
        self._put(self._average)
        try:
            yield
        finally:
            self._put(trained)

    def _copy(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self._learned()}

    def _learned(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the weights that are learned; the frozen ones are their own average."""
        return ((name, value) for name, value in self._module.named_parameters() if value.requires_grad)

    @torch.no_grad()
    def _put(self, weights: dict[str, Tensor]) -> None:
        for name, value in self._learned():
            value.copy_(weights[name])


def refuse_non_finite(batch: TrainingBatch, loss: Tensor, norm: Tensor, folder: Path, step: int) -> None:
    """Save a batch whose loss or gradient is not finite, and stop.

    Raises:
        NonFiniteLossError: So it is; the message says where the batch lies.
    """
    if torch.isfinite(loss) and torch.isfinite(norm):
        return
    path = folder / f"nonfinite_batch_{step}.npz"
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {name: value.cpu().numpy() for name, value in vars(batch).items() if isinstance(value, Tensor)}
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    raise NonFiniteLossError(
        f"step {step} has the loss {float(loss.detach())} and the gradient norm {float(norm)}, expected "
        f"finite numbers; its batch is in {path}: look for broken data there, or lower learning_rate"
    )
