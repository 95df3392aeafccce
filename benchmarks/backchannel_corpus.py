"""Synthetic back-channels, coughs, laughs and interruptions by many voices (espeak-ng, flite, formulas).

All of it is made: nobody was recorded. Words are spoken by espeak-ng's and flite's voices; hums, coughs,
laughs and cleared throats are noise and pulses through a few resonances, with parameters drawn anew for every
sound. A voice belongs to one of two sets: what is fitted never hears the voices that judge it.
"""

from __future__ import annotations

import dataclasses
import io
import subprocess
from collections.abc import Iterator, Sequence

import numpy as np
import scipy.signal
import soundfile
import soxr

RATE_HZ = 16_000
BACKCHANNELS = (
    "mhm", "uh huh", "yeah", "yes", "okay", "right", "sure", "I see", "really?", "oh", "ah", "hm", "wow",
    "yep", "oh okay", "oh wow", "yeah yeah", "right, right", "of course", "got it", "oh really?", "cool",
    "great", "nice",
)  # fmt: skip
INTERRUPTIONS = (
    "wait", "stop", "no, stop", "no, no, no", "hold on", "excuse me", "but why?", "what do you mean?",
    "can you say that again?", "sorry, what was that?", "wait a moment", "I have a question",
    "how old are you?", "let me say something", "that's not true", "stop it", "hang on a second",
    "who made you?", "tell me about the weather", "no, that's wrong", "wait, what?", "no", "stop talking",
    "what is your name?",
)  # fmt: skip
OTHER_BACKCHANNELS = (
    "absolutely", "exactly", "true", "good", "indeed", "very nice", "well, well", "ha", "fine", "yup",
)  # fmt: skip
OTHER_INTERRUPTIONS = (
    "listen", "one second", "pardon?", "quiet please", "let me ask you something",
    "where do you come from?", "that is enough", "can I say something?", "don't say that",
    "please repeat that",
)  # fmt: skip
SOUNDS = ("hum", "cough", "laugh", "throat")
FIT_VOICES = (
    "espeak:en-us", "espeak:en-gb", "espeak:en-us+m1", "espeak:en-us+m3", "espeak:en-gb+m5",
    "espeak:en-us+f1",
    "espeak:en-gb+f2", "espeak:en-us+f4", "espeak:en-gb-scotland", "flite:awb", "flite:rms", "flite:kal16",
    "espeak:en-us+klatt2", "espeak:en-us+Annie", "espeak:en-gb+Andy", "espeak:en-us+linda",
    *(
        f"espeak:en-us+{variant}"
        for variant in (
            "m2", "m4", "m6", "m8", "f2", "f5", "adam", "anika", "antonio", "belinda", "benjamin", "boris",
            "david", "ed", "gustave", "john", "max", "norbert", "paul", "pedro", "robert", "sandro", "shelby",
            "travis", "Alex", "Andrea",
        )
    ),
)  # fmt: skip
TEST_VOICES = (
    "espeak:en-gb-x-rp", "espeak:en-us+m7", "espeak:en-us+f3", "espeak:en-gb+f5", "espeak:en-us+steph",
    "flite:slt", "espeak:en-029", "espeak:en-us+Michael",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class MadeSound:
    """One sound of the user."""

    name: str
    voice: str
    is_interruption: bool
    samples: np.ndarray
    """(n,) float, from its first to its last sound, peak 1."""


def make_sounds(
    voices: Sequence[str],
    seed: int,
    backchannels: Sequence[str] = BACKCHANNELS,
    interruptions: Sequence[str] = INTERRUPTIONS,
) -> Iterator[MadeSound]:
    """Yield every word by every voice and, for each voice, twelve sounds that are no words."""
    random = np.random.default_rng(seed)
    for voice in voices:
        for texts, is_interruption in ((backchannels, False), (interruptions, True)):
            for text in texts:
                yield MadeSound(text, voice, is_interruption, trimmed(speak(text, voice, random)))
        for number in range(12):
            name = SOUNDS[number % len(SOUNDS)]
            yield MadeSound(name, voice, False, trimmed(_MAKERS[name](random)))


def speak(text: str, voice: str, random: np.random.Generator) -> np.ndarray:
    """Return a text by a voice at a drawn speed and pitch."""
    engine, _, name = voice.partition(":")
    speed = random.uniform(0.9, 1.2)
    if engine == "espeak":
        options = ["-s", str(round(165 * speed)), "-p", str(random.integers(30, 70)), "-v", name]
        text = {"mhm": "[[m'h@m]]", "hm": "[[h'm]]", "uh huh": "[[,Vh'V]]"}.get(text, text)
        command = ["espeak-ng", "--stdout", *options, text]
    else:
        command = ["flite", "-voice", name, "--setf", f"duration_stretch={1 / speed:.2f}", "-t", text]
        command += ["-o", "/dev/stdout"]
    sound = subprocess.run(command, capture_output=True, check=True).stdout
    samples, rate_hz = soundfile.read(io.BytesIO(_with_lengths(sound)))
    return np.asarray(soxr.resample(samples, rate_hz, RATE_HZ))


def trimmed(sound: np.ndarray) -> np.ndarray:
    """Return a sound from the first to the last 10 ms within 35 dB of its loudest, peak 1."""
    hop = RATE_HZ // 100
    power = (sound[: sound.size // hop * hop].reshape(-1, hop) ** 2).mean(axis=1)
    loud = np.flatnonzero(power > power.max() * 10**-3.5)
    sound = sound[loud[0] * hop : (loud[-1] + 1) * hop]
    return sound / np.abs(sound).max()


def _with_lengths(wav: bytes) -> bytes:
    """Return a WAV of a pipe with the lengths in its header that the pipe could not know."""
    at = wav.index(b"data") + 4
    return wav[:at] + (len(wav) - at - 4).to_bytes(4, "little") + wav[at + 4 :]


def _resonate(source: np.ndarray, formants_hz: Sequence[float], bandwidth_hz: float) -> np.ndarray:
    for formant_hz in formants_hz:
        radius = np.exp(-np.pi * bandwidth_hz / RATE_HZ)
        angle = 2 * np.pi * formant_hz / RATE_HZ
        source = scipy.signal.lfilter([1.0], [1.0, -2 * radius * np.cos(angle), radius**2], source)
        source = source / (np.abs(source).max() + 1e-9)
    return source


def _pulses(seconds: float, pitch_hz: np.ndarray | float, random: np.random.Generator) -> np.ndarray:
    """Return glottal pulses: a sawtooth with jitter, less steep than one."""
    count = round(seconds * RATE_HZ)
    pitch = np.broadcast_to(pitch_hz, count) * (1 + 0.01 * np.cumsum(random.standard_normal(count)) / 50)
    phase = np.cumsum(pitch) / RATE_HZ
    return scipy.signal.lfilter([1.0], [1.0, -0.9], scipy.signal.sawtooth(2 * np.pi * phase))


def _envelope(count: int, rise: float, fall: float) -> np.ndarray:
    time = np.linspace(0.0, 1.0, count)
    return np.clip(time / rise, 0, 1) * np.clip((1 - time) / fall, 0, 1)


def _hum(random: np.random.Generator) -> np.ndarray:
    """A hum with closed lips, of one or two parts ("mhm")."""
    seconds, pitch_hz = random.uniform(0.25, 0.6), random.uniform(90, 230)
    count = round(seconds * RATE_HZ)
    glide = np.linspace(1.0, random.uniform(0.85, 1.3), count)
    sound = _resonate(_pulses(seconds, pitch_hz * glide, random), (random.uniform(220, 320),), 80)
    if random.random() < 0.5:
        middle = np.abs(np.linspace(-1, 1, count))
        sound = sound * np.clip(middle * 4, 0.08, 1) + 0.01 * random.standard_normal(count) * (middle < 0.25)
    return sound * _envelope(count, 0.15, 0.25)


def _cough(random: np.random.Generator) -> np.ndarray:
    """One to three bursts of noise, the last with a voice in it."""
    bursts = []
    for number in range(random.integers(1, 4)):
        count = round(random.uniform(0.12, 0.3) * RATE_HZ)
        noise = random.standard_normal(count)
        noise = noise + _resonate(noise, (random.uniform(500, 900), random.uniform(1200, 2200)), 300) * 2
        decay = np.exp(-np.arange(count) / (random.uniform(0.03, 0.09) * RATE_HZ))
        burst = noise / np.abs(noise).max() * decay
        if number and random.random() < 0.5:
            voice = _resonate(_pulses(count / RATE_HZ, random.uniform(100, 250), random), (600, 1300), 150)
            burst = burst + 0.4 * voice[:count] * decay
        bursts += [burst, np.zeros(round(random.uniform(0.05, 0.2) * RATE_HZ))]
    return np.concatenate(bursts)


def _laugh(random: np.random.Generator) -> np.ndarray:
    """Two to seven voiced bursts with breath between them, 4 to 6 a second."""
    period_s, pitch_hz = 1 / random.uniform(4, 6), random.uniform(120, 320)
    parts = []
    for number in range(random.integers(2, 8)):
        voiced_s = period_s * random.uniform(0.35, 0.55)
        vowel = _pulses(voiced_s, pitch_hz * (1 - 0.04 * number), random)
        vowel = _resonate(vowel, (random.uniform(500, 800), random.uniform(1100, 1700)), 120)
        breath = 0.08 * random.standard_normal(round((period_s - voiced_s) * RATE_HZ))
        level = 0.85**number
        parts += [
            level * vowel * _envelope(vowel.size, 0.2, 0.5),
            level * breath * _envelope(breath.size, 0.3, 0.3),
        ]
    return np.concatenate(parts)


def _throat(random: np.random.Generator) -> np.ndarray:
    """A cleared throat: rough low voice and noise."""
    seconds = random.uniform(0.2, 0.6)
    voice = _pulses(seconds, random.uniform(60, 110), random)
    rough = voice * (
        1 + 0.8 * np.sign(np.sin(2 * np.pi * random.uniform(20, 35) * np.arange(voice.size) / RATE_HZ))
    )
    noise = 0.5 * random.standard_normal(voice.size)
    return _resonate(rough + noise, (random.uniform(400, 700), 1400), 250) * _envelope(voice.size, 0.1, 0.4)


_MAKERS = {"hum": _hum, "cough": _cough, "laugh": _laugh, "throat": _throat}
