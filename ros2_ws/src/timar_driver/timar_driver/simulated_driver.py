"""Simulated joint driver: servos as numbers, with a servo's delay, limits, noise and watchdog."""

from __future__ import annotations

import numpy as np

from timar_driver.config import DriverConfig
from timar_driver.driver import Array, JointDriver, JointLimits, Measurement, check_command
from timar_driver.simulated_motor import follow


class SimulatedDriver(JointDriver):
    """A servo per joint: second order, critically damped, rate-limited, inside its position limits.

    Args:
        joint_names: Order of every array.
        limits: Of the joints.
        config: Delay, noise, its seed, and watchdog.
        start_positions: (J,) where the joints stand when switched on [rad]; None: at zero, or the nearest
        limit.
    """

    def __init__(
        self,
        joint_names: tuple[str, ...],
        limits: JointLimits,
        config: DriverConfig | None = None,
        start_positions: Array | None = None,
    ) -> None:
        self.joint_names, self.limits, self.config = joint_names, limits, config or DriverConfig()
        start = np.zeros(len(joint_names)) if start_positions is None else start_positions
        self._positions: Array = np.clip(start, limits.lower, limits.upper).astype(np.float64)
        self._velocities: Array = np.zeros(len(joint_names))
        self._goal = self._positions.copy()
        self._rng = np.random.default_rng(self.config.seed)
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
        command = check_command(self.joint_names, positions)
        self._advance(now_ns)
        self._goal = np.clip(command, self.limits.lower, self.limits.upper)
        self._commanded_ns = now_ns
        return self._goal.copy()

    def read(self, now_ns: int) -> Measurement:
        """Return where the joints are."""
        self._advance(now_ns)
        noise = self._rng.normal(0.0, self.config.servo_noise_rad, len(self._goal))
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
        return (f"the servos' watchdog stopped them {self.watchdog_stops} times; the loop was held up",)

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
        duration_s = (until_ns - self._now_ns) * 1e-9
        if duration_s <= 0.0:
            return
        self._now_ns = until_ns
        for row in range(len(self.joint_names)):
            self._positions[row], self._velocities[row] = follow(
                float(self._positions[row]),
                float(self._velocities[row]),
                float(self._goal[row]),
                delay_s=1e-3 * self.config.servo_delay_ms,
                top_speed=self.effort * float(self.limits.velocity[row]),
                duration_s=duration_s,
                lower=float(self.limits.lower[row]),
                upper=float(self.limits.upper[row]),
            )
