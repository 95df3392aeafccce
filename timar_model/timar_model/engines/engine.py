"""What every engine does: encode turns on top of their caches, and sample motion from the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from timar_model.architecture.config import ModelConfig
from timar_model.architecture.inputs import Array, SpeechFeatures, TokenPositions, TurnInputs

if TYPE_CHECKING:
    from timar_model.session.cache import CacheMemory, TokenRing

Past = tuple[Array, Array]
"""(turns, P, 56) normalised motion shown before each turn, and (turns, P) 0 where it was not sampled."""


class Engine(Protocol):
    """A model's arithmetic; what it knows of a conversation lies in the conversation's ring."""

    name: str
    label: str
    """Name, device and numbers, for logs: "torch-float32", "onnx-cpu-float32"."""
    config: ModelConfig
    is_batch_dependent: bool
    """Whether rows of one pass touch each other's numbers; conversations then go one by one."""

    def speech_features(self) -> SpeechFeatures:
        """Return what computes the features of voices beside this engine."""

    def init_state(self, batch: int, capacity: int) -> CacheMemory:
        """Return the memory of so many conversations, without history."""

    def encode(
        self,
        inputs: TurnInputs[Array],
        positions: TokenPositions[Any],
        rings: Sequence[TokenRing],
        from_tokens: Sequence[int],
    ) -> Any:
        """Run the backbone over one turn of each of B conversations.

        Keys and values of the turns go into the slots behind each ring's newest token, which
        `CacheMemory.reserve` gives. They are no history until `TokenRing.append` says so.

        Args:
            inputs: The turns' streams, B rows of equal lengths.
            positions: Where their tokens stand, B rows.
            rings: Their caches: one ring, or all rings of one memory in order.
            from_tokens: Oldest token each may see.

        Returns:
            (B, F, W) conditions in the engine's own form, for `sample`.
        """

    def sample(self, conditions: Any, noise: Array, steps: int, guidance: float, past: Past) -> Array:
        """Sample (rows, 56) normalised motion by the diffusion head.

        Args:
            conditions: (1, rows, W), or (2, rows, W) when a head that samples frames is guided: the
                unconditional ones second.
            noise: (steps + 1, rows, 56), already scaled by the temperature.
            steps: Denoising steps.
            guidance: Strength, read when there are two and by a head that samples turns.
            past: What was shown before the turns, which then are equally long; read by a head that samples
                turns.
        """
