"""What every engine does: encode turns on top of their rings, and draw motion from the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from timar_model.architecture.config import ModelConfig
from timar_model.architecture.inputs import TokenLayout, TurnInputs, rotary_angles

if TYPE_CHECKING:
    from timar_model.session.cache import RingMemory, TokenRing

Array = npt.NDArray[np.float32]

Past = tuple[Array, Array]
"""(turns, P, 56) normalised motion shown before each turn, and (turns, P) 0 where it was not drawn."""

ENGINES = ("torch", "torch-bf16", "onnx", "onnx-int8")


class Engine(Protocol):
    """A model's arithmetic; what it knows of a conversation lies in the conversation's ring."""

    name: str
    label: str
    """Name, device and numbers, for logs: "torch-float32", "onnx-cpu-float32"."""
    config: ModelConfig
    couples_rows: bool
    """Whether rows of one pass touch each other's numbers; conversations then go one by one."""

    def init_state(self, batch: int, capacity: int) -> RingMemory:
        """Return the memory of so many conversations, without history."""

    def encode(
        self,
        inputs: TurnInputs[Array],
        layouts: Sequence[TokenLayout],
        rings: Sequence[TokenRing],
        from_tokens: Sequence[int],
        first_indices: Sequence[int],
    ) -> Any:
        """Run the backbone over one turn of each of B conversations.

        Keys and values of the turns go into the slots behind each ring's newest token. They are no history
        until `TokenRing.advance` says so.

        Args:
            inputs: The turns' streams, B rows of equal lengths.
            layouts: Their tokens.
            rings: Their histories: one ring, or all rings of one memory in order.
            from_tokens: Oldest token each may see.
            first_indices: Place in the window of each turn's first token.

        Returns:
            (B, F, W) conditions in the engine's own form, for `draw`.
        """

    def draw(self, conditions: Any, noise: Array, steps: int, guidance: float, past: Past) -> Array:
        """Draw (rows, 56) normalised motion by the diffusion head.

        Args:
            conditions: (1, rows, W), or (2, rows, W) when a head that draws frames is guided: the
                unconditional ones second.
            noise: (steps + 1, rows, 56), already scaled by the temperature.
            steps: Denoising steps.
            guidance: Strength, read when there are two and by a head that draws turns.
            past: What was shown before the turns, which then are equally long; read by a head that draws
                turns.
        """


def token_positions(
    layouts: Sequence[TokenLayout], first_indices: Sequence[int], config: ModelConfig
) -> dict[str, npt.NDArray[Any]]:
    """Return where the tokens of equally long turns stand, as arrays by the names of `TokenPositions`."""
    first = layouts[0]
    cos, sin = zip(*(rotary_angles(layout.frame, config) for layout in layouts), strict=True)
    return {
        "source": first.source,
        "kind": first.kind,
        "index": np.stack([np.arange(start, start + len(first)) for start in first_indices]),
        "cos": np.stack(cos),
        "sin": np.stack(sin),
        "motion_rows": first.motion_rows,
    }


def is_whole_batch(rings: Sequence[TokenRing]) -> bool:
    """Whether rings are all rows of one memory, in order.

    Raises:
        ValueError: They are several, but not that.
    """
    memory = rings[0].memory
    if len(rings) == memory.rows and all(ring is row for ring, row in zip(rings, memory.rings, strict=True)):
        return True
    if len(rings) > 1:
        raise ValueError(
            f"{len(rings)} rings were given of a memory of {memory.rows}, expected one or all, in order"
        )
    return False
