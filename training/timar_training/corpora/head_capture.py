"""Kinematics of real heads from motion capture: strokes of nods, shakes and tilts; posture and its spectrum.

Reads an npz with ``angles_deg`` (people, frames, >= 3: roll, pitch, yaw) and ``rate_hz``, such as made from
https://github.com/MCMartinLee/Conversation_Demo (MIT licence). The capture has no labels: a stroke is what
turns round fast and far enough, so these are strokes of all quick head movements and not of nods alone.
"""

from __future__ import annotations

import dataclasses
import itertools
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import signal

Float64Array = npt.NDArray[np.float64]

ROLL, PITCH, YAW = 0, 1, 2
BANDS_HZ = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)


@dataclasses.dataclass(frozen=True)
class _StrokeRule:
    axis: int
    band_hz: tuple[float, float]
    least_rad: float
    """From the head's place to the turning point."""


RULES = {
    "nod": _StrokeRule(PITCH, (0.7, 6.0), 0.02),
    "shake": _StrokeRule(YAW, (0.7, 6.0), 0.03),
    "tilt": _StrokeRule(ROLL, (0.25, 3.0), 0.03),
}


def fit_kinematics(path: Path) -> dict[str, Any]:
    """Return strokes by kind and posture by axis, as plain numbers for YAML.

    Raises:
        ValueError: The file is no such capture.
    """
    angles_rad, rate_hz = _read(path)
    strokes = {kind: _strokes(angles_rad[..., rule.axis], rate_hz, rule) for kind, rule in RULES.items()}
    axes = {"pitch": PITCH, "yaw": YAW, "roll": ROLL}
    posture = {name: _posture(angles_rad[..., axis], rate_hz) for name, axis in axes.items()}
    around = _around_targets(angles_rad, rate_hz)
    for name, axis in axes.items():
        posture[name]["target_spread_rad"] = round(float(around[axis]), 4)
    return {
        "people": len(angles_rad), "seconds": round(angles_rad.shape[1] / rate_hz, 1), "strokes": strokes,
        "posture": posture,
    }  # fmt: skip


def stroke_arrays(kinematics: dict[str, Any], kinds: tuple[str, ...]) -> dict[str, npt.NDArray[np.float32]]:
    """Return mean and spread of the logarithms of pace and size of each kind, as weights hold them."""
    rows = [kinematics["strokes"][kind] for kind in kinds]
    return {
        name: np.array([[np.log(row[name]), row[f"{name}_spread"]] for row in rows], np.float32)
        for name in ("stroke_hz", "size_rad")
    }


def _read(path: Path) -> tuple[Float64Array, float]:
    try:
        with np.load(path, allow_pickle=False) as file:
            angles_deg, rate_hz = file["angles_deg"].astype(np.float64), float(file["rate_hz"])
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} is no head capture ({error}); expected an npz of angles_deg and rate_hz"
        ) from error
    if angles_deg.ndim != 3 or angles_deg.shape[2] < 3 or not np.isfinite(angles_deg).all() or rate_hz < 25:
        raise ValueError(
            f"{path} has angles_deg of shape {angles_deg.shape} at {rate_hz:g} Hz, "
            "expected (people, frames, >= 3) finite numbers at 25 Hz or more"
        )
    return np.unwrap(np.radians(angles_deg[..., :3]), axis=1), rate_hz


def _strokes(angle_rad: Float64Array, rate_hz: float, rule: _StrokeRule) -> dict[str, float]:
    """Return medians and spreads of strokes: a swing to a turning point and back to the next of its kind."""
    sos = signal.butter(2, rule.band_hz, "bandpass", fs=rate_hz, output="sos")
    sizes, paces, out_shares, spreads, decays = [], [], [], [], []
    for person in angle_rad:
        swing = signal.sosfiltfilt(sos, person)
        for sign in (1, -1) if rule.axis != PITCH else (1,):
            bottoms, _ = signal.find_peaks(sign * swing, prominence=2 * rule.least_rad)
            tops, _ = signal.find_peaks(-sign * swing)
            run: list[tuple[float, float, float]] = []
            for bottom in bottoms:
                before, after = tops[tops < bottom], tops[tops > bottom]
                if not len(before) or not len(after):
                    continue
                begin, end = before[-1], after[0]
                out, back = abs(swing[bottom] - swing[begin]), abs(swing[bottom] - swing[end])
                period = (end - begin) / rate_hz
                size = 0.5 * (out + back) * (0.5 if rule.axis == YAW else 1.0)
                sizes.append(size)
                paces.append(1 / period)
                out_shares.append((bottom - begin) / (end - begin))
                if run and begin / rate_hz - run[-1][0] < 0.15:
                    spreads.append(np.log(period / run[-1][1]))
                    decays.append(np.log(size / run[-1][2]))
                run.append((end / rate_hz, period, size))

    def middle(values: list[float]) -> float:
        return round(float(np.median(values)), 4)

    return {
        "count": len(sizes),
        "stroke_hz": middle(paces), "stroke_hz_spread": round(float(np.std(np.log(paces))), 3),
        "size_rad": middle(sizes), "size_rad_spread": round(float(np.std(np.log(sizes))), 3),
        "period_spread": round(float(np.std(spreads) / np.sqrt(2)), 3),
        "size_ratio": round(float(np.exp(np.median(decays))), 3),
        "size_ratio_spread": round(float(np.std(decays) / np.sqrt(2)), 3),
        "out_share": middle(out_shares), "out_share_spread": round(float(np.std(out_shares)), 3),
    }  # fmt: skip


def _around_targets(angles_rad: Float64Array, rate_hz: float) -> Float64Array:
    """Return (3,) the median spread of slow motion around the one of two partners that a head faces [rad].

    A captured head turns between two partners; a head with one partner does not. The two directions are
    found in yaw by two means.
    """
    slow = signal.sosfiltfilt(signal.butter(2, 0.5, fs=rate_hz, output="sos"), angles_rad, axis=1)
    spreads = []
    for person in slow:
        yaw = person[:, YAW]
        means = np.percentile(yaw, [25, 75])
        for _ in range(50):
            is_second = yaw > means.mean()
            means = np.array([yaw[~is_second].mean(), yaw[is_second].mean()])
        around = person.copy()
        for part in (is_second, ~is_second):
            around[part] -= person[part].mean(0)
        spreads.append(around.std(0))
    return np.median(spreads, axis=0)


def _posture(angle_rad: Float64Array, rate_hz: float) -> dict[str, Any]:
    """Return spread, speed and the share of the variance in octaves of frequency."""
    centred = angle_rad - angle_rad.mean(1, keepdims=True)
    frequency, power = signal.welch(centred, rate_hz, nperseg=int(60 * rate_hz), detrend="constant")
    power = power.mean(0)
    shares = [
        power[(frequency >= low) & (frequency < high)].sum() for low, high in itertools.pairwise(BANDS_HZ)
    ]
    slow = signal.sosfiltfilt(signal.butter(2, 0.5, fs=rate_hz, output="sos"), centred)
    lags = np.array(
        [(person[: -int(rate_hz)] * person[int(rate_hz) :]).mean() / person.var() for person in slow]
    )
    return {
        "spread_rad": round(float(np.median(centred.std(1))), 4),
        "slow_spread_rad": round(float(np.median(slow.std(1))), 4),
        "correlation_after_1_s": round(float(np.median(lags)), 3),
        "speed_rad_s": round(float(np.median(np.sqrt(np.square(np.diff(centred) * rate_hz).mean(1)))), 3),
        "bands_hz": list(BANDS_HZ),
        "variance_shares": np.round(np.array(shares) / np.sum(shares), 4).tolist(),
    }
