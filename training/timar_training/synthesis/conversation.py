"""Who speaks when: synthetic conversations with turn-taking, gaps, overlaps, back-channels and pauses.

Timing follows published figures for human conversation: gaps between turns centre on 200 ms and are
negative (an overlap) about every fourth time (Stivers et al. 2009; Heldner & Edlund 2010).
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import soxr
from timar_common.clock import SAMPLE_RATE_HZ

from .voices import Voice

FloatArray = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class TalkConfig:
    """How synthetic people talk."""

    gap_mean_s: float = 0.2
    """Mean silence between two turns; negative is an overlap [s]."""
    gap_std_s: float = 0.3
    """Its standard deviation [s]."""
    gap_min_s: float = -0.7
    """The longest overlap at a change of turn [s]."""
    gap_max_s: float = 1.2
    """The longest ordinary gap [s]."""
    silence_probability: float = 0.07
    """How often nobody takes the floor for a while."""
    silence_s: tuple[float, float] = (1.5, 4.0)
    """How long that lasts [s]."""
    phrases_mean: float = 2.2
    """Mean number of utterances in a turn."""
    pause_median_s: float = 0.38
    """Median pause inside a turn [s]."""
    backchannel_probability: float = 0.35
    """How often a listener puts in a short word at a pause of the speaker."""
    hold_probability: float = 0.12
    """How often the same speaker goes on after a gap."""
    short_s: float = 0.8
    """Up to this length an utterance can be a back-channel [s]."""


@dataclasses.dataclass(frozen=True)
class Utterance:
    """One stretch of speech of one side."""

    first_sample: int
    end_sample: int
    is_backchannel: bool
    starts_turn: bool


@dataclasses.dataclass
class Conversation:
    """Two clean voices on one clock."""

    voices: tuple[FloatArray, FloatArray]
    """User's and agent's speech without room, noise or level changes, (n,) each."""
    utterances: tuple[list[Utterance], list[Utterance]]
    """What each side said, in order."""


def hold_conversation(
    speakers: tuple[Voice, Voice], duration_s: float, config: TalkConfig, rng: np.random.Generator
) -> Conversation:
    """Let two voices talk.

    Args:
        speakers: User's and agent's voice.
        duration_s: Length [s].
        config: Timing.
        rng: All choices come from it.
    """
    return _Talk(speakers, round(duration_s * SAMPLE_RATE_HZ), config, rng).run()


class _Talk:
    def __init__(
        self, speakers: tuple[Voice, Voice], length: int, config: TalkConfig, rng: np.random.Generator
    ) -> None:
        self._speakers = speakers
        self._config = config
        self._rng = rng
        self._sound = (np.zeros(length, np.float32), np.zeros(length, np.float32))
        self._said: tuple[list[Utterance], list[Utterance]] = ([], [])
        # A speaker's tempo and pitch differ from conversation to conversation.
        self._tempo = rng.uniform(0.88, 1.14, 2)
        self._length = length

    def run(self) -> Conversation:
        rng, config = self._rng, self._config
        time_s = rng.uniform(0.3, 2.0)
        side = int(rng.integers(2))
        while time_s * SAMPLE_RATE_HZ < self._length:
            time_s = self._take_turn(side, time_s)
            time_s = max(0.0, time_s + self._gap_s())
            if rng.random() >= config.hold_probability:
                side = 1 - side
        return Conversation(self._sound, self._said)

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
                    self._say(
                        1 - side, time_s + rng.uniform(0.05, 0.25), is_backchannel=True, starts_turn=False
                    )
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
        sound = utterances[choice].astype(np.float32) / 32768.0
        return soxr.resample(sound, SAMPLE_RATE_HZ, SAMPLE_RATE_HZ / self._tempo[side], quality="LQ").astype(
            np.float32
        )


@dataclasses.dataclass(frozen=True)
class RoomConfig:
    """How a clean voice becomes what a microphone hears."""

    gain_std_db: float = 6.0
    """Spread of the recording level [dB]."""
    noise_db: tuple[float, float] = (-75.0, -42.0)
    """Range of the background's level [dBFS]."""
    leak_db: tuple[float, float] = (-60.0, -34.0)
    """Range of the other voice's level in this microphone, relative to it [dB]."""
    reverberation_s: tuple[float, float] = (0.12, 0.5)
    """Range of the reverberation time [s]."""
    wet: tuple[float, float] = (0.0, 0.35)
    """Range of the reverberation's share."""


def hear(voice: FloatArray, other: FloatArray, config: RoomConfig, rng: np.random.Generator) -> FloatArray:
    """Return what a microphone in a room picks up of a voice.

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
    heard = gain * sound + noise
    peak = np.abs(heard).max(initial=1e-9)
    return (heard * min(1.0, 0.98 / peak)).astype(np.float32)


def _reverberate(sound: npt.NDArray, time_s: float, rng: np.random.Generator) -> npt.NDArray:
    """Convolve with noise that decays by 60 dB in `time_s`, the simplest room."""
    length = round(time_s * SAMPLE_RATE_HZ)
    response = rng.standard_normal(length) * 10 ** (-3 * np.arange(length) / length)
    response /= np.sqrt(np.square(response).sum())
    size = 1 << (len(sound) + length - 1).bit_length()
    return np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(response, size), size)[: len(sound)]


def _background(length: int, rng: np.random.Generator) -> npt.NDArray:
    """Return coloured noise of RMS 1 whose colour lies between white and red."""
    size = 1 << (length - 1).bit_length()
    spectrum = np.fft.rfft(rng.standard_normal(size))
    frequency = np.maximum(np.fft.rfftfreq(size, 1 / SAMPLE_RATE_HZ), 50.0)
    noise = np.fft.irfft(spectrum * (frequency / 50.0) ** -rng.uniform(0.0, 1.0), size)[:length]
    return noise / noise.std()
