"""Speech with labels: the shipped SYNTHETIC conversation, near and far; people's of TIMAR_EXTRA_DATA."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from scipy.signal import fftconvolve

FOLDER = Path(__file__).parents[2] / "examples" / "data" / "conversation"
USER_VOICE, AGENT_VOICE = (FOLDER / f"conversation_speaker{number}.wav" for number in (1, 2))
FRAME = 320


class LabelledSpeech(NamedTuple):
    """What one microphone heard, and who speaks when."""

    name: str
    samples: np.ndarray
    """(n,) int16 at 16 kHz, whole frames of 20 ms."""
    stretches: list[tuple[float, float, str]]
    """Start [s], end [s] and speaker of each."""


def read_rttm(path: Path) -> list[tuple[float, float, str]]:
    fields = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    return [(float(f[3]), float(f[3]) + float(f[4]), f[7]) for f in fields]


def near() -> LabelledSpeech:
    """Return the conversation as a microphone between the two hears it."""
    sound = sum(soundfile.read(path)[0] for path in (USER_VOICE, AGENT_VOICE))
    return LabelledSpeech("near", _int16(sound), read_rttm(FOLDER / "conversation.rttm"))


def far() -> LabelledSpeech:
    """Return the same from the other end of a room: faint, with half a second of reverberation, in noise."""
    random = np.random.default_rng(0)
    heard = near()
    response = random.standard_normal(8_000) * 10 ** (-3 * np.arange(8_000) / 8_000)
    dry = heard.samples / 32_768
    wet = fftconvolve(dry, response / np.linalg.norm(response))[: dry.size]
    sound = 0.06 * (0.5 * dry + 0.5 * wet) + 0.001 * random.standard_normal(dry.size)
    return heard._replace(name="far", samples=_int16(sound))


def without_pauses(path: Path, speaker: str) -> np.ndarray:
    """Return what one of the two says, one stretch a fifth of a second after the other, (n,) within ±1."""
    voice, _ = soundfile.read(path)
    stretches = [s for s in read_rttm(FOLDER / "conversation.rttm") if s[2] == speaker]
    said = [voice[round(start_s * 16_000) : round(end_s * 16_000)] for start_s, end_s, _ in stretches]
    return np.concatenate([np.append(sound, np.zeros(3200)) for sound in said])


def of_people() -> list[LabelledSpeech]:
    """Return the recordings with labels (NAME.wav, NAME.rttm) that TIMAR_EXTRA_DATA holds, if any."""
    folder = os.environ.get("TIMAR_EXTRA_DATA")
    paths = sorted(Path(folder).rglob("*.rttm")) if folder else []
    found = [path for path in paths if path.with_suffix(".wav").is_file()]
    return [
        LabelledSpeech(path.stem, _int16(soundfile.read(path.with_suffix(".wav"))[0]), read_rttm(path))
        for path in found
    ]


def _int16(sound: np.ndarray) -> np.ndarray:
    whole = sound[: len(sound) // FRAME * FRAME]
    return np.clip(np.rint(whole * 32_768), -32_768, 32_767).astype(np.int16)
