"""What every engine does: encode turns on top of a ring, and draw motion from the result; both pure."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from timar_model.cache import TokenRing
from timar_model.config import ModelConfig
from timar_model.inputs import TurnInputs
from timar_model.turns import Layout

Array = npt.NDArray[np.float32]

ENGINES = ("torch", "onnx")


@dataclasses.dataclass(frozen=True)
class Encoded:
    """What the backbone made of some turns."""

    conditions: Any
    """(B, F, W) in the engine's own form, for `Engine.draw`."""
    keys: Array
    """(blocks, B, H, L, W / H)."""
    values: Array
    """(blocks, B, H, L, W / H)."""


class Engine(Protocol):
    """A model's arithmetic; it holds no state of a conversation."""

    name: str
    label: str
    """Name, device and numbers, for logs: "torch-float32", "onnx-cpu-float32"."""
    config: ModelConfig

    def init_state(self, batch: int, capacity: int) -> TokenRing:
        """Return an empty ring."""

    def encode(
        self,
        inputs: TurnInputs[Array],
        layout: Layout,
        ring: TokenRing | None,
        from_token: int = 0,
        visible: npt.NDArray[np.bool_] | None = None,
        first_index: int = 0,
    ) -> Encoded:
        """Run the backbone; the ring is read and not changed.

        Args:
            inputs: The turns' streams.
            layout: Their tokens.
            ring: Earlier tokens, of B rows or one; None: there are none.
            from_token: Oldest token of the ring that may be seen.
            visible: (L, L) whom the new tokens see among themselves; None: all. Not together with a ring.
            first_index: Place in the window of the first new token.
        """

    def draw(self, conditions: Any, noise: Array, steps: int, guidance: float) -> Array:
        """Draw (F, 56) normalised motion by the diffusion head.

        Args:
            conditions: (1, F, W), or (2, F, W) when guided: the unconditional row second.
            noise: (steps + 1, F, 56), already scaled by the temperature.
            steps: Denoising steps.
            guidance: Strength, read when there are two rows.
        """


def empty_ring(config: ModelConfig, batch: int, capacity: int) -> TokenRing:
    """Return a ring of a configuration's shape."""
    return TokenRing(config.blocks, batch, config.heads, config.head_dim, capacity)
