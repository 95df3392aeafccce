"""Turn-taking of synthetic conversations: gaps, overlaps, back-channels, pauses; and room acoustics.

Timing follows published figures for human conversation: gaps between turns centre on 200 ms and are
negative (an overlap) about every fourth time (Stivers et al. 2009; Heldner & Edlund 2010).
"""

from __future__ import annotations

import dataclasses
from typing import Annotated

import numpy as np
import numpy.typing as npt
import soxr
from timar_common.clock import SAMPLE_RATE_HZ
from timar_common.config import Interval, NonNegative, Positive, Probability, Range, check
from timar_common.pcm import int16_to_float

from .voices import SpeakerVoice

FloatArray = npt.NDArray[np.float32]
Rng = np.random.Generator
Speakers = tuple[SpeakerVoice, SpeakerVoice]


@dataclasses.dataclass(frozen=True)
class TalkConfig:
    """How synthetic people talk."""

    gap_mean_s: float = 0.2
    """Mean silence between two turns; negative is an overlap [s]."""
    gap_std_s: NonNegative = 0.3
    """Its standard deviation [s]."""
    gap_min_s: float = -0.7
    """The longest overlap at a change of turn [s]."""
    gap_max_s: float = 1.2
    """The longest ordinary gap [s]."""
    silence_probability: Probability = 0.07
    """How often nobody takes the floor for a while."""
    silence_s: Interval = (1.5, 4.0)
    """How long that lasts [s]."""
    phrases_mean: Annotated[float, Range(1.0)] = 2.2
    """Mean number of utterances in a turn."""
    pause_median_s: Positive = 0.38
    """Median pause inside a turn [s]."""
    backchannel_probability: Probability = 0.35
    """How often a listener puts in a short word at a pause of the speaker."""
    hold_probability: Probability = 0.12
    """How often the same speaker goes on after a gap."""
    short_s: NonNegative = 0.8
    """Up to this length an utterance can be a back-channel [s]."""

    def __post_init__(self) -> None:
        check(self)
        if self.gap_min_s > self.gap_max_s or self.silence_s[0] < 0:
            raise ValueError(
                f"TalkConfig has gap_min_s {self.gap_min_s}, gap_max_s {self.gap_max_s} and silence_s "
                f"{self.silence_s}, expected gap_min_s below gap_max_s and no silence below 0"
            )


@dataclasses.dataclass(frozen=True)
class Utterance:
    """One stretch of speech of one side."""

    first_sample: int
    end_sample: int
    is_backchannel: bool
    starts_turn: bool


@dataclasses.dataclass
class SyntheticConversation:
    """Two clean voices on one clock."""

    voices: tuple[FloatArray, FloatArray]
    """User's and agent's speech without room, noise or level changes, (n,) each."""
    utterances: tuple[list[Utterance], list[Utterance]]
    """What each side said, in order."""


def hold_conversation(
    speakers: Speakers, duration_s: float, config: TalkConfig, rng: Rng
) -> SyntheticConversation:
    """Let two voices talk.

    Args:
        speakers: User's and agent's voice.
        duration_s: Length [s].
        config: Timing.
        rng: All choices come from it.
    """
    return _Talk(speakers, round(duration_s * SAMPLE_RATE_HZ), config, rng).run()


class _Talk:
    def __init__(self, speakers: Speakers, length: int, config: TalkConfig, rng: Rng) -> None:
        self._speakers = speakers
        self._config = config
        self._rng = rng
        self._sound = (np.zeros(length, np.float32), np.zeros(length, np.float32))
        self._said: tuple[list[Utterance], list[Utterance]] = ([], [])
        # A speaker's tempo and pitch differ from conversation to conversation.
        self._tempo = rng.uniform(0.88, 1.14, 2)
        self._length = length

    def run(self) -> SyntheticConversation:
        rng, config = self._rng, self._config
        time_s = rng.uniform(0.3, 2.0)
        side = int(rng.integers(2))
        while time_s * SAMPLE_RATE_HZ < self._length:
            time_s = self._take_turn(side, time_s)
            time_s = max(0.0, time_s + self._gap_s())
            if rng.random() >= config.hold_probability:
                side = 1 - side
        return SyntheticConversation(self._sound, self._said)

    def _gap_s(self) -> float:
        rng, config = self._rng, self._config
        if rng.random() < config.silence_probability:
            return rng.uniform(*config.silence_s)
        return float(
            np.clip(rng.normal(config.gap_mean_s, config.gap_std_s), config.gap_min_s, config.gap_max_s)
        )

    def _take_turn(self, side: int, time_s: float) -> float:
        """Say a few phrases and return when the last one ends [s]."""
        rng, config = self._rng, self._config
        phrases = int(min(rng.geometric(1.0 / config.phrases_mean), 6))
        for phrase in range(phrases):
            if phrase:
                pause_s = float(np.clip(config.pause_median_s * np.exp(rng.normal(0, 0.5)), 0.12, 1.5))
                if rng.random() < config.backchannel_probability:
                    at_s = time_s + rng.uniform(0.05, 0.25)
                    self._say(1 - side, at_s, is_backchannel=True, starts_turn=False)
                time_s += pause_s
            time_s = self._say(side, time_s, is_backchannel=False, starts_turn=phrase == 0)
        return time_s

    def _say(self, side: int, time_s: float, *, is_backchannel: bool, starts_turn: bool) -> float:
        spoken = self._pick(side, is_short=is_backchannel)
        first = round(time_s * SAMPLE_RATE_HZ)
        said = self._said[side]
        if said and first < said[-1].end_sample:
            first = said[-1].end_sample + SAMPLE_RATE_HZ // 20
        end = min(first + len(spoken), self._length)
        if end > first:
            self._sound[side][first:end] = spoken[: end - first]
            said.append(Utterance(first, end, is_backchannel, starts_turn))
        return (first + len(spoken)) / SAMPLE_RATE_HZ

    def _pick(self, side: int, *, is_short: bool) -> FloatArray:
        utterances = self._speakers[side].utterances
        limit = self._config.short_s * SAMPLE_RATE_HZ
        fitting = [index for index, sound in enumerate(utterances) if (len(sound) <= limit) == is_short]
        choice = int(self._rng.choice(fitting or np.arange(len(utterances))))
        sound, rate_hz = int16_to_float(utterances[choice]), SAMPLE_RATE_HZ / self._tempo[side]
        return soxr.resample(sound, SAMPLE_RATE_HZ, rate_hz, quality="LQ").astype(np.float32)


@dataclasses.dataclass(frozen=True)
class RoomConfig:
    """How a clean voice becomes what a microphone records."""

    gain_std_db: NonNegative = 6.0
    """Spread of the recording level [dB]."""
    noise_db: Interval = (-75.0, -42.0)
    """Range of the background's level [dBFS]."""
    leak_db: Interval = (-60.0, -34.0)
    """Range of the other voice's level in this microphone, relative to it [dB]."""
    reverberation_s: Interval = (0.12, 0.5)
    """Range of the reverberation time [s]."""
    wet: Interval = (0.0, 0.35)
    """Range of the reverberation's share."""

    def __post_init__(self) -> None:
        check(self)
        if self.reverberation_s[0] <= 0 or self.wet[0] < 0 or self.wet[1] > 1:
            raise ValueError(
                f"RoomConfig has reverberation_s {self.reverberation_s} and wet {self.wet}, expected times "
                "above 0 and shares from 0 to 1"
            )


def record(voice: FloatArray, other: FloatArray, config: RoomConfig, rng: Rng) -> FloatArray:
    """Return what a microphone in a room records of a voice.

    Args:
        voice: (n,) the near voice, clean.
        other: (n,) the far one.
        config: Ranges.
        rng: All choices come from it.
    """
    gain = 10 ** (rng.normal(0.0, config.gain_std_db) / 20)
    leak = 10 ** (rng.uniform(*config.leak_db) / 20)
    wet = rng.uniform(*config.wet)
    mixed = voice + leak * other
    sound = (1 - wet) * mixed + wet * _reverberate(mixed, rng.uniform(*config.reverberation_s), rng)
    noise = _background(len(voice), rng) * 10 ** (rng.uniform(*config.noise_db) / 20)
    recorded = gain * sound + noise
    peak = np.abs(recorded).max(initial=1e-9)
    return (recorded * min(1.0, 0.98 / peak)).astype(np.float32)


def _reverberate(sound: npt.NDArray, time_s: float, rng: Rng) -> npt.NDArray:
    """Convolve with noise that decays by 60 dB in `time_s`, the simplest room."""
    length = round(time_s * SAMPLE_RATE_HZ)
    response = rng.standard_normal(length) * 10 ** (-3 * np.arange(length) / length)
    response /= np.sqrt(np.square(response).sum())
    size = 1 << (len(sound) + length - 1).bit_length()
    return np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(response, size), size)[: len(sound)]


def _background(length: int, rng: Rng) -> npt.NDArray:
    """Return coloured noise of RMS 1 whose colour lies between white and red."""
    size = 1 << (length - 1).bit_length()
    spectrum = np.fft.rfft(rng.standard_normal(size))
    frequency = np.maximum(np.fft.rfftfreq(size, 1 / SAMPLE_RATE_HZ), 50.0)
    noise = np.fft.irfft(spectrum * (frequency / 50.0) ** -rng.uniform(0.0, 1.0), size)[:length]
    return noise / noise.std()
