"""A network in the manner of DualTalk: both speakers as whole sequences, not causal, motion by regression.

Written from the paper's description alone (arXiv 2505.18096): a joint encoder of both speakers, an enhancer
that lets a speaker's sound and motion inform each other, a transformer in which the agent attends to the
user, and a decoder of the agent's motion. What the description leaves open is chosen as for TIMAR, so that
sizes compare.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from timar_common.motion_file import PART_SIZES
from timar_model.architecture.config import MOTION_DIM, ModelConfig
from timar_model.architecture.model import Loss, TrainingBatch
from torch import Tensor, nn

VELOCITY_WEIGHT = 0.5


class CrossBlock(nn.Module):
    """Attention from one stream to another, or to itself, then a feed-forward layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_query = nn.LayerNorm(width)
        self.norm_source = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)

    def forward(self, x: Tensor, source: Tensor) -> Tensor:
        """Return x (B, T, W) informed by source (B, T, W)."""
        seen = self.norm_source(source)
        x = x + self.attention(self.norm_query(x), seen, seen, need_weights=False)[0]
        hidden: Tensor = F.gelu(self.expand(self.norm(x)))
        return x + self.contract(hidden)


class DualTalkNetwork(nn.Module):
    """See the module's first lines; it reads the same speech features and the same user motion as TIMAR."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        width, heads = config.width, config.heads
        self.speech = nn.Sequential(
            nn.Linear(config.speech_dim, 2 * config.token_dim),
            nn.GELU(),
            nn.Linear(2 * config.token_dim, width),
        )
        self.motion = nn.Sequential(nn.Linear(MOTION_DIM + 3, width), nn.GELU(), nn.Linear(width, width))
        self.speaker = nn.Parameter(0.02 * torch.randn(2, width))
        enhancing, interacting = max(1, config.blocks // 4), max(1, config.blocks // 2)
        self.sound_from_motion = nn.ModuleList(CrossBlock(width, heads) for _ in range(enhancing))
        self.motion_from_sound = nn.ModuleList(CrossBlock(width, heads) for _ in range(enhancing))
        self.own = nn.ModuleList(CrossBlock(width, heads) for _ in range(interacting))
        self.partner = nn.ModuleList(CrossBlock(width, heads) for _ in range(interacting))
        self.decoder = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, config.head_width),
            nn.GELU(),
            nn.Linear(config.head_width, config.head_width),
            nn.GELU(),
            nn.Linear(config.head_width, MOTION_DIM),
        )

    def forward(
        self, user_speech: Tensor, user_motion: Tensor, user_seen: Tensor, agent_speech: Tensor
    ) -> Tensor:
        """Return (B, T, 56) normalised agent motion of whole sequences.

        Args:
            user_speech: (B, T, S).
            user_motion: (B, T, 56) normalised.
            user_seen: (B, T, 3).
            agent_speech: (B, T, S).
        """
        positions = _positions(user_speech.shape[1], self.config.width, user_speech.device)  # (T, W)
        sound = self.speech(user_speech) + self.speaker[0] + positions  # (B, T, W)
        sizes = torch.tensor(PART_SIZES, device=user_seen.device)
        seen = user_motion * user_seen.repeat_interleave(sizes, dim=-1)  # (B, T, 56)
        motion = self.motion(torch.cat([seen, user_seen], dim=-1)) + self.speaker[0] + positions
        for to_sound, to_motion in zip(self.sound_from_motion, self.motion_from_sound, strict=True):
            sound, motion = to_sound(sound, motion), to_motion(motion, sound)
        user = sound + motion
        agent = self.speech(agent_speech) + self.speaker[1] + positions
        for own, partner in zip(self.own, self.partner, strict=True):
            agent = partner(own(agent, agent), user)
        made: Tensor = self.decoder(agent)
        return made

    def training_loss(self, batch: TrainingBatch, generator: torch.Generator | None = None) -> Loss:
        """Return the regression loss of windows: motion, and its velocity, in the three groups."""
        config = self.config
        frames = sum(batch.turn_frames)
        seen = batch.user_motion_seen
        if seen is None:
            seen = torch.ones(*batch.user_motion.shape[:2], 3, device=batch.user_motion.device)
        draw = torch.rand(len(seen), 1, 1, generator=generator, device=seen.device)
        seen = seen * (draw >= config.objective.user_motion_drop)
        made = self(
            batch.user_speech[:, -frames:],
            batch.user_motion[:, -frames:],
            seen[:, -frames:],
            batch.agent_speech[:, -frames:],
        ).float()
        true = batch.agent_motion[:, -frames:]
        known = torch.ones(true.shape[:2], device=true.device)
        if batch.agent_motion_known is not None:
            known = batch.agent_motion_known[:, -frames:]
        error = _grouped(made - true, known)
        speed = _grouped(made.diff(dim=1) - true.diff(dim=1), known[:, 1:] * known[:, :-1])
        return Loss(error + VELOCITY_WEIGHT * speed, error.detach(), speed.detach())


def _grouped(difference: Tensor, known: Tensor) -> Tensor:
    """Return the mean square of (B, T, 56) over known frames, each motion group weighing the same."""
    groups = torch.split(difference.square(), list(PART_SIZES), dim=-1)  # (B, T, 50), (B, T, 3), (B, T, 3)
    per_frame = torch.stack([group.mean(dim=-1) for group in groups]).sum(dim=0)  # (B, T)
    return (per_frame * known).sum() / known.sum().clamp(min=1.0)


def _positions(frames: int, width: int, device: torch.device) -> Tensor:
    """Return (T, W) sines and cosines of each frame's position, so that any length can be read."""
    rate = torch.exp(-math.log(10_000.0) * torch.arange(0, width, 2, device=device) / width)
    angle = torch.arange(frames, device=device)[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[:, :width]
