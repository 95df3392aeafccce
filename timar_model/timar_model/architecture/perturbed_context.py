"""Perturbed context for training: what a head that samples for itself would have shown before a turn.

Training targets return from the perturbed context to the recorded motion along a critically damped spring.

Notation beside that of `config`: N turns of F frames, P frames shown before each.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from timar_model.architecture.config import MOTION_DIM, ObjectiveConfig

RECOVERY_FRAMES = 12.0
"""Time constant of the critically damped return of a head that is offset from the recorded one [frames]."""
CONTEXT_NOISE = 0.002
"""Standard deviation of independent noise on each shown frame, in units of normalised motion."""
HELD_FRAMES = 5
"""How long ago a head stopped whose last frames were not sampled [frames]."""


@dataclasses.dataclass(frozen=True)
class PerturbedContext:
    """Turns of one length as a training step sees them."""

    past: Tensor
    """(B, N, P, 56) shown before each turn."""
    past_known: Tensor
    """(B, N, P) float, 0 where it was not sampled."""
    target: Tensor
    """(B, N, F, 56) how the movement goes on from there."""
    recorded: Tensor
    """(B, N, F, 56) how the recorded one did."""
    recorded_before: Tensor
    """(B, N, 56) the recorded frame before each turn; where none is, the turn's first."""


def perturb_context(
    motion: Tensor,
    known: Tensor | None,
    first_rows: Sequence[int],
    frames: int,
    past_frames: int,
    objective: ObjectiveConfig,
    generator: torch.Generator | None = None,
) -> PerturbedContext:
    """Draw where a head was and how it moved before turns, and how it should go on.

    It is offset from the recorded motion, as a person of other habits would be, and returns like a critically
    damped spring: one smooth course through past and target, so that no seam is taught. Where a turn was
    skipped the head stopped a while ago; before a conversation it rested at the mean.

    Args:
        motion: (B, T, 56) normalised recorded motion.
        known: (B, T) float, 0 where nothing was recorded; None: everything was.
        first_rows: N rows of motion at which turns of F frames begin.
        frames: F.
        past_frames: P.
        objective: Says how large the offset is and how often a turn was skipped.
        generator: Of all chance, on the motion's device.
    """
    clips, turns, device = motion.shape[0], len(first_rows), motion.device
    first = torch.as_tensor(first_rows, device=device)
    before = torch.arange(-past_frames, 0, device=device)
    after = torch.arange(frames, device=device)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=device)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, device=device)

    recorded = motion[:, first[:, None] + after]  # (B, N, F, 56)
    recorded_past = motion[:, first[:, None] + before]  # (B, N, P, 56)
    # (B, N, P)
    is_sampled = (uniform(clips, turns, 1) >= objective.past_drop).float().expand(-1, -1, past_frames)
    held = (first - 1 - HELD_FRAMES).clamp(min=0)
    last, stopped = recorded_past[:, :, -1], motion[:, held]  # (B, N, 56) each
    if known is not None:
        is_sampled = is_sampled * known[:, first[:, None] + before]
        last = torch.where(known[:, first - 1, None] > 0, last, recorded[:, :, 0])
        stopped = stopped * known[:, held, None]

    size = objective.past_noise * uniform(clips, turns, 1)
    offset = size * normal(clips, turns, MOTION_DIM)  # (B, N, 56), at the last shown frame
    speed = size / RECOVERY_FRAMES * normal(clips, turns, MOTION_DIM)
    moving = recorded_past + _spring(offset, speed, before + 1)
    moving = moving + CONTEXT_NOISE * normal(*moving.shape)
    past = torch.where(is_sampled[..., None] > 0, moving, stopped[:, :, None])  # (B, N, P, 56)
    goes_on = is_sampled[..., -1:] > 0
    offset = torch.where(goes_on, offset, stopped - last)
    speed = torch.where(goes_on, speed, torch.zeros_like(speed))
    target = recorded + _spring(offset, speed, after + 1)
    return PerturbedContext(past, is_sampled, target, recorded, last)


def _spring(offset: Tensor, speed: Tensor, at_frames: Tensor) -> Tensor:
    """Return (B, N, K, 56) a critically damped spring's course from offset and speed (B, N, 56) at frame 0.

    Its equation is x(t) = (x0 + (v0 + w x0) t) exp(-w t), with w = 1 / RECOVERY_FRAMES.
    """
    at = at_frames[:, None]  # (K, 1)
    rising = speed + offset / RECOVERY_FRAMES
    return (offset[:, :, None] + rising[:, :, None] * at) * torch.exp(-at / RECOVERY_FRAMES)
