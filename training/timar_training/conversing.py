"""Run a model over a recorded dyad as the live head would: turn by turn, streams paired on the one clock."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
from timar_common.clock import SAMPLES_PER_FRAME
from timar_model.config import ModelConfig
from timar_model.turns import next_turn

from .dyads import MOTION_SIZE, Motion

FloatArray = npt.NDArray[np.float32]


class StepsThroughTurns(Protocol):
    """What is needed of `timar_model.session.Session`."""

    config: ModelConfig

    @property
    def next_frame(self) -> int:
        """First frame of the next turn."""

    def step(
        self,
        user_speech: FloatArray,
        user_motion: FloatArray | None,
        agent_speech: FloatArray,
        noise: FloatArray | None = None,
        user_motion_valid: npt.NDArray[np.bool_] | None = None,
    ) -> FloatArray:
        """Generate a turn."""


def converse(
    session: StepsThroughTurns,
    user_voice: FloatArray,
    agent_voice: FloatArray,
    user_motion: Motion | None = None,
) -> FloatArray:
    """Generate the agent's motion over a whole recording.

    Args:
        session: A fresh session.
        user_voice: (n,) 16 kHz.
        agent_voice: (n,) 16 kHz; the shorter of the two gives the length.
        user_motion: The user's motion; None: unseen.

    Returns:
        (frames, 56), whole turns only; frame f belongs to sample 640 f.
    """
    turn_frames = session.config.turn_frames
    frames = min(len(user_voice), len(agent_voice)) // SAMPLES_PER_FRAME // turn_frames * turn_frames
    seen = Motion.unseen(frames) if user_motion is None else user_motion.fitted_to(frames)
    motion = []
    previous = None
    for first in range(0, frames, turn_frames):
        turn = next_turn(first, turn_frames, previous, session.config)
        low, high = turn.user_first_frame, turn.user_first_frame + turn.user_frames
        valid = _cut(seen.valid, low, high)
        motion.append(
            session.step(
                _cut(user_voice, low * SAMPLES_PER_FRAME, high * SAMPLES_PER_FRAME),
                _cut(seen.vector, low, high) if valid.any() else None,
                agent_voice[first * SAMPLES_PER_FRAME : turn.end_frame * SAMPLES_PER_FRAME],
                user_motion_valid=valid if valid.any() else None,
            )
        )
        previous = turn_frames
    return np.concatenate(motion) if motion else np.zeros((0, MOTION_SIZE), np.float32)


def _cut(array: npt.NDArray, low: int, high: int) -> npt.NDArray:
    """Return rows [low, high), zeros where they lie before the start."""
    before = np.zeros((max(0, min(0, high) - low), *array.shape[1:]), array.dtype)
    return np.concatenate([before, array[max(0, low) : max(0, high)]])
