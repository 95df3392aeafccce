"""Features by which an interruption is told from a back-channel, a cough or a laugh.

A short sound is described by its spectrum over time (a hum has nothing above 1 kHz, a word changes), by how
long it is, how much of it is voiced, how its pitch moves, and how its loudness bursts (a cough) or pulses
(laughter). Level is not among them: it is judged apart, against the user's own.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt
from timar_common.clock import SAMPLE_RATE_HZ, SAMPLES_PER_MS
from timar_common.pcm import int16_to_float

FRAME, HOP = 25 * SAMPLES_PER_MS, 10 * SAMPLES_PER_MS
HOP_S = HOP / SAMPLE_RATE_HZ
BANDS, STEPS = 20, 12
SCALARS = ("length", "voiced_share", "pitch_spread", "pitch_movement", "burst", "pulsing")
COUNT = BANDS * STEPS + len(SCALARS)
LONGEST = 4 * SAMPLE_RATE_HZ
"""Of a longer sound the newest part is described [samples]."""
BEFORE = SAMPLE_RATE_HZ // 2
"""So much before the start that the detector found is looked at for the true one [samples]."""
_LONGEST_CLOSURE = 12
"""A sound belongs to one that begins no more than so many frames later: the stop in "stop"."""
_SPECTRUM = 1024
LOWEST_PITCH_HZ, HIGHEST_PITCH_HZ = 70.0, 400.0
_VOICED = 0.55
"""Normalised autocorrelation from which a frame is voiced."""

Floats = npt.NDArray[np.float64]


def power_of(samples: npt.NDArray[np.int16]) -> Floats:
    """Return the power spectra of a sound, a row every 10 ms.

    Args:
        samples: (n,) at 16 kHz; what is shorter than a frame of 25 ms is padded.

    Returns:
        (frames, _SPECTRUM / 2 + 1), at least one frame.
    """
    sound = int16_to_float(samples[-LONGEST:]).astype(np.float64)
    sound = np.pad(sound, (0, max(0, FRAME - sound.size)))
    frames = np.lib.stride_tricks.sliding_window_view(sound, FRAME)[::HOP]
    return np.asarray(np.abs(np.fft.rfft(frames * np.hanning(FRAME), _SPECTRUM, axis=1)) ** 2)


def loud_part(power: Floats, begins: int = 0) -> tuple[int, int]:
    """Return [first, end) of a sound's frames: within 30 dB of its loudest, and above what was before it.

    Args:
        power: (frames, _SPECTRUM / 2 + 1).
        begins: Frame at which a detector found its start; what leads up to it without a pause belongs to it.
    """
    level = power.sum(axis=1)
    least = level.max() * 1e-3
    if begins:
        least = max(least, 4.0 * float(np.percentile(level[:begins], 20)))
    loud = np.flatnonzero(level > least)
    start = int(np.searchsorted(loud, begins))
    if start == loud.size:
        return 0, 0
    while start and loud[start] - loud[start - 1] <= _LONGEST_CLOSURE:
        start -= 1
    return int(loud[start]), int(loud[-1]) + 1


def describe(power: Floats, warp: float = 1.0) -> Floats:
    """Describe a sound from its first to its last loud frame.

    Args:
        power: (frames, _SPECTRUM / 2 + 1), as `power_of` returns it.
        warp: Scale of the frequency axis; other than 1 stands for a longer or shorter throat, in fitting.

    Returns:
        (COUNT,), finite, each about -1 to 1.
    """
    count = power.shape[0]
    bands = np.log(power @ _filterbank(warp).T + 1e-6)
    place = np.linspace(0.0, count - 1.0, 2 * STEPS)
    before = place.astype(int)
    share = (place - before)[:, None]
    after = np.minimum(before + 1, count - 1)
    steps = (bands[before] * (1 - share) + bands[after] * share).reshape(STEPS, 2, BANDS).mean(axis=1)
    return np.concatenate([(np.maximum(steps - steps.max(), -8.0) / 4.0 + 1.0).ravel(), _scalars(power)])


def _scalars(power: Floats) -> Floats:
    level_db = 10.0 * np.log10(power.sum(axis=1) + 1e-9)
    is_loud = level_db > level_db.max() - 25.0
    pitch_st, is_voiced = _pitch(power)
    is_voiced &= is_loud
    voiced_st = pitch_st[is_voiced]
    moves_st = np.abs(np.diff(pitch_st))[is_voiced[1:] & is_voiced[:-1]]
    return np.array(
        [
            min(2.0 * len(level_db) * HOP_S, 5.0) - 1.0,
            is_voiced.sum() / is_loud.sum(),
            min(float(np.std(voiced_st)), 8.0) / 4.0 if voiced_st.size > 1 else 0.0,
            min(float(np.median(moves_st)), 2.0) if moves_st.size else 0.0,
            _burst(level_db),
            _pulsing(level_db),
        ]
    )


@functools.lru_cache(maxsize=64)
def _filterbank(warp: float) -> Floats:
    """Return (BANDS, _SPECTRUM / 2 + 1) triangles, equally wide on the mel scale from 100 Hz to 7 kHz."""
    mel = np.linspace(_mel(100.0), _mel(7000.0), BANDS + 2)
    edges_hz = 700.0 * (10.0 ** (mel / 2595.0) - 1.0) * warp
    bins_hz = np.arange(_SPECTRUM // 2 + 1) * SAMPLE_RATE_HZ / _SPECTRUM
    rise = (bins_hz - edges_hz[:-2, None]) / np.diff(edges_hz)[:-1, None]
    fall = (edges_hz[2:, None] - bins_hz) / np.diff(edges_hz)[1:, None]
    return np.asarray(np.maximum(0.0, np.minimum(rise, fall)))


def _mel(frequency_hz: float) -> float:
    return 2595.0 * float(np.log10(1.0 + frequency_hz / 700.0))


@functools.cache
def _window_correlation() -> Floats:
    """Return the autocorrelation of the window, by which that of a windowed frame is divided."""
    correlation = np.fft.irfft(np.abs(np.fft.rfft(np.hanning(FRAME), _SPECTRUM)) ** 2)
    return np.asarray(correlation / correlation[0])


def _pitch(power: Floats) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Return pitch in semitones, and where a frame is voiced, from the power spectra of frames.

    Source: P. Boersma, "Accurate short-term analysis of the fundamental frequency" (1993): the
    autocorrelation of a windowed frame divided by that of the window.
    """
    low, high = int(SAMPLE_RATE_HZ / HIGHEST_PITCH_HZ), int(SAMPLE_RATE_HZ / LOWEST_PITCH_HZ)
    correlation = np.fft.irfft(power, axis=1)
    normal = correlation[:, low:high] / (correlation[:, :1] + 1e-9) / _window_correlation()[low:high]
    best = normal.argmax(axis=1)
    strength = normal[np.arange(best.size), best]
    return 12.0 * np.log2(SAMPLE_RATE_HZ / (low + best)), strength > _VOICED


def _burst(level_db: Floats) -> float:
    """Return how steeply a sound rises and then dies away: high for a cough or a knock."""
    peak = int(level_db.argmax())
    rise_db = level_db[peak] - level_db[max(0, peak - 4)]
    after = level_db[peak : peak + 15]
    return float(np.clip((rise_db + after[0] - after[-1]) / 30.0, 0.0, 2.0))


def _pulsing(level_db: Floats) -> float:
    """Return how much of the movement of loudness is at 3 to 7 Hz: high for laughter."""
    if level_db.size < 30:
        return 0.0
    envelope = np.maximum(level_db, level_db.max() - 30.0)
    power = np.abs(np.fft.rfft((envelope - envelope.mean()) * np.hanning(envelope.size), 256)) ** 2
    rate_hz = np.arange(power.size) / HOP_S / 256
    return float(power[(rate_hz >= 3.0) & (rate_hz <= 7.0)].sum() / (power[1:].sum() + 1e-9))
