"""What a head does, by name: motion as yaw, pitch, roll and jaw opening."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from timar_retargeting import signals
from timar_retargeting.signals import MOTION_SIGNALS, Neutral, quaternions, signal_columns


def yaw_pitch_roll(rotation_vector: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Read rotations (frames, 3) in FLAME axes as yaw, pitch and roll (frames, 3) in ROS axes [rad]."""
    return signals.yaw_pitch_roll(quaternions(np.atleast_2d(np.asarray(rotation_vector, np.float64))))


def motion_signals(
    motion: npt.ArrayLike, neutral: Neutral | None = None
) -> dict[str, npt.NDArray[np.float64]]:
    """Return (frames,) for each of MOTION_SIGNALS, of motion (frames, 56) [rad]."""
    columns = signal_columns(motion, (neutral or Neutral()).row())
    return dict(zip(MOTION_SIGNALS, columns.T, strict=True))
