"""Read joints and platforms of a robot's YAML; every rule a joint must keep is checked here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from timar_common.extensions import load_extension
from timar_common.suggest import unknown_name
from timar_common.yaml_map import YamlMap

from timar_retargeting.kinematics import BUILT_IN, GROUP, Kinematics
from timar_retargeting.limits import KNEE_SHARE
from timar_retargeting.mapping import SIDES, AxisMap, JointMap, Platform


def read_joint(
    name: str,
    entry: YamlMap,
    known: tuple[str, ...],
    earlier: Mapping[str, JointMap],
    moved_by: Mapping[str, str],
) -> JointMap:
    """Read one joint.

    Args:
        name: Of the joint.
        entry: Its mapping.
        known: Every signal there is.
        earlier: Joints further up in the file.
        moved_by: Joint -> the platform that moves it.

    Raises:
        ValueError: A rule is broken; the message names file, line, joint and rule.
    """
    mimic = entry.child("mimic", optional=True)
    coupling_entry = entry.child("coupling", optional=True)
    axis = _axis(name, entry, known)
    joint = JointMap(
        **{field.name: getattr(axis, field.name) for field in dataclasses.fields(AxisMap)},
        velocity_rad_s=entry.number("velocity_rad_s", minimum=1e-3, maximum=1e3),
        acceleration_rad_s2=entry.number("acceleration_rad_s2", minimum=1e-2, maximum=1e5),
        bandwidth_hz=entry.number("bandwidth_hz", 8.0, minimum=0.5, maximum=12.0),
        servo_delay_s=entry.number("servo_delay_s", 0.0, minimum=0.0, maximum=0.5),
        coupling=_coupling(coupling_entry, earlier, moved_by),
    )
    if name in moved_by:
        for key in ("signals", "mimic", "offset_rad", "sign", "coupling", "dead_zone_rad"):
            if entry.has(key):
                raise entry.error(
                    f"kinematics {moved_by[name]!r} moves this joint; {key} belongs to its axes", key
                )
    elif not mimic.is_absent:
        if axis.gains:
            raise entry.error("a joint has either signals or mimic, not both", "mimic")
        joint = _mimic(joint, mimic, earlier, moved_by)
    entry.refuse_rest()
    if name not in moved_by and not joint.lower_rad <= joint.offset_rad <= joint.upper_rad:
        raise entry.error(
            f"the neutral position {joint.offset_rad:g} lies outside position_rad "
            f"[{joint.lower_rad:g}, {joint.upper_rad:g}]"
        )
    return joint


def read_platforms(entry: YamlMap, known: tuple[str, ...]) -> tuple[Platform, ...]:
    """Read the platforms.

    Raises:
        ValueError: A rule is broken; the message names file, line and rule.
    """
    platforms: list[Platform] = []
    taken: dict[str, str] = {}
    for name in entry.keys():  # noqa: SIM118 - a YamlMap is no mapping
        platform = _platform(name, entry.child(name), known)
        for joint in platform.joints:
            if joint in taken:
                raise entry.error(f"{taken[joint]!r} moves {joint!r} already; a joint has one mover", name)
            taken[joint] = name
        platforms.append(platform)
    return tuple(platforms)


def check_platforms(entry: YamlMap, platforms: tuple[Platform, ...], joints: Mapping[str, JointMap]) -> None:
    """Check platforms against their joints.

    Raises:
        ValueError: A joint is missing, their delays differ, or the neutral pose is out of their reach.
    """
    for platform in platforms:
        missing = [name for name in platform.joints if name not in joints]
        if missing:
            raise entry.error(f"joints lacks {missing[0]!r}, which this platform moves", platform.name)
        own = [joints[name] for name in platform.joints]
        if len({joint.servo_delay_s for joint in own}) > 1:
            raise entry.error("its joints need one servo_delay_s, for they move together", platform.name)
        pose = np.array([[axis.offset_rad for axis in platform.axes]])
        for joint, position in zip(own, platform.kinematics.inverse(pose)[0], strict=True):
            if not (platform.kinematics.reaches(pose).all() and joint.lower_rad < position < joint.upper_rad):
                raise entry.error(
                    f"its neutral pose asks {joint.name!r} for {position:.4g}, outside "
                    f"[{joint.lower_rad:g}, {joint.upper_rad:g}] or out of reach",
                    platform.name,
                )


def _platform(name: str, entry: YamlMap, known: tuple[str, ...]) -> Platform:
    kind = entry.text("type")
    with entry.blamed("type"):
        factory = load_extension(GROUP, kind, BUILT_IN, "type")
    kinematics: Kinematics = factory(entry.child("geometry", optional=True))
    joints = entry.words("joints")
    if len(joints) != kinematics.motors:
        raise entry.error(f"{kind} has {kinematics.motors} motors, got {len(joints)} joints", "joints")
    axes_entry = entry.child("axes")
    entry.refuse_rest()
    axes = []
    for axis in kinematics.axes:
        child = axes_entry.child(axis, optional=True)
        # An axis nobody speaks of stays where it is.
        held = AxisMap(f"{name}.{axis}", {}, 0.0, -1e-6, 1e-6, -5e-7, 5e-7)
        axes.append(held if child.is_absent else _axis(f"{name}.{axis}", child, known))
        child.refuse_rest()
    axes_entry.refuse_rest()
    return Platform(name, kinematics, joints, tuple(axes))


def _axis(name: str, entry: YamlMap, known: tuple[str, ...]) -> AxisMap:
    gains_entry = entry.child("signals", optional=True)
    sign = entry.number("sign", 1.0)
    if sign not in (-1.0, 1.0):
        raise entry.error(f"sign is {sign:g}, expected 1 or -1", "sign")
    gains = {key: sign * gain for key, gain in read_gains(gains_entry, known).items()}
    lower, upper = entry.numbers("position_rad", 2)
    if not lower < upper:
        raise entry.error(f"position_rad is [{lower:g}, {upper:g}], expected lower < upper", "position_rad")
    knee = KNEE_SHARE * (upper - lower)
    soft_lower, soft_upper = entry.numbers("soft_limits_rad", 2, (lower + knee, upper - knee))
    if not lower < soft_lower < soft_upper < upper:
        raise entry.error(
            f"soft_limits_rad is [{soft_lower:g}, {soft_upper:g}], expected lower < upper strictly inside "
            f"position_rad [{lower:g}, {upper:g}]",
            "soft_limits_rad",
        )
    stops = entry.words("stops") if entry.has("stops") else ()
    if unknown := [side for side in stops if side not in SIDES]:
        raise entry.error(f"stops names {unknown[0]!r}, expected {' or '.join(SIDES)}", "stops")
    return AxisMap(
        name,
        gains,
        entry.number("offset_rad", 0.0),
        lower,
        upper,
        soft_lower,
        soft_upper,
        entry.number("dead_zone_rad", 0.0, minimum=0.0, maximum=0.5),
        stops,
    )


def read_gains(entry: YamlMap, known: Sequence[str]) -> dict[str, float]:
    """Read {signal: gain}.

    Raises:
        ValueError: A signal is unknown; the message names its line and the nearest one.
    """
    gains = entry.number_by_key()
    for signal in gains:
        if signal not in known:
            raise entry.error(unknown_name("signal", signal, known), signal)
    return gains


def _coupling(
    entry: YamlMap, earlier: Mapping[str, JointMap], moved_by: Mapping[str, str]
) -> dict[str, float]:
    coupling = entry.number_by_key()
    for other in coupling:
        if other not in earlier or earlier[other].coupling or other in moved_by:
            raise entry.error(
                f"{other!r} is coupled in, expected a joint that stands above, has no coupling itself and is "
                "moved by no kinematics",
                other,
            )
    return coupling


def _mimic(
    joint: JointMap, entry: YamlMap, earlier: Mapping[str, JointMap], moved_by: Mapping[str, str]
) -> JointMap:
    leader_name = entry.text("joint")
    multiplier = entry.number("multiplier", 1.0)
    offset_rad = entry.number("offset_rad", 0.0)
    entry.refuse_rest()
    if leader_name not in earlier or leader_name in moved_by:
        raise entry.error(
            f"mimics {leader_name!r}, expected a joint that stands above it in the file and is moved by no "
            "kinematics",
            "joint",
        )
    leader = earlier[leader_name]
    return dataclasses.replace(
        joint,
        gains={signal: multiplier * gain for signal, gain in leader.gains.items()},
        offset_rad=multiplier * leader.offset_rad + offset_rad,
        dead_zone_rad=abs(multiplier) * leader.dead_zone_rad,
    )
