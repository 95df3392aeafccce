"""Servo set-up: check models, write limits and modes, clear watchdogs, switch the torque on."""

from __future__ import annotations

from collections.abc import Sequence

from timar_driver.hardware_file import ServoSpec
from timar_driver.servo_bus import BusError, ServoBus
from timar_driver.servo_protocols import ServoProtocol


class ServoSetup:
    """What is done to a servo before it moves, and after it restarted.

    Args:
        bus: Open when methods are called.
        protocol: What the servos speak.
        watchdog_ms: The servos' own watchdog; 0 sets none.
    """

    def __init__(self, bus: ServoBus, protocol: ServoProtocol, watchdog_ms: float) -> None:
        self._bus, self._protocol = bus, protocol
        self._family = bus.family
        unit_ms = self._family.watchdog_unit_ms
        self._watchdog = round(watchdog_ms / unit_ms) if unit_ms else 0

    def find(self, specs: Sequence[ServoSpec]) -> None:
        """Check that every servo answers and is of the model it should be.

        Raises:
            BusError: Some are missing or of another model; the message names all of them.
        """
        missing, wrong = [], []
        for spec in specs:
            number = self._bus.ping(spec.servo_id)
            if number is None:
                missing.append(f"{spec.joint} (servo {spec.servo_id})")
            elif number != spec.model.number:
                wrong.append(f"{spec.joint} (servo {spec.servo_id}) is a {self._protocol.model_name(number)}")
        if missing:
            raise BusError(
                f"no answer from {', '.join(missing)}; check power, cables, ids and baud "
                "(`timar bus scan` lists who answers)"
            )
        if wrong:
            raise BusError(f"{', '.join(wrong)}, not the model of the hardware file; correct one of them")

    def arm(self, spec: ServoSpec, effort: float = 1.0) -> int:
        """Write everything a servo needs and let it hold where it stands.

        Args:
            spec: The servo.
            effort: Share of its torque it may use.

        Returns:
            The tick where it stands.

        Raises:
            BusError: It does not answer or refuses.
        """
        bus, servo_id = self._bus, spec.servo_id
        self._restart_after_shutdown(spec)
        if self._watchdog:
            # Writing 0 also clears a watchdog that has tripped; goals are read-only until then.
            bus.write(servo_id, "watchdog", 0)
        self._write_kept(spec)
        is_holding = bool(bus.read(servo_id, "torque_enable"))
        bus.write(servo_id, "effort_limit", round(effort * self._family.full_effort))
        bus.write(servo_id, "profile_acceleration", 0)
        bus.write(servo_id, "profile_velocity", self._velocity_units(spec))
        tick = bus.read(servo_id, "position")
        steps = [("goal_position", spec.nearest_tick(tick)), ("torque_enable", 1)]
        if self._family.goal_is_position_at_start and not is_holding:
            # It would forget a goal that it was given before.
            steps.reverse()
        for name, value in steps:
            bus.write(servo_id, name, value)
        return tick

    def start_watchdogs(self, specs: Sequence[ServoSpec]) -> None:
        """Let the servos watch the line from now on."""
        if self._watchdog:
            register = self._family.registers["watchdog"]
            self._bus.sync_write(register, {spec.servo_id: self._watchdog for spec in specs})

    def stop_watchdogs(self, specs: Sequence[ServoSpec]) -> None:
        """Let the servos hold without being spoken to."""
        if self._watchdog:
            for spec in specs:
                self.try_write(spec.servo_id, "watchdog", 0)

    def try_write(self, servo_id: int, name: str, value: int) -> bool:
        """Write where a servo that does not answer changes nothing; return whether it was confirmed."""
        try:
            self._bus.write(servo_id, name, value)
        except BusError:
            return False
        return True

    def _write_kept(self, spec: ServoSpec) -> None:
        """Write what the servo keeps without power, where it differs: that memory wears out."""
        low, high = spec.tick_range
        wanted = {
            "return_delay": 0,
            "operating_mode": self._family.position_mode,
            "min_position": low,
            "max_position": high,
        }
        if "velocity_limit" in self._family.registers:
            wanted["velocity_limit"] = self._velocity_units(spec)
        bus, servo_id = self._bus, spec.servo_id
        different = {name: value for name, value in wanted.items() if bus.read(servo_id, name) != value}
        if not different:
            return
        if bus.read(servo_id, "torque_enable"):
            raise BusError(
                f"{spec.joint} (servo {servo_id}) holds with torque and has another "
                f"{', '.join(different)}; support the head, run `timar bus release`, and start again"
            )
        writes = list(different.items())
        if "lock" in self._family.registers:
            writes = [("lock", 0), *writes, ("lock", 1)]
        for name, value in writes:
            bus.write(servo_id, name, value)

    def _restart_after_shutdown(self, spec: ServoSpec) -> None:
        """A servo that shut itself down has no torque to lose; only a reboot brings it back."""
        error = self._bus.read(spec.servo_id, "error")
        if not error & self._family.shutdown_bits or self._bus.read(spec.servo_id, "torque_enable"):
            return
        self._bus.reboot(spec.servo_id)
        raise BusError(
            f"{spec.joint} (servo {spec.servo_id}) had shut down: {self._family.named_faults(error)}; it was "
            "restarted: see what stopped it, then activate again"
        )

    def _velocity_units(self, spec: ServoSpec) -> int:
        return max(1, round(spec.velocity_rad_s * spec.ratio / self._family.rad_s_per_unit))
