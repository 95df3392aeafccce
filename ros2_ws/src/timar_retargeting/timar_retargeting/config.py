"""Parameters of retargeting."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from timar_common.config import check, describe, number, option

from timar_retargeting.arbitration import PRIORITIES, JointHolder
from timar_retargeting.idle_behavior import IdleConfig, IdleLayersConfig
from timar_retargeting.neutral_pose import NeutralConfig
from timar_retargeting.signals import Neutral


@dataclasses.dataclass(frozen=True)
class PlanningConfig:
    """How motion is followed, and what is done without."""

    step_ms: int = number(20, "Time between two points of a trajectory.", 5, 40, "ms")
    min_lead_ms: float = number(
        6.0,
        "A plan starts at least this much after it was made, so that the driver has it in time.",
        0.0,
        100.0,
        "ms",
        formerly=("headway_ms",),
    )
    longest_horizon_s: float = number(3.0, "Motion known further ahead is planned later.", 0.5, 8.0, "s")
    stop_share: float = number(
        0.8, "Part of velocity and acceleration limits used by the stop at a horizon's end.", 0.1, 0.9
    )
    ease_share: float = number(0.3, "The same for easing to neutral.", 0.02, 0.9)
    ease_s: float = number(0.6, "Easing to neutral takes at least this.", 0.1, 5.0, "s")
    hold_s: float = number(
        0.1,
        "A head without motion rests this long after its stop, then eases to neutral.",
        0.0,
        10.0,
        "s",
        formerly=("patience_s",),
    )
    idle_only_horizon_s: float = number(
        0.6,
        "How far ahead joints without motion are planned while others follow; a blink fits in.",
        0.1,
        4.0,
        "s",
        formerly=("life_horizon_s",),
    )
    idle_horizon_s: float = number(
        1.6, "How far ahead idle behavior without motion is planned.", 0.4, 8.0, "s"
    )

    look_timeout_s: float = number(
        5.0,
        "A point to look at counts this long after it was named, then the head looks ahead again.",
        0.1,
        3600.0,
        "s",
    )
    by_hand_s: float = number(
        15.0,
        "Joints moved by hand stay this long after the last message, then ease to neutral.",
        0.5,
        600.0,
        "s",
    )

    allow_partial_joints_goal: bool = option(
        True,
        "Whether a trajectory from outside may leave joints out, which then stay; as "
        "joint_trajectory_controller's.",
    )
    trajectory_hold_s: float = number(
        15.0,
        "Joints moved by a trajectory from outside stay this long after its end, then ease to neutral.",
        0.0,
        86400.0,
        "s",
    )
    joint_priorities: tuple[str, ...] = option(
        tuple(holder.value for holder in PRIORITIES),
        "Who may take the joints from whom, the first from all others.",
    )

    def __post_init__(self) -> None:
        check(self)
        expected = sorted(holder.value for holder in PRIORITIES)
        if sorted(self.joint_priorities) != expected:
            raise ValueError(
                f"{type(self).__name__}.joint_priorities is {list(self.joint_priorities)}, expected each of "
                f"{', '.join(expected)} once, the first before the others"
            )

    @property
    def priorities(self) -> tuple[JointHolder, ...]:
        """Who may take the joints from whom."""
        return tuple(JointHolder(name) for name in self.joint_priorities)


@dataclasses.dataclass(frozen=True)
class OutputConfig:
    """In which form joints are commanded."""

    output: str = option(
        "trajectory",
        "trajectory: joint_trajectory for a driver or a joint_trajectory_controller; positions: "
        "position_commands for a forward_command_controller; joint_states: no driver at all.",
        choices=("trajectory", "positions", "joint_states"),
    )
    output_rate_hz: float = number(
        100.0,
        "How often positions or joint states are sent; trajectories are sent when they change.",
        10.0,
        500.0,
        "Hz",
    )


@dataclasses.dataclass(frozen=True)
class RetargetingConfig(PlanningConfig, IdleLayersConfig, NeutralConfig, OutputConfig):
    """Which robot, how it follows motion, what it does by itself, in which form it commands."""

    robot: str = option("timar_head", "Name of a robot description, or path of its YAML.")
    expression_map: str = option(
        "",
        "Your matrix between FLAME's expression and ARKit's blendshapes: an .npy, or a YAML that names one; "
        "empty: the one that the robot's YAML names.",
    )
    neutral_neck_rad: tuple[float, ...] = option(
        (), "Neck of a resting face, axis-angle in FLAME axes; empty: the robot description's.", unit="rad"
    )
    seed: int = number(0, "Of blinks, gaze and postures.", 0, 2**31 - 1)
    path_tolerance_rad: float = number(
        0.0, "How far a joint may be off on the way of follow_joint_trajectory, unless a goal says; 0: any.",
        0.0, 3.2, "rad",
    )  # fmt: skip
    goal_tolerance_rad: float = number(0.0, "The same at the last point.", 0.0, 3.2, "rad")
    goal_time_tolerance_s: float = number(
        0.0, "How much later than due it may be there, unless a goal says; 0: any.", 0.0, 600.0, "s"
    )
    joint_states_timeout_s: float = number(
        3.0, "Without joint states for this long the head is taken to stand at neutral.", 0.1, 60.0, "s"
    )
    idle_behavior: bool = option(
        True, "Whether the head blinks, breathes and looks about by itself.", formerly=("life",)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.neutral_neck_rad) not in (0, 3):
            raise ValueError(
                f"RetargetingConfig.neutral_neck_rad has {len(self.neutral_neck_rad)} numbers, "
                "expected 3 or none"
            )
        if not all(math.isfinite(value) and abs(value) <= math.pi for value in self.neutral_neck_rad):
            raise ValueError(
                f"RetargetingConfig.neutral_neck_rad is {self.neutral_neck_rad}, "
                "expected numbers within a half turn"
            )

    def planning(self) -> PlanningConfig:
        """Return the part of the planner."""
        return PlanningConfig(**_values(self, PlanningConfig))

    def idle(self) -> IdleConfig:
        """Return the part of idle behavior."""
        return IdleConfig(enabled=self.idle_behavior, **_values(self, IdleLayersConfig))

    def neutral_estimate(self) -> NeutralConfig:
        """Return the part of the estimate of the neutral pose."""
        return NeutralConfig(**_values(self, NeutralConfig))

    def neutral(self, given: Neutral) -> Neutral:
        """Return the neutral pose to begin with: a robot's, its neck from the parameter if given."""
        if not self.neutral_neck_rad:
            return given
        x, y, z = self.neutral_neck_rad
        return Neutral((x, y, z), given.jaw_rad)


def _values(config: RetargetingConfig, part: type) -> dict[str, Any]:
    return {name: getattr(config, name) for name in describe(part)}
