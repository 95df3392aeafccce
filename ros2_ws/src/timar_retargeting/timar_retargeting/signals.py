"""Motion parameters to named signals: what a head does, before any joint of any robot is spoken of.

FLAME axes: x to the subject's left, y up, z out of the face. ROS axes (REP-103): x forward, y left, z up. A
rotation vector changes from one to the other by reordering its components, ``(z, x, y)``: a cyclic and so
proper rotation. The head's rotation is then read as yaw about z, pitch about the turned y, roll about the x
so reached, which is the order of the joints in a neck that yaws at its base.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

Array = npt.NDArray[np.float64]

MOTION_SIZE = 56
EXPRESSION = slice(0, 50)
JAW = slice(50, 53)
NECK = slice(53, 56)

NECK_SIGNALS = ("neck_yaw", "neck_pitch", "neck_roll")
"""Positive: to its left; nose down; towards its right shoulder [rad]."""
JAW_SIGNAL = "jaw_opening"
"""Positive: open [rad]."""
MOTION_SIGNALS = (*NECK_SIGNALS, JAW_SIGNAL)

FLAME_TO_ROS = (2, 0, 1)


@dataclasses.dataclass(frozen=True)
class Neutral:
    """The pose of the head at rest, from which every signal is measured."""

    neck_rad: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Axis-angle in FLAME axes [rad]."""
    jaw_rad: float = 0.0
    """Opening of the resting jaw, its rotation about x [rad]."""


def yaw_pitch_roll(rotation_vector: npt.ArrayLike) -> Array:
    """Read rotations in FLAME axes as yaw, pitch and roll in ROS axes.

    Args:
        rotation_vector: (frames, 3) axis-angle in FLAME axes [rad].

    Returns:
        (frames, 3) yaw, pitch, roll [rad]; pitch lies within a quarter turn.

    Source: REP-103 for axes and signs.
    """
    vectors = np.atleast_2d(np.asarray(rotation_vector, np.float64))
    return _angles(Rotation.from_rotvec(vectors[:, FLAME_TO_ROS]))


def motion_signals(
    motion: npt.ArrayLike,
    neutral: Neutral | None = None,
    expressions: Mapping[str, npt.ArrayLike] | None = None,
) -> dict[str, Array]:
    """Turn motion into named signals.

    Args:
        motion: (frames, 56) finite motion: expression 50, jaw 3, neck 3.
        neutral: The resting pose; None: zero.
        expressions: Named channels, each (50,) weights of the expression numbers.

    Returns:
        (frames,) for each of MOTION_SIGNALS [rad] and for each channel.

    Raises:
        ValueError: The shape is another.
    """
    frames = np.asarray(motion, np.float64)
    if frames.ndim != 2 or frames.shape[1] != MOTION_SIZE:
        raise ValueError(f"motion has shape {frames.shape}, expected (frames, {MOTION_SIZE})")
    rest = neutral or Neutral()
    resting_neck = Rotation.from_rotvec(np.asarray(rest.neck_rad, np.float64)[list(FLAME_TO_ROS)])
    angles = _angles(resting_neck.inv() * Rotation.from_rotvec(frames[:, NECK][:, FLAME_TO_ROS]))
    signals = {name: angles[:, column] for column, name in enumerate(NECK_SIGNALS)}
    signals[JAW_SIGNAL] = frames[:, JAW][:, 0] - rest.jaw_rad
    for name, weights in (expressions or {}).items():
        signals[name] = frames[:, EXPRESSION] @ np.asarray(weights, np.float64)
    return signals


def _angles(rotation: Rotation) -> Array:
    """Intrinsic z-y-x angles from the matrix; quiet at a quarter turn of pitch, where yaw and roll merge."""
    matrix = np.atleast_3d(rotation.as_matrix()).reshape(-1, 3, 3)
    yaw = np.arctan2(matrix[:, 1, 0], matrix[:, 0, 0])
    pitch = np.arcsin(np.clip(-matrix[:, 2, 0], -1.0, 1.0))
    roll = np.arctan2(matrix[:, 2, 1], matrix[:, 2, 2])
    return np.stack([yaw, pitch, roll], axis=1)
