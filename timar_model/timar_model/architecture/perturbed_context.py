"""What a head that draws for itself would have shown before a turn, made from recorded motion for training.

Notation beside that of `config`: N turns of F frames, P frames shown before each.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from timar_model.architecture.config import MOTION_DIM, ObjectiveConfig

RECOVERY_FRAMES = 12.0
"""Time constant of the critically damped return of a head that stands elsewhere than the recorded one
[frames]."""
CONTEXT_NOISE = 0.002
"""Spread of independent noise on each shown frame, in units of normalised motion."""
HELD_FRAMES = 5
"""How long ago a head stopped whose last frames were not drawn [frames]."""


@dataclasses.dataclass(frozen=True)
class PerturbedContext:
    """Turns of one length as a training step sees them."""

    past: Tensor
    """(B, N, P, 56) shown before each turn."""
    past_known: Tensor
    """(B, N, P) float, 0 where it was not drawn."""
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
    """Draw how a head stood and moved before turns, and how it should go on.

    It stands off the recorded motion, as a person of other habits would, and returns like a critically damped
    spring: one smooth course through past and target, so that no seam is taught. Where a turn went undrawn
    the head stopped a while ago; before a conversation it rested at the mean.

    Args:
        motion: (B, T, 56) normalised recorded motion.
        known: (B, T) float, 0 where nothing was recorded; None: everything was.
        first_rows: N rows of motion at which turns of F frames begin.
        frames: F.
        past_frames: P.
        objective: Says how far the head stands off and how often a turn went undrawn.
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

    recorded, recorded_past = motion[:, first[:, None] + after], motion[:, first[:, None] + before]
    is_drawn = (uniform(clips, turns, 1) >= objective.past_drop).float().expand(-1, -1, past_frames)
    last, stopped = recorded_past[:, :, -1], motion[:, (first - 1 - HELD_FRAMES).clamp(min=0)]
    if known is not None:
        is_drawn = is_drawn * known[:, first[:, None] + before]
        last = torch.where(known[:, first - 1, None] > 0, last, recorded[:, :, 0])
        stopped = stopped * known[:, (first - 1 - HELD_FRAMES).clamp(min=0), None]

    size = objective.past_noise * uniform(clips, turns, 1)
    place = size * normal(clips, turns, MOTION_DIM)
    speed = size / RECOVERY_FRAMES * normal(clips, turns, MOTION_DIM)
    moving = recorded_past + _return(place, speed, before + 1)
    moving = moving + CONTEXT_NOISE * normal(*moving.shape)
    past = torch.where(is_drawn[..., None] > 0, moving, stopped[:, :, None])
    goes_on = is_drawn[..., -1:] > 0
    place = torch.where(goes_on, place, stopped - last)
    speed = torch.where(goes_on, speed, torch.zeros_like(speed))
    return PerturbedContext(past, is_drawn, recorded + _return(place, speed, after + 1), recorded, last)


def _return(place: Tensor, speed: Tensor, at_frames: Tensor) -> Tensor:
    """Return (B, N, K, 56) a critically damped spring's course from place and speed (B, N, 56) at frame 0."""
    at = at_frames[:, None]
    rising = speed + place / RECOVERY_FRAMES
    return (place[:, :, None] + rising[:, :, None] * at) * torch.exp(-at / RECOVERY_FRAMES)
