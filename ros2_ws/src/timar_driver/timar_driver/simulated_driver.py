"""Servos that exist only as numbers: a critically damped position loop with the servo's delay and limits."""

from __future__ import annotations

import dataclasses

import numpy as np
from timar_common.config import check, option

from timar_driver.driver import Array, JointDriver, JointLimits, Measurement


@dataclasses.dataclass(frozen=True)
class ServoConfig:
    """How the simulated servos behave."""

    delay_ms: float = option(
        20.0,
        "How far a servo stays behind a steadily moving command.",
        unit="ms",
        minimum=2.0,
        maximum=200.0,
    )
    noise_rad: float = option(
        0.0, "Standard deviation of a measured position.", unit="rad", minimum=0.0, maximum=0.05
    )
    watchdog_ms: float = option(
        100.0,
        "Without a command for this long the servos stop by themselves.",
        unit="ms",
        minimum=20.0,
        maximum=2000.0,
    )

    def __post_init__(self) -> None:
        check(self)


class SimulatedDriver(JointDriver):
    """A servo per joint: second order, critically damped, rate-limited, inside its position limits.

    Args:
        joint_names: Order of every array.
        limits: Of the joints.
        config: The servos' behaviour.
        seed: Of the measurement noise.
        start_positions: (J,) where the joints stand when switched on [rad]; None: at zero, or the nearest
        limit.
    """

    def __init__(
        self,
        joint_names: tuple[str, ...],
        limits: JointLimits,
        config: ServoConfig | None = None,
        seed: int = 0,
        start_positions: Array | None = None,
    ) -> None:
        self.joint_names, self.limits, self.config = joint_names, limits, config or ServoConfig()
        start = (
            np.zeros(len(joint_names)) if start_positions is None else np.asarray(start_positions, np.float64)
        )
        self._positions = np.clip(start, limits.lower, limits.upper)
        self._velocities = np.zeros(len(joint_names))
        self._goal = self._positions.copy()
        self._rng = np.random.default_rng(seed)
        self._now_ns = self._commanded_ns = 0
        self._is_active = False
        self.effort = 0.0
        """Share of the full torque now."""
        self.watchdog_stops = 0

    def activate(self, now_ns: int) -> Measurement:
        """Hold every joint where it is."""
        self._now_ns = self._commanded_ns = now_ns
        self._goal = self._positions.copy()
        self._velocities[:] = 0.0
        self._is_active = True
        self.effort = 1.0
        return self.read(now_ns)

    def send(self, positions: Array, now_ns: int) -> Array:
        """Command positions; they are clipped to the limits."""
        if not self._is_active:
            raise RuntimeError("the simulated servos are not active; call activate() first")
        if not np.isfinite(positions).all():
            joint = self.joint_names[int(np.flatnonzero(~np.isfinite(positions))[0])]
            raise ValueError(f"the command for {joint} is not finite; send a number")
        self._advance(now_ns)
        self._goal = np.clip(positions, self.limits.lower, self.limits.upper)
        self._commanded_ns = now_ns
        return self._goal.copy()

    def read(self, now_ns: int) -> Measurement:
        """Return where the joints are."""
        self._advance(now_ns)
        noise = (
            self._rng.normal(0.0, self.config.noise_rad, len(self._goal)) if self.config.noise_rad else 0.0
        )
        return Measurement(self._positions + noise, self._velocities.copy())

    def set_effort(self, share: float, now_ns: int) -> None:
        """Scale what the motors can do."""
        self._advance(now_ns)
        self.effort = float(np.clip(share, 0.0, 1.0))

    def deactivate(self, now_ns: int) -> None:
        """Let the joints rest where they are."""
        self._advance(now_ns)
        self._goal = self._positions.copy()
        self._velocities[:] = 0.0
        self._is_active = False

    def faults(self) -> tuple[str, ...]:
        """Say how often the watchdog had to stop the servos."""
        if not self.watchdog_stops:
            return ()
        return (
            f"the servos' watchdog stopped them {self.watchdog_stops} times; the driver's loop was held up",
        )

    def _advance(self, now_ns: int) -> None:
        """Let the servos move until now, in short steps."""
        watchdog_ns = self._commanded_ns + int(self.config.watchdog_ms * 1e6)
        self._integrate(min(now_ns, max(watchdog_ns, self._now_ns)))
        if now_ns > watchdog_ns and self._is_active:
            if not np.array_equal(self._goal, self._positions):
                self.watchdog_stops += 1
            self._goal = self._positions.copy()
            self._velocities[:] = 0.0
            self._commanded_ns = now_ns
        self._now_ns = max(now_ns, self._now_ns)

    def _integrate(self, until_ns: int) -> None:
        remaining_s = (until_ns - self._now_ns) * 1e-9
        if remaining_s <= 0.0:
            return
        # A critically damped loop stays 2 / w behind a ramp. Its step response is solved exactly over each
        # short step.
        w = 2.0 / (self.config.delay_ms * 1e-3)
        steps = max(1, int(np.ceil(remaining_s / 0.002)))
        h = remaining_s / steps
        decay = np.exp(-w * h)
        for _ in range(steps):
            error = self._positions - self._goal
            slope = self._velocities + w * error
            wanted = self._goal + (error + slope * h) * decay
            reach = self.effort * self.limits.velocity * h
            moved = np.clip(wanted, self._positions - reach, self._positions + reach)
            moved = np.clip(moved, self.limits.lower, self.limits.upper)
            is_free = moved == wanted
            self._velocities = np.where(
                is_free, (self._velocities - w * slope * h) * decay, (moved - self._positions) / h
            )
            self._positions = moved
        self._now_ns = until_ns
