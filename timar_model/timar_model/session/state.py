"""What a session keeps of a conversation, as values never changed in place: each one is a snapshot."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from timar_model.architecture.inputs import Array, PreparedTurn, SpeechFeatureState
from timar_model.session.cache import WindowState


@dataclasses.dataclass(frozen=True)
class NoiseState:
    """Where a noise source stands; never changed in place."""

    generator: Any
    """State of the bit generator."""
    last: npt.NDArray[np.float64] | None
    """(draws, 56) noise of the last frame sampled."""
    last_frame: int
    """That frame."""


@dataclasses.dataclass(frozen=True)
class SessionState:
    """Everything a turn changes but the cache arrays; never changed in place: keeping it is a snapshot."""

    next_frame: int
    previous_frames: int | None
    voices: tuple[SpeechFeatureState, SpeechFeatureState]
    """Of the user and of the agent."""
    past_motion: Array
    """(P, 56) normalised motion of the last frames."""
    past_known: Array
    """(P,) 1 where it was sampled, 0 before the start and where a turn was skipped."""
    noise: NoiseState
    window: WindowState
    conditions: Array | None = None
    """(1 or 2, 1, W) what the head was given for the newest frame; None before the first turn."""


@dataclasses.dataclass(frozen=True)
class SampledTurn:
    """A turn's motion before it becomes history."""

    prepared: PreparedTurn
    motion: Array
    """(F, 56) normalised."""
    known: Array
    """(F,) 1 where it was sampled, 0 in a skipped turn."""
    cached: PreparedTurn
    """The turn as later ones see it."""
    noise: NoiseState
    """The noise source after it."""
    conditions: Array
    """(1 or 2, F, W) what the head was given."""
