"""Voices of synthetic conversations: recorded prompts and synthesised sentences, as packaged by Debian.

Recorded prompts are those of the packages ``asterisk-core-sounds-{en,es,fr,it,ru}-g722`` (CC BY-SA
3.0, the Russian ones CC BY 3.0); synthesised ones come from ``espeak-ng``. They are used on the spot and
never shipped.
"""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soxr
from timar_common.clock import SAMPLE_RATE_HZ
from timar_common.pcm import float_to_int16, int16_to_float

from ..corpora.levels import active_level_db, speech_span

PROMPT_FOLDER = Path("/usr/share/asterisk/sounds")
G722_SAMPLES_PER_BYTE = 2
WANTED_LEVEL_DB = -20.0

RECORDED = {
    "recorded-en": ("en_US_f_Allison", "CC BY-SA 3.0"),
    "recorded-es": ("es_MX_f_Allison", "CC BY-SA 3.0"),
    "recorded-fr": ("fr_CA_f_June", "CC BY-SA 3.0"),
    "recorded-it": ("it_IT_m_Carlo", "CC BY-SA 3.0"),
    "recorded-ru": ("ru_RU_f_IvrvoiceRU", "CC BY 3.0"),
}

SYNTHESISED = {
    "espeak-us-m3": ("en-us+m3", 45, 165),
    "espeak-us-m7": ("en-us+m7", 35, 150),
    "espeak-gb-m1": ("en-gb+m1", 55, 175),
    "espeak-us-f2": ("en-us+f2", 60, 170),
    "espeak-gb-f4": ("en-gb+f4", 70, 160),
    "espeak-gb-f1": ("en-gb-x-rp+f1", 50, 180),
    "espeak-sc-m5": ("en-gb-scotland+m5", 40, 160),
    "espeak-ca-f3": ("en-029+f3", 65, 155),
}
"""Voice, pitch (0..99) and speed [words per minute] of espeak-ng."""

UNSEEN_VOICES = ("recorded-ru", "espeak-gb-f1", "espeak-sc-m5", "espeak-ca-f3")
"""Kept for the out-of-distribution part."""

SENTENCES = (
    "Yes.", "Right.", "Mhm.", "I see.", "Okay.", "Really?", "Oh, no.", "Sure.", "Of course.", "Good.",
    "I went to the market this morning, and it was already full of people.",
    "We could take the train on Thursday, or wait until the weekend.",
    "Nobody told me that the meeting had moved to the other building.",
    "What did you think of the film we saw last night?",
    "My sister bought a small boat, and now she is never at home.",
    "It rained for three days, so we stayed inside and played cards.",
    "If you turn left at the bridge, you will find the bakery on the corner.",
    "That is the strangest story I have heard in a long time.",
    "First you boil the water, then you add the salt, and then the rice.",
    "He asked me for the key, but I had given it to the neighbour.",
    "Could you tell me when the library opens on Sunday?",
    "I would rather walk, because the bus takes almost an hour.",
    "They painted the whole kitchen yellow, even the ceiling.",
    "Do you remember the little dog that followed us to the station?",
    "The doctor said I should sleep more and worry less.",
    "We counted forty two boxes, and one of them was empty.",
    "There was a long silence, and then everybody began to laugh.",
    "I am not sure, but I believe the answer is on page nine.",
    "Why would anyone leave such a beautiful garden behind?",
    "Tomorrow we will try again with a smaller wheel.",
    "The radio was playing an old song that my father used to sing.",
    "You should have seen her face when the lights came on.",
    "Let me explain it once more, slowly, from the beginning.",
    "Some people like the mountains, but I have always loved the sea.",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class SpeakerVoice:
    """One speaker and what they can say."""

    name: str
    licence: str
    utterances: tuple[npt.NDArray[np.int16], ...]
    """Trimmed recordings at 16 kHz, speech at -20 dBFS."""


def available_voices(log: Callable[[str], None] = lambda message: None) -> list[SpeakerVoice]:
    """Return every voice this machine can provide.

    Args:
        log: Called for each voice that is missing, with what would provide it.

    Raises:
        RuntimeError: There are fewer than two voices.
    """
    voices = [*recorded_voices(log), *_synthesised_voices(log)]
    if len(voices) < 2:
        raise RuntimeError(
            f"found {len(voices)} voice(s), expected at least 2: install espeak-ng, or ffmpeg and "
            "asterisk-core-sounds-en-g722 with its sisters es, fr, it, ru"
        )
    return voices


def recorded_voices(log: Callable[[str], None]) -> list[SpeakerVoice]:
    """Return the voices whose recorded prompts are installed.

    Args:
        log: Called for each that is missing, with what would provide it.
    """
    if shutil.which("ffmpeg") is None:
        log("no recorded voices: ffmpeg is not installed")
        return []
    voices = []
    for name, (folder, licence) in RECORDED.items():
        files = sorted((PROMPT_FOLDER / folder).rglob("*.g722"))
        if files:
            voices.append(SpeakerVoice(name, licence, _usable(_decode_g722(files))))
        else:
            log(f"no voice {name}: install asterisk-core-sounds-{name[-2:]}-g722")
    return voices


def _decode_g722(files: list[Path]) -> list[npt.NDArray[np.float32]]:
    """Decode many prompts with one call: G.722 has no header, so they can be joined and cut apart again."""
    parts = [path.read_bytes() for path in files]
    command = ["ffmpeg", "-v", "error", "-f", "g722", "-i", "-"]
    command += ["-f", "s16le", "-ar", str(SAMPLE_RATE_HZ), "-"]
    raw = subprocess.run(command, input=b"".join(parts), stdout=subprocess.PIPE, check=True).stdout
    sound = int16_to_float(np.frombuffer(raw, "<i2"))
    ends = np.cumsum([len(part) * G722_SAMPLES_PER_BYTE for part in parts])
    return np.split(sound, ends[:-1])


def _synthesised_voices(log: Callable[[str], None]) -> list[SpeakerVoice]:
    program = shutil.which("espeak-ng")
    if program is None:
        log("no synthesised voices: espeak-ng is not installed")
        return []
    voices = []
    for name, (voice, pitch, words_per_minute) in SYNTHESISED.items():
        base = [program, "-v", voice, "-p", str(pitch), "-s", str(words_per_minute), "--stdout"]
        sounds = [_speak([*base, sentence]) for sentence in SENTENCES]
        voices.append(SpeakerVoice(name, "output of espeak-ng", _usable(sounds)))
    return voices


def say(text: str, voice: str, pitch: int, words_per_minute: int) -> npt.NDArray[np.float32]:
    """Return a text spoken by espeak-ng at 16 kHz, without the silence at its ends.

    Raises:
        RuntimeError: espeak-ng is not installed.
    """
    program = shutil.which("espeak-ng")
    if program is None:
        raise RuntimeError("espeak-ng is not installed; install it, for it speaks the words")
    options = ["-v", voice, "-p", str(pitch), "-s", str(words_per_minute), "--stdout", "--", text]
    return _without_ends(_speak([program, *options]))


def say_by_flite(text: str, voice: str, slower: float) -> npt.NDArray[np.float32]:
    """Return a text spoken by flite at 16 kHz, without the silence at its ends.

    Args:
        text: The words.
        voice: Of flite: awb, kal16, rms or slt.
        slower: Factor on the time it takes.

    Raises:
        RuntimeError: flite is not installed.
    """
    program = shutil.which("flite")
    if program is None:
        raise RuntimeError("flite is not installed; install it, for it speaks the words")
    options = ["-voice", voice, "--setf", f"duration_stretch={slower:.3f}", "-t", text, "-o", "/dev/stdout"]
    return _without_ends(_speak([program, *options]))


def _without_ends(sound: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    loud = np.flatnonzero(np.abs(sound) > 0.01)
    return sound[loud[0] : loud[-1] + 1] if len(loud) else sound[:1]


def _speak(command: list[str]) -> npt.NDArray[np.float32]:
    raw = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    # The header of a streamed WAV does not know its length; the samples start at byte 44.
    rate_hz = int(np.frombuffer(raw[24:28], "<u4")[0])
    samples = int16_to_float(np.frombuffer(raw[44 : len(raw) // 2 * 2], "<i2"))
    return soxr.resample(samples, rate_hz, SAMPLE_RATE_HZ).astype(np.float32)


def _usable(sounds: list[npt.NDArray[np.float32]]) -> tuple[npt.NDArray[np.int16], ...]:
    """Trim to the speech, level it, and leave out tones, noises and whatever is too short or too long."""
    kept = []
    for sound in sounds:
        span = speech_span(sound)
        if span is None or not 0.2 <= (span[1] - span[0]) / SAMPLE_RATE_HZ <= 8.0:
            continue
        speech = sound[span[0] : span[1]]
        gain = 10 ** ((WANTED_LEVEL_DB - active_level_db(speech)) / 20)
        kept.append(float_to_int16(speech * gain))
    return tuple(kept)
