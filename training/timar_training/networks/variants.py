"""Networks that a run can train: the system, its distillation, its ablations, the whole-sequence baseline."""

from __future__ import annotations

import bisect
import copy
import dataclasses
from collections.abc import Sequence

import torch
from timar_model.architecture.attention import LayerCache
from timar_model.architecture.config import MOTION_DIM, ModelConfig, ObjectiveConfig
from timar_model.architecture.diffusion import DiffusionHead
from timar_model.architecture.inputs import TokenPositions, TurnInputs, layout_of
from timar_model.architecture.model import TimarModel, TrainingBatch
from timar_model.architecture.perturbed_context import PerturbedContext
from timar_model.architecture.schedule import Schedule, drawing_schedule
from timar_model.architecture.sequences import SlidingWindow, turn_sequence
from timar_model.architecture.turn_head import TurnHead
from torch import Tensor, nn

from .dualtalk import DualTalkNetwork

SIZE_TOLERANCE = 0.03
NOTHING_HIDDEN = ObjectiveConfig(mask_ratio_min=1.0, user_token_drop=0.0)


class RegressionHead(DiffusionHead):
    """The ablation "MLP head": a frame is read off its condition at once, without noise and without chance.

    It keeps the shape of the diffusion head, so that the two have the same number of parameters.
    """

    def forward(self, x: Tensor, t: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return the frame of each condition (rows, condition); noise and timesteps are not looked at."""
        clean, _ = super().forward(torch.zeros_like(x), torch.zeros_like(t), z)
        return clean, torch.zeros_like(clean)

    def sample(self, z: Tensor, noise: Tensor, schedule: Schedule, guidance: Tensor) -> Tensor:
        """Return (rows, 56) motion; with an unconditional branch, guided."""
        still = torch.zeros(z.shape[1], MOTION_DIM, device=z.device)
        step = torch.zeros(z.shape[1], dtype=torch.long, device=z.device)
        both = [self(still, step, branch)[0] for branch in z]
        return both[-1] + guidance * (both[0] - both[-1])


class RegressingTimar(TimarModel):
    """TIMAR with a regression head."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        diffusing = self.head
        if not isinstance(diffusing, DiffusionHead):
            raise ValueError(
                f"the regression head reads frames one by one, but ModelConfig.draws is {config.draws!r}; "
                "say draws: frames"
            )
        self.head = RegressionHead(config.width, config.head_width, config.head_blocks)
        self.head.load_state_dict(diffusing.state_dict())


class FullAttentionTimar(TimarModel):
    """The ablation "full attention": every token sees every turn of the window, later ones too."""

    def encode(
        self,
        inputs: TurnInputs[Tensor],
        positions: TokenPositions[Tensor],
        attention_mask: Tensor | None,
        cache: Sequence[LayerCache] | None,
    ) -> Tensor:
        """Run the backbone as `TimarModel.encode` does, with nothing hidden."""
        return super().encode(inputs, positions, None, cache)

    def encode_sequence(
        self, inputs: TurnInputs[Tensor], window: SlidingWindow, device: torch.device | str = "cpu"
    ) -> Tensor:
        """Run the backbone over a sequence without a sliding window: the whole is seen."""
        layout = layout_of(window.layout.turns, self.config.past_tokens)
        return self.encode(inputs, self.token_positions(layout, device), None, None)

    @torch.no_grad()
    def draw_window(self, batch: TrainingBatch, noise: Tensor, schedule: Schedule) -> Tensor:
        """Draw all turns of windows at once.

        Args:
            batch: Windows; their agent motion is not looked at.
            noise: (steps + 1, B * frames, 56).
            schedule: The steps kept.

        Returns:
            (B, frames, 56) normalised motion.
        """
        layout = layout_of(turn_sequence(batch.turn_frames, self.config), self.config.past_tokens)
        trained = self.config
        self.config = dataclasses.replace(trained, objective=NOTHING_HIDDEN)
        try:
            inputs = self._training_inputs(batch, turns_layout=layout, generator=None)
        finally:
            self.config = trained
        z = self.encode(inputs, self.token_positions(layout, noise.device), None, None)
        if not isinstance(self.head, DiffusionHead):
            raise ValueError(
                f"a window is drawn frame by frame, but ModelConfig.draws is {self.config.draws!r}"
            )
        drawn = self.head.sample(z.flatten(0, 1)[None], noise, schedule, torch.tensor(1.0))
        return drawn.view(len(z), -1, MOTION_DIM)


class DistilledTimar(TimarModel):
    """TIMAR whose head learns to draw in its own few steps what it drew in many before; the backbone rests.

    Both start from the same noise, at every temperature from 0 to 1 and every guidance from 1 to 1.5.

    Source: Luhman and Luhman, Knowledge Distillation in Iterative Generative Models, 2021.
    """

    TEACHER_STEPS = 10

    def learn_from_itself(self) -> None:
        """Copy the head as the teacher.

        Raises:
            ValueError: It draws frame by frame, where chance enters at every step.
        """
        if not isinstance(self.head, TurnHead):
            raise ValueError(
                f"the head to distil draws frame by frame (ModelConfig.draws is {self.config.draws!r}), "
                "expected draws: turns, whose drawing follows from its start noise"
            )
        self.requires_grad_(False)
        # In a tuple it is none of this network's parts and is not saved with them.
        self._teacher = (copy.deepcopy(self.head).eval(),)
        self.head.requires_grad_(True)

    def turn_losses(
        self, head: TurnHead, z: Tensor, turns: PerturbedContext, generator: torch.Generator | None
    ) -> Tensor:
        """Return (B * N,) how far the motion of each turn lies from the teacher's.

        Args:
            head: The pupil.
            z: (B, N, F, W) conditions of each turn's frames.
            turns: What each turn knows of the frames before it.
            generator: Of the noise.
        """
        count, frames = z.shape[0] * z.shape[1], z.shape[2]
        past, known = turns.past.flatten(0, 1), turns.past_known.flatten(0, 1)
        noise = torch.randn(count, frames, MOTION_DIM, generator=generator, device=z.device)
        noise = noise * torch.rand(count, 1, 1, generator=generator, device=z.device)
        guidance = 1 + 0.5 * torch.rand((), generator=generator, device=z.device)

        def drawn(by: TurnHead, steps: int) -> Tensor:
            motion = by.sample(
                z.reshape(1, count * frames, -1),
                noise.view(1, count * frames, MOTION_DIM),
                drawing_schedule(self.config, steps),
                guidance,
                past,
                known,
            )
            return motion.view(count, frames, MOTION_DIM)

        with torch.no_grad():
            wanted = drawn(self._teacher[0], self.TEACHER_STEPS)
        error = (drawn(head, self.config.sampling.steps) - wanted).float()
        return head.distance(head.steps_of(error, torch.zeros_like(error[:, 0])))


class TrainingStep(nn.Module):
    """A network and its loss as one forward pass, which is what data-parallel wrappers know."""

    def __init__(self, network: nn.Module, precision: str) -> None:
        super().__init__()
        self.network = network
        self._is_narrow = precision == "bfloat16"

    def forward(self, batch: TrainingBatch, generator: torch.Generator) -> Tensor:
        """Return the loss of a batch, its matrix products in the wanted precision."""
        device = batch.agent_motion.device.type
        with torch.autocast(device, torch.bfloat16, enabled=self._is_narrow):
            loss: Tensor = self.network.training_loss(batch, generator).total  # type: ignore[operator]
        return loss


def build_network(architecture: str, config: ModelConfig) -> nn.Module:
    """Return a fresh network with a method ``training_loss(batch, generator)``."""
    kinds: dict[str, type[nn.Module]] = {
        "timar": TimarModel,
        "timar-distilled": DistilledTimar,
        "timar-mlp-head": RegressingTimar,
        "timar-full-attention": FullAttentionTimar,
        "dualtalk": DualTalkNetwork,
    }
    return kinds[architecture](config)


def parameters_of(network: nn.Module) -> int:
    """Return how many numbers a network learns."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def equal_size(architecture: str, config: ModelConfig, parameters: int) -> dict[str, int]:
    """Return the fields with which a network has as many parameters as asked for, within 3 %.

    TIMAR's kinds keep their backbone and change the head's width. The DualTalk-like network first takes the
    widest backbone that fits; its decoder's width fills the rest.

    Raises:
        ValueError: No width comes near.
    """

    def count(candidate: ModelConfig) -> int:
        with torch.device("meta"):
            return parameters_of(build_network(architecture, candidate))

    if abs(count(config) - parameters) <= SIZE_TOLERANCE * parameters:
        return {}
    # Wider networks have more parameters, so bisection finds the width.
    if architecture == "dualtalk":
        sized = [
            dataclasses.replace(config, width=width)
            for width in range(2 * config.heads, 4 * config.width, 2 * config.heads)
        ]
        config = sized[max(0, bisect.bisect_right(sized, parameters, key=count) - 1)]
    headed = [dataclasses.replace(config, head_width=width) for width in range(32, 2048, 4)]
    index = bisect.bisect_left(headed, parameters, key=count)
    best = min(headed[max(0, index - 1) : index + 1], key=lambda found: abs(count(found) - parameters))
    if abs(count(best) - parameters) > SIZE_TOLERANCE * parameters:
        raise ValueError(
            f"no width gives {architecture} {parameters} parameters (nearest is {count(best)}); change blocks"
        )
    return {"width": best.width, "head_width": best.head_width}
