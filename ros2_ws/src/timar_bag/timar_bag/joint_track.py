"""Joint positions over time: what was commanded, as far as it was in force, and what was measured."""

from __future__ import annotations

import array
import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class JointSeries:
    """Positions of all joints over time."""

    names: tuple[str, ...]
    time_ns: Integers
    """(N,) ROS time, rising [ns]."""
    position_rad: Floats
    """(N, J); NaN where a message did not speak of a joint."""
    velocity_rad_s: Floats
    """(N, J); NaN where no velocity was given."""
    message_receive_ns: Integers
    """When each message came [ns]."""
    begins: Integers
    """Index of the first point of each message that contributed any."""

    def of(self, name: str) -> tuple[Integers, Floats]:
        """Return times and positions of one joint, without the gaps; empty when it is not there."""
        if name not in self.names:
            return np.zeros(0, np.int64), np.zeros(0)
        position = self.position_rad[:, self.names.index(name)]
        known = np.isfinite(position)
        return self.time_ns[known], position[known]


@dataclasses.dataclass(frozen=True, eq=False)
class _Points:
    """Points that speak of the same joints, in compact rows: an hour of them must fit into memory."""

    columns: Integers
    row: array.array = dataclasses.field(default_factory=lambda: array.array("q"))
    time_ns: array.array = dataclasses.field(default_factory=lambda: array.array("q"))
    position_rad: array.array = dataclasses.field(default_factory=lambda: array.array("d"))
    velocity_rad_s: array.array = dataclasses.field(default_factory=lambda: array.array("d"))


class StateTrack:
    """Collect points in time, whatever joints each speaks of."""

    def __init__(self) -> None:
        self._names: dict[str, int] = {}
        self._groups: dict[tuple[str, ...], _Points] = {}
        self._count = 0
        self._receive_ns = array.array("q")
        self._begins = array.array("q")

    def push(self, time_ns: int, message: Any) -> None:
        """Take a sensor_msgs/JointState in.

        Raises:
            ValueError: Its arrays do not fit its names, or a position is not finite.
        """
        count = len(message.name)
        if len(message.position) != count or len(message.velocity) not in (0, count):
            raise ValueError(f"{len(message.position)} positions do not fit {count} joints")
        self.begin_message(time_ns)
        self.add(time_ns, message.name, message.position, message.velocity)

    def begin_message(self, receive_ns: int) -> None:
        """Note that a message came."""
        self._receive_ns.append(receive_ns)

    def begin_points(self) -> None:
        """Note that the next point is the first of another message."""
        self._begins.append(self._count)

    def add(self, time_ns: int, names: Any, position: npt.ArrayLike, velocity: npt.ArrayLike) -> None:
        """Add one point.

        Raises:
            ValueError: A position is not finite.
        """
        position_rad = np.asarray(position, np.float64)
        if not np.isfinite(position_rad).all():
            raise ValueError("a joint's position is not finite")
        group = self._group(tuple(names))
        velocity_rad_s = np.asarray(velocity, np.float64)
        if velocity_rad_s.size != position_rad.size:
            velocity_rad_s = np.full(position_rad.size, np.nan)
        group.row.append(self._count)
        group.time_ns.append(time_ns)
        group.position_rad.frombytes(position_rad.tobytes())
        group.velocity_rad_s.frombytes(velocity_rad_s.tobytes())
        self._count += 1

    def _group(self, names: tuple[str, ...]) -> _Points:
        if names not in self._groups:
            places = [self._names.setdefault(name, len(self._names)) for name in names]
            self._groups[names] = _Points(np.array(places, np.int64))
        return self._groups[names]

    def finish(self) -> JointSeries:
        """Return the series in order of time."""
        time_ns = np.zeros(self._count, np.int64)
        for group in self._groups.values():
            time_ns[np.array(group.row, np.int64)] = group.time_ns
        order = np.argsort(time_ns, kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(self._count)
        position = np.full((self._count, len(self._names)), np.nan)
        velocity = position.copy()
        for group in self._groups.values():
            rows = place[np.array(group.row, np.int64)][:, None]
            shape = (len(rows), len(group.columns))
            position[rows, group.columns] = np.frombuffer(group.position_rad).reshape(shape)
            velocity[rows, group.columns] = np.frombuffer(group.velocity_rad_s).reshape(shape)
        return JointSeries(
            tuple(self._names),
            time_ns[order],
            position,
            velocity,
            np.array(self._receive_ns, np.int64),
            np.array(self._begins, np.int64),
        )


class CommandTrack:
    """Merge trajectories as a controller does: each holds until the start of the next one."""

    def __init__(self) -> None:
        self._track = StateTrack()
        self._newest: tuple[Any, Integers] | None = None

    def push(self, receive_ns: int, stamp_ns: int, message: Any) -> None:
        """Take a trajectory_msgs/JointTrajectory in; a stamp of 0 means that it starts when it comes.

        Raises:
            ValueError: It has points that do not fit its joints or do not rise in time.
        """
        start_ns = stamp_ns or receive_ns
        offsets = [p.time_from_start.sec * 10**9 + p.time_from_start.nanosec for p in message.points]
        times_ns = start_ns + np.array(offsets, np.int64)
        count = len(message.joint_names)
        if any(len(point.positions) != count for point in message.points):
            raise ValueError(f"a point does not have one position for each of {count} joints")
        if not all(np.isfinite(point.positions).all() for point in message.points):
            raise ValueError("a commanded position is not finite")
        if (np.diff(times_ns) <= 0).any():
            raise ValueError("the points of a trajectory do not rise in time")
        self._track.begin_message(receive_ns)
        self._flush(start_ns)
        self._newest = (message, times_ns)

    def finish(self) -> JointSeries:
        """Return the commands in force."""
        self._flush(None)
        return self._track.finish()

    def _flush(self, until_ns: int | None) -> None:
        """Keep the points of the newest trajectory that lie before its successor's start."""
        if self._newest is None:
            return
        message, times_ns = self._newest
        self._newest = None
        count = times_ns.size if until_ns is None else int(np.searchsorted(times_ns, until_ns))
        if count:
            self._track.begin_points()
        for time_ns, point in zip(times_ns[:count].tolist(), message.points[:count], strict=True):
            self._track.add(time_ns, message.joint_names, point.positions, point.velocities)
