"""Parameters of retargeting."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from timar_common.config import check, describe, option

from timar_retargeting.idle_behavior import IdleConfig, IdleLayersConfig
from timar_retargeting.neutral_pose import NeutralConfig
from timar_retargeting.signals import Neutral


@dataclasses.dataclass(frozen=True)
class PlanningConfig:
    """How motion is followed, and what is done without."""

    step_ms: int = option(20, "Time between two points of a trajectory.", unit="ms", minimum=5, maximum=40)
    min_lead_ms: float = option(
        6.0,
        "A plan starts at least this much after it was made, so that the driver has it in time.",
        unit="ms",
        minimum=0.0,
        maximum=100.0,
        formerly=("headway_ms",),
    )
    longest_horizon_s: float = option(
        3.0, "Motion known further ahead is planned later.", unit="s", minimum=0.5, maximum=8.0
    )
    stop_share: float = option(
        0.8,
        "Part of velocity and acceleration limits used by the stop at a horizon's end.",
        minimum=0.1,
        maximum=0.9,
    )
    ease_share: float = option(0.3, "The same for easing to neutral.", minimum=0.02, maximum=0.9)
    ease_s: float = option(0.6, "Easing to neutral takes at least this.", unit="s", minimum=0.1, maximum=5.0)
    hold_s: float = option(
        0.1,
        "A head without motion rests this long after its stop, then eases to neutral.",
        unit="s",
        minimum=0.0,
        maximum=10.0,
        formerly=("patience_s",),
    )
    idle_only_horizon_s: float = option(
        0.6,
        "How far ahead joints without motion are planned while others follow; a blink fits in.",
        unit="s",
        minimum=0.1,
        maximum=4.0,
        formerly=("life_horizon_s",),
    )
    idle_horizon_s: float = option(
        1.6, "How far ahead idle behavior without motion is planned.", unit="s", minimum=0.4, maximum=8.0
    )

    look_timeout_s: float = option(
        5.0,
        "A point to look at counts this long after it was named, then the head looks ahead again.",
        unit="s",
        minimum=0.1,
        maximum=3600.0,
    )
    by_hand_s: float = option(
        15.0,
        "Joints moved by hand stay this long after the last message, then ease to neutral.",
        unit="s",
        minimum=0.5,
        maximum=600.0,
    )

    def __post_init__(self) -> None:
        check(self)


@dataclasses.dataclass(frozen=True)
class OutputConfig:
    """In which form joints are commanded."""

    output: str = option(
        "trajectory",
        "trajectory: joint_trajectory for a driver or a joint_trajectory_controller; positions: "
        "position_commands for a forward_command_controller; joint_states: no driver at all.",
        choices=("trajectory", "positions", "joint_states"),
    )
    output_rate_hz: float = option(
        100.0,
        "How often positions or joint states are sent; trajectories are sent when they change.",
        unit="Hz",
        minimum=10.0,
        maximum=500.0,
    )


@dataclasses.dataclass(frozen=True)
class RetargetingConfig(PlanningConfig, IdleLayersConfig, NeutralConfig, OutputConfig):
    """Which robot, how it follows motion, what it does by itself, in which form it commands."""

    robot: str = option("timar_head", "Name of a robot description, or path of its YAML.")
    neutral_neck_rad: tuple[float, ...] = option(
        (), "Neck of a resting face, axis-angle in FLAME axes; empty: the robot description's.", unit="rad"
    )
    seed: int = option(0, "Of blinks, gaze and postures.", minimum=0, maximum=2**31 - 1)
    joint_states_timeout_s: float = option(
        3.0,
        "Without joint states for this long the head is taken to stand at neutral.",
        unit="s",
        minimum=0.1,
        maximum=60.0,
    )
    idle_behavior: bool = option(
        True, "Whether the head blinks, breathes and looks about by itself.", formerly=("life",)
    )

    def __post_init__(self) -> None:
        check(self)
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
