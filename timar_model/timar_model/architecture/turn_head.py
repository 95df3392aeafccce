"""A diffusion head that samples a turn's frames together, as one movement from the frames before it.

Notation beside that of `config`: K steps. The head works on **steps**, the change from one frame to the next
in units of `step_size`: independent noise on steps is a slow random walk of the motion, so what the network
does not remove of it is no tremble.

What was shown predicts nearly all of the next frames, and a head that learns from it alone continues a nod
well but never begins one. So a linear **mean head** regresses the steps on the condition first, from hearing
alone, with a loss of its own (`TurnHead.regression_loss`); the diffusion network samples what is to be added.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from timar_model.architecture.attention import NORM_EPS, Attention, Rotary
from timar_model.architecture.config import MOTION_DIM, MOTION_GROUPS, ModelConfig
from timar_model.architecture.diffusion import TIME_FEATURES, Modulations, ResidualBlock, time_features
from timar_model.architecture.schedule import Schedule, cosine_schedule

HEADS = 4
SLOWEST_FRAMES = 40.0
"""Slowest rotation of the frames in a turn [frames per radian]."""
POSITION_WEIGHT = 4.0
"""Weight of the error of position beside that of steps, so that small errors of one sign do not add up."""


class MixingBlock(nn.Module):
    """Let the frames of a turn see each other, then move each by itself; both under time and condition."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.mixing = Attention(width, HEADS)
        self.mixing_modulation = nn.Linear(width, 3 * width)
        self.each = ResidualBlock(width)

    def modulation_layers(self) -> list[nn.Linear]:
        """Return what makes the modulations; at zero the block is the identity."""
        return [self.mixing_modulation, self.each.modulation]

    def modulate(self, drive: Tensor) -> Tensor:
        """Return the (..., 6 * width) modulations of both parts."""
        return torch.cat([layer(drive) for layer in self.modulation_layers()], dim=-1)

    def forward(self, x: Tensor, modulation: Tensor, rotary: Rotary) -> Tensor:
        """Move x (B, P + F, width) by one step."""
        of_mixing, of_each = modulation.chunk(2, dim=-1)
        shift, scale, gate = of_mixing.chunk(3, dim=-1)
        mixed: Tensor = self.mixing(self.norm(x) * (1 + scale) + shift, rotary, None, None)
        moved: Tensor = self.each(x + gate * mixed, of_each)
        return moved


class TurnHead(nn.Module):
    """Estimate the clean steps of a turn from noisy ones, a timestep, conditions and the frames before it."""

    moved: Tensor
    step_size: Tensor
    guided: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.head_width
        if width % (2 * HEADS):
            raise ValueError(
                f"ModelConfig.head_width is {width}, expected a multiple of {2 * HEADS} for a head that "
                f"draws turns with {HEADS} attention heads"
            )
        self.width = width
        self.past_frames = config.past_frames
        self.diffusion_steps = config.diffusion_steps
        self.mean_head = nn.Linear(config.width, MOTION_DIM)
        self.input = nn.Linear(2 * MOTION_DIM, width)
        self.past = nn.Linear(2 * MOTION_DIM, width)
        self.unknown = nn.Parameter(torch.zeros(width))
        self.past_condition = nn.Parameter(torch.zeros(width))
        self.time1 = nn.Linear(TIME_FEATURES, width)
        self.time2 = nn.Linear(width, width)
        self.condition = nn.Linear(config.width, width)
        self.blocks = nn.ModuleList(MixingBlock(width) for _ in range(config.head_blocks))
        self.final_modulation = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, MOTION_DIM)
        for name, values in constants(config).items():
            self.register_buffer(name, values, persistent=False)
        self.register_load_state_dict_pre_hook(_rename_weights)  # type: ignore[no-untyped-call]

    def mixing_blocks(self) -> list[MixingBlock]:
        """Return the blocks, in order."""
        return [block for block in self.blocks if isinstance(block, MixingBlock)]

    def modulations(self, t: Tensor, z: Tensor) -> Modulations:
        """Compute what depends on timesteps (..., 1) and conditions (..., F, W) alone."""
        past = self.past_condition.expand(*z.shape[:-2], self.past_frames, -1)
        conditions = torch.cat([past, self.condition(z)], dim=-2)
        drive = F.silu(self.time2(F.silu(self.time1(time_features(t)))) + conditions)  # (..., P + F, width)
        blocks = [block.modulate(drive) for block in self.mixing_blocks()]
        return Modulations(blocks, self.final_modulation(drive))

    def read_past(self, past: Tensor, known: Tensor) -> Tensor:
        """Embed the frames before a turn: position and step of each.

        Args:
            past: (B, P, 56) normalised motion.
            known: (B, P) float, 0 where it was not sampled.

        Returns:
            (B, P, width).
        """
        steps = F.pad(past[:, 1:] - past[:, :-1], (0, 0, 1, 0)) / self.step_size  # (B, P, 56)
        token = self.past(torch.cat([past * self.moved, steps * self.moved], dim=-1))
        return torch.where(known[..., None] > 0, token, self.unknown)

    def predict_mean(self, z: Tensor) -> Tensor:
        """Return the steps (..., F, 56) that hearing alone predicts."""
        steps: Tensor = self.mean_head(z) * self.moved
        return steps

    def denoise(
        self, x: Tensor, mean: Tensor, past: Tensor, blocks: Sequence[Tensor], final: Tensor
    ) -> Tensor:
        """Return the clean estimate (B, F, 56) of noisy steps.

        Args:
            x: (B, F, 56) noisy steps.
            mean: (B, F, 56) of `predict_mean`.
            past: (B, P, width) of `read_past`.
            blocks: One (B, P + F, 6 * width) per block.
            final: (B, P + F, 2 * width).
        """
        noisy = self.input(torch.cat([x * self.moved, mean], dim=-1))  # (B, F, width)
        tokens = torch.cat([past, noisy], dim=1)  # (B, P + F, width)
        rotary = _rotary(tokens, self.width // HEADS)
        for block, modulation in zip(self.mixing_blocks(), blocks, strict=True):
            tokens = block(tokens, modulation, rotary)
        shift, scale = final[:, self.past_frames :].chunk(2, dim=-1)  # (B, F, width) each
        frames = tokens[:, self.past_frames :]
        frames = F.layer_norm(frames, (self.width,), eps=NORM_EPS) * (1 + scale) + shift
        clean: Tensor = mean + self.output(frames) * self.moved
        return clean

    def sample(
        self, z: Tensor, noise: Tensor, schedule: Schedule, guidance: Tensor, past: Tensor, past_known: Tensor
    ) -> Tensor:
        """Sample the frames of turns, deterministic given the start noise.

        Args:
            z: (1, B * F, condition), turn by turn.
            noise: (K + 1, B * F, 56), of which only the start is used.
            schedule: The K steps kept.
            guidance: () factor on what the mean head predicts of neck and expression, 1 as learned. Where it
                is in doubt it predicts little of much; the jaw follows the own voice without doubt, and is
                left as it is.
            past: (B, P, 56) normalised motion shown before each turn.
            past_known: (B, P) float, 0 where it was not sampled; the last frame then is where the head stood.

        Returns:
            (B * F, 56) motion.

        Source: Song et al., Denoising Diffusion Implicit Models, 2021.
        """
        turns = past.shape[0]
        z, x = z.view(turns, -1, z.shape[-1]), noise[0].view(turns, -1, MOTION_DIM)  # (B, F, W), (B, F, 56)
        shown = self.read_past(past, past_known)  # (B, P, width)
        timestep = torch.as_tensor(schedule.timestep, device=z.device).view(-1, 1, 1)  # (K, 1, 1)
        parts = self.modulations(timestep, z[None])
        mean = self.predict_mean(z) * (1 + (guidance - 1) * self.guided)
        clean = torch.zeros_like(x)
        for step in reversed(range(len(schedule))):
            blocks = [modulation[step] for modulation in parts.blocks]
            clean = self.denoise(x, mean, shown, blocks, parts.final[step])
            if step:
                x = _one_step_back(x, clean, schedule, step)
        motion = past[:, -1:] * self.moved + torch.cumsum(clean * self.step_size, dim=1)  # (B, F, 56)
        return motion.reshape(-1, MOTION_DIM)

    def loss(
        self, z: Tensor, target: Tensor, past: Tensor, past_known: Tensor, t: Tensor, noise: Tensor
    ) -> Tensor:
        """Return (B,) the training loss of turns of one length.

        Args:
            z: (B, F, W).
            target: (B, F, 56) normalised motion that goes on from the last past frame.
            past: (B, P, 56).
            past_known: (B, P).
            t: (B,) timesteps on the training schedule.
            noise: (B, F, 56) standard normal.
        """
        steps = self.steps_of(target, past[:, -1])
        alpha_bar = torch.as_tensor(cosine_schedule(self.diffusion_steps).alpha_bar, dtype=torch.float32)
        kept = alpha_bar.to(t.device)[t, None, None]
        noisy = kept.sqrt() * steps + (1 - kept).sqrt() * noise
        parts = self.modulations(t[:, None], z)
        # The mean head learns from its own loss alone.
        mean, shown = self.predict_mean(z).detach(), self.read_past(past, past_known)
        clean = self.denoise(noisy, mean, shown, parts.blocks, parts.final)
        return self.distance(clean.float() - steps)

    def regression_loss(self, z: Tensor, target: Tensor, before: Tensor) -> Tensor:
        """Return (B,) how far the mean head's prediction lies from turns of one length.

        Args:
            z: (B, F, W).
            target: (B, F, 56) normalised motion as recorded.
            before: (B, 56) the recorded frame before each turn.
        """
        return self.distance(self.predict_mean(z).float() - self.steps_of(target, before))

    def steps_of(self, motion: Tensor, before: Tensor) -> Tensor:
        """Return (B, F, 56) the steps of motion that goes on from the frames before it (B, 56)."""
        return torch.diff(motion, dim=1, prepend=before[:, None]) / self.step_size * self.moved

    def distance(self, error: Tensor) -> Tensor:
        """Return (B,) the size of an error of steps and of the positions they lead to, groups alike."""
        position = torch.cumsum(error * self.step_size, dim=1)  # (B, F, 56)
        squared = error.square() + POSITION_WEIGHT * position.square()
        of_groups = [squared[..., group].mean(dim=(1, 2)) for group in MOTION_GROUPS.values()]
        return torch.stack(of_groups).sum(dim=0)


def constants(config: ModelConfig) -> dict[str, Tensor]:
    """Return what a configuration fixes of the head: (56,) moved values, step sizes, values to be guided."""
    moved, step_size = torch.zeros(MOTION_DIM), torch.ones(MOTION_DIM)
    for (name, group), size in zip(MOTION_GROUPS.items(), config.step_size, strict=True):
        moved[group] = float(name in config.moved_groups)
        step_size[group] = size
    guided = torch.ones(MOTION_DIM)
    guided[MOTION_GROUPS["jaw"]] = 0.0
    return {"moved": moved, "step_size": step_size, "guided": guided}


def _one_step_back(x: Tensor, clean: Tensor, schedule: Schedule, step: int) -> Tensor:
    """Move noisy steps to the next cleaner level, along what the estimate says their noise is."""
    here, there = (float(schedule.alpha_bar[index]) for index in (step, step - 1))
    noise = (x - here**0.5 * clean) / (1 - here) ** 0.5
    return there**0.5 * clean + (1 - there) ** 0.5 * noise


def _rotary(tokens: Tensor, head_dim: int) -> Rotary:
    """Return the rotary angles of consecutive frames; only their distances matter."""
    pairs = head_dim // 2
    speed = SLOWEST_FRAMES ** (-torch.arange(pairs, device=tokens.device) / max(pairs - 1, 1))
    angle = torch.arange(tokens.shape[1], device=tokens.device)[:, None] * speed
    return Rotary(angle.cos(), angle.sin())


def _rename_weights(module: nn.Module, weights: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Take the mean head's weights under their name of an earlier release, too."""
    for name in ("weight", "bias"):
        if f"{prefix}heard.{name}" in weights:
            weights[f"{prefix}mean_head.{name}"] = weights.pop(f"{prefix}heard.{name}")
