"""The noise schedule of the diffusion head and its respacing, in float64 (numpy only)."""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np
import numpy.typing as npt

from timar_model.architecture.config import ModelConfig

Array = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A Gaussian diffusion over K steps, each given by (K,) numbers.

    Source: Nichol and Dhariwal, Improved Denoising Diffusion Probabilistic Models, 2021.
    """

    timestep: npt.NDArray[np.int64]
    """The step's number on the training schedule: what the network is given."""
    alpha_bar: Array
    """Share of signal power left at the step."""
    beta: Array
    """Noise variance added by the step."""
    x0_weight: Array
    """Weight of the clean estimate in the mean one step back."""
    xt_weight: Array
    """Weight of the noisy sample in that mean."""
    log_variance_max: Array
    """Log variance when the network says 1."""
    log_variance_min: Array
    """Log variance when the network says -1: the posterior's, at step 0 that of step 1."""

    def __len__(self) -> int:
        return int(self.beta.size)


def _schedule(beta: Array, timestep: npt.NDArray[np.int64]) -> Schedule:
    alpha = 1.0 - beta
    alpha_bar = np.cumprod(alpha, dtype=np.float64)
    before = np.append(1.0, alpha_bar[:-1])
    posterior = beta * (1.0 - before) / (1.0 - alpha_bar)
    # The posterior of step 0 has no variance: its logarithm takes the neighbour's (or beta's, if alone).
    minimum = np.append(posterior[1] if beta.size > 1 else beta[0], posterior[1:])
    return Schedule(
        timestep=timestep,
        alpha_bar=alpha_bar,
        beta=beta,
        x0_weight=beta * np.sqrt(before) / (1.0 - alpha_bar),
        xt_weight=(1.0 - before) * np.sqrt(alpha) / (1.0 - alpha_bar),
        log_variance_max=np.log(beta),
        log_variance_min=np.log(minimum),
    )


@functools.lru_cache(maxsize=8)
def cosine_schedule(steps: int = 1000, offset: float = 0.008, beta_max: float = 0.999) -> Schedule:
    """Return the cosine schedule of `steps` steps."""
    edges = np.cos((np.arange(steps + 1) / steps + offset) / (1 + offset) * math.pi / 2) ** 2
    beta = np.minimum(1.0 - edges[1:] / edges[:-1], beta_max)
    return _schedule(beta, np.arange(steps))


@functools.lru_cache(maxsize=32)
def respaced(steps: int, kept: int) -> Schedule:
    """Return the cosine schedule of `steps` steps thinned to `kept` evenly spaced ones, both ends included.

    Raises:
        ValueError: `kept` is not within 1 and `steps`.
    """
    stride = (steps - 1) / (kept - 1) if kept > 1 else 1.0
    return _thinned(
        steps, kept, [round(stride * index) for index in range(kept)] if kept > 1 else [steps - 1]
    )


@functools.lru_cache(maxsize=32)
def trailing(steps: int, kept: int) -> Schedule:
    """Return the cosine schedule of `steps` steps thinned to `kept`, of which the noisiest is always one.

    Unlike `respaced` it leaves the clean end out: a network asked there would only repeat what it is given.

    Raises:
        ValueError: `kept` is not within 1 and `steps`.

    Source: Lin et al., Common Diffusion Noise Schedules and Sample Steps Are Flawed, 2024.
    """
    return _thinned(steps, kept, [round(steps * (index + 1) / kept) - 1 for index in range(kept)])


def _thinned(steps: int, kept: int, timesteps: list[int]) -> Schedule:
    if not 1 <= kept <= steps:
        raise ValueError(f"sampling takes {kept} steps, expected 1 to {steps}")
    timestep = np.asarray(timesteps, np.int64)
    alpha_bar = cosine_schedule(steps).alpha_bar[timestep]  # (kept,)
    return _schedule(1.0 - alpha_bar / np.append(1.0, alpha_bar[:-1]), timestep)


def drawing_schedule(config: ModelConfig, steps: int) -> Schedule:
    """Return the steps that a model's head samples with."""
    thinned = trailing if config.draws == "turns" else respaced
    return thinned(config.diffusion_steps, steps)
