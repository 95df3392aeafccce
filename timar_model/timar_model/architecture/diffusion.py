"""The diffusion head: a small network per token that samples one frame of motion from a condition."""

from __future__ import annotations

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from timar_model.architecture.attention import NORM_EPS
from timar_model.architecture.config import MOTION_DIM, MOTION_GROUPS
from timar_model.architecture.schedule import Schedule, cosine_schedule

TIME_FEATURES = 256


@dataclasses.dataclass(frozen=True)
class Modulations:
    """Everything the head computes that does not depend on the noisy sample, for all steps at once."""

    blocks: list[Tensor]
    """One (K, rows, 3 * width) per residual block."""
    final: Tensor
    """(K, rows, 2 * width)."""


class ResidualBlock(nn.Module):
    """A residual step whose normalisation is shifted, scaled and gated by time and condition."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.expand = nn.Linear(width, width)
        self.contract = nn.Linear(width, width)
        self.modulation = nn.Linear(width, 3 * width)

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        """Move x (rows, width) by one residual step."""
        shift, scale, gate = modulation.chunk(3, dim=-1)  # (rows, width) each
        inner = self.norm(x) * (1 + scale) + shift  # (rows, width)
        return x + gate * self.contract(F.silu(self.expand(inner)))


class DiffusionHead(nn.Module):
    """Estimate the clean frame, and how sure it is, from a noisy one, a timestep and a condition.

    Args:
        condition: Width of a condition.
        width: Of the hidden layers.
        blocks: Residual ones.
        is_variance_bounded: Whether sampling keeps the variance value in [-1, 1].
    """

    def __init__(self, condition: int, width: int, blocks: int, is_variance_bounded: bool = False) -> None:
        super().__init__()
        self.width = width
        self.is_variance_bounded = is_variance_bounded
        self.input = nn.Linear(MOTION_DIM, width)
        self.time1 = nn.Linear(TIME_FEATURES, width)
        self.time2 = nn.Linear(width, width)
        self.condition = nn.Linear(condition, width)
        self.blocks = nn.ModuleList(ResidualBlock(width) for _ in range(blocks))
        self.final_modulation = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, 2 * MOTION_DIM)

    def modulations(self, t: Tensor, z: Tensor) -> Modulations:
        """Compute what depends on timesteps (..., 1) or (...,) and conditions (..., condition) alone."""
        drive = F.silu(self.time2(F.silu(self.time1(time_features(t)))) + self.condition(z))
        blocks = [block.modulation.forward(drive) for block in self.residual_blocks()]
        return Modulations(blocks, self.final_modulation(drive))

    def denoise(self, x: Tensor, blocks: list[Tensor], final: Tensor) -> tuple[Tensor, Tensor]:
        """Return the clean estimate and the variance value, (rows, 56) each, of noisy frames (rows, 56)."""
        x = self.input(x)  # (rows, width)
        for block, modulation in zip(self.residual_blocks(), blocks, strict=True):
            x = block(x, modulation)
        shift, scale = final.chunk(2, dim=-1)
        x = F.layer_norm(x, (self.width,), eps=NORM_EPS) * (1 + scale) + shift
        clean, variance = self.output(x).chunk(2, dim=-1)  # (rows, 56) each
        return clean, variance

    def residual_blocks(self) -> list[ResidualBlock]:
        """Return the blocks, in order."""
        return [block for block in self.blocks if isinstance(block, ResidualBlock)]

    def forward(self, x: Tensor, t: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Denoise frames (rows, 56) at timesteps (rows,) under conditions (rows, condition)."""
        parts = self.modulations(t, z)
        return self.denoise(x, parts.blocks, parts.final)

    def sample(self, z: Tensor, noise: Tensor, schedule: Schedule, guidance: Tensor) -> Tensor:
        """Sample frames by ancestral sampling.

        Args:
            z: (1, rows, condition), or (2, rows, condition) when guided: the unconditional ones second.
            noise: (K + 1, rows, 56): the start, then one draw per step, already scaled by the temperature.
            schedule: The K steps kept.
            guidance: () strength; without an unconditional row it changes nothing.

        Returns:
            (rows, 56) motion.
        """
        timestep = torch.as_tensor(schedule.timestep, device=z.device).view(-1, 1, 1)  # (K, 1, 1)
        parts = self.modulations(timestep, z[None])
        x = noise[0]  # (rows, 56)
        for step in reversed(range(len(schedule))):
            blocks = [modulation[step] for modulation in parts.blocks]
            both, variance = self.denoise(x, blocks, parts.final[step])  # (1 or 2, rows, 56) each
            clean = both[-1] + guidance * (both[0] - both[-1])
            x = float(schedule.x0_weight[step]) * clean + float(schedule.xt_weight[step]) * x
            if step:
                value = variance[0].clamp(-1.0, 1.0) if self.is_variance_bounded else variance[0]
                log_variance = _log_variance(
                    value,
                    float(schedule.log_variance_min[step]),
                    float(schedule.log_variance_max[step]),
                )
                x = x + torch.exp(0.5 * log_variance) * noise[len(schedule) - step]
        return x


@dataclasses.dataclass(frozen=True)
class RowLoss:
    """The loss of each row, (rows,) each."""

    squared_error: Tensor
    """Mean squared error of expression, of jaw and of neck, added."""
    variational: Tensor
    """Variational bound [bits per value], which trains the variance alone."""

    @property
    def total(self) -> Tensor:
        """Their sum."""
        return self.squared_error + self.variational


def diffusion_loss(
    head: DiffusionHead, z: Tensor, target: Tensor, t: Tensor, noise: Tensor, diffusion_steps: int = 1000
) -> RowLoss:
    """Return the training loss of rows of motion.

    Args:
        head: The network.
        z: (rows, condition).
        target: (rows, 56) clean motion.
        t: (rows,) timesteps on the training schedule.
        noise: (rows, 56) standard normal.
        diffusion_steps: Length of the training schedule.
    """
    schedule = cosine_schedule(diffusion_steps)

    def at(values: object) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=t.device)[t, None]

    noisy = at(schedule.alpha_bar**0.5) * target + at((1 - schedule.alpha_bar) ** 0.5) * noise
    clean, variance = head(noisy, t, z)
    squared = (target - clean) ** 2  # (rows, 56)
    error = torch.stack([squared[:, group].mean(dim=1) for group in MOTION_GROUPS.values()]).sum(dim=0)

    true_mean = at(schedule.x0_weight) * target + at(schedule.xt_weight) * noisy
    mean = at(schedule.x0_weight) * clean.detach() + at(schedule.xt_weight) * noisy
    log_variance = _log_variance(variance, at(schedule.log_variance_min), at(schedule.log_variance_max))
    kl = _normal_kl(true_mean, at(schedule.log_variance_min), mean, log_variance)
    likelihood = _discretised_log_likelihood(target, mean, 0.5 * log_variance)
    bits = torch.where(t == 0, -likelihood.mean(dim=1), kl.mean(dim=1)) / math.log(2.0)
    return RowLoss(error, bits)


def time_features(t: Tensor) -> Tensor:
    """Return (..., 256) cosines and sines of timesteps (...), from fast to slow."""
    half = TIME_FEATURES // 2
    rate = torch.exp(-math.log(10000.0) * torch.arange(half, dtype=torch.float32, device=t.device) / half)
    angle = t[..., None].float() * rate
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


def _log_variance(v: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
    share = (v + 1) / 2
    return share * high + (1 - share) * low


def _normal_kl(mean1: Tensor, log_var1: Tensor, mean2: Tensor, log_var2: Tensor) -> Tensor:
    gap = (mean1 - mean2) ** 2 * torch.exp(-log_var2)
    return 0.5 * (-1.0 + log_var2 - log_var1 + torch.exp(log_var1 - log_var2) + gap)


def _discretised_log_likelihood(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Log probability of the bin of width 2/255 around x; the first and last bins reach to infinity."""
    centred = x - mean
    inverse = torch.exp(-log_scale)
    above = _normal_cdf(inverse * (centred + 1 / 255))
    below = _normal_cdf(inverse * (centred - 1 / 255))
    inside = torch.log((above - below).clamp(min=1e-12))
    low_tail = torch.log(above.clamp(min=1e-12))
    high_tail = torch.log((1 - below).clamp(min=1e-12))
    return torch.where(x < -0.999, low_tail, torch.where(x > 0.999, high_tail, inside))


def _normal_cdf(x: Tensor) -> Tensor:
    """The tanh approximation, which the published loss uses."""
    return 0.5 * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))
