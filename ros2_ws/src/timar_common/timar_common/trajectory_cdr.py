"""The points of a JointTrajectory on an even grid, and their CDR in a few array operations.

Points are the most that a head sends: one by one they cost as much as planning them. The layout is that of
OMG's DDS-XTypes, XCDR1, little endian: a float64 array is its length (uint32), padding to a multiple of 8
bytes from the start of the body, and the numbers. So every point has one layout, but for the padding before
the first number of the first.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from rosbags.typesys.store import Typestore

TYPE = "trajectory_msgs/msg/JointTrajectory"
_NO_EFFORT = np.zeros(0)
_HEADER_BYTES = 4


class TrajectoryPoints(Sequence[Any]):
    """Messages of type JointTrajectoryPoint of a curve, made when they are read: most go out as bytes alone.

    Args:
        curve: (3, K, J) positions, velocities and accelerations.
        step_ns: From one point to the next [ns].
        types: Where the message types are defined.
    """

    def __init__(self, curve: npt.NDArray[np.float64], step_ns: int, types: Typestore) -> None:
        self.curve, self.step_ns, self._types = curve, step_ns, types.types

    def __len__(self) -> int:
        return self.curve.shape[1]

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[k] for k in range(len(self))[index]]
        seconds, nanoseconds = divmod(range(len(self))[index] * self.step_ns, 10**9)
        since = self._types["builtin_interfaces/msg/Duration"](sec=seconds, nanosec=nanoseconds)
        point = self._types["trajectory_msgs/msg/JointTrajectoryPoint"]
        return point(*self.curve[:, index], _NO_EFFORT, since)


@functools.lru_cache(maxsize=16)
def _layout(joints: int) -> np.dtype[Any]:
    fields: list[Any] = []
    for name in ("positions", "velocities", "accelerations"):
        fields += [(f"{name}_size", "<u4"), (f"{name}_padding", "<u4"), (name, "<f8", joints)]
    del fields[1]  # The point before ends where no padding is needed.
    return np.dtype([*fields, ("effort_size", "<u4"), ("sec", "<i4"), ("nanosec", "<u4")])


def serialize_trajectory(message: Any, types: Typestore) -> bytes:
    """Return the bytes that `types.serialize_cdr` gives for a trajectory of `TrajectoryPoints`."""
    points: TrajectoryPoints = message.points
    message.points = []
    try:
        start = bytes(types.serialize_cdr(message, TYPE))[:-4]  # Without the number of points, which is 0.
    finally:
        message.points = points
    positions, velocities, accelerations = points.curve
    count, joints = positions.shape
    packed = np.zeros(count, _layout(joints))
    for name in ("positions_size", "velocities_size", "accelerations_size"):
        packed[name] = joints
    packed["positions"], packed["velocities"], packed["accelerations"] = positions, velocities, accelerations
    packed["sec"], packed["nanosec"] = np.divmod(points.step_ns * np.arange(count), 10**9)
    body, size = packed.tobytes(), np.uint32(count).tobytes()
    is_padded = (len(start) + len(size) - _HEADER_BYTES) % 8 == 0
    return start + size + body[:4] + (b"\0" * 4 if is_padded else b"") + body[4:]
