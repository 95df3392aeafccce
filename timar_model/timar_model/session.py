"""One conversation's state: what was heard, shown and drawn; a turn is added, or taken back, as a whole."""

from __future__ import annotations

import collections
import dataclasses
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from timar_model.config import MOTION_DIM, MOTION_GROUPS, SAMPLES_PER_FRAME, ModelConfig, SamplingConfig
from timar_model.engine import Array, Encoded, Engine
from timar_model.inputs import TurnInputs, join, stack, with_motion, without_user
from timar_model.noise import NoiseSource, NoiseState
from timar_model.sampling import drawing_plan, window_frames
from timar_model.speech import SpeechFeatures, VoiceState
from timar_model.statistics import MotionStatistics
from timar_model.turns import Turn, layout_of, next_turn, visibility


@dataclasses.dataclass(frozen=True)
class SessionState:
    """Everything a turn changes, but for the ring; never changed in place, so keeping it is a snapshot."""

    next_frame: int
    previous_frames: int | None
    turns: int
    user_voice: VoiceState
    agent_voice: VoiceState
    past_motion: Array
    """(P, 56) normalised motion of the last frames."""
    past_known: Array
    """(P,) 1 where it was drawn, 0 before the start and where a turn went unsampled."""
    noise: NoiseState
    window: tuple[TurnInputs[Array], ...]
    """Inputs of the turns in the window; kept for window positions, whose cache ends with the first slide."""


@dataclasses.dataclass(frozen=True)
class _CachedTurn:
    turn: Turn
    first_token: int


@dataclasses.dataclass(frozen=True)
class _Heard:
    """One turn as it arrives: its tokens' streams and the voices' states after it."""

    turn: Turn
    inputs: TurnInputs[Array]
    user_voice: VoiceState
    agent_voice: VoiceState


class Session:
    """Generate an agent's motion turn by turn.

    Args:
        engine: The arithmetic.
        features: Speech features of both voices.
        statistics: Of the motion the model was trained on.
        sampling: How motion is drawn.
        seed: Of the noise.
        take_back_turns: How many of the newest turns can be withdrawn.

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
        take_back_turns: int = 16,
    ) -> None:
        if take_back_turns < 1:
            raise ValueError(f"a session keeps {take_back_turns} turns to take back, expected at least 1")
        self.config: ModelConfig = engine.config
        self.sampling = sampling
        self.window_frames = window_frames(self.config, sampling)
        self.timings_ms: dict[str, float] = {"speech": 0.0, "backbone": 0.0, "head": 0.0}
        self._engine = engine
        self._features = features
        self._statistics = statistics
        self._seed = seed
        self._take_back_turns = take_back_turns
        self._ring = engine.init_state(1, self._first_capacity())
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
        return self._ring.end - self._visible_from(self.next_frame + self.config.turn_frames)

    @property
    def oldest_take_back(self) -> int:
        """First frame of the oldest turn that can be taken back; `next_frame` when there is none."""
        return self._snapshots[0].next_frame if self._snapshots else self.next_frame

    def user_frames(self, agent_frames: int) -> int:
        """Return how many user frames the next turn takes if it has so many agent frames."""
        return self._next_turn(agent_frames).user_frames

    def reset(self, seed: int | None = None) -> None:
        """Begin a new conversation; `seed` replaces the session's own."""
        self._seed = self._seed if seed is None else seed
        self._noise = NoiseSource(self.sampling.steps + 1, self.sampling.noise_correlation_s)
        self._ring.clear()
        self._cached: collections.deque[_CachedTurn] = collections.deque()
        self._snapshots: collections.deque[SessionState] = collections.deque(maxlen=self._take_back_turns)
        self._state = SessionState(
            next_frame=0,
            previous_frames=None,
            turns=0,
            user_voice=self._features.initial(),
            agent_voice=self._features.initial(),
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
        noise: Array | None = None,
        user_motion_valid: npt.NDArray[np.bool_] | None = None,
    ) -> Array:
        """Generate a turn's motion and make the turn history.

        Args:
            user_speech: (640 U,) float32 in [-1, 1], U is `user_frames(F)`; or None when the user was not
                heard: the learned null then stands for the speech, and the voice's state waits.
            user_motion: (U, 56), or None when the user is not seen.
            agent_speech: (640 F,) float32 in [-1, 1].
            noise: (steps + 1, F, 56) standard normal to draw with; None: from the session's own source, which
                an explicit noise leaves as it is.
            user_motion_valid: (U, 3) whether expression, jaw and neck are seen; None: all are.

        Returns:
            (F, 56) float32 motion.

        Raises:
            ValueError: An input has a wrong shape or is not finite. The session is then as before.
            FloatingPointError: The model's own output is not finite. The session is then as before.
        """
        heard = self._hear(user_speech, user_motion, agent_speech, user_motion_valid)
        motion, encoded, inputs, noise_state = self._draw(heard, noise)
        known = np.ones(heard.turn.frames, np.float32)
        self._remember(heard, encoded, inputs, motion, known, noise_state)
        return self._statistics.restore(motion).astype(np.float32)

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
        motion = self._draw(self._hear(None, None, agent_speech, None), None)[0]
        return self._statistics.restore(motion).astype(np.float32)

    def commit(
        self,
        user_speech: Array | None,
        user_motion: Array | None,
        agent_speech: Array,
        user_motion_valid: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        """Make a turn history without drawing motion, for one that comes too late; arguments as of `step`."""
        heard = self._hear(user_speech, user_motion, agent_speech, user_motion_valid)
        started = time.perf_counter()
        encoded = self._encode(heard, heard.inputs) if self._is_cached(heard.turn) else None
        self.timings_ms["backbone"] = _ms_since(started)
        self.timings_ms["head"] = 0.0
        motion = np.zeros((heard.turn.frames, MOTION_DIM), np.float32)
        known = np.zeros(heard.turn.frames, np.float32)
        self._remember(heard, encoded, heard.inputs, motion, known, self._state.noise)

    def take_back(self, first_frame: int) -> None:
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
        while self._cached and self._cached[-1].turn.first_frame >= first_frame:
            self._ring.truncate(self._cached.pop().first_token)

    def _next_turn(self, frames: int) -> Turn:
        return next_turn(self._state.next_frame, frames, self._state.previous_frames, self.config)

    def _hear(
        self,
        user_speech: Array | None,
        user_motion: Array | None,
        agent_speech: Array,
        user_motion_valid: npt.NDArray[np.bool_] | None,
    ) -> _Heard:
        """Check a turn's inputs and compute its features."""
        frames, rest = divmod(np.asarray(agent_speech).size, SAMPLES_PER_FRAME)
        if rest or not frames:
            raise ValueError(
                f"agent_speech has {np.asarray(agent_speech).size} samples, "
                f"expected whole frames of {SAMPLES_PER_FRAME}"
            )
        turn = self._next_turn(frames)
        agent_speech = _checked("agent_speech", agent_speech, (frames * SAMPLES_PER_FRAME,))
        user_shape = (turn.user_frames * SAMPLES_PER_FRAME,)
        user_sound = None if user_speech is None else _checked("user_speech", user_speech, user_shape)
        motion, seen = self._user_motion(user_motion, user_motion_valid, turn.user_frames)
        started = time.perf_counter()
        user_rows = np.zeros((turn.user_frames, self.config.speech_dim), np.float32)
        user_voice = self._state.user_voice
        if user_sound is not None:
            user_rows, user_voice = self._features.compute(user_sound, user_voice)
        agent_rows, agent_voice = self._features.compute(agent_speech, self._state.agent_voice)
        self.timings_ms["speech"] = _ms_since(started)
        inputs = TurnInputs(
            user_speech=user_rows[None],
            user_speech_seen=np.full((1, turn.user_frames), user_sound is not None, np.float32),
            user_motion=motion[None],
            user_motion_seen=seen[None],
            agent_speech=agent_rows[None],
            agent_motion=np.zeros((1, frames, MOTION_DIM), np.float32),
            agent_motion_known=np.zeros((1, frames), np.float32),
            past_motion=self._state.past_motion[None],
            past_motion_known=self._state.past_known[None],
        )
        return _Heard(turn, inputs, user_voice, agent_voice)

    def _user_motion(
        self, motion: Array | None, valid: npt.NDArray[np.bool_] | None, frames: int
    ) -> tuple[Array, Array]:
        """Return (U, 56) normalised motion, zero where not seen, and (U, 3) what is seen."""
        if motion is None:
            if valid is not None and np.any(valid):
                raise ValueError(
                    "user_motion_valid says something is seen, but user_motion is None; give both"
                )
            return np.zeros((frames, MOTION_DIM), np.float32), np.zeros(
                (frames, len(MOTION_GROUPS)), np.float32
            )
        shape = (frames, len(MOTION_GROUPS))
        seen = np.ones(shape, bool) if valid is None else np.asarray(valid)
        if seen.shape != shape or seen.dtype != np.bool_:
            raise ValueError(
                f"user_motion_valid is {seen.dtype} of shape {seen.shape}, expected bool of {shape}"
            )
        wide = np.zeros((frames, MOTION_DIM), bool)
        for column, group in enumerate(MOTION_GROUPS.values()):
            wide[:, group] = seen[:, column, None]
        motion = np.asarray(motion, np.float32)
        if motion.shape == wide.shape:
            motion = np.where(wide, motion, self._statistics.mean)
        motion = _checked("user_motion", motion, wide.shape)
        return self._statistics.normalise(motion), seen.astype(np.float32)

    def _draw(
        self, heard: _Heard, noise: Array | None
    ) -> tuple[Array, Encoded | None, TurnInputs[Array], NoiseState]:
        """Draw the turn's normalised motion; also return what becomes history, and the noise's next state.

        Raises:
            ValueError: The noise has a wrong shape or is not finite.
            FloatingPointError: The motion is not finite.
        """
        noise_state = self._state.noise
        if noise is None:
            noise, noise_state = self._noise.draw(heard.turn, noise_state)
        noise = _checked("noise", noise, (self.sampling.steps + 1, heard.turn.frames, MOTION_DIM))
        # The start is full noise at any temperature.
        noise = np.concatenate([noise[:1], noise[1:] * np.float32(self.sampling.temperature)])
        motion, encoded, inputs = self._generate(heard, noise)
        if not np.all(np.isfinite(motion)):
            raise FloatingPointError(
                f"the motion of the turn at frame {heard.turn.first_frame} is not finite; check the weights"
            )
        return motion, encoded, inputs, noise_state

    def _generate(self, heard: _Heard, noise: Array) -> tuple[Array, Encoded | None, TurnInputs[Array]]:
        """Draw the turn's normalised motion; also return what becomes history."""
        self.timings_ms["backbone"] = self.timings_ms["head"] = 0.0
        motion = np.zeros((heard.turn.frames, MOTION_DIM), np.float32)
        known = np.zeros(heard.turn.frames, np.float32)
        first_pass: Encoded | None = None
        encoded: Encoded | None = None
        for rows in drawing_plan(heard.turn.frames, self.sampling.iterations):
            if encoded is None or self.sampling.iterations_see_drawn:
                encoded = self._timed_encode(heard, with_motion(heard.inputs, motion, known), is_guided=True)
                first_pass = first_pass or encoded
            started = time.perf_counter()
            motion[rows] = self._engine.draw(
                encoded.conditions[:, rows],
                np.ascontiguousarray(noise[:, rows]),
                self.sampling.steps,
                self.sampling.guidance,
            )
            known[rows] = 1.0
            self.timings_ms["head"] += _ms_since(started)
        if self.sampling.history == "masked":
            return motion, first_pass, heard.inputs
        filled = with_motion(heard.inputs, motion, known)
        again = self._timed_encode(heard, filled) if self._is_cached(heard.turn) else None
        return motion, again, filled

    def _timed_encode(self, heard: _Heard, inputs: TurnInputs[Array], is_guided: bool = False) -> Encoded:
        started = time.perf_counter()
        encoded = self._encode(heard, inputs, is_guided and self.sampling.guidance != 1.0)
        self.timings_ms["backbone"] += _ms_since(started)
        return encoded

    def _encode(self, heard: _Heard, inputs: TurnInputs[Array], is_guided: bool = False) -> Encoded:
        """Run the backbone over a turn on top of its history; when guided, a second row hides the user."""
        if is_guided:
            inputs = stack(inputs, without_user(inputs))
        if not self._is_cached(heard.turn):
            return self._encode_window(heard.turn, inputs)
        layout = layout_of([heard.turn], self.config.past_frames)
        from_token = self._visible_from(heard.turn.end_frame)
        has_history = from_token < self._ring.end
        return self._engine.encode(
            inputs,
            layout,
            self._ring if has_history else None,
            from_token,
            first_index=self._ring.end - from_token,
        )

    def _encode_window(self, turn: Turn, inputs: TurnInputs[Array]) -> Encoded:
        """Encode the whole window anew, as absolute positions need once it slides; keep the last turn."""
        rows = inputs.agent_motion.shape[0]
        earlier = self._state.window[-(self.window_frames // self.config.turn_frames - 1) :]
        turns = [
            dataclasses.replace(turn, first_frame=first, user_first_frame=first)
            for first in range(
                turn.first_frame - len(earlier) * turn.frames, turn.first_frame + 1, turn.frames
            )
        ]
        layout = layout_of(turns, self.config.past_frames)
        streams = [
            TurnInputs(**{k: np.repeat(v, rows, axis=0) for k, v in vars(old).items()}) for old in earlier
        ]
        encoded = self._engine.encode(
            join([*streams, inputs]), layout, ring=None, visible=visibility(layout, self.window_frames)
        )
        return dataclasses.replace(encoded, conditions=encoded.conditions[:, -turn.frames :])

    def _is_cached(self, turn: Turn) -> bool:
        """Whether the ring is exact for a turn: always with rotary positions, else until it slides."""
        if self.config.positions == "rotary":
            return True
        return (self._state.turns + 1) * self.config.turn_frames <= self.window_frames

    def _visible_from(self, end_frame: int) -> int:
        """Return the counter of the oldest token a turn that ends at a frame may see."""
        for cached in self._cached:
            if cached.turn.first_frame >= end_frame - self.window_frames:
                return cached.first_token
        return self._ring.end

    def _remember(
        self,
        heard: _Heard,
        encoded: Encoded | None,
        inputs: TurnInputs[Array],
        motion: Array,
        known: Array,
        noise: NoiseState,
    ) -> None:
        """Make a turn history: the last thing a turn does, so that an error before it changes nothing."""
        state, turn, past = self._state, heard.turn, self.config.past_frames
        self._snapshots.append(state)
        if encoded is not None and self._is_cached(turn):
            self._cached.append(_CachedTurn(turn, self._ring.end))
            self._ring.append(encoded.keys[:, :1], encoded.values[:, :1])
        window: tuple[TurnInputs[Array], ...] = ()
        if self.config.positions == "window":
            window = (*state.window, inputs)[-self.config.window_turns :]
        joined_motion = np.concatenate([state.past_motion, motion])
        joined_known = np.concatenate([state.past_known, known])
        self._state = SessionState(
            next_frame=turn.end_frame,
            previous_frames=turn.frames,
            turns=state.turns + 1,
            user_voice=heard.user_voice,
            agent_voice=heard.agent_voice,
            past_motion=joined_motion[joined_motion.shape[0] - past :],
            past_known=joined_known[joined_known.size - past :],
            noise=noise,
            window=window,
        )
        self._forget()

    def _forget(self) -> None:
        """Drop cached turns that no turn can see any more, not even after the longest take-back."""
        oldest = self._snapshots[0].next_frame
        while self._cached and self._cached[0].turn.first_frame <= oldest - self.window_frames:
            self._cached.popleft()
        self._ring.drop_before(self._cached[0].first_token if self._cached else self._ring.end)

    def _first_capacity(self) -> int:
        """Return the tokens kept when all turns have the default length; other lengths may grow the ring."""
        turns = -(-self.window_frames // self.config.turn_frames) + self._take_back_turns + 1
        return turns * self.config.turn_tokens


def _checked(name: str, array: Any, shape: tuple[int, ...]) -> Array:
    """Return an input as float32 of its shape.

    Raises:
        ValueError: Its shape is another, or it is not finite.
    """
    array = np.ascontiguousarray(array, np.float32)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} holds a value that is not finite; mend it before the session hears it")
    return array


def _ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1e3
