"""From signals to joints: axes that signals move, and what the joints must do so that the head takes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from timar_retargeting.kinematics import Kinematics
from timar_retargeting.limits import Limits, soft_clip

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
SIDES = ("lower", "upper")


@dataclasses.dataclass(frozen=True)
class AxisMap:
    """How signals become the position of one axis. An ordinary joint is its own axis."""

    name: str
    gains: Mapping[str, float]
    """By signal, sign and mimic multiplier taken in."""
    offset_rad: float
    """Position when every signal is zero [rad, or m]."""
    lower_rad: float
    upper_rad: float
    soft_lower_rad: float
    """From here down wanted positions bend towards the limit [rad]."""
    soft_upper_rad: float
    dead_zone_rad: float = 0.0
    """Motion that moves the axis less than this from its offset is left out [rad]."""
    stops: tuple[str, ...] = ()
    """Limits (lower, upper) that are reached by design, such as a closed mouth; that is no limit hit."""


@dataclasses.dataclass(frozen=True)
class JointMap(AxisMap):
    """One driven joint: what it may do, and its axis unless a platform moves it."""

    velocity_rad_s: float = 1.0
    acceleration_rad_s2: float = 10.0
    bandwidth_hz: float = 8.0
    """Motion above this is smoothed away, without delay [Hz]."""
    servo_delay_s: float = 0.0
    """From a command to the joint being there [s]."""
    coupling: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """What each radian of other joints adds to this one's command."""


@dataclasses.dataclass(frozen=True)
class Platform:
    """Joints that move axes together, by a kinematics plug-in."""

    name: str
    kinematics: Kinematics
    joints: tuple[str, ...]
    axes: tuple[AxisMap, ...]
    """In the order of the plug-in's axes."""


UNBOUNDED = 1e6
"""A limit that nothing wanted comes near to."""


class JointMapper:
    """Axes to joints, for many instants at once.

    The axes are all joints that no platform moves, in order, then the axes of each platform.

    Args:
        joints: All driven joints.
        platforms: Each moves some of them.
    """

    def __init__(self, joints: Sequence[JointMap], platforms: Sequence[Platform] = ()) -> None:
        moved = {name for platform in platforms for name in platform.joints}
        own = [joint for joint in joints if joint.name not in moved]
        self.axes: tuple[AxisMap, ...] = (*own, *(axis for p in platforms for axis in p.axes))
        self.offsets = np.array([axis.offset_rad for axis in self.axes])
        self.dead_zones = np.array([axis.dead_zone_rad for axis in self.axes])
        self._axis_limits, self._axis_soft = _limits(self.axes), _soft(self.axes)
        self._joint_limits, self._joint_soft = _limits(joints), _soft(joints)
        span = self._axis_limits.upper - self._axis_limits.lower
        self.reach = (self._axis_limits.lower - 0.5 * span, self._axis_limits.upper + 0.5 * span)
        rows = {axis.name: row for row, axis in enumerate(own)}
        self._spread = np.zeros((len(self.axes), len(joints)))  # (A, J)
        for column, joint in enumerate(joints):
            if joint.name in rows:
                self._spread[rows[joint.name], column] = 1.0
                for other, share in joint.coupling.items():
                    self._spread[rows[other], column] += share
        # A coupled joint's limits bound what it is told in the end, not its own share of it.
        coupled = np.array([bool(joint.coupling) for joint in joints])
        self._is_bent_late = coupled | np.array([joint.name in moved for joint in joints])
        self._is_plain = not self._is_bent_late.any()
        for joint in own:
            if joint.coupling:
                row = rows[joint.name]
                self._axis_limits.lower[row], self._axis_limits.upper[row] = -UNBOUNDED, UNBOUNDED
                self._axis_soft[0][row], self._axis_soft[1][row] = -0.5 * UNBOUNDED, 0.5 * UNBOUNDED
        self._platforms = []
        self.depends = self._spread != 0.0
        first = len(own)
        order = {joint.name: column for column, joint in enumerate(joints)}
        for platform in platforms:
            axis_rows = slice(first, first + len(platform.axes))
            columns = np.array([order[name] for name in platform.joints])
            self._platforms.append((platform.kinematics, axis_rows, columns))
            self.depends[axis_rows, columns] = True
            first = axis_rows.stop
        self.neutral = self.joints(self.offsets[None])[0]  # (J,)

    def gains(self, signal_names: Sequence[str]) -> Array:
        """Return (S, A) gains from these signals to the axes."""
        return np.array([[axis.gains.get(name, 0.0) for axis in self.axes] for name in signal_names])

    def wanted(self, signals: Array, gains: Array) -> Array:
        """Return axis positions (n, A) for motion (n, S), kept near the limits, without idle behavior."""
        moved = signals @ gains
        if self.dead_zones.any():
            moved -= np.minimum(np.maximum(moved, -self.dead_zones), self.dead_zones)
        kept: Array = np.minimum(np.maximum(self.offsets + moved, self.reach[0]), self.reach[1])
        return kept

    def joints(self, axes: Array) -> Array:
        """Return joint positions (n, J), softly inside their limits, for wanted axes (n, A)."""
        axes = soft_clip(axes, self._axis_limits, self._axis_soft)
        if self._is_plain:
            return axes
        joints = axes @ self._spread  # (n, J)
        for kinematics, rows, columns in self._platforms:
            joints[:, columns] = kinematics.inverse(axes[:, rows])
        return np.where(self._is_bent_late, soft_clip(joints, self._joint_limits, self._joint_soft), joints)

    def is_clipped(self, axes: Array) -> Flags:
        """Return (J,) whether wanted axes (n, A), or what they ask of a joint, are out of bounds.

        Beyond a limit that is a stop by design they are not.
        """
        outside = _is_outside(axes, self._axis_limits)
        if self._is_plain:
            return outside
        joints = axes @ self._spread
        clipped = (outside[:, None] & self.depends).any(0)
        for kinematics, rows, columns in self._platforms:
            joints[:, columns] = kinematics.inverse(axes[:, rows])
            clipped[columns] |= not kinematics.reaches(axes[:, rows]).all()
        flags: Flags = clipped | _is_outside(joints, self._joint_limits)
        return flags


def _limits(axes: Sequence[AxisMap]) -> Limits:
    count = len(axes)
    lower, upper = np.array([[axis.lower_rad, axis.upper_rad] for axis in axes]).reshape(count, 2).T.copy()
    return Limits(lower, upper, np.full(count, np.inf), np.full(count, np.inf), stops_of(axes))


def stops_of(axes: Sequence[AxisMap]) -> Flags:
    """Return (2, A) whether the lower, the upper limit of axes is a stop by design."""
    stops: Flags = np.array([[side in axis.stops for axis in axes] for side in SIDES]).reshape(2, len(axes))
    return stops


def _soft(axes: Sequence[AxisMap]) -> tuple[Array, Array]:
    return (
        np.array([axis.soft_lower_rad for axis in axes]),
        np.array([axis.soft_upper_rad for axis in axes]),
    )


def _is_outside(wanted: Array, limits: Limits) -> Flags:
    below, above = wanted.min(0) < limits.lower, wanted.max(0) > limits.upper
    outside: Flags = (below & ~limits.is_stop[0]) | (above & ~limits.is_stop[1])
    return outside
