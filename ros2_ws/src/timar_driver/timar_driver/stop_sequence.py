"""Stop sequence of a robot: brake, then by its category hold, fade the torque, or park first.

A stop is a short motion of its own, in known steps and known time; nothing outside can lengthen it.
"""

from __future__ import annotations

import dataclasses
import enum

import numpy as np
from timar_common.config import check, number, option

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
    brake_s: float = number(0.25, "From full speed to rest at most so long.", 0.02, 1.0, "s")
    park_speed_share: float = number(
        0.25, "Part of the joints' speed used on the way to the parking pose.", 0.02, 1.0
    )
    park_within_s: float = number(3.0, "The way to the parking pose takes at most so long.", 0.2, 5.0, "s")
    settle_s: float = number(0.5, "A parked joint has so long to arrive.", 0.1, 1.0, "s")
    park_tolerance_rad: float = number(0.05, "A joint nearer than this is parked.", 0.005, 0.3, "rad")
    ease_s: float = number(0.5, "The torque fades in this time.", 0.0, 1.0, "s")

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

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.stage in (StopStage.HELD, StopStage.RELEASED)

    def step(self, measured: Array, now_ns: int) -> tuple[Array, float]:
        """Return what to do now.

        Args:
            measured: (J,) where the joints are, or were last seen [rad].
            now_ns: Not before the last call.

        Returns:
            (J,) positions [rad], and the share of the full torque, 0 for off.
        """
        since_s = (now_ns - self._since_ns) * 1e-9
        while not self.is_over and self._is_stage_over(measured, since_s):
            self._enter_next(measured, now_ns)
            since_s = 0.0
        if self.stage is StopStage.BRAKE:
            return self._brake.at(since_s), 1.0
        if self.stage is StopStage.PARK:
            # A quintic from rest to rest.
            s = min(1.0, since_s / self._lasts_s)
            return self._from + (self._park - self._from) * s**3 * (10 - 15 * s + 6 * s * s), 1.0
        if self.stage is StopStage.EASE:
            return self._from.copy(), max(0.0, 1.0 - since_s / max(self._lasts_s, 1e-9))
        return self._from.copy(), 0.0 if self.stage is StopStage.RELEASED else 1.0

    def _is_stage_over(self, measured: Array, since_s: float) -> bool:
        return since_s >= self._lasts_s or (self.stage is StopStage.SETTLE and self._is_parked(measured))

    def _is_parked(self, measured: Array) -> bool:
        self.shortfall_rad = np.abs(measured - self._park)
        return bool((self.shortfall_rad <= self.config.park_tolerance_rad).all())

    def _enter_next(self, measured: Array, now_ns: int) -> None:
        """Enter the next stage; `_from` is where the joints are commanded as it begins."""
        config, self._since_ns, self._lasts_s = self.config, now_ns, 0.0
        if self.stage is StopStage.BRAKE:
            self._from = self._brake.at(config.brake_s)
            self.stage = _AFTER_BRAKE[config.category]
        elif self.stage is StopStage.PARK:
            self._from = self._park
            self.stage = StopStage.SETTLE
        elif self.stage is StopStage.SETTLE:
            # A heavy head that did not arrive must not fall: it keeps its torque.
            self.stage = StopStage.EASE if self._is_parked(measured) else StopStage.HELD
        else:
            self.stage = StopStage.RELEASED
        if self.stage is StopStage.PARK:
            # All joints arrive together.
            needed_s = park_time_s(self._park - self._from, self.limits.velocity, config)
            self._lasts_s = max(0.05, float(np.max(needed_s, initial=0.0)))
        elif self.stage in (StopStage.SETTLE, StopStage.EASE):
            self._lasts_s = config.settle_s if self.stage is StopStage.SETTLE else config.ease_s


def park_time_s(distance_rad: Array, velocity_rad_s: Array, config: StopConfig) -> Array:
    """Return how long each joint needs for its way to the parking pose [s]."""
    return _PEAK_OF_MEAN * np.abs(distance_rad) / (config.park_speed_share * velocity_rad_s)


def check_parking(names: tuple[str, ...], park_rad: Array, limits: JointLimits, config: StopConfig) -> None:
    """Check that the parking pose can be reached from everywhere in the time allowed.

    Raises:
        ValueError: It lies outside the limits or is too far; the message names the joint and the remedy.
    """
    if config.category != "park_then_release":
        return
    is_lower_farther = park_rad - limits.lower >= limits.upper - park_rad
    far_rad = np.where(is_lower_farther, limits.lower, limits.upper)
    needed_s = park_time_s(far_rad - park_rad, limits.velocity, config)
    for row, name in enumerate(names):
        low, high = float(limits.lower[row]), float(limits.upper[row])
        if not low <= park_rad[row] <= high:
            raise ValueError(
                f"park_rad of {name} is {park_rad[row]:g}, expected {low:g} to {high:g}: the joint's limits"
            )
        if needed_s[row] > config.park_within_s:
            raise ValueError(
                f"{name} needs {needed_s[row]:.2f} s to park from {far_rad[row]:g} rad, more than "
                f"park_within_s {config.park_within_s:g}: raise it, or park_speed_share "
                f"{config.park_speed_share:g}"
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
