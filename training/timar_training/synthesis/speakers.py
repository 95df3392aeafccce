"""Speakers that say a phrase in a given time: espeak-ng, flite, and recorded prompts that say other words.

The text matters little to motion; how loud and of which colour a voice is at which time does. So a recorded
voice stands in for a phrase with prompts of its own of about that length. Programs and recordings are used on
the spot and never shipped.
"""

from __future__ import annotations

import dataclasses
import shutil
import zlib
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import soxr
from timar_common.clock import SAMPLE_RATE_HZ
from timar_common.pcm import int16_to_float

from .voices import SpeakerVoice, recorded_voices, say, say_by_flite

FloatArray = npt.NDArray[np.float32]

ACCENTS = ("en-us", "en-gb", "en-gb-x-rp", "en-gb-scotland", "en-029")
VARIANTS = ("m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "f1", "f2", "f3", "f4", "f5")
"""Of espeak-ng, men and women."""
FLITE = {"awb": False, "kal16": False, "rms": False, "slt": True}
"""Voices of flite, and whether a woman's."""
RECORDED_MEN = ("recorded-it", "recorded-ru")
UNSEEN = ("m5", "m8", "f1", "f3", "rms", "recorded-ru")
"""Variants and voices that speak in the out-of-distribution list alone."""
USUAL_WORDS_PER_MINUTE = 175
STRETCH = 1.12
"""A phrase whose length the synthesiser misses is resampled by this at most."""
NEAREST = 8
"""Of so many prompts of about the wanted length a recorded voice says one."""


@dataclasses.dataclass(frozen=True, eq=False)
class PhraseSpeaker:
    """Somebody who can say a phrase in a given time."""

    name: str
    licence: str
    is_female: bool
    is_unseen: bool
    """Kept for the out-of-distribution list."""
    program: str
    """"espeak-ng", "flite" or "recorded"."""
    voice: str = ""
    pitch: int = 50
    """Of espeak-ng, 0..99."""
    prompts: tuple[npt.NDArray[np.int16], ...] = ()

    def say(self, text: str, samples: int) -> FloatArray:
        """Return at most so many samples: the phrase, as nearly of that length as can be.

        Args:
            text: The words; the same words are said alike.
            samples: Length at 16 kHz.

        Raises:
            RuntimeError: The program is not installed.
        """
        if self.program == "recorded":
            return self._prompt(text, samples)
        usual = self._synthesise(text, 1.0)
        sound = self._synthesise(text, float(np.clip(samples / len(usual), 0.4, 2.2)))
        return _fitted(sound, samples)

    def _synthesise(self, text: str, slower: float) -> FloatArray:
        if self.program == "flite":
            return say_by_flite(text, self.voice, slower)
        return say(text, self.voice, self.pitch, round(USUAL_WORDS_PER_MINUTE / slower))

    def _prompt(self, text: str, samples: int) -> FloatArray:
        lengths = np.array([len(prompt) for prompt in self.prompts])
        said: list[FloatArray] = []
        missing = samples
        while missing > 0:
            nearest = np.argsort(np.abs(lengths - missing), kind="stable")[:NEAREST]
            choice = nearest[zlib.crc32(f"{text}{len(said)}".encode()) % len(nearest)]
            said.append(_fitted(int16_to_float(self.prompts[choice]), missing))
            missing -= len(said[-1]) + SAMPLE_RATE_HZ // 20
            if missing < SAMPLE_RATE_HZ // 3:
                break
            said.append(np.zeros(SAMPLE_RATE_HZ // 20, np.float32))
        return np.concatenate(said)[:samples]


def available_speakers(log: Callable[[str], None] = lambda message: None) -> tuple[PhraseSpeaker, ...]:
    """Return every speaker that this machine can provide.

    Args:
        log: Called for each that is missing, with what would provide it.

    Raises:
        RuntimeError: There is none that both a man's and a woman's words could be said by.
    """
    found: list[PhraseSpeaker] = []
    if shutil.which("espeak-ng"):
        found += [
            PhraseSpeaker(
                f"espeak-{accent}+{variant}", "output of espeak-ng", variant.startswith("f"),
                variant in UNSEEN, "espeak-ng", f"{accent}+{variant}",
            )
            for accent in ACCENTS
            for variant in VARIANTS
        ]  # fmt: skip
    else:
        log("no voices of espeak-ng: it is not installed")
    if shutil.which("flite"):
        found += [
            PhraseSpeaker(f"flite-{voice}", "output of flite", is_female, voice in UNSEEN, "flite", voice)
            for voice, is_female in FLITE.items()
        ]
    else:
        log("no voices of flite: it is not installed")
    found += [_recorded(voice) for voice in recorded_voices(log)]
    for is_female in (False, True):
        if not any(speaker.is_female == is_female for speaker in found):
            raise RuntimeError("no voice is installed; install espeak-ng, for it speaks the words")
    return tuple(found)


def _recorded(voice: SpeakerVoice) -> PhraseSpeaker:
    name = voice.name
    is_female, is_unseen = name not in RECORDED_MEN, name in UNSEEN
    return PhraseSpeaker(name, voice.licence, is_female, is_unseen, "recorded", prompts=voice.utterances)


def draw_speaker(
    speakers: Sequence[PhraseSpeaker], *, is_female: bool, is_unseen: bool, rng: np.random.Generator
) -> PhraseSpeaker:
    """Draw a speaker of a sex and its pitch; each program weighs alike.

    Args:
        speakers: As of `available_speakers`.
        is_female: AMI's people are women and men.
        is_unseen: Of those that are kept for the out-of-distribution list.
        rng: Source of chance.
    """
    fitting = [s for s in speakers if s.is_female == is_female]
    fitting = [s for s in fitting if s.is_unseen == is_unseen] or fitting
    programs = sorted({s.program for s in fitting})
    program = programs[int(rng.integers(len(programs)))]
    choices = [s for s in fitting if s.program == program]
    speaker = choices[int(rng.integers(len(choices)))]
    return dataclasses.replace(speaker, pitch=int(rng.integers(30, 70)))


def _fitted(sound: FloatArray, samples: int) -> FloatArray:
    """Return a sound stretched towards a length by at most STRETCH, and cut to it."""
    ratio = float(np.clip(samples / max(len(sound), 1), 1 / STRETCH, STRETCH))
    stretched: FloatArray = soxr.resample(sound, SAMPLE_RATE_HZ, SAMPLE_RATE_HZ * ratio, quality="LQ")
    return stretched[:samples].astype(np.float32)
