"""What one turn reads: its tokens and their positions, two voices' features, the user's motion (numpy only).

A turn reads
`TURN | USER_SPEECH [U] / | USER_MOTION [U] / | AGENT_SPEECH [F] / | AGENT_MOTION [P past] [F] / | /TURN`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
from timar_common.config import NonNegative, Positive, Range, check

from timar_model.architecture.config import (
    FRAMES_PER_SECOND,
    MARKERS_PER_TURN,
    MOTION_DIM,
    MOTION_GROUPS,
    SAMPLE_RATE_HZ,
    SAMPLES_PER_FRAME,
    ModelConfig,
)

Array = npt.NDArray[np.float32]
A = TypeVar("A")

# Kinds of tokens: the markers are 0 to 9 in the order of the layout.
USER_SPEECH, USER_MOTION, AGENT_SPEECH, AGENT_MOTION, PAST_MOTION = range(
    MARKERS_PER_TURN, MARKERS_PER_TURN + 5
)
TOKEN_KINDS = MARKERS_PER_TURN + 5


@dataclasses.dataclass(frozen=True)
class Turn:
    """One turn on the conversation's frame counter."""

    first_frame: int
    frames: int
    user_first_frame: int
    user_frames: int

    @property
    def end_frame(self) -> int:
        """One past the turn's last agent frame."""
        return self.first_frame + self.frames


def next_turn(first_frame: int, frames: int, previous_frames: int | None, config: ModelConfig) -> Turn:
    """Return the turn that starts at a frame.

    Args:
        first_frame: Its first agent frame.
        frames: Its length [frames].
        previous_frames: Length of the turn before it; None for the first of a conversation.
        config: Says how far the user's stream stands behind.

    Raises:
        ValueError: The length is not allowed.
    """
    if not 1 <= frames <= config.window_frames:
        limit = "at least 1" if frames < 1 else f"at most the window's {config.window_frames}"
        raise ValueError(f"a turn has {frames} frames, expected {limit}")
    if config.has_fixed_turns and frames != config.turn_frames:
        raise ValueError(
            f"a turn has {frames} frames, but this model knows only turns of {config.turn_frames}"
        )
    if config.user_lag == "none":
        return Turn(first_frame, frames, first_frame, frames)
    user_frames = frames if previous_frames is None else previous_frames
    return Turn(first_frame, frames, first_frame - config.user_lag_margin_frames - user_frames, user_frames)


@dataclasses.dataclass(frozen=True)
class TokenLayout:
    """The tokens of consecutive turns, in order."""

    turns: tuple[Turn, ...]
    source: npt.NDArray[np.int64]
    """(L,) row of each token in the table [10 markers | user speech | user motion | agent speech |
    agent motion | past motion], each stream being the concatenation of its turns."""
    kind: npt.NDArray[np.int64]
    """(L,) kind of each token."""
    frame: npt.NDArray[np.int64]
    """(L,) each token's frame on the conversation's counter; a marker stands at its block's edge."""
    turn: npt.NDArray[np.int64]
    """(L,) index of each token's turn."""
    motion_rows: npt.NDArray[np.int64]
    """(sum of F,) where the agent-motion tokens stand."""

    def __len__(self) -> int:
        return int(self.source.size)


def layout_of(turns: Sequence[Turn], past_frames: int) -> TokenLayout:
    """Lay out the tokens of consecutive turns."""
    user_total = sum(turn.user_frames for turn in turns)
    agent_total = sum(turn.frames for turn in turns)
    starts = np.cumsum([MARKERS_PER_TURN, user_total, user_total, agent_total, agent_total])
    table_row = dict(zip(range(USER_SPEECH, TOKEN_KINDS), starts.tolist(), strict=True))
    table_row |= {marker: marker for marker in range(MARKERS_PER_TURN)}
    source: list[int] = []
    kind: list[int] = []
    frame: list[int] = []
    owner: list[int] = []
    for index, turn in enumerate(turns):
        first, last = turn.first_frame, turn.end_frame - 1
        user_first, user_last = turn.user_first_frame, turn.user_first_frame + turn.user_frames - 1
        # (kind, frame of the first token, tokens); the numbers below 10 are markers.
        for part, part_frame, count in (
            *((0, first, 1), (1, user_first, 1), (USER_SPEECH, user_first, turn.user_frames)),
            *((2, user_last, 1), (3, user_first, 1), (USER_MOTION, user_first, turn.user_frames)),
            *((4, user_last, 1), (5, first, 1), (AGENT_SPEECH, first, turn.frames), (6, last, 1)),
            *((7, first, 1), (PAST_MOTION, first - past_frames, past_frames)),
            *((AGENT_MOTION, first, turn.frames), (8, last, 1), (9, last, 1)),
        ):
            source.extend(range(table_row[part], table_row[part] + count))
            kind.extend([part] * count)
            frame.extend(range(part_frame, part_frame + count))
            if part >= MARKERS_PER_TURN:
                table_row[part] += count
        owner.extend([index] * (len(source) - len(owner)))
    kinds = np.asarray(kind, np.int64)
    return TokenLayout(
        turns=tuple(turns),
        source=np.asarray(source, np.int64),
        kind=kinds,
        frame=np.asarray(frame, np.int64),
        turn=np.asarray(owner, np.int64),
        motion_rows=np.flatnonzero(kinds == AGENT_MOTION),
    )


@dataclasses.dataclass(frozen=True)
class TokenPositions(Generic[A]):
    """Where the tokens of a pass stand (numpy for engines, tensors for the network)."""

    source: A
    """(L,) row in the table of `TokenLayout.source`."""
    kind: A
    """(L,) kind of each token."""
    index: A
    """(B, L) place in the window; used by window positions only."""
    cos: A
    """(B, L, W / H / 2); used by rotary positions only."""
    sin: A
    """As cos."""
    motion_rows: A
    """(F,) where the agent-motion tokens stand."""


def positions_of(layout: TokenLayout, config: ModelConfig, first_index: int = 0) -> TokenPositions[Any]:
    """Return the positions of one conversation's tokens; `first_index` is the first one's in the window.

    Rotary angles are reduced in float64 before they are narrowed: as exact after hours as at the start.
    """
    pairs = config.head_dim // 2
    speed = float(config.rotary_base) ** (-np.arange(pairs) / max(pairs - 1, 1))  # (D/2,)
    angle = np.remainder(layout.frame[:, None].astype(np.float64) * speed, 2 * np.pi)  # (L, D/2)
    return TokenPositions(
        source=layout.source,
        kind=layout.kind,
        index=np.arange(first_index, first_index + len(layout))[None],
        cos=np.cos(angle).astype(np.float32)[None],
        sin=np.sin(angle).astype(np.float32)[None],
        motion_rows=layout.motion_rows,
    )


@dataclasses.dataclass(frozen=True)
class TurnInputs(Generic[A]):
    """Streams of consecutive turns, each joined over its turns (numpy for engines, tensors for the network).

    ``U``, ``F`` and ``P`` are summed over the turns.
    """

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


@dataclasses.dataclass(frozen=True)
class MotionStatistics:
    """(56,) mean and standard deviation of motion; the identity when nothing is known."""

    mean: Array = dataclasses.field(default_factory=lambda: np.zeros(MOTION_DIM, np.float32))
    std: Array = dataclasses.field(default_factory=lambda: np.ones(MOTION_DIM, np.float32))

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            value = np.asarray(getattr(self, name), np.float32)
            if value.shape != (MOTION_DIM,) or not np.all(np.isfinite(value)):
                raise ValueError(
                    f"the motion's {name} has shape {value.shape}, expected {MOTION_DIM} finite numbers"
                )
            object.__setattr__(self, name, value)
        if self.std.min() <= 0:
            raise ValueError(f"the motion's std is {self.std.min():g} in one dimension, expected more than 0")

    def normalise(self, motion: Array) -> Array:
        """Take motion (..., 56) to the model's units: mean 0, deviation 1."""
        return (motion - self.mean) / self.std

    def restore(self, motion: Array) -> Array:
        """Take the model's (..., 56) back to motion."""
        return motion * self.std + self.mean


@dataclasses.dataclass(frozen=True)
class LoudnessConfig:
    """How the level of a voice is followed."""

    target_dbfs: Annotated[float, Range(-90.0, 0.0)] = -23.0
    """Level a voice is brought to [dB relative to full scale]."""
    gate_dbfs: Annotated[float, Range(-120.0, 0.0)] = -60.0
    """Frames below are silence and teach nothing [dBFS]."""
    noise_margin_db: NonNegative = 9.0
    """How far above the noise floor a frame must stand to be speech [dB]."""
    noise_rise_db_per_s: NonNegative = 1.0
    """How fast the noise floor follows a rising background; it falls at once [dB/s]."""
    pause_margin_db: NonNegative = 20.0
    """Speech this far below the level until now is a tail or a breath: it lowers the level slowly [dB]."""
    pause_leak_db_per_s: NonNegative = 1.0
    """How slowly; a voice that stays so quiet is found again after all [dB/s]."""
    time_constant_s: Positive = 10.0
    """How slowly the level follows once it is known [s of speech]."""
    trust_s: NonNegative = 0.4
    """How much speech the first guess, the target itself, is worth [s]."""
    max_gain_db: NonNegative = 24.0
    """Largest gain and largest attenuation [dB]."""

    def __post_init__(self) -> None:
        check(self)


@dataclasses.dataclass(frozen=True)
class LoudnessState:
    """What is known of one voice."""

    level_dbfs: float
    """Level of its speech so far."""
    known_frames: float
    """How many frames of speech that is worth."""
    noise_dbfs: float
    """Level of the background: the noise floor."""
    gain_db: float
    """Gain at the end of the last frame."""


_NO_SIGNAL_DBFS = -90.0
"""Below this lies digital silence, which says nothing of the background either [dBFS]."""


class LoudnessNormaliser:
    """Bring a voice to one loudness, causally: the gain of a frame knows nothing that comes after the frame.

    The same code runs in training and live. Time goes by whole frames, so the cut into turns changes nothing.
    """

    def __init__(self, kind: str = "causal", config: LoudnessConfig | None = None) -> None:
        if kind not in ("causal", "none"):
            raise ValueError(f"the loudness normalisation is {kind!r}, expected 'causal' or 'none'")
        self.kind = kind
        self.config = config or LoudnessConfig()

    def initial(self) -> LoudnessState:
        """Return what is known before the first sample."""
        return LoudnessState(self.config.target_dbfs, self.config.trust_s * FRAMES_PER_SECOND, 0.0, 0.0)

    def apply(self, samples: Array, state: LoudnessState) -> tuple[Array, LoudnessState]:
        """Normalise whole frames (640 n,) of one voice; return them and what is known after them."""
        if self.kind == "none":
            return samples, state
        frames = samples.reshape(-1, SAMPLES_PER_FRAME)  # (n, 640)
        power = np.mean(frames.astype(np.float64) ** 2, axis=1)  # (n,)
        out = np.empty_like(frames)
        ramp = np.arange(1, SAMPLES_PER_FRAME + 1) / SAMPLES_PER_FRAME
        for index, frame in enumerate(frames):
            before_db = state.gain_db
            state = self._follow(float(power[index]), state)
            gain_db = before_db + (state.gain_db - before_db) * ramp
            out[index] = frame * (10.0 ** (gain_db / 20.0))
        return out.reshape(-1), state

    def _follow(self, power: float, state: LoudnessState) -> LoudnessState:
        cfg = self.config
        frame_dbfs = 10.0 * math.log10(power + 1e-12)
        if frame_dbfs < _NO_SIGNAL_DBFS:
            return state
        noise = min(frame_dbfs, state.noise_dbfs + cfg.noise_rise_db_per_s / FRAMES_PER_SECOND)
        if frame_dbfs < max(cfg.gate_dbfs, noise + cfg.noise_margin_db):
            return dataclasses.replace(state, noise_dbfs=noise)
        known, level = state.known_frames, state.level_dbfs
        # Nobody's level is known from the first second: until then nothing counts as a pause.
        if known > FRAMES_PER_SECOND and frame_dbfs < level - cfg.pause_margin_db:
            level -= cfg.pause_leak_db_per_s / FRAMES_PER_SECOND
        else:
            known = min(known + 1.0, cfg.time_constant_s * FRAMES_PER_SECOND)
            level += (frame_dbfs - level) / known
        gain = min(cfg.max_gain_db, max(-cfg.max_gain_db, cfg.target_dbfs - level))
        return LoudnessState(level, known, noise, gain)


HOP = 160
WINDOW = 512
CONTEXT_SAMPLES = WINDOW - HOP
"""Samples before a frame that its first spectrum reaches back to."""
SILENT = -2.0
"""Level of a voice before its first frame, in units of the features."""


@dataclasses.dataclass(frozen=True)
class SpeechFeatureState:
    """What the features of the next frames need to know of one voice's past."""

    loudness: LoudnessState
    context: Array
    """(352,) the last normalised samples."""
    level_memory: npt.NDArray[np.float64] | None = None
    """(memories,) averages of the level so far; None before the first frame."""


class SpeechFeatures:
    """From one voice's samples to features, one row a frame, chunk by chunk; it holds no state.

    Args:
        loudness: Kind of normalisation before the features: "causal" or "none".
    """

    def __init__(self, loudness: str) -> None:
        self.normaliser = LoudnessNormaliser(loudness)

    def initial(self) -> SpeechFeatureState:
        """Return the state before the first sample: silence."""
        return SpeechFeatureState(self.normaliser.initial(), np.zeros(CONTEXT_SAMPLES, np.float32))

    def compute(self, samples: Array, state: SpeechFeatureState) -> tuple[Array, SpeechFeatureState]:
        """Return (n, S) features of the next (640 n,) samples, and the state after them."""
        return self.compute_all([samples], [state])[0]

    def compute_all(
        self, sounds: Sequence[Array], states: Sequence[SpeechFeatureState]
    ) -> list[tuple[Array, SpeechFeatureState]]:
        """Compute several voices, together where that is less work."""
        return [self.compute(sound, state) for sound, state in zip(sounds, states, strict=True)]

    def _normalise(self, samples: Array, state: SpeechFeatureState) -> tuple[Array, LoudnessState]:
        """Check that a sound is whole frames, and bring it to one loudness."""
        if samples.ndim != 1 or samples.size == 0 or samples.size % SAMPLES_PER_FRAME:
            raise ValueError(
                f"speech has shape {samples.shape}, "
                f"expected one row of whole frames of {SAMPLES_PER_FRAME} samples"
            )
        return self.normaliser.apply(samples.astype(np.float32, copy=False), state.loudness)


class LogMelFeatures(SpeechFeatures):
    """Four log-mel spectra a frame; frame f reads samples before 640 (f + 1) only: chunks equal the whole."""

    def __init__(
        self, mel_bands: int = 40, loudness: str = "causal", level_memory_s: Sequence[float] = ()
    ) -> None:
        super().__init__(loudness)
        self._kept = np.exp(-1.0 / (FRAMES_PER_SECOND * np.asarray(level_memory_s, np.float64)))
        self._mel = mel_matrix(mel_bands)
        self._window = np.hanning(WINDOW + 1)[:-1] / np.sqrt(np.sum(np.hanning(WINDOW + 1) ** 2))

    def compute(self, samples: Array, state: SpeechFeatureState) -> tuple[Array, SpeechFeatureState]:
        """Return (n, 4 * bands + memories) features of the next (640 n,) samples, and the state after."""
        levelled, loudness = self._normalise(samples, state)
        joined = np.concatenate([state.context, levelled])
        pieces = np.lib.stride_tricks.sliding_window_view(joined, WINDOW)[::HOP]  # (4 n, 512)
        power = np.abs(np.fft.rfft(pieces * self._window, axis=1)) ** 2  # (4 n, 257)
        # Speech at the target's level lies around 0, silence near -2.
        feature = (np.log10(power @ self._mel + 1e-7) + 4.0) / 1.5  # (4 n, bands)
        rows = feature.reshape(levelled.size // SAMPLES_PER_FRAME, -1)  # (n, 4 bands)
        memory = state.level_memory
        if self._kept.size:
            averages = np.empty((len(rows), self._kept.size))
            for row, level in enumerate(rows.mean(axis=1)):
                memory = level + self._kept * ((SILENT if memory is None else memory) - level)
                averages[row] = memory
            rows = np.concatenate([rows, averages], axis=1)
        context = joined[joined.size - CONTEXT_SAMPLES :].copy()
        return rows.astype(np.float32), SpeechFeatureState(loudness, context, memory)


class Wav2Vec2Features(SpeechFeatures):
    """The published encoder: each turn's sound alone, thinned to the frame rate before its transformer.

    Args:
        encoder: From (voices, samples) to (voices, frames, S): torch (`speech_encoder`) or a graph.
        loudness: Kind of normalisation before it.

    Source: arXiv 2512.15340, and wav2vec 2.0, arXiv 2006.11477.
    """

    def __init__(self, encoder: Callable[[Array], Array], loudness: str = "none") -> None:
        super().__init__(loudness)
        self._encoder = encoder

    def compute_all(
        self, sounds: Sequence[Array], states: Sequence[SpeechFeatureState]
    ) -> list[tuple[Array, SpeechFeatureState]]:
        """Compute several voices of equal length in one batch; a turn is encoded without its past."""
        levelled = [self._normalise(sound, state) for sound, state in zip(sounds, states, strict=True)]
        rows = self._encoder(np.ascontiguousarray(np.stack([sound for sound, _ in levelled])))
        return [
            (row, SpeechFeatureState(loudness, state.context))
            for row, (_, loudness), state in zip(rows, levelled, states, strict=True)
        ]


def speech_features(config: ModelConfig) -> SpeechFeatures:
    """Return the features a configuration asks for; loads the frozen encoder where that is one."""
    if config.speech_encoder == "logmel":
        return LogMelFeatures(config.mel_bands, config.loudness, config.level_memory_s)
    from timar_model.architecture.speech_encoder import TorchSpeechEncoder

    return Wav2Vec2Features(TorchSpeechEncoder.from_pretrained(config.speech_source), config.loudness)


@functools.lru_cache(maxsize=4)
def mel_matrix(bands: int, low_hz: float = 60.0, high_hz: float = 7600.0) -> npt.NDArray[np.float64]:
    """Return (257, bands) triangular weights, evenly spaced on the mel scale (O'Shaughnessy's formula)."""
    low, high = (2595.0 * np.log10(1.0 + edge / 700.0) for edge in (low_hz, high_hz))
    edge_hz = 700.0 * (10.0 ** (np.linspace(low, high, bands + 2) / 2595.0) - 1.0)
    bin_hz = np.arange(WINDOW // 2 + 1)[:, None] * (SAMPLE_RATE_HZ / WINDOW)
    # A band narrower than the bins' spacing would catch none: each side spans a bin at least.
    spacing = np.maximum(np.diff(edge_hz), SAMPLE_RATE_HZ / WINDOW)
    centre = edge_hz[1:-1]
    rising = (bin_hz - (centre - spacing[:-1])) / spacing[:-1]
    falling = ((centre + spacing[1:]) - bin_hz) / spacing[1:]
    return np.maximum(0.0, np.minimum(rising, falling))


@dataclasses.dataclass(frozen=True, eq=False)
class PreparedTurn:
    """One turn as the model reads it, and the voices' states after it."""

    turn: Turn
    inputs: TurnInputs[Array]
    positions: TokenPositions[Any]
    voices: tuple[SpeechFeatureState, SpeechFeatureState]
    """Of the user and of the agent."""


class TurnPreprocessor:
    """Check what a turn brings and make the model's inputs of it; holds no state."""

    def __init__(self, config: ModelConfig, features: SpeechFeatures, statistics: MotionStatistics) -> None:
        self._config = config
        self._features = features
        self._statistics = statistics

    def prepare(
        self,
        turn: Turn,
        user_speech: Array | None,
        user_motion: Array | None,
        agent_speech: Array,
        user_motion_valid: npt.NDArray[np.bool_] | None,
        voices: tuple[SpeechFeatureState, SpeechFeatureState],
        past: tuple[Array, Array],
    ) -> PreparedTurn:
        """Check a turn and compute its features; both voices go through the features together.

        Args:
            turn: Its frames.
            user_speech: As of `Session.step`, and so the next three.
            user_motion: See there.
            agent_speech: See there.
            user_motion_valid: See there.
            voices: States of the user's voice and the agent's.
            past: (P, 56) normalised motion shown before, and (P,) where it is known.

        Raises:
            ValueError: A shape is wrong or a value not finite.
        """
        agent_sound = checked("agent_speech", agent_speech, (turn.frames * SAMPLES_PER_FRAME,))
        user_shape = (turn.user_frames * SAMPLES_PER_FRAME,)
        user_sound = None if user_speech is None else checked("user_speech", user_speech, user_shape)
        motion, seen = self._user_motion(user_motion, user_motion_valid, turn.user_frames)
        user_rows = np.zeros((turn.user_frames, self._config.speech_dim), np.float32)
        user_voice, agent_voice = voices
        if user_sound is None:
            ((agent_rows, agent_voice),) = self._features.compute_all([agent_sound], [agent_voice])
        else:
            (user_rows, user_voice), (agent_rows, agent_voice) = self._features.compute_all(
                [user_sound, agent_sound], [user_voice, agent_voice]
            )
        inputs = TurnInputs(
            user_speech=user_rows[None],
            user_speech_seen=np.full((1, turn.user_frames), user_sound is not None, np.float32),
            user_motion=motion[None],
            user_motion_seen=seen[None],
            agent_speech=agent_rows[None],
            agent_motion=np.zeros((1, turn.frames, MOTION_DIM), np.float32),
            agent_motion_known=np.zeros((1, turn.frames), np.float32),
            past_motion=past[0][None],
            past_motion_known=past[1][None],
        )
        positions = positions_of(layout_of([turn], self._config.past_tokens), self._config)
        return PreparedTurn(turn, inputs, positions, (user_voice, agent_voice))

    def _user_motion(
        self, motion: Array | None, valid: npt.NDArray[np.bool_] | None, frames: int
    ) -> tuple[Array, Array]:
        """Return (U, 56) normalised motion, zero where not seen, and (U, 3) what is seen."""
        shape = (frames, len(MOTION_GROUPS))
        if motion is None:
            if valid is not None and np.any(valid):
                raise ValueError(
                    "user_motion_valid says something is seen, but user_motion is None; give both"
                )
            return np.zeros((frames, MOTION_DIM), np.float32), np.zeros(shape, np.float32)
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
        motion = checked("user_motion", motion, wide.shape)
        return self._statistics.normalise(motion), seen.astype(np.float32)


def checked(name: str, array: Any, shape: tuple[int, ...]) -> Array:
    """Return an input as float32 of its shape.

    Raises:
        ValueError: Its shape is another, or it is not finite.
    """
    array = np.ascontiguousarray(array, np.float32)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} holds a value that is not finite; replace it before the session reads it")
    return array
