"""How far and how fast the joints were driven, against their limits."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from timar_bag.joint_track import Floats, Integers, JointSeries
from timar_description import find_joint_map
from timar_retargeting.robot import load_robot

AT_LIMIT_RAD = 1e-3
"""A command this near to a limit, or beyond it, hits it [rad]."""
SHORTEST_STEP_NS = 5_000_000
"""Points nearer than this give no velocity: where one command replaces another they may almost coincide."""


@dataclasses.dataclass(frozen=True)
class JointLimit:
    """What a joint may do, and how early its commands go out."""

    lower_rad: float
    upper_rad: float
    velocity_rad_s: float
    lead_s: float
    """Commands go out this much before the motion is to be seen: servo delay less loudspeaker delay [s]."""


def limits_of(robot: str) -> dict[str, JointLimit]:
    """Return the limits of a robot's joints.

    Args:
        robot: Name of a shipped robot, or path of a robot YAML.

    Raises:
        FileNotFoundError: There is no such robot.
        ValueError: Its description contradicts itself.
    """
    description = load_robot(find_joint_map(robot))
    return {
        joint.name: JointLimit(joint.lower_rad, joint.upper_rad, joint.velocity_rad_s, float(lead_s))
        for joint, lead_s in zip(description.joints, description.leads_s, strict=True)
    }


def longest_lead_ns(limits: Mapping[str, JointLimit]) -> int:
    """Return how much before a frame is shown its first command takes effect [ns]."""
    return round(max((limit.lead_s for limit in limits.values()), default=0.0) * 1e9)


def joint_ranges(
    commands: JointSeries, limits: Mapping[str, JointLimit]
) -> dict[str, dict[str, float | int | None]]:
    """Return for each commanded joint its range, its limit hits and its highest velocity.

    A hit is an episode, not a point: a command that stays at its limit for a second hits it once. The
    velocity is the larger one of what the commands say and what their successive positions imply, so that a
    jump from one command to its successor is seen.

    Args:
        commands: Commanded positions.
        limits: By joint; a joint without has None hits.
    """
    return {name: _range(commands, name, limits.get(name)) for name in sorted(commands.names)}


def _range(commands: JointSeries, name: str, limit: JointLimit | None) -> dict[str, float | int | None]:
    time_ns, position = commands.of(name)
    given = np.abs(commands.velocity_rad_s[:, commands.names.index(name)])
    fastest = max(float(np.nanmax(given, initial=0.0)), fastest_step(time_ns, position))
    return {
        "min_rad": float(position.min()),
        "max_rad": float(position.max()),
        "limit_hits": None if limit is None else count_hits(position, limit),
        "max_velocity_rad_s": fastest,
    }


def count_hits(position_rad: Floats, limit: JointLimit) -> int:
    """Return how many times positions come to a limit or beyond."""
    is_low = position_rad <= limit.lower_rad + AT_LIMIT_RAD
    is_high = position_rad >= limit.upper_rad - AT_LIMIT_RAD
    return sum(int(at[0]) + int((at[1:] & ~at[:-1]).sum()) for at in (is_low, is_high))


def fastest_step(time_ns: Integers, position_rad: Floats) -> float:
    """Return the highest velocity between points that are at least 5 ms apart [rad/s]."""
    kept = _apart(time_ns)
    if len(kept) < 2:
        return 0.0
    step_s = np.diff(time_ns[kept]) / 1e9
    return float(np.abs(np.diff(position_rad[kept]) / step_s).max())


def _apart(time_ns: Integers) -> list[int]:
    kept: list[int] = []
    last_ns = -SHORTEST_STEP_NS
    for index, now_ns in enumerate(time_ns.tolist()):
        if not kept or now_ns - last_ns >= SHORTEST_STEP_NS:
            kept.append(index)
            last_ns = now_ns
    return kept
