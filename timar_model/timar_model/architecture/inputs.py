"""What one turn reads: its tokens and their positions, two voices' features, the user's motion (numpy only).

A turn reads
`TURN | USER_SPEECH [U] / | USER_MOTION [U] / | AGENT_SPEECH [F] / | AGENT_MOTION [P past] [F] / | /TURN`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

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
    if frames < 1:
        raise ValueError(f"a turn has {frames} frames, expected at least 1")
    if frames > config.window_frames:
        raise ValueError(f"a turn has {frames} frames, expected at most the window's {config.window_frames}")
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
    """(L,) place of each token on the conversation's frame counter; a marker stands at its block's edge."""
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
    source: list[int] = []
    kind: list[int] = []
    frame: list[int] = []
    owner: list[int] = []

    def put_marker(marker: int, at_frame: int) -> None:
        source.append(marker)
        kind.append(marker)
        frame.append(at_frame)

    def put_stream(stream: int, first: int, count: int) -> None:
        source.extend(range(table_row[stream], table_row[stream] + count))
        kind.extend([stream] * count)
        frame.extend(range(first, first + count))
        table_row[stream] += count

    for index, turn in enumerate(turns):
        user_last = turn.user_first_frame + turn.user_frames - 1
        last = turn.end_frame - 1
        put_marker(0, turn.first_frame)
        put_marker(1, turn.user_first_frame)
        put_stream(USER_SPEECH, turn.user_first_frame, turn.user_frames)
        put_marker(2, user_last)
        put_marker(3, turn.user_first_frame)
        put_stream(USER_MOTION, turn.user_first_frame, turn.user_frames)
        put_marker(4, user_last)
        put_marker(5, turn.first_frame)
        put_stream(AGENT_SPEECH, turn.first_frame, turn.frames)
        put_marker(6, last)
        put_marker(7, turn.first_frame)
        put_stream(PAST_MOTION, turn.first_frame - past_frames, past_frames)
        put_stream(AGENT_MOTION, turn.first_frame, turn.frames)
        put_marker(8, last)
        put_marker(9, last)
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


def rotary_angles(
    frame: npt.NDArray[np.int64], config: ModelConfig
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return cosine and sine, (L, W / H / 2) each, of the angles that encode frames as rotations.

    Angles are reduced in float64 before they are narrowed, so they are as exact after hours as at first.
    """
    pairs = config.head_dim // 2
    speed = float(config.rotary_base) ** (-np.arange(pairs) / max(pairs - 1, 1))
    angle = np.remainder(frame[:, None].astype(np.float64) * speed, 2 * np.pi)
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


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


def stack(*rows: TurnInputs[Array]) -> TurnInputs[Array]:
    """Put inputs of equal shape into one batch."""
    return merge(list(rows), axis=0)


def repeat(inputs: TurnInputs[Array], rows: int) -> TurnInputs[Array]:
    """Repeat inputs of one row as a batch of `rows`."""
    return stack(*[inputs] * rows)


def merge(parts: list[TurnInputs[Array]], axis: int) -> TurnInputs[Array]:
    """Join the streams of several inputs along an axis."""
    names = [field.name for field in dataclasses.fields(TurnInputs)]
    return TurnInputs(
        **{name: np.concatenate([getattr(part, name) for part in parts], axis) for name in names}
    )


@dataclasses.dataclass(frozen=True)
class MotionStatistics:
    """(56,) mean and standard deviation of motion; the identity when nothing is known."""

    mean: npt.NDArray[np.float32] = dataclasses.field(
        default_factory=lambda: np.zeros(MOTION_DIM, np.float32)
    )
    std: npt.NDArray[np.float32] = dataclasses.field(default_factory=lambda: np.ones(MOTION_DIM, np.float32))

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

    @classmethod
    def of(cls, motion: npt.NDArray[np.float32], std_floor: float = 1e-3) -> MotionStatistics:
        """Measure motion (frames, 56); a dimension that hardly moves counts as moving by `std_floor`."""
        mean = motion.mean(axis=0, dtype=np.float64)
        std = np.maximum(motion.std(axis=0, dtype=np.float64), std_floor)
        return cls(mean.astype(np.float32), std.astype(np.float32))

    def normalise(self, motion: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Take motion (..., 56) to the model's units."""
        return (motion - self.mean) / self.std

    def restore(self, motion: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Take the model's (..., 56) back to motion."""
        return motion * self.std + self.mean


_NO_SIGNAL_DBFS = -90.0
"""Below this lies digital silence, which says nothing of the background either [dBFS]."""

Samples = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class LoudnessConfig:
    """How the level of a voice is followed."""

    target_dbfs: float = -23.0
    """Level a voice is brought to [dB relative to full scale]."""
    gate_dbfs: float = -60.0
    """Frames below are silence and teach nothing [dBFS]."""
    noise_margin_db: float = 9.0
    """How far above the noise floor a frame must stand to be speech [dB]."""
    noise_rise_db_per_s: float = 1.0
    """How fast the noise floor follows a rising background; it falls at once [dB/s]."""
    pause_margin_db: float = 20.0
    """Speech this far below the level heard so far is a tail or a breath: it lowers the level slowly [dB]."""
    pause_leak_db_per_s: float = 1.0
    """How slowly; a voice that stays so quiet is found again after all [dB/s]."""
    time_constant_s: float = 10.0
    """How slowly the level follows once it is known [s of speech]."""
    trust_s: float = 0.4
    """How much speech the first guess, the target itself, is worth [s]."""
    max_gain_db: float = 24.0
    """Largest gain and largest attenuation [dB]."""


@dataclasses.dataclass(frozen=True)
class LoudnessState:
    """What is known of one voice."""

    level_dbfs: float
    """Level of its speech so far."""
    heard_frames: float
    """How many frames that is worth."""
    floor_dbfs: float
    """Level of the background."""
    gain_db: float
    """Gain at the end of the last frame."""


class LoudnessNormaliser:
    """Follow one voice's speech level and take the difference to the target away."""

    def __init__(self, kind: str = "causal", config: LoudnessConfig | None = None) -> None:
        if kind not in ("causal", "none"):
            raise ValueError(f"the loudness normalisation is {kind!r}, expected 'causal' or 'none'")
        self.kind = kind
        self.config = config or LoudnessConfig()

    def initial(self) -> LoudnessState:
        """Return what is known before anything was heard."""
        cfg = self.config
        return LoudnessState(cfg.target_dbfs, cfg.trust_s * FRAMES_PER_SECOND, 0.0, 0.0)

    def apply(self, samples: Samples, state: LoudnessState) -> tuple[Samples, LoudnessState]:
        """Normalise whole frames of one voice.

        Args:
            samples: (640 n,) float32 in [-1, 1].
            state: What was known before them.

        Returns:
            The samples at the target's loudness, and what is known after them.
        """
        if self.kind == "none":
            return samples, state
        frames = samples.reshape(-1, SAMPLES_PER_FRAME)
        power = np.mean(frames.astype(np.float64) ** 2, axis=1)
        out = np.empty_like(frames)
        ramp = np.arange(1, SAMPLES_PER_FRAME + 1) / SAMPLES_PER_FRAME
        for index, frame in enumerate(frames):
            before_db = state.gain_db
            state = self._learn(float(power[index]), state)
            gain_db = before_db + (state.gain_db - before_db) * ramp
            out[index] = frame * (10.0 ** (gain_db / 20.0))
        return out.reshape(-1), state

    def _learn(self, power: float, state: LoudnessState) -> LoudnessState:
        cfg = self.config
        frame_dbfs = 10.0 * math.log10(power + 1e-12)
        if frame_dbfs < _NO_SIGNAL_DBFS:
            return state
        floor = min(frame_dbfs, state.floor_dbfs + cfg.noise_rise_db_per_s / FRAMES_PER_SECOND)
        if frame_dbfs < max(cfg.gate_dbfs, floor + cfg.noise_margin_db):
            return dataclasses.replace(state, floor_dbfs=floor)
        heard, level = state.heard_frames, state.level_dbfs
        # Nobody's level is known from the first second: until then nothing counts as a pause.
        if heard > FRAMES_PER_SECOND and frame_dbfs < level - cfg.pause_margin_db:
            level -= cfg.pause_leak_db_per_s / FRAMES_PER_SECOND
        else:
            heard = min(heard + 1.0, cfg.time_constant_s * FRAMES_PER_SECOND)
            level += (frame_dbfs - level) / heard
        gain = min(cfg.max_gain_db, max(-cfg.max_gain_db, cfg.target_dbfs - level))
        return LoudnessState(level, heard, floor, gain)


HOP = 160
WINDOW = 512
SPECTRA_PER_FRAME = SAMPLES_PER_FRAME // HOP
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


class SpeechFeatures(Protocol):
    """From one voice's samples to features, chunk by chunk."""

    def initial(self) -> SpeechFeatureState:
        """Return the state before the first sample."""

    def compute(self, samples: Array, state: SpeechFeatureState) -> tuple[Array, SpeechFeatureState]:
        """Return (n, S) features of the next (640 n,) samples, and the state after them."""

    def compute_all(
        self, sounds: Sequence[Array], states: Sequence[SpeechFeatureState]
    ) -> list[tuple[Array, SpeechFeatureState]]:
        """Compute several voices, together where that is less work."""


class LogMelFeatures:
    """Four log-mel spectra a frame; frame f reads samples before 640 (f + 1) only: chunks equal the whole."""

    def __init__(
        self, mel_bands: int = 40, loudness: str = "causal", level_memory_s: Sequence[float] = ()
    ) -> None:
        self.normaliser = LoudnessNormaliser(loudness)
        self._kept = np.exp(-1.0 / (FRAMES_PER_SECOND * np.asarray(level_memory_s, np.float64)))
        self._mel = mel_matrix(mel_bands)
        self._window = np.hanning(WINDOW + 1)[:-1] / np.sqrt(np.sum(np.hanning(WINDOW + 1) ** 2))

    def initial(self) -> SpeechFeatureState:
        """Return the state before the first sample: silence."""
        return SpeechFeatureState(self.normaliser.initial(), np.zeros(CONTEXT_SAMPLES, np.float32))

    def compute(self, samples: Array, state: SpeechFeatureState) -> tuple[Array, SpeechFeatureState]:
        """Return (n, 4 * bands + memories) features of the next (640 n,) samples, and the state after."""
        levelled, loudness = self.normaliser.apply(_whole_frames(samples), state.loudness)
        heard = np.concatenate([state.context, levelled])
        pieces = np.lib.stride_tricks.sliding_window_view(heard, WINDOW)[::HOP]
        power = np.abs(np.fft.rfft(pieces * self._window, axis=1)) ** 2
        # Speech at the target's level lies around 0, silence near -2.
        feature = (np.log10(power @ self._mel + 1e-7) + 4.0) / 1.5
        rows = feature.reshape(levelled.size // SAMPLES_PER_FRAME, -1)
        memory = state.level_memory
        if self._kept.size:
            remembered = np.empty((len(rows), self._kept.size))
            for row, level in enumerate(rows.mean(axis=1)):
                memory = level + self._kept * ((SILENT if memory is None else memory) - level)
                remembered[row] = memory
            rows = np.concatenate([rows, remembered], axis=1)
        context = heard[heard.size - CONTEXT_SAMPLES :].copy()
        return rows.astype(np.float32), SpeechFeatureState(loudness, context, memory)

    def compute_all(
        self, sounds: Sequence[Array], states: Sequence[SpeechFeatureState]
    ) -> list[tuple[Array, SpeechFeatureState]]:
        """Compute several voices, one after the other."""
        return [self.compute(sound, state) for sound, state in zip(sounds, states, strict=True)]


class Wav2Vec2Features:
    """The published encoder: each turn's sound alone, thinned to the frame rate before its transformer.

    Args:
        encoder: From (voices, samples) to (voices, frames, S): torch (`speech_torch`) or a graph.
        loudness: Kind of normalisation before it.

    Source: arXiv 2512.15340, and wav2vec 2.0, arXiv 2006.11477.
    """

    def __init__(self, encoder: Callable[[Array], Array], loudness: str = "none") -> None:
        self.normaliser = LoudnessNormaliser(loudness)
        self._encoder = encoder

    def initial(self) -> SpeechFeatureState:
        """Return the state before the first sample."""
        return SpeechFeatureState(self.normaliser.initial(), np.zeros(CONTEXT_SAMPLES, np.float32))

    def compute(self, samples: Array, state: SpeechFeatureState) -> tuple[Array, SpeechFeatureState]:
        """Return (n, S) features of one turn's (640 n,) samples; a turn is encoded without its past."""
        return self.compute_all([samples], [state])[0]

    def compute_all(
        self, sounds: Sequence[Array], states: Sequence[SpeechFeatureState]
    ) -> list[tuple[Array, SpeechFeatureState]]:
        """Compute several voices of equal length in one batch."""
        levelled = [
            self.normaliser.apply(_whole_frames(sound), state.loudness)
            for sound, state in zip(sounds, states, strict=True)
        ]
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
    mel = np.linspace(_mel_of(low_hz), _mel_of(high_hz), bands + 2)
    edge_hz = 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    bin_hz = np.arange(WINDOW // 2 + 1)[:, None] * (SAMPLE_RATE_HZ / WINDOW)
    # A band narrower than the bins' spacing would catch none: each side spans a bin at least.
    spacing = np.maximum(np.diff(edge_hz), SAMPLE_RATE_HZ / WINDOW)
    centre = edge_hz[1:-1]
    rising = (bin_hz - (centre - spacing[:-1])) / spacing[:-1]
    falling = ((centre + spacing[1:]) - bin_hz) / spacing[1:]
    return np.maximum(0.0, np.minimum(rising, falling))


def _mel_of(frequency_hz: float) -> float:
    return float(2595.0 * np.log10(1.0 + frequency_hz / 700.0))


def _whole_frames(samples: Array) -> Array:
    if samples.ndim != 1 or samples.size == 0 or samples.size % SAMPLES_PER_FRAME:
        raise ValueError(
            f"speech has shape {samples.shape}, "
            f"expected one row of whole frames of {SAMPLES_PER_FRAME} samples"
        )
    return samples.astype(np.float32, copy=False)


@dataclasses.dataclass(frozen=True)
class PreparedTurn:
    """One turn as it arrives: its tokens' streams and the voices' states after it."""

    turn: Turn
    inputs: TurnInputs[Array]
    user_voice: SpeechFeatureState
    agent_voice: SpeechFeatureState


class TurnPreprocessor:
    """Check what a turn brings and make the model's inputs of it; holds no state."""

    def __init__(self, config: ModelConfig, features: SpeechFeatures, statistics: MotionStatistics) -> None:
        self._config = config
        self._features = features
        self._statistics = statistics

    def voice(self) -> SpeechFeatureState:
        """Return the state of a voice before its first sample."""
        return self._features.initial()

    def hear(
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
            turn: Its place.
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
        return PreparedTurn(turn, inputs, user_voice, agent_voice)

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
        raise ValueError(f"{name} holds a value that is not finite; mend it before the session hears it")
    return array
