"""A robot's joint map: one YAML beside its URDF, checked line by line before anything moves."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from timar_retargeting.life import LIFE_SIGNALS
from timar_retargeting.limits import Limits
from timar_retargeting.signals import EXPRESSION, MOTION_SIGNALS, Array, Neutral
from timar_retargeting.urdf import UrdfJoint, read_urdf_joints
from timar_retargeting.yaml_map import YamlMap, read_yaml_map


@dataclasses.dataclass(frozen=True)
class JointMap:
    """How signals become the position of one joint, and what the joint may do."""

    name: str
    gains: Mapping[str, float]
    """By signal, sign and mimic multiplier taken in."""
    offset_rad: float
    """Position when every signal is zero [rad]."""
    lower_rad: float
    upper_rad: float
    velocity_rad_s: float
    acceleration_rad_s2: float
    bandwidth_hz: float
    """Motion above this is smoothed away, without delay [Hz]."""
    servo_delay_s: float
    """From a command to the joint being there [s]."""


@dataclasses.dataclass(frozen=True)
class RobotDescription:
    """The whole joint map; arrays are in the order of `joint_names`."""

    name: str
    urdf: Path
    joints: tuple[JointMap, ...]
    neutral: Neutral = dataclasses.field(default_factory=Neutral)
    loudspeaker_delay_s: float = 0.0
    expressions: Mapping[str, Array] = dataclasses.field(default_factory=dict)

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Names in the order of every array."""
        return tuple(joint.name for joint in self.joints)

    @property
    def offsets_rad(self) -> Array:
        """(J,) positions when every signal is zero [rad]."""
        return np.array([joint.offset_rad for joint in self.joints])

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
        )

    def gains(self, signal_names: tuple[str, ...]) -> Array:
        """Return (S, J) gains from these signals to the joints."""
        return np.array([[joint.gains.get(name, 0.0) for joint in self.joints] for name in signal_names])


def load_robot(path: Path, urdf_joints: Mapping[str, UrdfJoint] | None = None) -> RobotDescription:
    """Read a joint map and check it against its URDF.

    Args:
        path: The YAML; its `urdf` key is relative to it.
        urdf_joints: The URDF's joints, when they are known already.

    Raises:
        ValueError: Something is misspelt, missing, out of range, or wider than the URDF; the message names
            file, line, joint and rule.
        OSError: A file cannot be read.
    """
    document = read_yaml_map(path)
    name = document.text("robot")
    urdf = path.parent / document.text("urdf")
    loudspeaker_delay_s = document.number("loudspeaker_delay_s", 0.0, minimum=0.0, maximum=2.0)
    neutral = _neutral(document.child("neutral", optional=True))
    expressions = _expressions(document.child("expressions", optional=True))
    joints_map = document.child("joints")
    document.refuse_rest()
    known = (*MOTION_SIGNALS, *LIFE_SIGNALS, *expressions)
    allowed = read_urdf_joints(urdf) if urdf_joints is None else urdf_joints
    joints: dict[str, JointMap] = {}
    for joint_name in joints_map.keys():  # noqa: SIM118 - a YamlMap is no mapping
        joint = _joint(joint_name, joints_map.child(joint_name), known, joints)
        _check_against_urdf(joints_map, joint, allowed, urdf)
        joints[joint_name] = joint
    if not joints:
        raise joints_map.error("a robot needs at least one joint")
    return RobotDescription(name, urdf, tuple(joints.values()), neutral, loudspeaker_delay_s, expressions)


def _neutral(entry: YamlMap) -> Neutral:
    neck = entry.numbers("neck_rad", 3, (0.0, 0.0, 0.0))
    jaw_rad = entry.number("jaw_rad", 0.0, minimum=-1.0, maximum=1.0)
    entry.refuse_rest()
    return Neutral((neck[0], neck[1], neck[2]), jaw_rad)


def _expressions(entry: YamlMap) -> dict[str, Array]:
    channels = {}
    size = EXPRESSION.stop - EXPRESSION.start
    for name in entry.keys():  # noqa: SIM118
        if name in MOTION_SIGNALS or name in LIFE_SIGNALS:
            raise entry.error(f"channel {name!r} has the name of a built-in signal; choose another", name)
        weights = np.zeros(size)
        for index, weight in entry.child(name).number_by_key().items():
            if not (index.isdigit() and int(index) < size):
                raise entry.error(
                    f"channel {name!r} weighs expression {index!r}, expected 0..{size - 1}", name
                )
            weights[int(index)] = weight
        channels[name] = weights
    return channels


def _joint(name: str, entry: YamlMap, known: tuple[str, ...], earlier: Mapping[str, JointMap]) -> JointMap:
    mimic = entry.child("mimic", optional=True)
    gains_entry = entry.child("signals", optional=True)
    sign = entry.number("sign", 1.0)
    if sign not in (-1.0, 1.0):
        raise entry.error(f"sign is {sign:g}, expected 1 or -1", "sign")
    gains = {key: sign * gain for key, gain in gains_entry.number_by_key().items()}
    offset_rad = entry.number("offset_rad", 0.0)
    lower, upper = entry.numbers("position_rad", 2)
    joint = JointMap(
        name=name,
        gains=gains,
        offset_rad=offset_rad,
        lower_rad=lower,
        upper_rad=upper,
        velocity_rad_s=entry.number("velocity_rad_s", minimum=1e-3),
        acceleration_rad_s2=entry.number("acceleration_rad_s2", minimum=1e-2),
        bandwidth_hz=entry.number("bandwidth_hz", 8.0, minimum=0.5, maximum=12.0),
        servo_delay_s=entry.number("servo_delay_s", 0.0, minimum=0.0, maximum=0.5),
    )
    if not mimic.is_absent:
        if gains:
            raise entry.error("a joint has either signals or mimic, not both", "mimic")
        joint = _mimic(joint, mimic, earlier)
    entry.refuse_rest()
    for signal in gains:
        if signal not in known:
            raise gains_entry.error(
                f"there is no signal {signal!r}; the signals are: {', '.join(known)}", signal
            )
    if not lower < upper:
        raise entry.error(f"position_rad is [{lower:g}, {upper:g}], expected lower < upper", "position_rad")
    if not lower <= joint.offset_rad <= upper:
        raise entry.error(
            f"the neutral position {joint.offset_rad:g} lies outside position_rad [{lower:g}, {upper:g}]"
        )
    return joint


def _mimic(joint: JointMap, entry: YamlMap, earlier: Mapping[str, JointMap]) -> JointMap:
    leader_name = entry.text("joint")
    multiplier = entry.number("multiplier", 1.0)
    offset_rad = entry.number("offset_rad", 0.0)
    entry.refuse_rest()
    if leader_name not in earlier:
        raise entry.error(
            f"mimics {leader_name!r}, expected a joint that stands above it in the file", "joint"
        )
    leader = earlier[leader_name]
    return dataclasses.replace(
        joint,
        gains={signal: multiplier * gain for signal, gain in leader.gains.items()},
        offset_rad=multiplier * leader.offset_rad + offset_rad,
    )


def _check_against_urdf(
    entry: YamlMap, joint: JointMap, allowed: Mapping[str, UrdfJoint], urdf: Path
) -> None:
    name = joint.name
    if name not in allowed:
        driven = ", ".join(key for key, value in allowed.items() if not value.mimics)
        raise entry.error(f"{urdf.name} has no movable joint {name!r}; it has: {driven}", name)
    limit = allowed[name]
    if limit.mimics:
        raise entry.error(
            f"{urdf.name} lets {name!r} follow {limit.mimics!r} mechanically; leave it out here", name
        )
    if joint.lower_rad < limit.lower_rad or joint.upper_rad > limit.upper_rad:
        raise entry.error(
            f"position_rad of {name!r} is [{joint.lower_rad:g}, {joint.upper_rad:g}], "
            f"wider than the URDF's [{limit.lower_rad:g}, {limit.upper_rad:g}]: narrow it",
            name,
        )
    if joint.velocity_rad_s > limit.velocity_rad_s:
        raise entry.error(
            f"velocity_rad_s of {name!r} is {joint.velocity_rad_s:g}, "
            f"above the URDF's {limit.velocity_rad_s:g}: lower it",
            name,
        )
