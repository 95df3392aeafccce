"""Several conversations whose turns go through the engine together, each with its own length and reset."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from timar_model.architecture.config import SamplingConfig
from timar_model.architecture.inputs import Array, MotionStatistics, SpeechFeatures
from timar_model.architecture.sequences import join
from timar_model.engines.engine import Engine
from timar_model.session.cache import CacheMemory, TokenRing
from timar_model.session.sampling import first_capacity, next_capacity
from timar_model.session.session import (
    ROLLBACK_TURNS,
    EncodeRequest,
    EngineRequest,
    Noise,
    R,
    SampleRequest,
    Session,
    Work,
)


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

    Each is a `Session` of its own, which may commit, roll back and reset alone; `step` lets those that have a
    turn share the engine's passes. A pass is shared when all conversations take part with turns of equal
    length; otherwise each is computed alone.

    Args:
        engine: The arithmetic.
        features: Speech features.
        statistics: Of the motion the model was trained on.
        sampling: How motion is sampled.
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
        memory = engine.init_state(len(seeds), first_capacity(engine.config, sampling, rollback_turns))

        @functools.cache
        def next_memory() -> CacheMemory:
            return engine.init_state(len(seeds), next_capacity(engine.config, sampling))

        def next_ring(row: int) -> TokenRing:
            return next_memory().rings[row]

        self._engine = engine
        self.rows = [
            Session(
                *(engine, features, statistics, sampling, seed, rollback_turns, memory.rings[row]),
                next_ring=functools.partial(next_ring, row),
            )
            for row, seed in enumerate(seeds)
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
        present = [row for row, turn in enumerate(turns) if turn is not None]
        works = []
        for session, turn in zip(self.rows, turns, strict=True):
            if turn is not None:
                prepared = session.prepare(
                    turn.user_speech, turn.user_motion, turn.agent_speech, turn.user_motion_valid
                )
                works.append(session.sample(prepared, turn.noise))
        motion: list[Array | None] = [None] * len(turns)
        for row, sampled in zip(present, run_batched(self._engine, works), strict=True):
            motion[row] = self.rows[row].commit_sampled(sampled)
        return motion


def run_batched(engine: Engine, works: Sequence[Work[R]]) -> list[R]:
    """Answer the requests of several works side by side, in one pass where all ask for the same shape."""
    results: dict[int, R] = {}
    waiting: dict[int, EngineRequest] = {}

    def advance(number: int, answer: Any) -> None:
        try:
            waiting[number] = works[number].send(answer)
        except StopIteration as done:
            results[number] = done.value

    for number in range(len(works)):
        advance(number, None)
    while waiting:
        numbers, requests = list(waiting), list(waiting.values())
        waiting.clear()
        groups = [requests] if _can_share(engine, requests) else [[request] for request in requests]
        answers = [answer for group in groups for answer in _answer(engine, group)]
        for number, answer in zip(numbers, answers, strict=True):
            advance(number, answer)
    return [results[number] for number in range(len(works))]


def _answer(engine: Engine, requests: Sequence[EngineRequest]) -> list[Any]:
    """Answer requests of one shape in one pass."""
    started = time.perf_counter()
    answers: list[Any]
    encodes = [request for request in requests if isinstance(request, EncodeRequest)]
    samples = [request for request in requests if isinstance(request, SampleRequest)]
    if encodes:
        positions = [request.positions() for request in encodes]
        # Turns of one shape have their tokens at the same rows; only frames and places in the window differ.
        stacked = {
            name: np.concatenate([getattr(one, name) for one in positions])
            for name in ("index", "cos", "sin")
        }
        conditions = engine.encode(
            join([request.inputs for request in encodes], axis=0),
            dataclasses.replace(positions[0], **stacked),
            [request.ring for request in encodes],
            [request.from_token for request in encodes],
        )  # (B, F, W)
        answers = [conditions[row : row + 1] for row in range(len(encodes))]
    else:
        conditions = np.concatenate([np.asarray(request.conditions) for request in samples], axis=1)
        noise = np.concatenate([request.noise for request in samples], axis=1)  # (K + 1, B * rows, 56)
        past, known = (np.concatenate(part) for part in zip(*(r.past for r in samples), strict=True))
        motion = engine.sample(conditions, noise, samples[0].steps, samples[0].guidance, (past, known))
        answers = np.split(motion, np.cumsum([request.noise.shape[1] for request in samples])[:-1])
    took_ms = (time.perf_counter() - started) * 1e3
    for request in requests:
        request.timings_ms[request.part] += took_ms
    return answers


def _can_share(engine: Engine, requests: Sequence[EngineRequest]) -> bool:
    if engine.is_batch_dependent or len({request.shape() for request in requests}) > 1:
        return False
    rings = [request.ring for request in requests if isinstance(request, EncodeRequest)]
    return not rings or rings == rings[0].memory.rings
