"""Speech features, one row a frame: causal log-mel spectra in numpy, or the frozen wav2vec 2.0."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from timar_model.config import FRAMES_PER_SECOND, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME, ModelConfig
from timar_model.loudness import LoudnessNormaliser, LoudnessState

Array = npt.NDArray[np.float32]

HOP = 160
WINDOW = 512
SPECTRA_PER_FRAME = SAMPLES_PER_FRAME // HOP
CONTEXT_SAMPLES = WINDOW - HOP
"""Samples before a frame that its first spectrum reaches back to."""
SILENT = -2.0
"""Level of a voice before its first frame, in units of the features."""


@dataclasses.dataclass(frozen=True)
class VoiceState:
    """What the features of the next frames need to know of one voice's past."""

    loudness: LoudnessState
    context: Array
    """(352,) the last normalised samples."""
    level_memory: npt.NDArray[np.float64] | None = None
    """(memories,) averages of the level so far; None before the first frame."""


class SpeechFeatures(Protocol):
    """From one voice's samples to features, chunk by chunk."""

    def initial(self) -> VoiceState:
        """Return the state before the first sample."""

    def compute(self, samples: Array, state: VoiceState) -> tuple[Array, VoiceState]:
        """Return (n, S) features of the next (640 n,) samples, and the state after them."""

    def compute_all(
        self, sounds: Sequence[Array], states: Sequence[VoiceState]
    ) -> list[tuple[Array, VoiceState]]:
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

    def initial(self) -> VoiceState:
        """Return the state before the first sample: silence."""
        return VoiceState(self.normaliser.initial(), np.zeros(CONTEXT_SAMPLES, np.float32))

    def compute(self, samples: Array, state: VoiceState) -> tuple[Array, VoiceState]:
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
        return rows.astype(np.float32), VoiceState(loudness, context, memory)

    def compute_all(
        self, sounds: Sequence[Array], states: Sequence[VoiceState]
    ) -> list[tuple[Array, VoiceState]]:
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

    def initial(self) -> VoiceState:
        """Return the state before the first sample."""
        return VoiceState(self.normaliser.initial(), np.zeros(CONTEXT_SAMPLES, np.float32))

    def compute(self, samples: Array, state: VoiceState) -> tuple[Array, VoiceState]:
        """Return (n, S) features of one turn's (640 n,) samples; a turn is encoded without its past."""
        return self.compute_all([samples], [state])[0]

    def compute_all(
        self, sounds: Sequence[Array], states: Sequence[VoiceState]
    ) -> list[tuple[Array, VoiceState]]:
        """Compute several voices of equal length in one batch."""
        levelled = [
            self.normaliser.apply(_whole_frames(sound), state.loudness)
            for sound, state in zip(sounds, states, strict=True)
        ]
        rows = self._encoder(np.ascontiguousarray(np.stack([sound for sound, _ in levelled])))
        return [
            (row, VoiceState(loudness, state.context))
            for row, (_, loudness), state in zip(rows, levelled, states, strict=True)
        ]


def speech_features(config: ModelConfig) -> SpeechFeatures:
    """Return the features a configuration asks for; loads the frozen encoder where that is one."""
    if config.speech_encoder == "logmel":
        return LogMelFeatures(config.mel_bands, config.loudness, config.level_memory_s)
    from timar_model.speech_torch import TorchSpeechEncoder

    return Wav2Vec2Features(TorchSpeechEncoder.from_pretrained(config.speech_source), config.loudness)


def clip_features(features: SpeechFeatures, samples: Array, lead: int = 0) -> Array:
    """Return (lead + n, S) features of a whole recording, `lead` frames of silence put before it.

    Args:
        features: As from `speech_features`; for spectra this equals what a session computes turn by turn.
        samples: (640 n,) float32 in [-1, 1], from the recording's start.
        lead: Frames of silence before it.
    """
    padded = np.concatenate([np.zeros(lead * SAMPLES_PER_FRAME, np.float32), samples.astype(np.float32)])
    return features.compute(padded, features.initial())[0]


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
