"""Several conversations whose turns go through the engine together, each with its own length and reset."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from timar_model.architecture.config import SamplingConfig
from timar_model.architecture.inputs import MotionStatistics, SpeechFeatures
from timar_model.engines.engine import Array, Engine
from timar_model.session.requests import run_batched
from timar_model.session.session import ROLLBACK_TURNS, Noise, Session, first_capacity


@dataclasses.dataclass(frozen=True)
class TurnArguments:
    """What one conversation's turn brings; see `Session.step`."""

    user_speech: Array | None
    user_motion: Array | None
    agent_speech: Array
    noise: Noise | None = None
    user_motion_valid: npt.NDArray[np.bool_] | None = None


class BatchedSession:
    """Conversations side by side.

    Each is a `Session` of its own, which may commit, take back and reset alone; `step` lets those that have a
    turn share the engine's passes. A pass is shared when all conversations take part with turns of equal
    length; otherwise each is computed alone.

    Args:
        engine: The arithmetic.
        features: Speech features.
        statistics: Of the motion the model was trained on.
        sampling: How motion is drawn.
        seeds: One a conversation.
        rollback_turns: As of `Session`.
    """

    def __init__(
        self,
        engine: Engine,
        features: SpeechFeatures,
        statistics: MotionStatistics,
        sampling: SamplingConfig,
        seeds: Sequence[int],
        rollback_turns: int = ROLLBACK_TURNS,
    ) -> None:
        if not seeds:
            raise ValueError("a batch has no seeds, expected one for each conversation")
        capacity = first_capacity(engine.config, sampling, rollback_turns)
        memory = engine.init_state(len(seeds), capacity)
        self._engine = engine
        self.rows = [
            Session(engine, features, statistics, sampling, seed, rollback_turns, ring)
            for seed, ring in zip(seeds, memory.rings, strict=True)
        ]

    def step(self, turns: Sequence[TurnArguments | None]) -> list[Array | None]:
        """Generate the next turn of each conversation that has one.

        Args:
            turns: One for each conversation; None lets it wait.

        Returns:
            (F, 56) float32 motion for each turn, None where there was none.

        Raises:
            ValueError: There are more or fewer turns than conversations, or one has a bad input; all
                conversations are then as before.
            FloatingPointError: The motion of one is not finite; all are then as before.
        """
        if len(turns) != len(self.rows):
            raise ValueError(
                f"the batch was given {len(turns)} turns, expected one for each of {len(self.rows)}"
            )
        going = [(row, turn) for row, turn in enumerate(turns) if turn is not None]
        works = []
        for row, turn in going:
            session = self.rows[row]
            heard = session.hear(
                turn.user_speech, turn.user_motion, turn.agent_speech, turn.user_motion_valid
            )
            works.append(session.drawing(heard, turn.noise))
        motion: list[Array | None] = [None] * len(turns)
        for (row, _), drawn in zip(going, run_batched(self._engine, works), strict=True):
            motion[row] = self.rows[row].remember(drawn)
        return motion
