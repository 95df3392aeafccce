"""One conversation's state: what was heard, shown and drawn; a turn is added, or taken back, as a whole."""

from __future__ import annotations

import collections
import dataclasses
import time
import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from timar_model.architecture.config import MOTION_DIM, SAMPLES_PER_FRAME, ModelConfig, SamplingConfig
from timar_model.architecture.inputs import (
    MotionStatistics,
    PreparedTurn,
    SpeechFeatures,
    SpeechFeatureState,
    Turn,
    TurnInputs,
    TurnPreprocessor,
    checked,
    layout_of,
    next_turn,
    with_motion,
    without_user,
)
from timar_model.engines.engine import Array, Engine
from timar_model.session.cache import AnchoredHistory, History, RollingHistory, TokenRing
from timar_model.session.requests import DrawRequest, EncodeRequest, EngineRequests, run
from timar_model.session.sampling import (
    NoiseSource,
    NoiseState,
    drawing_plan,
    gather_draws,
    guidance_of_pass,
    random_order,
    window_frames,
)

Noise = Array | Sequence[Array]


@dataclasses.dataclass(frozen=True)
class SessionState:
    """Everything a turn changes, but for the ring; never changed in place, so keeping it is a snapshot."""

    next_frame: int
    previous_frames: int | None
    turns: int
    user_voice: SpeechFeatureState
    agent_voice: SpeechFeatureState
    past_motion: Array
    """(P, 56) normalised motion of the last frames."""
    past_known: Array
    """(P,) 1 where it was drawn, 0 before the start and where a turn went unsampled."""
    noise: NoiseState
    window: tuple[TurnInputs[Array], ...]
    """Inputs of the earlier turns that the next one sees, kept where a window moves."""


@dataclasses.dataclass(frozen=True)
class SampledTurn:
    """A turn's motion before it becomes history."""

    heard: PreparedTurn
    motion: Array
    """(F, 56) normalised."""
    known: Array
    """(F,) 1 where it was drawn."""
    inputs: TurnInputs[Array]
    """What later turns see of it."""
    noise: NoiseState
    """The noise source after it."""


ROLLBACK_TURNS = 4
"""Turns that can be withdrawn unless asked otherwise. A turn is made once the sound before it is there, so
a live head has at most two that nobody has seen; the ring keeps what they saw, and attention pays for it."""


class Session:
    """Generate an agent's motion turn by turn.

    Args:
        engine: The arithmetic.
        features: Speech features of both voices.
        statistics: Of the motion the model was trained on.
        sampling: How motion is drawn.
        seed: Of the noise.
        rollback_turns: How many of the newest turns can be withdrawn.
        ring: Its row of a memory shared by a batch; None: a memory of its own.

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
    ) -> None:
        if rollback_turns < 1:
            raise ValueError(f"a session keeps {rollback_turns} turns to take back, expected at least 1")
        self.config: ModelConfig = engine.config
        self.sampling = sampling
        self.window_frames = window_frames(self.config, sampling)
        self.timings_ms: dict[str, float] = {"speech": 0.0, "history": 0.0, "backbone": 0.0, "head": 0.0}
        self._engine = engine
        self._hearing = TurnPreprocessor(self.config, features, statistics)
        self._statistics = statistics
        self._seed = seed
        self._rollback_turns = rollback_turns
        if ring is None:
            capacity = first_capacity(self.config, sampling, rollback_turns)
            ring = engine.init_state(1, capacity).rings[0]
        self._history: History = (
            RollingHistory(ring, self.window_frames)
            if self.config.positions == "rotary"
            else AnchoredHistory(
                ring, self.config, self.window_frames // self.config.turn_frames, sampling.when_full
            )
        )
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
        if self.config.positions == "window":
            return len(self._state.window) * self.config.turn_tokens
        history = self._history
        return history.ring.end - history.visible_from(self.next_frame + self.config.turn_frames)

    @property
    def oldest_rollback(self) -> int:
        """First frame of the oldest turn that can be taken back; `next_frame` when there is none."""
        return self._snapshots[0].next_frame if self._snapshots else self.next_frame

    def user_frames(self, agent_frames: int) -> int:
        """Return how many user frames the next turn takes if it has so many agent frames."""
        return self._next_turn(agent_frames).user_frames

    def reset(self, seed: int | None = None) -> None:
        """Begin a new conversation; `seed` replaces the session's own."""
        self._seed = self._seed if seed is None else seed
        self._noise = NoiseSource(self.sampling.steps + 1, self.sampling.noise_correlation_s)
        self._history.clear()
        self._snapshots: collections.deque[SessionState] = collections.deque(maxlen=self._rollback_turns)
        self._state = SessionState(
            next_frame=0,
            previous_frames=None,
            turns=0,
            user_voice=self._hearing.voice(),
            agent_voice=self._hearing.voice(),
            past_motion=np.zeros((self.config.past_frames, MOTION_DIM), np.float32),
            past_known=np.zeros(self.config.past_frames, np.float32),
            noise=self._noise.initial(self._seed),
            window=(),
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
            noise: (steps + 1, F, 56) standard normal to draw with, or the released code's draws in their
                order (see `noise.gather_draws`); None: from the session's own source, which an explicit
                noise leaves as it is.
            user_motion_valid: (U, 3) whether expression, jaw and neck are seen; None: all are.

        Returns:
            (F, 56) float32 motion.

        Raises:
            ValueError: An input has a wrong shape or is not finite. The session is then as before.
            FloatingPointError: The model's own output is not finite. The session is then as before.
        """
        heard = self.hear(user_speech, user_motion, agent_speech, user_motion_valid)
        return self.remember(run(self._engine, self.drawing(heard, noise)))

    def preview(self, agent_speech: Array) -> Array:
        """Guess the next turn's motion before its user block was heard; nothing becomes history.

        It draws with the noise that the turn itself will draw, so the two differ by what the user did alone.
        Of the session only `timings_ms` changes.

        Args:
            agent_speech: (640 F,) float32 in [-1, 1]; F may differ from the turn to come.

        Returns:
            (F, 56) float32 motion.

        Raises:
            ValueError: The speech has a wrong shape or is not finite.
            FloatingPointError: The model's own output is not finite.
        """
        heard = self.hear(None, None, agent_speech, None)
        motion = run(self._engine, self.drawing(heard, None)).motion
        return self._statistics.restore(motion).astype(np.float32)

    def commit(
        self,
        user_speech: Array | None,
        user_motion: Array | None,
        agent_speech: Array,
        user_motion_valid: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        """Make a turn history without drawing motion, for one that comes too late; arguments as of `step`."""
        heard = self.hear(user_speech, user_motion, agent_speech, user_motion_valid)
        self.remember(run(self._engine, self.listening(heard)))

    def idle(self, budget_s: float = 0.0) -> bool:
        """Use spare time: encode a moved window anew, turn by turn, as far as the budget goes.

        What is left is done by the next `step` or `commit` before anything else.

        Args:
            budget_s: Time that may be spent [s]; a turn is begun while any is left. 0: do nothing.

        Returns:
            Whether nothing is left to do.
        """
        until = time.perf_counter() + budget_s
        missing = self._history.missing(self._state.window)
        for number in range(len(missing)):
            if time.perf_counter() >= until:
                return False
            run(self._engine, self._encode_missing(missing[number : number + 1]))
        return True

    def rollback(self, first_frame: int) -> None:
        """Withdraw the turn that starts at a frame and all after it; the session is then as before that turn.

        Raises:
            ValueError: No turn starts there, or it is older than what can be taken back.
        """
        if first_frame == self.next_frame:
            return
        starts = [state.next_frame for state in self._snapshots]
        if first_frame not in starts:
            raise ValueError(
                f"no turn that starts at frame {first_frame} can be taken back; those that can start at "
                f"{', '.join(map(str, starts)) or 'no frame'}"
            )
        while self._snapshots and self._snapshots[-1].next_frame >= first_frame:
            self._state = self._snapshots.pop()
        self._history.rollback(first_frame)

    def take_back(self, first_frame: int) -> None:
        """Do what `rollback` does; its name until 0.1, kept for one release."""
        warnings.warn("Session.take_back is called rollback now", DeprecationWarning, stacklevel=2)
        self.rollback(first_frame)

    def hear(
        self,
        user_speech: Array | None,
        user_motion: Array | None,
        agent_speech: Array,
        user_motion_valid: npt.NDArray[np.bool_] | None = None,
    ) -> PreparedTurn:
        """Check the next turn's inputs and compute its features; arguments as of `step`, nothing changes."""
        frames, rest = divmod(np.asarray(agent_speech).size, SAMPLES_PER_FRAME)
        if rest or not frames:
            raise ValueError(
                f"agent_speech has {np.asarray(agent_speech).size} samples, "
                f"expected whole frames of {SAMPLES_PER_FRAME}"
            )
        state, started = self._state, time.perf_counter()
        heard = self._hearing.hear(
            self._next_turn(frames),
            user_speech,
            user_motion,
            agent_speech,
            user_motion_valid,
            (state.user_voice, state.agent_voice),
            (state.past_motion, state.past_known),
        )
        self.timings_ms.update(
            speech=(time.perf_counter() - started) * 1e3, history=0.0, backbone=0.0, head=0.0
        )
        return heard

    def drawing(self, heard: PreparedTurn, noise: Noise | None) -> EngineRequests[SampledTurn]:
        """Return the work of drawing a turn; nothing becomes history before `remember`.

        Raises:
            ValueError: The noise has a wrong shape or is not finite.
            FloatingPointError: The motion is not finite.
        """
        turn, sampling = heard.turn, self.sampling
        is_random = sampling.order == "random" and sampling.iterations > 1
        order = random_order(turn.frames, self._seed, turn.first_frame) if is_random else None
        plan = drawing_plan(turn.frames, sampling.iterations, order)
        draws, noise_after = self._noise_of(turn, noise, plan)
        yield from self._encode_missing(self._history.missing(self._state.window))
        motion = np.zeros((turn.frames, MOTION_DIM), np.float32)
        known = np.zeros(turn.frames, np.float32)
        conditions: Array | None = None
        for rows in plan:
            if conditions is None or sampling.iterations_see_drawn:
                inputs = with_motion(heard.inputs, motion, known)
                conditions = yield from self._conditions(heard.turn, inputs)
            known[rows] = 1.0
            guidance = guidance_of_pass(sampling, turn.frames, int(known.sum()))
            of_rows = np.ascontiguousarray(draws[:, rows])
            motion[rows] = yield DrawRequest(
                conditions[:, rows],
                of_rows,
                sampling.steps,
                guidance,
                (heard.inputs.past_motion, heard.inputs.past_motion_known),
                self.config.draws,
                self.timings_ms,
            )
        if not np.all(np.isfinite(motion)):
            self._history.ring.erase(len(layout_of([turn], self.config.past_tokens)))
            raise FloatingPointError(
                f"the motion of the turn at frame {turn.first_frame} is not finite; check the weights"
            )
        kept = heard.inputs if sampling.history == "masked" else with_motion(heard.inputs, motion, known)
        if sampling.history == "filled" or (sampling.iterations_see_drawn and len(plan) > 1):
            yield self._encode(turn, kept)
        return SampledTurn(heard, motion, known, kept, noise_after)

    def listening(self, heard: PreparedTurn) -> EngineRequests[SampledTurn]:
        """Return the work of a turn that is not drawn."""
        yield from self._encode_missing(self._history.missing(self._state.window))
        yield self._encode(heard.turn, heard.inputs)
        motion = np.zeros((heard.turn.frames, MOTION_DIM), np.float32)
        if self.config.draws == "turns":
            # Nothing new was shown: the head stands where it stood, and the next turn goes on from there.
            motion += self._state.past_motion[-1]
        return SampledTurn(
            heard, motion, np.zeros(heard.turn.frames, np.float32), heard.inputs, self._state.noise
        )

    def remember(self, drawn: SampledTurn) -> Array:
        """Make a turn history: the last thing a turn does, so that an error before it changes nothing.

        Returns:
            (F, 56) float32 motion.
        """
        state, turn, past = self._state, drawn.heard.turn, self.config.past_frames
        tokens = len(layout_of([turn], self.config.past_tokens))
        self._snapshots.append(state)
        self._history.add(turn, drawn.inputs, tokens)
        joined_motion = np.concatenate([state.past_motion, drawn.motion])
        joined_known = np.concatenate([state.past_known, drawn.known])
        self._state = SessionState(
            next_frame=turn.end_frame,
            previous_frames=turn.frames,
            turns=state.turns + 1,
            user_voice=drawn.heard.user_voice,
            agent_voice=drawn.heard.agent_voice,
            past_motion=joined_motion[joined_motion.shape[0] - past :],
            past_known=joined_known[joined_known.size - past :],
            noise=drawn.noise,
            window=self._history.next_window(state.window, drawn.inputs),
        )
        self._history.forget(self._snapshots[0].next_frame)
        return self._statistics.restore(drawn.motion).astype(np.float32)

    def _next_turn(self, frames: int) -> Turn:
        return next_turn(self._state.next_frame, frames, self._state.previous_frames, self.config)

    def _noise_of(
        self, turn: Turn, noise: Noise | None, plan: Sequence[npt.NDArray[np.int64]]
    ) -> tuple[Array, NoiseState]:
        """Return (steps + 1, F, 56) noise scaled by the temperature, and the source after it."""
        steps, after = self.sampling.steps, self._state.noise
        if noise is None:
            noise, after = self._noise.draw(turn, after)
        elif not isinstance(noise, np.ndarray):
            noise = gather_draws(noise, plan, steps, turn.frames)
        noise = checked("noise", noise, (steps + 1, turn.frames, MOTION_DIM))
        if self.config.draws == "turns":
            # All chance lies in the start.
            return noise * np.float32(self.sampling.temperature), after
        # The start is full noise at any temperature.
        return np.concatenate([noise[:1], noise[1:] * np.float32(self.sampling.temperature)]), after

    def _conditions(self, turn: Turn, inputs: TurnInputs[Array]) -> EngineRequests[Array]:
        """Encode a turn; when guided, first without the user, so that the ring keeps the turn itself.

        A head that draws turns is guided by what it reads off the turn's own conditions.
        """
        if self.sampling.guidance == 1.0 or self.config.draws == "turns":
            return np.asarray((yield self._encode(turn, inputs)))
        hidden = np.asarray((yield self._encode(turn, without_user(inputs))))
        return np.concatenate([np.asarray((yield self._encode(turn, inputs))), hidden])

    def _encode(self, turn: Turn, inputs: TurnInputs[Array], part: str = "backbone") -> EncodeRequest:
        ring = self._history.ring
        from_token = self._history.visible_from(turn.end_frame)
        layout = layout_of([turn], self.config.past_tokens)
        return EncodeRequest(inputs, layout, ring, from_token, ring.end - from_token, self.timings_ms, part)

    def _encode_missing(self, missing: list[TurnInputs[Array]]) -> EngineRequests[None]:
        turn = next_turn(0, self.config.turn_frames, None, self.config)
        for inputs in missing:
            yield self._encode(turn, inputs, "history")
            self._history.restore(inputs)


def first_capacity(config: ModelConfig, sampling: SamplingConfig, rollback_turns: int) -> int:
    """Return the tokens a conversation keeps when all turns have the default length."""
    turns = -(-window_frames(config, sampling) // config.turn_frames)
    # A rolling ring keeps what turns taken back saw; other lengths of turns may make it grow.
    return (turns + (rollback_turns + 1 if config.positions == "rotary" else 0)) * config.turn_tokens
