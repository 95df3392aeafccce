"""What one pass of the model reads: the streams of consecutive turns, each the concatenation of its turns."""

from __future__ import annotations

import dataclasses
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
A = TypeVar("A")


@dataclasses.dataclass(frozen=True)
class TurnInputs(Generic[A]):
    """Arrays (numpy for engines, tensors for the network); ``U``, ``F``, ``P`` are summed over the turns."""

    user_speech: A
    """(B, U, S) speech features."""
    user_speech_seen: A
    """(B, U) float, 1 or 0: where 0, the learned null vector stands."""
    user_motion: A
    """(B, U, 56) normalised motion; what stands in an unseen group is never read."""
    user_motion_seen: A
    """(B, U, 3) float, 1 where expression, jaw, neck are seen; a frame without any becomes null."""
    agent_speech: A
    """(B, F, S) speech features."""
    agent_motion: A
    """(B, F, 56) normalised motion."""
    agent_motion_known: A
    """(B, F) float, 0 where the mask vector stands."""
    past_motion: A
    """(B, P, 56) normalised motion shown before each turn."""
    past_motion_known: A
    """(B, P) float, 0 where the mask vector stands."""


def with_motion(inputs: TurnInputs[Array], motion: Array, known: Array) -> TurnInputs[Array]:
    """Put agent motion (F, 56) into a turn, seen where `known` (F,) is 1."""
    return dataclasses.replace(
        inputs, agent_motion=motion[None].copy(), agent_motion_known=known[None].copy()
    )


def without_user(inputs: TurnInputs[Array]) -> TurnInputs[Array]:
    """Hide the user of a turn: guidance's unconditional branch."""
    return dataclasses.replace(
        inputs,
        user_speech_seen=np.zeros_like(inputs.user_speech_seen),
        user_motion_seen=np.zeros_like(inputs.user_motion_seen),
    )


def stack(*rows: TurnInputs[Array]) -> TurnInputs[Array]:
    """Put inputs of equal shape into one batch."""
    return _merge(list(rows), axis=0)


def join(turns: list[TurnInputs[Array]]) -> TurnInputs[Array]:
    """Put consecutive turns into one sequence."""
    return _merge(turns, axis=1)


def repeat(inputs: TurnInputs[Array], rows: int) -> TurnInputs[Array]:
    """Repeat inputs of one row as a batch of `rows`."""
    return stack(*[inputs] * rows)


def _merge(parts: list[TurnInputs[Array]], axis: int) -> TurnInputs[Array]:
    names = [field.name for field in dataclasses.fields(TurnInputs)]
    return TurnInputs(
        **{name: np.concatenate([getattr(part, name) for part in parts], axis) for name in names}
    )
