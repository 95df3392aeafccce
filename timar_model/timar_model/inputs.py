"""What one pass of the model reads: the streams of consecutive turns, each the concatenation of its turns."""

from __future__ import annotations

import dataclasses
from typing import Generic, TypeVar

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
    """(B, U, 3) float, 1 where expression, jaw, neck are seen; a frame without any becomes the null vector."""
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
