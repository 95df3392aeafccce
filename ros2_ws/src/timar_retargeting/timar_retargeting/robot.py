"""A robot's joint map: one YAML beside its URDF, checked line by line before anything moves."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from timar_common.arkit import ARKIT_NAMES, JAW_OPEN, ArkitMap, arkit_map_from, read_arkit_map
from timar_common.motion_file import EXPRESSION
from timar_common.suggest import unknown_name
from timar_common.yaml_map import YamlMap, read_yaml_map
from timar_description.urdf import MOVABLE, UrdfJoint, read_urdf

from timar_retargeting.idle_behavior import IDLE_SIGNALS
from timar_retargeting.limits import Limits
from timar_retargeting.mapping import JointMap, JointMapper, Platform, stops_of
from timar_retargeting.robot_joints import check_platforms, read_gains, read_joint, read_platforms
from timar_retargeting.signals import (
    JAW_ALONE,
    JAW_SIGNAL,
    MOTION_SIGNALS,
    Array,
    ExpressionChannel,
    Neutral,
    arkit_channels,
)

FURTHEST_RAD = 1.2
"""A point further round than this is looked at from here."""
NEAREST_M = 0.05


@dataclasses.dataclass(frozen=True)
class Eyes:
    """Where the head looks from when it is told to look at a point."""

    frame: str = "base_link"
    """Frame that does not move with the head."""
    origin_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Between the eyes, head at neutral, in that frame: x forward, y left, z up [m]."""

    def direction_to(self, point_m: Sequence[float], frame: str = "") -> tuple[float, float]:
        """Return yaw (to its left) and pitch (down) to a point, as far as a head turns [rad].

        Args:
            point_m: x forward, y left, z up [m].
            frame: Of the point; empty: the eyes'.

        Raises:
            ValueError: The frame is another, or the point is not finite or nearer than a hand's breadth.
        """
        if frame not in ("", self.frame):
            raise ValueError(
                f"the point to look at is given in {frame!r}, expected {self.frame!r}: transform it"
            )
        x, y, z = (float(p) - o for p, o in zip(point_m, self.origin_m, strict=True))
        distance_m = math.sqrt(x * x + y * y + z * z)
        if not NEAREST_M <= distance_m < math.inf:
            raise ValueError(
                f"the point to look at is {distance_m:.3g} m from the eyes, expected {NEAREST_M:g} m or more"
            )
        yaw, pitch = math.atan2(y, x), math.atan2(-z, math.hypot(x, y))
        low, high = -FURTHEST_RAD, FURTHEST_RAD
        return min(max(yaw, low), high), min(max(pitch, low), high)


@dataclasses.dataclass(frozen=True)
class ScreenParameter:
    """A number that a screen draws by: offset + sum of gain x signal, kept within its range."""

    name: str
    gains: Mapping[str, float]
    offset: float = 0.0
    lower: float = 0.0
    upper: float = 1.0


@dataclasses.dataclass(frozen=True)
class RobotDescription:
    """The whole joint map; arrays are in the order of `joint_names`."""

    name: str
    urdf: Path
    joints: tuple[JointMap, ...]
    neutral: Neutral = dataclasses.field(default_factory=Neutral)
    loudspeaker_delay_s: float = 0.0
    expressions: Mapping[str, ExpressionChannel] = dataclasses.field(default_factory=dict)
    platforms: tuple[Platform, ...] = ()
    eyes: Eyes = dataclasses.field(default_factory=Eyes)
    screens: tuple[ScreenParameter, ...] = ()
    arkit: ArkitMap | None = None
    """The user's map from FLAME to ARKit's blendshapes, when there is one."""

    @property
    def arkit_used(self) -> tuple[str, ...]:
        """ARKit's blendshapes that a joint or a screen names."""
        gains = [axis.gains for axis in self.mapper.axes] + [screen.gains for screen in self.screens]
        named = {signal for one in gains for signal in one}
        return tuple(name for name in ARKIT_NAMES if name in named)

    @property
    def has_face(self) -> bool:
        """Whether there is more of a face to be shown than joints show."""
        return self.arkit is not None or bool(self.screens)

    def face_report(self) -> dict[str, str]:
        """Say which map is used, which signals nothing shows, and which named ones nothing tells."""
        untold = [name for name in self.arkit_used if name not in self.expressions]
        told = () if self.arkit is None else self.arkit.told
        shown = set(self.arkit_used)
        if any(JAW_SIGNAL in axis.gains for axis in self.mapper.axes):
            shown.add(JAW_OPEN)
        unshown = [name for name in told if name not in shown]
        return {
            "expression_map": self.arkit.summary if self.arkit else "none: expression is not shown",
            "signals_without_joint_or_screen": ", ".join(unshown) or "none",
            "signals_not_told": ", ".join(untold) or "none",
        }

    @functools.cached_property
    def mapper(self) -> JointMapper:
        """From axes to joints."""
        return JointMapper(self.joints, self.platforms)

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Names in the order of every array."""
        return tuple(joint.name for joint in self.joints)

    @property
    def offsets_rad(self) -> Array:
        """(J,) positions when every signal is zero [rad]."""
        return self.mapper.neutral.copy()

    @property
    def bandwidths_hz(self) -> Array:
        """(J,) bandwidths [Hz]."""
        return np.array([joint.bandwidth_hz for joint in self.joints])

    @property
    def leads_s(self) -> Array:
        """(J,) by how much commands go out before the motion is to be seen [s]; may be negative."""
        return np.array([joint.servo_delay_s - self.loudspeaker_delay_s for joint in self.joints])

    @property
    def limits(self) -> Limits:
        """Limits of all joints."""
        return Limits(
            lower=np.array([joint.lower_rad for joint in self.joints]),
            upper=np.array([joint.upper_rad for joint in self.joints]),
            velocity=np.array([joint.velocity_rad_s for joint in self.joints]),
            acceleration=np.array([joint.acceleration_rad_s2 for joint in self.joints]),
            is_stop=stops_of(self.joints),
        )


def load_robot(path: Path, expression_map: str = "") -> RobotDescription:
    """Read a joint map and check it against its URDF.

    Args:
        path: The YAML; its `urdf` key is relative to it.
        expression_map: Path of the user's matrix between FLAME and ARKit; empty: the one that the YAML names.

    Raises:
        ValueError: Something is misspelt, missing, out of range, or wider than the URDF; the message names
            file, line, joint and rule.
        OSError: A file cannot be read.
    """
    document = read_yaml_map(path)
    name = document.text("robot")
    urdf = path.parent / document.text("urdf")
    prefix = document.text("joint_prefix", "")
    loudspeaker_delay_s = document.number("loudspeaker_delay_s", 0.0, minimum=0.0, maximum=2.0)
    neutral = _neutral(document.child("neutral", optional=True))
    expressions = _expressions(document.child("expressions", optional=True))
    eyes = _eyes(document.child("eyes", optional=True))
    map_entry = document.child("expression_map", optional=True)
    screens_entry = document.child("screens", optional=True)
    joints_map = document.child("joints")
    platforms_map = document.child("kinematics", optional=True)
    document.refuse_rest()
    arkit: ArkitMap | None = None
    if expression_map:
        arkit = read_arkit_map(Path(expression_map).expanduser())
    elif not map_entry.is_absent:
        arkit = arkit_map_from(map_entry, path.parent)
    known = (*MOTION_SIGNALS, *IDLE_SIGNALS, *dict.fromkeys((*expressions, *ARKIT_NAMES)))
    screens = _screens(screens_entry, known)
    allowed = {
        name.removeprefix(prefix): joint
        for name, joint in read_urdf(urdf).joints_by_name.items()
        if joint.kind in MOVABLE and name.startswith(prefix)
    }
    platforms = read_platforms(platforms_map, known)
    moved_by = {joint: platform.name for platform in platforms for joint in platform.joints}
    joints: dict[str, JointMap] = {}
    for joint_name in joints_map.keys():  # noqa: SIM118 - a YamlMap is no mapping
        entry = joints_map.child(joint_name)
        joint = read_joint(joint_name, entry, known, joints, moved_by)
        _check_against_urdf(joints_map, joint, allowed, urdf)
        joints[joint_name] = joint
    if not joints:
        raise joints_map.error("a robot needs at least one joint")
    check_platforms(platforms_map, platforms, joints)
    robot = RobotDescription(
        name,
        urdf,
        tuple(_prefixed(joint, prefix) for joint in joints.values()),
        neutral,
        loudspeaker_delay_s,
        expressions,
        tuple(dataclasses.replace(p, joints=tuple(prefix + joint for joint in p.joints)) for p in platforms),
        eyes,
        screens,
        arkit,
    )
    told = arkit_channels(arkit) if arkit else JAW_ALONE if screens or JAW_OPEN in robot.arkit_used else {}
    # A channel that was fitted for this robot counts more than the map.
    return dataclasses.replace(robot, expressions={**told, **expressions})


def _prefixed(joint: JointMap, prefix: str) -> JointMap:
    coupling = {prefix + other: share for other, share in joint.coupling.items()}
    return dataclasses.replace(joint, name=prefix + joint.name, coupling=coupling)


def _screens(entry: YamlMap, known: Sequence[str]) -> tuple[ScreenParameter, ...]:
    screens = []
    for name in entry.keys():  # noqa: SIM118 - a YamlMap is no mapping
        if name in ARKIT_NAMES:
            raise entry.error(f"screen parameter {name!r} has the name of a blendshape; choose another", name)
        child = entry.child(name)
        lower, upper = child.numbers("range", 2, (0.0, 1.0))
        if not lower < upper:
            raise child.error(f"range is [{lower:g}, {upper:g}], expected lower < upper", "range")
        gains = read_gains(child.child("signals"), known)
        screens.append(ScreenParameter(name, gains, child.number("offset", 0.0), lower, upper))
        child.refuse_rest()
    return tuple(screens)


def _neutral(entry: YamlMap) -> Neutral:
    neck = entry.numbers("neck_rad", 3, (0.0, 0.0, 0.0))
    if max(map(abs, neck)) > math.pi:
        raise entry.error(f"neck_rad is {list(neck)}, expected numbers within a half turn", "neck_rad")
    jaw_rad = entry.number("jaw_rad", 0.0, minimum=-1.0, maximum=1.0)
    entry.refuse_rest()
    return Neutral((neck[0], neck[1], neck[2]), jaw_rad)


def _eyes(entry: YamlMap) -> Eyes:
    frame = entry.text("frame", Eyes().frame)
    x, y, z = entry.numbers("origin_m", 3, Eyes().origin_m)
    if max(abs(x), abs(y), abs(z)) > 10.0:
        raise entry.error(f"origin_m is {[x, y, z]}, expected metres, at most 10", "origin_m")
    entry.refuse_rest()
    return Eyes(frame, (x, y, z))


def _expressions(entry: YamlMap) -> dict[str, ExpressionChannel]:
    channels = {}
    size = EXPRESSION.stop - EXPRESSION.start
    for name in entry.keys():  # noqa: SIM118
        if name in MOTION_SIGNALS or name in IDLE_SIGNALS:
            raise entry.error(f"channel {name!r} has the name of a built-in signal; choose another", name)
        weights, offset = np.zeros(size), 0.0
        for index, weight in entry.child(name).number_by_key().items():
            if index == "offset":
                offset = weight
                continue
            if not (index.isdigit() and int(index) < size):
                raise entry.error(
                    f"channel {name!r} weighs expression {index!r}, expected 0..{size - 1} or offset", name
                )
            weights[int(index)] = weight
        channels[name] = ExpressionChannel(weights, offset)
    return channels


def _check_against_urdf(
    entry: YamlMap, joint: JointMap, allowed: Mapping[str, UrdfJoint], urdf: Path
) -> None:
    name = joint.name
    if name not in allowed:
        driven = [key for key, value in allowed.items() if value.is_actuated]
        raise entry.error(unknown_name("movable joint", name, driven, owner=urdf.name), name)
    limit = allowed[name]
    if not limit.is_actuated:
        raise entry.error(
            f"{urdf.name} lets {name!r} follow {limit.driver!r} mechanically; leave it out here", name
        )
    if joint.lower_rad < limit.lower or joint.upper_rad > limit.upper:
        raise entry.error(
            f"position_rad of {name!r} is [{joint.lower_rad:g}, {joint.upper_rad:g}], "
            f"wider than the URDF's [{limit.lower:g}, {limit.upper:g}]: narrow it",
            name,
        )
    if joint.velocity_rad_s > limit.velocity:
        raise entry.error(
            f"velocity_rad_s of {name!r} is {joint.velocity_rad_s:g}, "
            f"above the URDF's {limit.velocity:g}: lower it",
            name,
        )
