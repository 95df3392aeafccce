"""Posture of made-up heads: slow and stationary, with spread and correlation of captured heads."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import optimize, signal
from timar_model.gestures.kinematics import read_kinematics

from ..corpora.levels import FINE_RATE_HZ

POSTURE_SHARE = 0.5
"""Of the captured spread around the partner who is faced: that also holds gestures and the eyes' counterpart,
which a head without moving eyes lacks."""
_SMOOTH = signal.butter(2, 5.0, fs=FINE_RATE_HZ, output="sos")


def posture(steps: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return a neck at rest on the 100 Hz grid, (steps, 3) pitch, yaw, roll [rad], around zero.

    A Gaussian process with Matern covariance of smoothness 5/2: position, speed and acceleration say all that
    can be known of what follows, and its jerk is finite.

    Args:
        steps: Hundredths of a second.
        rng: Source of chance.
    """
    lead = 60 * FINE_RATE_HZ
    out = np.empty((steps, 3))
    for k, name in enumerate(("pitch", "yaw", "roll")):
        axis = read_kinematics()["posture"][name]
        rate = matern_rate(float(axis["correlation_after_1_s"]))
        pole = np.exp(-rate / FINE_RATE_HZ)
        gain = _gain(pole)
        noise = signal.lfilter([gain], np.poly([pole] * 3), rng.standard_normal(steps + lead))
        out[:, k] = POSTURE_SHARE * axis["target_spread_rad"] * signal.sosfiltfilt(_SMOOTH, noise)[lead:]
    return out


def matern_rate(correlation_after_1_s: float) -> float:
    """Return the rate [1/s] at which (1 + a + a^2/3) exp(-a) is the correlation after a second."""
    return float(
        optimize.brentq(lambda a: (1 + a + a * a / 3) * np.exp(-a) - correlation_after_1_s, 1e-3, 50.0)
    )


def _gain(pole: float) -> float:
    """Return the factor that gives white noise through three equal poles a standard deviation of 1."""
    square = pole * pole
    return float(np.sqrt((1 - square) ** 5 / (1 + 4 * square + square * square)))
