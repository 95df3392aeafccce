"""Loudness of speech on a fine grid: what jaw rules, data checks and evaluation all measure alike."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage, signal
from timar_common.clock import SAMPLE_RATE_HZ, SAMPLES_PER_FRAME

FINE_RATE_HZ = 100
FINE_HOP = SAMPLE_RATE_HZ // FINE_RATE_HZ
FLOOR_DB = -80.0

_VOICED_BAND = signal.butter(2, (150.0, 3500.0), "bandpass", fs=SAMPLE_RATE_HZ, output="sos")

Float64Array = npt.NDArray[np.float64]


def fine_level_db(samples: npt.NDArray[np.float32], *, is_voiced_band: bool = False) -> Float64Array:
    """Return the RMS level around each instant k / 100 s.

    Args:
        samples: (n,) at 16 kHz.
        is_voiced_band: Measure 150..3500 Hz only, where vowels are and hiss is not.

    Returns:
        (n // 160,) level [dBFS], at least -80; entry k is centred on sample 160 k.
    """
    filtered = signal.sosfiltfilt(_VOICED_BAND, samples) if is_voiced_band and len(samples) > 64 else samples
    power = np.square(filtered, dtype=np.float64)
    blocks = power[: len(power) // (FINE_HOP // 2) * (FINE_HOP // 2)].reshape(-1, FINE_HOP // 2).sum(axis=1)
    # Two half-blocks on either side of the instant: a window of 10 ms centred on it.
    before = np.concatenate([[0.0], blocks])[: len(blocks)]
    centred = (blocks + before)[::2][: len(samples) // FINE_HOP] / FINE_HOP
    return np.maximum(10 * np.log10(centred + 1e-12), FLOOR_DB)


def frame_level_db(samples: npt.NDArray[np.float32]) -> Float64Array:
    """Return the RMS level of the 40 ms centred on the instant each frame is shown, sample 640 f [dBFS]."""
    padded = np.concatenate([np.zeros(SAMPLES_PER_FRAME // 2), samples])
    frames = len(samples) // SAMPLES_PER_FRAME
    power = np.square(padded[: frames * SAMPLES_PER_FRAME], dtype=np.float64).reshape(frames, -1).mean(axis=1)
    return np.maximum(10 * np.log10(power + 1e-12), FLOOR_DB)


def active_level_db(samples: npt.NDArray[np.float32]) -> float:
    """Return the level of what sounds: the power mean of blocks within 20 dB of the loud ones [dBFS]."""
    level = fine_level_db(samples)
    if level.size == 0:
        return FLOOR_DB
    loud = np.percentile(level, 95)
    active = level[level > max(loud - 20.0, FLOOR_DB)]
    return float(10 * np.log10(np.mean(10 ** (active / 10)))) if active.size else FLOOR_DB


def speech_span(samples: npt.NDArray[np.float32], margin_s: float = 0.03) -> tuple[int, int] | None:
    """Return [start, end) of what sounds in a recording, or None when nothing does [samples]."""
    active = is_speaking(samples, min_pause_s=0.0)
    if not active.any():
        return None
    steps = np.flatnonzero(active).tolist()
    margin = int(margin_s * SAMPLE_RATE_HZ)
    return max(0, steps[0] * FINE_HOP - margin), min(len(samples), (steps[-1] + 1) * FINE_HOP + margin)


def is_speaking(samples: npt.NDArray[np.float32], min_pause_s: float = 0.2) -> npt.NDArray[np.bool_]:
    """Return for each hundredth of a second of a clean recording whether its speaker speaks.

    Args:
        samples: (n,) one voice without noise.
        min_pause_s: Shorter silences belong to the speech around them.

    Returns:
        (n // 160,) bool.
    """
    level = fine_level_db(samples)
    if level.size == 0 or level.max() <= -60.0:
        return np.zeros(level.size, np.bool_)
    active = level > max(np.percentile(level[level > -60.0], 95) - 30.0, -60.0)
    closing = round(min_pause_s * FINE_RATE_HZ)
    if closing > 1:
        padded = np.pad(active, closing)
        active = ndimage.binary_closing(padded, np.ones(closing))[closing:-closing]
    return active


def runs(flags: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return [start, end) of every run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(start), int(end)) for start, end in zip(edges[::2], edges[1::2], strict=True)]
