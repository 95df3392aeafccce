"""How far and how fast the joints were driven, against their limits."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from timar_bag.joint_track import Floats, Integers, JointSeries
from timar_description import find_joint_map
from timar_retargeting.robot import load_robot

from timar_report.statistics import mean

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
    stops: tuple[str, ...] = ()
    """Limits (lower, upper) that are reached by design, such as a closed mouth; that is no limit hit."""

    def share(self, position_rad: Floats) -> Floats:
        """Return positions as shares of the range, 0 at the lower limit and 1 at the upper."""
        return (position_rad - self.lower_rad) / (self.upper_rad - self.lower_rad)

    def reached(self, position_rad: Floats) -> npt.NDArray[np.bool_]:
        """Return (2, N) whether positions are at the lower, at the upper limit, or beyond; stops apart."""
        reached = np.stack(
            [position_rad <= self.lower_rad + AT_LIMIT_RAD, position_rad >= self.upper_rad - AT_LIMIT_RAD]
        )
        reached[["lower" in self.stops, "upper" in self.stops]] = False
        return reached


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
        joint.name: JointLimit(
            joint.lower_rad, joint.upper_rad, joint.velocity_rad_s, float(lead_s), joint.stops
        )
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
    found: dict[str, dict[str, float | int | None]] = {}
    for name, curve in sorted(commands.joints.items()):
        given = float(np.nanmax(np.abs(curve.velocity_rad_s), initial=0.0))
        found[name] = {
            "min_rad": float(curve.position_rad.min()),
            "max_rad": float(curve.position_rad.max()),
            "limit_hits": count_hits(curve.position_rad, limits[name]) if name in limits else None,
            "max_velocity_rad_s": max(given, fastest_step(curve.time_ns, curve.position_rad)),
        }
    return found


def count_hits(position_rad: Floats, limit: JointLimit) -> int:
    """Return how many times positions come to a limit or beyond."""
    reached = limit.reached(position_rad)
    return int(reached[:, 0].sum() + (reached[:, 1:] & ~reached[:, :-1]).sum())


def fastest_step(time_ns: Integers, position_rad: Floats) -> float:
    """Return the highest velocity between points that are at least 5 ms apart [rad/s]."""
    following = np.searchsorted(time_ns, time_ns + SHORTEST_STEP_NS).tolist()
    kept = [0]
    while following[kept[-1]] < time_ns.size:
        kept.append(following[kept[-1]])
    steps = np.abs(np.diff(position_rad[kept])) / (np.diff(time_ns[kept]) / 1e9)
    return float(steps.max(initial=0.0))


def range_use(commands: JointSeries, limits: Mapping[str, JointLimit]) -> dict[str, float | None]:
    """Return how much of their range the joints use, and how often they are at a limit."""
    curves = [
        (commands.joints[name].position_rad, limits[name]) for name in limits if name in commands.joints
    ]
    spans = [np.ptp(limit.share(np.percentile(position, [1, 99]))) for position, limit in curves]
    return {
        "range_share": mean(spans),
        "clipped_share": mean([limit.reached(position).any(axis=0).mean() for position, limit in curves]),
    }
