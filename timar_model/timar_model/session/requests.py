"""What sessions ask of an engine, and one engine asked by several sessions at once."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Generator, Sequence
from typing import Any, TypeVar

import numpy as np

from timar_model.architecture.inputs import TokenLayout, TurnInputs, stack
from timar_model.engines.engine import Array, Engine, Past
from timar_model.session.cache import TokenRing


@dataclasses.dataclass(frozen=True)
class EncodeRequest:
    """Encode a turn into its ring; the answer is its conditions (1, F, W)."""

    inputs: TurnInputs[Array]
    layout: TokenLayout
    ring: TokenRing
    from_token: int
    first_index: int
    timings_ms: dict[str, float]
    part: str = "backbone"

    def shape(self) -> tuple[object, ...]:
        """Return what requests must share to be answered in one pass."""
        first = self.layout.turns[0]
        return "encode", first.frames, first.user_frames, len(self.layout)


@dataclasses.dataclass(frozen=True)
class DrawRequest:
    """Draw rows of motion; the answer is (rows, 56)."""

    conditions: Any
    """(1 or 2, rows, W)."""
    noise: Array
    steps: int
    guidance: float
    past: Past
    draws: str
    """As of the model's configuration."""
    timings_ms: dict[str, float]
    part: str = "head"

    def shape(self) -> tuple[object, ...]:
        """Return what requests must share to be answered in one pass."""
        frames = self.noise.shape[1] if self.draws == "turns" else None
        return "draw", self.conditions.shape[0], self.steps, self.guidance, frames


EngineRequest = EncodeRequest | DrawRequest
R = TypeVar("R")
EngineRequests = Generator[EngineRequest, Any, R]


def run(engine: Engine, work: EngineRequests[R]) -> R:
    """Answer every request of one session's work and return what comes of it."""
    return run_batched(engine, [work])[0]


def run_batched(engine: Engine, works: Sequence[EngineRequests[R]]) -> list[R]:
    """Answer the works' requests side by side, in one pass where all of them ask for the same shape."""
    results: dict[int, R] = {}
    waiting: dict[int, EngineRequest] = {}

    def go_on(number: int, answer: Any) -> None:
        try:
            waiting[number] = works[number].send(answer)
        except StopIteration as done:
            results[number] = done.value

    for number in range(len(works)):
        go_on(number, None)
    while waiting:
        asked, waiting = waiting, {}
        for number, answer in zip(asked, _answer(engine, list(asked.values())), strict=True):
            go_on(number, answer)
    return [results[number] for number in range(len(works))]


def _answer(engine: Engine, requests: list[EngineRequest]) -> list[Any]:
    started = time.perf_counter()
    if len(requests) > 1 and (engine.couples_rows or not _go_together(requests)):
        return [answer for request in requests for answer in _answer(engine, [request])]
    answers: list[Any]
    first = requests[0]
    if isinstance(first, EncodeRequest):
        encodes = [request for request in requests if isinstance(request, EncodeRequest)]
        conditions = engine.encode(
            stack(*[request.inputs for request in encodes]) if len(encodes) > 1 else first.inputs,
            [request.layout for request in encodes],
            [request.ring for request in encodes],
            [request.from_token for request in encodes],
            [request.first_index for request in encodes],
        )
        answers = [conditions[row : row + 1] for row in range(len(encodes))]
    else:
        draws = [request for request in requests if isinstance(request, DrawRequest)]
        conditions = np.concatenate([np.asarray(request.conditions) for request in draws], axis=1)
        noise = np.concatenate([request.noise for request in draws], axis=1)
        known, is_known = (
            np.concatenate(part) for part in zip(*(request.past for request in draws), strict=True)
        )
        motion = engine.draw(conditions, noise, first.steps, first.guidance, (known, is_known))
        answers = np.split(motion, np.cumsum([request.noise.shape[1] for request in draws])[:-1])
    took_ms = (time.perf_counter() - started) * 1e3
    for request in requests:
        request.timings_ms[request.part] += took_ms
    return answers


def _go_together(requests: list[EngineRequest]) -> bool:
    if len({request.shape() for request in requests}) > 1:
        return False
    if not isinstance(requests[0], EncodeRequest):
        return True
    rings = [request.ring for request in requests if isinstance(request, EncodeRequest)]
    memory = rings[0].memory
    return len(rings) == memory.rows and all(ring is memory.rings[row] for row, ring in enumerate(rings))
