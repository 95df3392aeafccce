"""The TIMAR network: tokens, a backbone over turns, a diffusion head; one pure pass and one training loss."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from timar_common.cancellation import check_cancelled
from torch import Tensor, nn

from timar_model.architecture.attention import (
    NORM_EPS,
    LayerCache,
    Rotary,
    SlidingWindowAttention,
    TransformerBlock,
)
from timar_model.architecture.config import MARKERS_PER_TURN, MOTION_DIM, MOTION_GROUPS, ModelConfig
from timar_model.architecture.diffusion import DiffusionHead, diffusion_loss
from timar_model.architecture.inputs import (
    TOKEN_KINDS,
    TokenLayout,
    TokenPositions,
    TurnInputs,
    layout_of,
    positions_of,
)
from timar_model.architecture.perturbed_context import PerturbedContext, perturb_context
from timar_model.architecture.sequences import SlidingWindow, lead_frames, sliding_window, turn_sequence
from timar_model.architecture.turn_head import TurnHead

MASK_VALUE = -1e4
"""Added to the score of what may not be seen; finite, for what fills a chunk up may see itself alone."""


@dataclasses.dataclass(frozen=True)
class TrainingBatch:
    """Clips of equal length on one frame grid that begins `lead` frames before the first turn.

    T below is lead + sum(turn_frames). Motion is normalised (see `MotionStatistics`).
    """

    turn_frames: Sequence[int]
    """Lengths of the turns [frames], the same for all clips."""
    user_speech: Tensor
    """(B, T, S) speech features."""
    user_motion: Tensor
    """(B, T, 56)."""
    agent_speech: Tensor
    """(B, T, S) speech features."""
    agent_motion: Tensor
    """(B, T, 56)."""
    user_motion_seen: Tensor | None = None
    """(B, T, 3) float, 1 where expression, jaw, neck are seen; None: everywhere."""
    agent_motion_known: Tensor | None = None
    """(B, T) float, 0 where the past is unknown, as before a recording's start; None: everywhere."""
    lead: int | None = None
    """Frames before the first turn; None: as many as the turns need (`sequences.lead_frames`)."""


@dataclasses.dataclass(frozen=True)
class Loss:
    """The training loss and its parts, each the mean over masked tokens."""

    total: Tensor
    squared_error: Tensor
    variational: Tensor


class TimarModel(nn.Module):
    """The network of one configuration."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        half = config.token_dim // 2
        self.markers = nn.Embedding(MARKERS_PER_TURN, config.token_dim)
        self.null = nn.Parameter(torch.empty(config.token_dim))
        self.unseen_group = nn.Parameter(torch.zeros(len(MOTION_GROUPS), config.token_dim))
        self.motion1 = nn.Linear(MOTION_DIM, half)
        self.motion2 = nn.Linear(half, config.token_dim)
        self.speech = _speech_projection(config)
        self.input = nn.Linear(config.token_dim, config.width)
        self.mask = nn.Parameter(torch.empty(config.width))
        if config.positions == "window":
            places = config.window_turns * config.turn_tokens
            self.position_in = nn.Parameter(torch.empty(places, config.width))
            self.position_out = nn.Parameter(torch.empty(places, config.width))
        else:
            self.kind = nn.Parameter(torch.empty(TOKEN_KINDS, config.width))
        self.input_norm = nn.LayerNorm(config.width, eps=NORM_EPS)
        self.blocks = nn.ModuleList(
            TransformerBlock(config.width, config.heads) for _ in range(config.blocks)
        )
        self.output_norm = nn.LayerNorm(config.width, eps=NORM_EPS)
        self.head: DiffusionHead | TurnHead = (
            TurnHead(config)
            if config.draws == "turns"
            else DiffusionHead(
                config.width, config.head_width, config.head_blocks, config.is_variance_bounded
            )
        )
        self.group_of_value: Tensor
        self.register_buffer("group_of_value", group_matrix(), persistent=False)
        self._initialise()

    def encode(
        self,
        inputs: TurnInputs[Tensor],
        positions: TokenPositions[Tensor],
        attention_mask: Tensor | None,
        cache: Sequence[LayerCache] | None,
    ) -> Tensor:
        """Run the backbone over the tokens of consecutive turns.

        Args:
            inputs: The turns' streams.
            positions: Where their tokens stand.
            attention_mask: (L, L) bool, whom each token sees; None: everyone, as within one turn.
            cache: One per block, which takes the new tokens in; None: there is none.

        Returns:
            (B, F, W) conditions of the agent's frames.
        """
        x = self._embed(inputs, positions)  # (B, L, W)
        rotary = Rotary(positions.cos, positions.sin) if self.config.positions == "rotary" else None
        for number, block in enumerate(self.blocks):
            check_cancelled()
            x = block(x, rotary, attention_mask, None if cache is None else cache[number])
        z = self.output_norm(x)
        if self.config.positions == "window":
            z = z + self.position_out[positions.index]
        return z[:, positions.motion_rows]

    def encode_sequence(
        self, inputs: TurnInputs[Tensor], window: SlidingWindow, device: torch.device | str = "cpu"
    ) -> Tensor:
        """Run the backbone over a whole sequence within a sliding window; returns what `encode` does."""
        bias = torch.zeros(window.attention_mask.shape, device=device)  # (chunks, size, reach * size)
        bias.masked_fill_(torch.as_tensor(~window.attention_mask, device=device), MASK_VALUE)
        positions = dataclasses.replace(
            self.token_positions(window.layout, device),
            index=torch.as_tensor(window.rows[None], device=device),
        )
        return self.encode(inputs, positions, None, [SlidingWindowAttention(bias)] * self.config.blocks)

    def token_positions(
        self, layout: TokenLayout, device: torch.device | str = "cpu"
    ) -> TokenPositions[Tensor]:
        """Return a layout's positions as tensors."""
        arrays = vars(positions_of(layout, self.config))
        return TokenPositions(**{n: torch.as_tensor(a, device=device) for n, a in arrays.items()})

    def training_loss(self, batch: TrainingBatch, generator: torch.Generator | None = None) -> Loss:
        """Return the loss of a batch of clips.

        Args:
            batch: Clips on one frame grid.
            generator: Source of masks, drops, timesteps and noise, on the batch's device.

        Raises:
            ValueError: The arrays are shorter than the turns need, or differ in length.
        """
        config = self.config
        turns = turn_sequence(batch.turn_frames, config)
        layout = layout_of(turns, config.past_tokens)
        inputs = self._training_inputs(batch, turns_layout=layout, generator=generator)
        device = batch.agent_motion.device
        z = self.encode_sequence(inputs, sliding_window(layout, config.window_frames), device)  # (B, F, W)
        if isinstance(self.head, TurnHead):
            return self._loss_of_turns(self.head, z, layout, batch, generator)
        rows = (inputs.agent_motion_known == 0).flatten()  # (B * F,)
        repeats = config.objective.repeats
        z_rows = z.flatten(0, 1)[rows].repeat(repeats, 1)  # (repeats * masked, W)
        target = inputs.agent_motion.flatten(0, 1)[rows].repeat(repeats, 1)  # (repeats * masked, 56)
        t = torch.randint(0, config.diffusion_steps, (len(target),), generator=generator, device=device)
        noise = torch.randn(target.shape, generator=generator, device=device)
        per_row = diffusion_loss(self.head, z_rows, target, t, noise, config.diffusion_steps)
        return Loss(per_row.total.mean(), per_row.squared_error.mean(), per_row.variational.mean())

    def _loss_of_turns(
        self,
        head: TurnHead,
        z: Tensor,
        layout: TokenLayout,
        batch: TrainingBatch,
        generator: torch.Generator | None,
    ) -> Loss:
        """Return the loss of a head that samples turns, each going on from a perturbed context."""
        config, lead = self.config, self._lead(batch)
        first_row = np.cumsum([0, *(turn.frames for turn in layout.turns)])
        losses = []
        for frames in sorted({turn.frames for turn in layout.turns}):
            which = [index for index, turn in enumerate(layout.turns) if turn.frames == frames]
            turns = perturb_context(
                batch.agent_motion,
                batch.agent_motion_known,
                [layout.turns[index].first_frame + lead for index in which],
                frames,
                config.past_frames,
                config.objective,
                generator,
            )
            rows = torch.as_tensor([range(first_row[i], first_row[i] + frames) for i in which])  # (N, F)
            of_turn = z[:, rows.to(z.device)]  # (B, N, F, W)
            losses.append(self.turn_losses(head, of_turn, turns, generator).repeat_interleave(frames))
        total = torch.cat(losses).mean()
        return Loss(total, total.detach(), torch.zeros_like(total))

    def turn_losses(
        self, head: TurnHead, z: Tensor, turns: PerturbedContext, generator: torch.Generator | None
    ) -> Tensor:
        """Return (repeats * B * N,) the loss of turns of one length with conditions z (B, N, F, W)."""
        config, repeats, device = self.config, self.config.objective.repeats, z.device
        regression = head.regression_loss(
            *(stream.flatten(0, 1) for stream in (z, turns.recorded, turns.recorded_before))
        )  # (B * N,)
        z_rows, target, past, past_known = (
            stream.flatten(0, 1).repeat(repeats, *[1] * (stream.ndim - 2))
            for stream in (z, turns.target, turns.past, turns.past_known)
        )  # (repeats * B * N, ...)
        t = torch.randint(0, config.diffusion_steps, (len(target),), generator=generator, device=device)
        noise = torch.randn(target.shape, generator=generator, device=device)
        return head.loss(z_rows, target, past, past_known, t, noise) + regression.repeat(repeats)

    def _lead(self, batch: TrainingBatch) -> int:
        """Return the frames of a batch before its first turn."""
        return lead_frames(batch.turn_frames, self.config) if batch.lead is None else batch.lead

    def _embed(self, inputs: TurnInputs[Tensor], positions: TokenPositions[Tensor]) -> Tensor:
        """Return (B, L, W): every token projected, placed and normalised."""
        batch = inputs.agent_motion.shape[0]
        table = [
            self.input(self.markers.weight).expand(batch, -1, -1),  # (B, 10, W)
            self.input(self._or_null(self.speech(inputs.user_speech), inputs.user_speech_seen)),  # (B, U, W)
            self.input(self._user_motion(inputs)),  # (B, U, W)
            self.input(self.speech(inputs.agent_speech)),  # (B, F, W)
            self._or_mask(self._motion(inputs.agent_motion), inputs.agent_motion_known),  # (B, F, W)
        ]
        if self.config.past_tokens:
            table.append(self._or_mask(self._motion(inputs.past_motion), inputs.past_motion_known))
        x = torch.cat(table, dim=1)[:, positions.source]  # (B, L, W)
        if self.config.positions == "window":
            x = x + self.position_in[positions.index]
        else:
            x = x + self.kind[positions.kind]
        return self.input_norm(x)

    def _motion(self, motion: Tensor) -> Tensor:
        return F.relu(self.motion2(F.relu(self.motion1(motion))))

    def _user_motion(self, inputs: TurnInputs[Tensor]) -> Tensor:
        """Embed the user's motion; an unseen group reads as its mean, and is marked as unseen."""
        seen = inputs.user_motion_seen  # (B, U, 3)
        motion = inputs.user_motion * (seen @ self.group_of_value)  # (B, U, 56)
        token = self._motion(motion) + (1 - seen) @ self.unseen_group  # (B, U, D)
        return self._or_null(token, seen.amax(dim=-1))

    def _or_null(self, token: Tensor, seen: Tensor) -> Tensor:
        return torch.where(seen[..., None] > 0, token, self.null)

    def _or_mask(self, token: Tensor, known: Tensor) -> Tensor:
        return torch.where(known[..., None] > 0, self.input(token), self.mask)

    def _training_inputs(
        self, batch: TrainingBatch, turns_layout: TokenLayout, generator: torch.Generator | None
    ) -> TurnInputs[Tensor]:
        """Cut the clips into turns, and hide what the objective hides."""
        config, objective = self.config, self.config.objective
        turns = turns_layout.turns
        clips, length = batch.agent_motion.shape[:2]
        lead = self._lead(batch)
        _check_batch(batch, lead, length, config)
        device = batch.agent_motion.device

        def grid(ranges: list[tuple[int, int]]) -> Tensor:
            return torch.cat(
                [torch.arange(first + lead, first + lead + count) for first, count in ranges]
            ).to(device)

        def keep(*shape: int, drop: float) -> Tensor:
            return (torch.rand(shape, generator=generator, device=device) >= drop).float()

        user = grid([(turn.user_first_frame, turn.user_frames) for turn in turns])  # (U,)
        agent = grid([(turn.first_frame, turn.frames) for turn in turns])  # (F,)
        past = grid([(turn.first_frame - config.past_tokens, config.past_tokens) for turn in turns])  # (P,)
        user_turn = torch.repeat_interleave(
            torch.arange(len(turns)), torch.tensor([turn.user_frames for turn in turns])
        ).to(device)  # (U,)

        seen_turn = keep(clips, len(turns), drop=objective.user_turn_drop)[:, user_turn]  # (B, U)
        speech_seen = keep(clips, user.numel(), drop=objective.user_token_drop) * seen_turn
        motion_seen = keep(clips, user.numel(), drop=objective.user_token_drop) * seen_turn
        motion_seen = motion_seen * keep(clips, 1, drop=objective.user_motion_drop)
        groups_seen = motion_seen[..., None] * keep(
            clips, 1, len(MOTION_GROUPS), drop=objective.user_group_drop
        )  # (B, U, 3)
        if batch.user_motion_seen is not None:
            groups_seen = groups_seen * batch.user_motion_seen[:, user]

        past_known = keep(clips, len(turns), drop=objective.past_drop)  # (B, N)
        past_known = past_known.repeat_interleave(config.past_tokens, dim=1)  # (B, P)
        past_motion = batch.agent_motion[:, past]  # (B, P, 56)
        scale = torch.rand(clips, len(turns), 1, generator=generator, device=device)
        scale = (objective.past_noise * scale).repeat_interleave(config.past_tokens, dim=1)  # (B, P, 1)
        past_motion = past_motion + scale * torch.randn(past_motion.shape, generator=generator, device=device)
        if batch.agent_motion_known is not None:
            past_known = past_known * batch.agent_motion_known[:, past]

        return TurnInputs(
            user_speech=batch.user_speech[:, user],
            user_speech_seen=speech_seen,
            user_motion=batch.user_motion[:, user],
            user_motion_seen=groups_seen,
            agent_speech=batch.agent_speech[:, agent],
            agent_motion=batch.agent_motion[:, agent],
            agent_motion_known=self._draw_known(clips, agent.numel(), device, generator),
            past_motion=past_motion,
            past_motion_known=past_known,
        )

    def _draw_known(
        self, clips: int, frames: int, device: torch.device, generator: torch.Generator | None
    ) -> Tensor:
        """Draw which agent-motion tokens stay unmasked: one share a batch, other tokens in each clip."""
        objective = self.config.objective
        ratio = 1.0
        if objective.mask_ratio_min < 1.0 and objective.mask_ratio_std > 0.0:
            lowest = (objective.mask_ratio_min - 1.0) / objective.mask_ratio_std
            low = torch.special.ndtr(torch.tensor(lowest))
            share = torch.rand((), generator=generator, device=device).cpu()
            ratio = 1.0 + objective.mask_ratio_std * float(torch.special.ndtri(low + (0.5 - low) * share))
        masked = min(frames, math.ceil(frames * ratio))
        order = torch.rand(clips, frames, generator=generator, device=device).argsort(dim=1)  # (B, F)
        return (order >= masked).float()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        learned = [self.markers.weight, self.null, self.mask]
        learned += [self.position_in, self.position_out] if self.config.positions == "window" else [self.kind]
        for parameter in learned:
            nn.init.normal_(parameter, std=0.02)
        # The head starts as the identity of its modulations and an estimate of nothing.
        if isinstance(self.head, TurnHead):
            modulations = [layer for b in self.head.mixing_blocks() for layer in b.modulation_layers()]
            nn.init.normal_(self.head.unknown, std=0.02)
            nn.init.zeros_(self.head.mean_head.weight)
        else:
            modulations = [block.modulation for block in self.head.residual_blocks()]
        for layer in (*modulations, self.head.final_modulation, self.head.output):
            nn.init.zeros_(layer.weight)
        for layer in (self.head.time1, self.head.time2):
            nn.init.normal_(layer.weight, std=0.02)


def _speech_projection(config: ModelConfig) -> nn.Module:
    """A line for wav2vec 2.0, whose features are learned already; a small network for spectra."""
    if config.speech_encoder == "wav2vec2":
        return nn.Linear(config.speech_dim, config.token_dim)
    return nn.Sequential(
        nn.Linear(config.speech_dim, 2 * config.token_dim),
        nn.GELU(),
        nn.Linear(2 * config.token_dim, config.token_dim),
    )


def group_matrix() -> Tensor:
    """Return (3, 56) which values belong to expression, jaw and neck."""
    matrix = torch.zeros(len(MOTION_GROUPS), MOTION_DIM)
    for row, group in enumerate(MOTION_GROUPS.values()):
        matrix[row, group] = 1.0
    return matrix


def _check_batch(batch: TrainingBatch, lead: int, length: int, config: ModelConfig) -> None:
    expected = lead + sum(batch.turn_frames)
    needed = lead_frames(batch.turn_frames, config)
    if lead < needed:
        raise ValueError(
            f"the batch leads in with {lead} frames, expected at least {needed} for its first turn"
        )
    if length != expected:
        raise ValueError(
            f"the clips have {length} frames, expected {expected}: {lead} of lead and the turns' own"
        )
    for name in ("user_speech", "user_motion", "agent_speech"):
        if (found := getattr(batch, name).shape[1]) != length:
            raise ValueError(f"{name} has {found} frames, expected {length} like agent_motion")
