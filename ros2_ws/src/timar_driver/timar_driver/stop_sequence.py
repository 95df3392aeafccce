"""How a robot ends: brake, and by its category hold, let the torque ease away, or park first.

A stop is a short motion of its own, in known steps and known time; nothing outside can lengthen it.
"""

from __future__ import annotations

import dataclasses
import enum

import numpy as np
from timar_common.config import check, option

from timar_driver.driver import Array, JointLimits

CATEGORIES = ("hold", "ease_and_release", "park_then_release")
_PEAK_OF_MEAN = 1.875
"""A quintic from rest to rest is at its fastest so many times its mean speed."""


@dataclasses.dataclass(frozen=True)
class StopConfig:
    """What a robot does when it is to stop."""

    category: str = option(
        "hold",
        "hold: brake and stay, torque on. ease_and_release: brake, let the torque fade. park_then_release: "
        "brake, go to the parking pose, and only there let the torque fade (for a heavy head).",
        choices=CATEGORIES,
    )
    brake_s: float = option(
        0.25, "From full speed to rest at most so long.", unit="s", minimum=0.02, maximum=1.0
    )
    park_speed_share: float = option(
        0.25, "Part of the joints' speed used on the way to the parking pose.", minimum=0.02, maximum=1.0
    )
    park_within_s: float = option(
        3.0, "The way to the parking pose takes at most so long.", unit="s", minimum=0.2, maximum=5.0
    )
    settle_s: float = option(0.5, "A parked joint has so long to arrive.", unit="s", minimum=0.1, maximum=1.0)
    park_tolerance_rad: float = option(
        0.05, "A joint nearer than this is parked.", unit="rad", minimum=0.005, maximum=0.3
    )
    ease_s: float = option(0.5, "The torque fades in this time.", unit="s", minimum=0.0, maximum=1.0)

    def __post_init__(self) -> None:
        check(self)

    @property
    def within_s(self) -> float:
        """Return the longest a whole stop takes [s]."""
        park_s = self.park_within_s + self.settle_s if self.category == "park_then_release" else 0.0
        return self.brake_s + park_s + (self.ease_s if self.category != "hold" else 0.0)


class StopStage(enum.Enum):
    """Where a stop is."""

    BRAKE = "braking"
    PARK = "going to the parking pose"
    SETTLE = "arriving in the parking pose"
    EASE = "letting the torque fade"
    HELD = "held, torque on"
    RELEASED = "released, torque off"


_AFTER_BRAKE = {
    "hold": StopStage.HELD,
    "ease_and_release": StopStage.EASE,
    "park_then_release": StopStage.PARK,
}


@dataclasses.dataclass(frozen=True)
class StopStep:
    """What to do now."""

    positions: Array
    """(J,) [rad]."""
    effort: float
    """Share of the full torque, 0 for off."""
    stage: StopStage


class StopSequence:
    """One stop, from the motion it interrupts to its end.

    Args:
        config: How.
        limits: Of the joints.
        park_rad: (J,) the parking pose.
        positions: (J,) commanded now [rad].
        velocities: (J,) commanded now [rad/s].
        now_ns: When it begins.
    """

    def __init__(
        self,
        config: StopConfig,
        limits: JointLimits,
        park_rad: Array,
        positions: Array,
        velocities: Array,
        now_ns: int,
    ) -> None:
        self.config, self.limits = config, limits
        self.stage = StopStage.BRAKE
        self.shortfall_rad: Array = np.zeros_like(positions)
        """(J,) by how much joints missed the parking pose [rad]."""
        self._park = np.clip(park_rad, limits.lower, limits.upper)
        self._from = np.clip(positions, limits.lower, limits.upper)
        self._since_ns, self._lasts_s = now_ns, config.brake_s
        self._brake = _Brake(self._from, velocities, limits, config.brake_s)
        self._command = self._from.copy()

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.stage in (StopStage.HELD, StopStage.RELEASED)

    def step(self, measured: Array, now_ns: int) -> StopStep:
        """Say what to do now.

        Args:
            measured: (J,) where the joints are, or were last seen [rad].
            now_ns: Not before the last call.
        """
        since_s = (now_ns - self._since_ns) * 1e-9
        while not self.is_over and self._is_stage_over(measured, since_s):
            self._enter_next(measured, now_ns)
            since_s = 0.0
        effort = {StopStage.EASE: max(0.0, 1.0 - since_s / max(self._lasts_s, 1e-9)), StopStage.RELEASED: 0.0}
        if self.stage is StopStage.BRAKE:
            self._command = self._brake.at(since_s)
        elif self.stage is StopStage.PARK:
            s = min(1.0, since_s / self._lasts_s)
            self._command = self._from + (self._park - self._from) * s**3 * (10 - 15 * s + 6 * s * s)
        return StopStep(self._command.copy(), effort.get(self.stage, 1.0), self.stage)

    def _is_stage_over(self, measured: Array, since_s: float) -> bool:
        if self.stage is StopStage.SETTLE and self._is_parked(measured):
            return True
        return since_s >= self._lasts_s

    def _is_parked(self, measured: Array) -> bool:
        self.shortfall_rad = np.abs(measured - self._park)
        return bool((self.shortfall_rad <= self.config.park_tolerance_rad).all())

    def _enter_next(self, measured: Array, now_ns: int) -> None:
        self._since_ns = now_ns
        if self.stage is StopStage.BRAKE:
            self._command = self._from = self._brake.at(self.config.brake_s)
            self.stage = _AFTER_BRAKE[self.config.category]
        elif self.stage is StopStage.PARK:
            self._command = self._park.copy()
            self.stage = StopStage.SETTLE
        elif self.stage is StopStage.SETTLE:
            # A heavy head that did not arrive must not fall: it keeps its torque.
            self.stage = StopStage.EASE if self._is_parked(measured) else StopStage.HELD
        else:
            self.stage = StopStage.RELEASED
        self._lasts_s = {
            StopStage.PARK: park_time_s(self._from, self._park, self.limits, self.config),
            StopStage.SETTLE: self.config.settle_s,
            StopStage.EASE: self.config.ease_s,
        }.get(self.stage, 0.0)


def park_time_s(positions: Array, park_rad: Array, limits: JointLimits, config: StopConfig) -> float:
    """Return how long the way to the parking pose takes [s]; all joints arrive together."""
    needed_s = _PEAK_OF_MEAN * np.abs(park_rad - positions) / (config.park_speed_share * limits.velocity)
    return max(0.05, float(np.max(needed_s, initial=0.0)))


def check_parking(names: tuple[str, ...], park_rad: Array, limits: JointLimits, config: StopConfig) -> None:
    """Check that the parking pose can be reached from everywhere in the time allowed.

    Raises:
        ValueError: It lies outside the limits or is too far; the message names the joint and the remedy.
    """
    if config.category != "park_then_release":
        return
    for row, name in enumerate(names):
        low, high = float(limits.lower[row]), float(limits.upper[row])
        if not low <= park_rad[row] <= high:
            raise ValueError(
                f"park_rad of {name} is {park_rad[row]:g}, expected {low:g} to {high:g}: the joint's limits"
            )
        for end in (low, high):
            needed_s = park_time_s(
                np.array([end]),
                park_rad[row : row + 1],
                JointLimits(np.array([low]), np.array([high]), limits.velocity[row : row + 1]),
                config,
            )
            if needed_s > config.park_within_s:
                raise ValueError(
                    f"{name} needs {needed_s:.2f} s to park from {end:g} rad, more than park_within_s "
                    f"{config.park_within_s:g}: raise it, or park_speed_share {config.park_speed_share:g}"
                )


class _Brake:
    """Constant deceleration that ends in time and before any limit."""

    def __init__(self, positions: Array, velocities: Array, limits: JointLimits, brake_s: float) -> None:
        self._from = positions
        self._velocity = np.clip(velocities, -limits.velocity, limits.velocity)
        room = np.where(self._velocity > 0, limits.upper - positions, positions - limits.lower)
        speed = np.abs(self._velocity)
        # From speed v, constant braking over time T covers v T / 2.
        own_s = brake_s * speed / limits.velocity
        with np.errstate(divide="ignore", invalid="ignore"):
            room_s = np.where(speed > 0, 2.0 * np.maximum(room, 0.0) / speed, 0.0)
        self._time_s = np.minimum(own_s, room_s)

    def at(self, since_s: float) -> Array:
        t = np.minimum(since_s, self._time_s)
        with np.errstate(divide="ignore", invalid="ignore"):
            braked = np.where(self._time_s > 0, t * t / (2.0 * self._time_s), 0.0)
        return np.asarray(self._from + self._velocity * (t - braked))
