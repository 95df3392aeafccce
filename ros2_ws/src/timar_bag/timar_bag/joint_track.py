"""Joint positions over time: what was commanded, as far as it was in force, and what was measured."""

from __future__ import annotations

import array
import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


class JointCurve(NamedTuple):
    """One joint over time."""

    time_ns: Integers
    """(N,) ROS time, rising [ns]."""
    position_rad: Floats
    """(N,)."""
    velocity_rad_s: Floats
    """(N,); NaN where no velocity was given."""


@dataclasses.dataclass(frozen=True)
class JointSeries:
    """Positions of all joints over time."""

    joints: dict[str, JointCurve]
    message_receive_ns: Integers
    """When each message came [ns]."""

    def of(self, name: str) -> JointCurve:
        """Return one joint's curve; empty when it is not there."""
        return self.joints.get(name) or JointCurve(np.zeros(0, np.int64), np.zeros(0), np.zeros(0))


class StateTrack:
    """Collect points in time, whatever joints each speaks of; 24 bytes for each joint of a point."""

    def __init__(self) -> None:
        # By joint: times, positions, velocities.
        self._columns: dict[str, tuple[array.array, array.array, array.array]] = {}
        self._receive_ns = array.array("q")

    def append(self, time_ns: int, message: Any) -> None:
        """Take a sensor_msgs/JointState in.

        Raises:
            ValueError: Its arrays do not fit its names, or a position is not finite.
        """
        count = len(message.name)
        if len(message.position) != count or len(message.velocity) not in (0, count):
            raise ValueError(f"{len(message.position)} positions do not fit {count} joints")
        position_rad = np.asarray(message.position, np.float64)
        if not np.isfinite(position_rad).all():
            raise ValueError("a joint's position is not finite")
        self.append_message(time_ns)
        velocity = message.velocity if len(message.velocity) else np.full(count, np.nan)
        self.append_points(message.name, [time_ns], position_rad[None], np.asarray(velocity)[None])

    def append_message(self, receive_ns: int) -> None:
        """Note that a message came."""
        self._receive_ns.append(receive_ns)

    def append_points(
        self, names: Sequence[str], time_ns: npt.ArrayLike, position_rad: Floats, velocity_rad_s: Floats
    ) -> None:
        """Add points.

        Args:
            names: The J joints they speak of.
            time_ns: (N,) ROS times [ns].
            position_rad: (N, J), finite.
            velocity_rad_s: (N, J); NaN where not given.
        """
        times = np.asarray(time_ns, np.int64).tobytes()
        for name, position, velocity in zip(names, position_rad.T, velocity_rad_s.T, strict=True):
            if name not in self._columns:
                self._columns[name] = (array.array("q"), array.array("d"), array.array("d"))
            for column, data in zip(
                self._columns[name], (times, position.tobytes(), velocity.tobytes()), strict=True
            ):
                column.frombytes(data)

    def finish(self) -> JointSeries:
        """Return the series in order of time."""
        joints = {}
        for name, columns in self._columns.items():
            time_ns = np.array(columns[0], np.int64)
            order = np.argsort(time_ns, kind="stable")
            joints[name] = JointCurve(time_ns[order], *(np.array(column)[order] for column in columns[1:]))
        return JointSeries(joints, np.array(self._receive_ns, np.int64))


class RecordedCommands:
    """Merge trajectories as a controller does: each holds until the start of the next one."""

    def __init__(self) -> None:
        self._track = StateTrack()
        self._newest: tuple[list[str], Integers, Floats, Floats] | None = None

    def append(self, receive_ns: int, stamp_ns: int, message: Any) -> None:
        """Take a trajectory_msgs/JointTrajectory in; a stamp of 0 means that it starts when it comes.

        Raises:
            ValueError: It has points that do not fit its joints or do not rise in time.
        """
        start_ns, names, points = stamp_ns or receive_ns, message.joint_names, message.points
        offsets = [p.time_from_start.sec * 10**9 + p.time_from_start.nanosec for p in points]
        times_ns = start_ns + np.array(offsets, np.int64)
        if any(len(point.positions) != len(names) for point in points):
            raise ValueError(f"a point does not have one position for each of {len(names)} joints")
        position = np.array([point.positions for point in points], np.float64).reshape(-1, len(names))
        velocity = np.full_like(position, np.nan)
        for row, point in zip(velocity, points, strict=True):
            if len(point.velocities) == len(names):
                row[:] = point.velocities
        if not np.isfinite(position).all():
            raise ValueError("a commanded position is not finite")
        if (np.diff(times_ns) <= 0).any():
            raise ValueError("the points of a trajectory do not rise in time")
        self._track.append_message(receive_ns)
        self._keep_newest(start_ns)
        self._newest = (names, times_ns, position, velocity)

    def finish(self) -> JointSeries:
        """Return the commands in force."""
        self._keep_newest(None)
        return self._track.finish()

    def _keep_newest(self, until_ns: int | None) -> None:
        """Keep the points of the newest trajectory that lie before its successor's start."""
        if self._newest is None:
            return
        (names, times_ns, position, velocity), self._newest = self._newest, None
        count = times_ns.size if until_ns is None else int(np.searchsorted(times_ns, until_ns))
        if count:
            self._track.append_points(names, times_ns[:count], position[:count], velocity[:count])
