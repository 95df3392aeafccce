"""Motion parameters to named signals: what a head does, before any joint of any robot is spoken of.

FLAME axes: x to the subject's left, y up, z out of the face. ROS axes (REP-103): x forward, y left, z up. A
rotation vector changes from one to the other by reordering its components, ``(z, x, y)``: a cyclic and so
proper rotation. The head's rotation is then read as yaw about z, pitch about the turned y, roll about the x
so reached, which is the order of the joints in a neck that yaws at its base.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from timar_common.arkit import ARKIT_NAMES, EXPRESSION_SIZE, JAW_OPEN, JAW_OPEN_RAD, ArkitMap
from timar_common.motion_file import EXPRESSION, JAW, NECK
from timar_common.user_motion import MOTION_CHANNELS

Array = npt.NDArray[np.float64]

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

    def row(self) -> Array:
        """Return neck and jaw as one row (4,) [rad]."""
        return np.array([*self.neck_rad, self.jaw_rad], np.float64)


@dataclasses.dataclass(frozen=True)
class ExpressionChannel:
    """A named number of the face, read from the expression numbers."""

    weights: Array
    """(50,) of the expression numbers."""
    offset: float = 0.0
    """Its value when all of them are zero."""
    jaw_per_rad: float = 0.0
    """What each radian of jaw opening adds."""
    is_share: bool = False
    """Whether it is kept within 0 to 1, as ARKit's blendshapes are."""


def arkit_channels(arkit: ArkitMap) -> dict[str, ExpressionChannel]:
    """Return the blendshapes that a user's map tells, as channels."""
    columns = {name: ARKIT_NAMES.index(name) for name in arkit.told}
    return {
        name: ExpressionChannel(
            arkit.arkit_from_flame[:, column], 0.0, float(arkit.arkit_from_jaw[column]), is_share=True
        )
        for name, column in columns.items()
    }


JAW_ALONE = {JAW_OPEN: ExpressionChannel(np.zeros(EXPRESSION_SIZE), 0.0, 1.0 / JAW_OPEN_RAD, is_share=True)}
"""What of ARKit's blendshapes is known without a map."""


def signal_columns(motion: npt.ArrayLike, rest: Array, channels: Sequence[ExpressionChannel] = ()) -> Array:
    """Turn motion into signals, one column each: MOTION_SIGNALS, then the channels.

    Args:
        motion: (frames, 56) finite motion.
        rest: (4,) or (frames, 4) neck and jaw at rest, as in `Neutral.row` [rad].
        channels: Of the face.

    Returns:
        (frames, 4 + channels).

    Raises:
        ValueError: The shape is another.
    """
    frames = np.asarray(motion, np.float64)
    if frames.ndim != 2 or frames.shape[1] != MOTION_CHANNELS:
        raise ValueError(f"motion has shape {frames.shape}, expected (frames, {MOTION_CHANNELS})")
    columns = np.empty((len(frames), len(MOTION_SIGNALS) + len(channels)))
    # The head's rotation from its neutral pose: inverse(rest) * neck.
    neck = quaternions(frames[:, NECK])
    if rest[..., :3].any():
        neck = _product(_inverse(quaternions(np.atleast_2d(rest)[:, :3])), neck)
    columns[:, :3] = yaw_pitch_roll(neck)
    columns[:, 3] = frames[:, JAW.start] - rest[..., 3]
    if channels:
        weights = np.stack([channel.weights for channel in channels])  # (C, 50)
        rest_of = np.array([(channel.offset, channel.jaw_per_rad, channel.is_share) for channel in channels])
        values = frames[:, EXPRESSION] @ weights.T + rest_of[:, 0] + columns[:, 3:4] * rest_of[:, 1]
        is_share = rest_of[:, 2] > 0.0
        values[:, is_share] = np.clip(values[:, is_share], 0.0, 1.0)
        columns[:, len(MOTION_SIGNALS) :] = values
    return columns


# Quaternions (w, x, y, z), each component an array (n,): few array operations for all frames of a turn.

_Quaternion = tuple[Array, Array, Array, Array]


def quaternions(vectors: Array) -> _Quaternion:
    """Rotations in ROS axes from axis-angles (n, 3) in FLAME axes."""
    half = 0.5 * np.sqrt((vectors * vectors).sum(1))
    scale = 0.5 * np.sinc(half / np.pi)
    x, y, z = (vectors[:, column] * scale for column in FLAME_TO_ROS)
    return np.cos(half), x, y, z


def _inverse(q: _Quaternion) -> _Quaternion:
    return q[0], -q[1], -q[2], -q[3]


def _product(a: _Quaternion, b: _Quaternion) -> _Quaternion:
    return (
        a[0] * b[0] - a[1] * b[1] - a[2] * b[2] - a[3] * b[3],
        a[0] * b[1] + a[1] * b[0] + a[2] * b[3] - a[3] * b[2],
        a[0] * b[2] - a[1] * b[3] + a[2] * b[0] + a[3] * b[1],
        a[0] * b[3] + a[1] * b[2] - a[2] * b[1] + a[3] * b[0],
    )


def yaw_pitch_roll(q: _Quaternion) -> Array:
    """Intrinsic z-y-x angles (n, 3); quiet at a quarter turn of pitch, where yaw and roll merge.

    Source: J. Diebel, "Representing Attitude: Euler Angles, Unit Quaternions, and Rotation Vectors", 2006.
    """
    w, x, y, z = q
    yaw = np.arctan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z))
    pitch = np.arcsin(np.clip(2.0 * (w * y - z * x), -1.0, 1.0))
    roll = np.arctan2(2.0 * (w * x + y * z), 1.0 - 2.0 * (x * x + y * y))
    return np.stack([yaw, pitch, roll], axis=1)
