"""One conversation: what was said, shown and sampled; a turn is committed, or rolled back, as a whole."""

from __future__ import annotations

import collections
import dataclasses
import math
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from timar_common.cancellation import CURRENT

from timar_model.architecture.config import (
    FRAMES_PER_SECOND,
    MOTION_DIM,
    SAMPLES_PER_FRAME,
    ModelConfig,
    SamplingConfig,
)
from timar_model.architecture.inputs import (
    Array,
    MotionStatistics,
    PreparedTurn,
    SpeechFeatures,
    TokenPositions,
    Turn,
    TurnInputs,
    TurnPreprocessor,
    checked,
    next_turn,
    with_motion,
    without_user,
)
from timar_model.engines.engine import Engine, Past
from timar_model.session.cache import MissingTurn, TokenRing, window_of
from timar_model.session.sampling import checked_window_frames, first_capacity, gather_draws, next_capacity
from timar_model.session.state import NoiseState, SampledTurn, SessionState

Noise = Array | Sequence[Array]
R = TypeVar("R")

ROLLBACK_TURNS = 4
"""Turns that can be rolled back unless asked otherwise. A turn is made once the sound before it is there, so
a live head has at most two that nobody has seen; the cache keeps what they saw, and attention pays for it."""


@dataclasses.dataclass(frozen=True)
class EncodeRequest:
    """Encode a turn into its ring; the answer is its conditions (1, F, W)."""

    prepared: PreparedTurn
    inputs: TurnInputs[Array]
    ring: TokenRing
    from_token: int
    timings_ms: dict[str, float]
    part: str = "backbone"

    def shape(self) -> tuple[object, ...]:
        """Return what requests must share to be answered in one pass."""
        return "encode", self.prepared.turn.frames, self.prepared.turn.user_frames

    def positions(self) -> TokenPositions[Any]:
        """Return where the tokens stand; places in the window count from the oldest token seen."""
        index = self.prepared.positions.index + (self.ring.end - self.from_token)  # (1, L)
        return dataclasses.replace(self.prepared.positions, index=index)


@dataclasses.dataclass(frozen=True)
class SampleRequest:
    """Sample rows of motion; the answer is (rows, 56)."""

    conditions: Any
    """(1 or 2, rows, W)."""
    noise: Array
    """(steps + 1, rows, 56)."""
    steps: int
    guidance: float
    past: Past
    turn_rows: int | None
    """Rows of a turn where the head samples turns as a whole; None where it samples frames."""
    timings_ms: dict[str, float]
    part: str = "head"

    def shape(self) -> tuple[object, ...]:
        """Return what requests must share to be answered in one pass."""
        return "sample", self.conditions.shape[0], self.steps, self.guidance, self.turn_rows


EngineRequest = EncodeRequest | SampleRequest
Work = Generator[EngineRequest, Any, R]
"""What a session does for a turn: it yields requests, is sent their answers, and returns a result."""


class Session:
    """Generate an agent's motion turn by turn.

    Args:
        engine: The arithmetic.
        features: Speech features of both voices.
        statistics: Of the motion the model was trained on.
        sampling: How motion is sampled.
        seed: Of the noise.
        rollback_turns: How many of the newest turns can be rolled back.
        ring: Its row of a memory shared by a batch; None: a memory of its own.
        next_ring: Opens its row of the memory in which a batch's next windows are encoded; None: as `ring`.

    Raises:
        ValueError: The sampling does not fit the model.
    """

    def __init__(
        self,
        engine: Engine,
        features: SpeechFeatures,
        statistics: MotionStatistics,
        sampling: SamplingConfig,
        seed: int = 0,
        rollback_turns: int = ROLLBACK_TURNS,
        ring: TokenRing | None = None,
        next_ring: Callable[[], TokenRing] | None = None,
    ) -> None:
        if rollback_turns < 1:
            raise ValueError(f"a session keeps {rollback_turns} turns to roll back, expected at least 1")
        self.config: ModelConfig = engine.config
        self.sampling = sampling
        self.window_frames = checked_window_frames(self.config, sampling)
        self.timings_ms: dict[str, float] = {"speech": 0.0, "history": 0.0, "backbone": 0.0, "head": 0.0}
        self._engine = engine
        self._features = features
        self._preprocessor = TurnPreprocessor(self.config, features, statistics)
        self._statistics = statistics
        self._seed = seed
        self._rollback_turns = rollback_turns
        if ring is None:
            ring = engine.init_state(1, first_capacity(self.config, sampling, rollback_turns)).rings[0]
        self._window = window_of(
            ring, self.config, sampling, self.window_frames, rollback_turns, next_ring or self._open_next_ring
        )
        self._pass_s = 0.0
        self.reset()

    @property
    def engine_name(self) -> str:
        """What computes, where and in which numbers, such as "torch-float32" or "onnx-cpu-float32"."""
        return self._engine.label

    @property
    def next_frame(self) -> int:
        """First frame of the next turn."""
        return self._state.next_frame

    @property
    def cached_tokens(self) -> int:
        """Tokens the next turn of the default length would see in the cache."""
        return self._window.visible_tokens(self._state.window, self.next_frame + self.config.turn_frames)

    @property
    def oldest_rollback(self) -> int:
        """First frame of the oldest turn that can be rolled back; `next_frame` when there is none."""
        return self._snapshots[0].next_frame if self._snapshots else self.next_frame

    def user_frames(self, agent_frames: int) -> int:
        """Return how many user frames the next turn takes if it has so many agent frames."""
        return self._next_turn(agent_frames).user_frames

    def reset(self, seed: int | None = None) -> None:
        """Begin a new conversation; `seed` replaces the session's own.

        Raises:
            ValueError: The seed is negative.
        """
        self._seed = self._seed if seed is None else seed
        if self._seed < 0:
            raise ValueError(f"the seed is {self._seed}, expected 0 or more")
        self._snapshots: collections.deque[SessionState] = collections.deque(maxlen=self._rollback_turns)
        self._state = SessionState(
            next_frame=0,
            previous_frames=None,
            voices=(self._features.initial(), self._features.initial()),
            past_motion=np.zeros((self.config.past_frames, MOTION_DIM), np.float32),
            past_known=np.zeros(self.config.past_frames, np.float32),
            noise=NoiseState(np.random.PCG64(self._seed).state, None, 0),
            window=self._window.initial(),
        )

    def step(
        self,
        user_speech: Array | None,
        user_motion: Array | None,
        agent_speech: Array,
        noise: Noise | None = None,
        user_motion_valid: npt.NDArray[np.bool_] | None = None,
    ) -> Array:
        """Generate a turn's motion and make the turn history.

        Args:
            user_speech: (640 U,) float32 in [-1, 1], U is `user_frames(F)`; or None when the user was not
                heard: the learned null then stands for the speech, and the voice's state waits.
            user_motion: (U, 56), or None when the user is not seen.
            agent_speech: (640 F,) float32 in [-1, 1].
            noise: (steps + 1, F, 56) standard normal to sample with, or the released code's draws in their
                order (see `gather_draws`); None: from the session's own source, which an explicit noise
                leaves as it is.
            user_motion_valid: (U, 3) whether expression, jaw and neck are seen; None: all are.

        Returns:
            (F, 56) float32 motion.

        Raises:
            ValueError: An input has a wrong shape or is not finite. The session is then as before.
            FloatingPointError: The model's own output is not finite. The session is then as before.
        """
        prepared = self.prepare(user_speech, user_motion, agent_speech, user_motion_valid)
        return self.commit_sampled(run(self._engine, self.sample(prepared, noise)))

    def preview(self, agent_speech: Array, by: str = "auto") -> Array:
        """Predict the next turn's motion before its user block is there; nothing becomes history.

        It samples with the noise that the turn itself will. Of the session only `timings_ms` changes.

        Args:
            agent_speech: (640 F,) float32 in [-1, 1]; F may differ from the turn to come.
            by: "turn", a whole pass, which differs from the turn to come by what the user did alone; "head",
                the head alone on the newest turn's last frame, at its small cost and deaf to the speech to
                come; "auto", "head" where the model knows only turns of one length, or F is less than that,
                and it has made one.

        Returns:
            (F, 56) float32 motion.

        Raises:
            ValueError: The speech has a wrong shape or is not finite.
            FloatingPointError: The model's own output is not finite.
        """
        frames = np.asarray(agent_speech).size // SAMPLES_PER_FRAME
        is_dear = self.config.has_fixed_turns or frames < self.config.turn_frames
        if (by == "head" or (by == "auto" and is_dear)) and self._state.conditions is not None:
            return self._statistics.restore(run(self._engine, self._extrapolate(frames))).astype(np.float32)
        prepared = self.prepare(None, None, agent_speech, None)
        motion = run(self._engine, self.sample(prepared, None, with_next=False)).motion
        return self._statistics.restore(motion).astype(np.float32)

    def commit(
        self,
        user_speech: Array | None,
        user_motion: Array | None,
        agent_speech: Array,
        user_motion_valid: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        """Make a turn that comes too late history without sampling motion; arguments as of `step`."""
        prepared = self.prepare(user_speech, user_motion, agent_speech, user_motion_valid)
        self.commit_sampled(run(self._engine, self._skip(prepared)))

    def idle(self, budget_s: float = 0.0) -> bool:
        """Use spare time: encode what a moving window needs next, turn by turn, as far as the budget goes.

        What is left is done by the next `step` or `commit` before anything else.

        Args:
            budget_s: Time that may be spent [s]; a turn is begun if the last one took less than what is left.
                0: do nothing.

        Returns:
            Whether nothing is left to do.
        """
        until = time.perf_counter() + budget_s
        for missing in self._window.missing(self._state.window):
            started = time.perf_counter()
            if started + (self._pass_s or self.timings_ms["backbone"] * 1e-3) >= until:
                return False
            run(self._engine, self._encode_missing([missing]))
            self._pass_s = time.perf_counter() - started
        return True

    def rollback(self, first_frame: int) -> None:
        """Withdraw the turn that starts at a frame and all after it; the session is then as before that turn.

        Raises:
            ValueError: No turn starts there, or it is older than what can be rolled back.
        """
        if first_frame == self.next_frame:
            return
        starts = [state.next_frame for state in self._snapshots]
        if first_frame not in starts:
            raise ValueError(
                f"no turn that starts at frame {first_frame} can be rolled back; those that can start at "
                f"{', '.join(map(str, starts)) or 'no frame'}"
            )
        while self._snapshots and self._snapshots[-1].next_frame >= first_frame:
            self._state = self._snapshots.pop()
        self._window.rollback(self._state.window)

    def take_back(self, first_frame: int) -> None:
        """Do what `rollback` does; its name until 0.1, kept for one release."""
        warnings.warn("Session.take_back is called rollback now", DeprecationWarning, stacklevel=2)
        self.rollback(first_frame)

    def prepare(
        self,
        user_speech: Array | None,
        user_motion: Array | None,
        agent_speech: Array,
        user_motion_valid: npt.NDArray[np.bool_] | None = None,
    ) -> PreparedTurn:
        """Check the next turn's inputs and compute its features; arguments as of `step`, nothing changes."""
        samples = np.asarray(agent_speech).size
        frames, rest = divmod(samples, SAMPLES_PER_FRAME)
        if rest or not frames:
            raise ValueError(
                f"agent_speech has {samples} samples, expected whole frames of {SAMPLES_PER_FRAME}"
            )
        state, started = self._state, time.perf_counter()
        prepared = self._preprocessor.prepare(
            self._next_turn(frames),
            user_speech,
            user_motion,
            agent_speech,
            user_motion_valid,
            state.voices,
            (state.past_motion, state.past_known),
        )
        took_ms = (time.perf_counter() - started) * 1e3
        self.timings_ms.update(speech=took_ms, history=0.0, backbone=0.0, head=0.0)
        return prepared

    def sample(
        self, prepared: PreparedTurn, noise: Noise | None, with_next: bool = True
    ) -> Work[SampledTurn]:
        """Return the work of sampling a turn; nothing becomes history before `commit_sampled`.

        Args:
            prepared: The turn.
            noise: As of `step`.
            with_next: Whether the share of the window's next move that is due is done before.

        Raises:
            ValueError: The noise has a wrong shape or is not finite.
            FloatingPointError: The motion is not finite.
        """
        turn, sampling = prepared.turn, self.sampling
        is_random = sampling.order == "random" and sampling.iterations > 1
        order = random_order(turn.frames, self._seed, turn.first_frame) if is_random else None
        plan = sampling_plan(turn.frames, sampling.iterations, order)
        draws, noise_after = self._noise_of(turn, noise, plan)  # (steps + 1, F, 56)
        yield from self._encode_missing(self._window.missing(self._state.window, with_next))
        motion = np.zeros((turn.frames, MOTION_DIM), np.float32)
        known = np.zeros(turn.frames, np.float32)
        conditions: Array | None = None  # (1 or 2, F, W)
        for rows in plan:
            if conditions is None or sampling.iterations_see_drawn:
                conditions = yield from self._conditions(
                    prepared, with_motion(prepared.inputs, motion, known)
                )
            known[rows] = 1.0
            motion[rows] = yield SampleRequest(
                conditions[:, rows],
                np.ascontiguousarray(draws[:, rows]),
                sampling.steps,
                guidance_of_pass(sampling, turn.frames, int(known.sum())),
                (prepared.inputs.past_motion, prepared.inputs.past_motion_known),
                rows.size if self.config.draws == "turns" else None,
                self.timings_ms,
            )
        if not np.all(np.isfinite(motion)):
            self._window.ring.erase(prepared.positions.source.size)
            raise FloatingPointError(
                f"the motion of the turn at frame {turn.first_frame} is not finite; check the weights"
            )
        cached = prepared
        if sampling.history == "filled":
            cached = dataclasses.replace(prepared, inputs=with_motion(prepared.inputs, motion, known))
        if sampling.history == "filled" or (sampling.iterations_see_drawn and len(plan) > 1):
            yield self._encode(cached, cached.inputs)
        assert conditions is not None
        return SampledTurn(prepared, motion, known, cached, noise_after, conditions)

    def commit_sampled(self, sampled: SampledTurn) -> Array:
        """Make a turn history: the last thing a turn does, so that an error before it changes nothing.

        Returns:
            (F, 56) float32 motion.
        """
        state, turn, past = self._state, sampled.prepared.turn, self.config.past_frames
        motion = np.concatenate([state.past_motion, sampled.motion])  # (P + F, 56)
        known = np.concatenate([state.past_known, sampled.known])  # (P + F,)
        self._snapshots.append(state)
        self._state = SessionState(
            next_frame=turn.end_frame,
            previous_frames=turn.frames,
            voices=sampled.prepared.voices,
            past_motion=motion[motion.shape[0] - past :],
            past_known=known[known.size - past :],
            noise=sampled.noise,
            window=self._window.append(state.window, sampled.cached),
            conditions=sampled.conditions[:, -1:],
        )
        return self._statistics.restore(sampled.motion).astype(np.float32)

    def _skip(self, prepared: PreparedTurn) -> Work[SampledTurn]:
        """Return the work of a turn that is committed without sampling."""
        yield from self._encode_missing(self._window.missing(self._state.window))
        conditions = np.asarray((yield self._encode(prepared, prepared.inputs)))
        motion = np.zeros((prepared.turn.frames, MOTION_DIM), np.float32)
        if self.config.draws == "turns":
            # Nothing new was shown: the head stands where it stood, and the next turn goes on from there.
            motion += self._state.past_motion[-1]
        known = np.zeros(prepared.turn.frames, np.float32)
        return SampledTurn(prepared, motion, known, prepared, self._state.noise, conditions)

    def _extrapolate(self, frames: int) -> Work[Array]:
        """Return the work of sampling the next frames as if nothing new was heard: (frames, 56)."""
        state = self._state
        assert state.conditions is not None
        draws, _ = self._noise_of(self._next_turn(frames), None, [np.arange(frames)])
        return np.asarray(
            (
                yield SampleRequest(
                    np.repeat(state.conditions, frames, axis=1),
                    draws,
                    self.sampling.steps,
                    self.sampling.guidance,
                    (state.past_motion[None], state.past_known[None]),
                    frames,
                    self.timings_ms,
                )
            )
        )

    def _open_next_ring(self) -> TokenRing:
        return self._engine.init_state(1, next_capacity(self.config, self.sampling)).rings[0]

    def _next_turn(self, frames: int) -> Turn:
        return next_turn(self._state.next_frame, frames, self._state.previous_frames, self.config)

    def _noise_of(
        self, turn: Turn, noise: Noise | None, plan: Sequence[npt.NDArray[np.int64]]
    ) -> tuple[Array, NoiseState]:
        """Return (steps + 1, F, 56) noise scaled by the temperature, and the source after it."""
        steps, after = self.sampling.steps, self._state.noise
        if noise is None:
            noise, after = draw_noise(turn, steps + 1, self.sampling.noise_correlation_s, after)
        elif not isinstance(noise, np.ndarray):
            noise = gather_draws(noise, plan, steps, turn.frames)
        noise = checked("noise", noise, (steps + 1, turn.frames, MOTION_DIM))
        if self.config.draws == "turns":
            # All chance lies in the start.
            return noise * np.float32(self.sampling.temperature), after
        # The start is full noise at any temperature.
        return np.concatenate([noise[:1], noise[1:] * np.float32(self.sampling.temperature)]), after

    def _conditions(self, prepared: PreparedTurn, inputs: TurnInputs[Array]) -> Work[Array]:
        """Encode a turn; when guided, first without the user, so that the cache keeps the turn itself.

        A head that samples turns is guided by what it reads off the turn's own conditions.
        """
        if self.sampling.guidance == 1.0 or self.config.draws == "turns":
            return np.asarray((yield self._encode(prepared, inputs)))
        unconditional = np.asarray((yield self._encode(prepared, without_user(inputs))))
        return np.concatenate([np.asarray((yield self._encode(prepared, inputs))), unconditional])

    def _encode(self, prepared: PreparedTurn, inputs: TurnInputs[Array]) -> EncodeRequest:
        self._window.begin_turn(self._state.window)
        from_token = self._window.first_visible(self._state.window, prepared.turn.end_frame)
        return EncodeRequest(prepared, inputs, self._window.ring, from_token, self.timings_ms)

    def _encode_missing(self, missing: Iterable[MissingTurn]) -> Work[None]:
        for one in missing:
            yield EncodeRequest(one.turn, one.turn.inputs, one.ring, 0, self.timings_ms, "history")


def run(engine: Engine, work: Work[R]) -> R:
    """Answer every request of one session's work and return its result.

    Raises:
        WorkCancelledError: The thread's work was cancelled; nothing has become history.
    """
    answer: Any = None
    while True:
        try:
            request = work.send(answer)
        except StopIteration as done:
            return done.value
        cancellation, started = CURRENT.get(), time.perf_counter()
        if cancellation is not None:
            cancellation.check()
        if isinstance(request, EncodeRequest):
            answer = engine.encode(request.inputs, request.positions(), [request.ring], [request.from_token])
        else:
            answer = engine.sample(
                request.conditions, request.noise, request.steps, request.guidance, request.past
            )
        request.timings_ms[request.part] += (time.perf_counter() - started) * 1e3


def draw_noise(turn: Turn, draws: int, correlation_s: float, state: NoiseState) -> tuple[Array, NoiseState]:
    """Return (draws, F, 56) standard normal noise for a turn, and the state after it.

    A head that samples frame by frame gives frames that share no noise, and they jump against each other. A
    first-order autoregression over frames, per draw, lets them move together; each frame's own distribution
    is kept.

    Args:
        turn: The frames.
        draws: Draws per frame: the start and one per denoising step.
        correlation_s: Time constant of the autoregression [s]; 0 for independent frames.
        state: Before the turn.
    """
    bits = np.random.PCG64()
    bits.state = state.generator
    noise = np.random.Generator(bits).standard_normal((turn.frames, draws, MOTION_DIM))  # (F, K + 1, 56)
    if correlation_s > 0:
        last = state.last
        per_frame = math.exp(-1.0 / (FRAMES_PER_SECOND * correlation_s))
        for index in range(turn.frames):
            if last is not None:
                # Frames that were not sampled have let the correlation fade.
                gap = turn.first_frame - state.last_frame if index == 0 else 1
                kept = per_frame**gap
                noise[index] = kept * last + math.sqrt(1.0 - kept * kept) * noise[index]
            last = noise[index]
    after = NoiseState(bits.state, noise[-1].copy(), turn.end_frame - 1)
    return np.ascontiguousarray(noise.transpose(1, 0, 2), dtype=np.float32), after


def sampling_plan(
    frames: int, iterations: int, order: npt.NDArray[np.int64] | None = None
) -> list[npt.NDArray[np.int64]]:
    """Return the rows of a turn that each pass samples, ascending; the first passes sample fewest.

    After pass k of K, floor(frames * cos(pi / 2 * (k + 1) / K)) rows are left, at least one fewer than before
    and at least one until the last pass.

    Args:
        frames: Rows of the turn.
        iterations: Passes.
        order: (frames,) the rows in the order they are sampled; None: from the first on.

    Source: masked autoregressive generation (Li et al., 2024).
    """
    order = np.arange(frames) if order is None else order
    plan: list[npt.NDArray[np.int64]] = []
    left = frames
    for number in range(iterations):
        rest = 0
        if number < iterations - 1:
            share = math.cos(math.pi / 2 * (number + 1) / iterations)
            rest = max(1, min(left - 1, math.floor(frames * share)))
        if rest < left:
            plan.append(np.sort(order[frames - left : frames - rest]))
        left = rest
    return plan


def random_order(frames: int, seed: int, first_frame: int) -> npt.NDArray[np.int64]:
    """Return a turn's rows shuffled; the same for the same seed and turn, whatever else was sampled."""
    return np.random.default_rng([seed, first_frame]).permutation(frames)


def guidance_of_pass(sampling: SamplingConfig, frames: int, sampled: int) -> float:
    """Return the guidance of a pass after which `sampled` of a turn's frames are there.

    "linear" lets it grow from 1 with the share that is sampled; the last pass has all of it.
    """
    if sampling.guidance_schedule == "constant":
        return sampling.guidance
    return 1.0 + (sampling.guidance - 1.0) * sampled / frames
