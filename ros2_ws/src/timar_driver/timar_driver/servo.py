"""One servo of a joint: set-up (limits, mode, watchdog, torque), and its health since activation."""

from __future__ import annotations

import collections
from collections.abc import Mapping

from timar_driver.hardware_file import ServoSpec
from timar_driver.registers import Register, Setting
from timar_driver.servo_bus import BusError, ServoBus

_WARM_BELOW_LIMIT_C = 10
_MINUTE_NS = 60_000_000_000


class Servo:
    """A servo on a bus.

    Args:
        spec: What the hardware file says of it.
        bus: Open when methods are called.
        watchdog_ms: Its own watchdog; 0 sets none.
    """

    def __init__(self, spec: ServoSpec, bus: ServoBus, watchdog_ms: float) -> None:
        self.spec, self.servo_id = spec, spec.servo_id
        self.name = f"{spec.joint} (servo {spec.servo_id})"
        self.position_rad = self.velocity_rad_s = 0.0
        """Of the joint."""
        self.is_given_up = False
        self.silent_ns = 0
        """For how long it has left requests unanswered."""
        self._bus, self._family = bus, bus.family
        unit_ms = self._family.watchdog_unit_ms
        self.watchdog = round(watchdog_ms / unit_ms) if unit_ms else 0
        """What its watchdog register is set to."""
        self._values: dict[str, int] = {}
        """The newest value of every register that was read."""
        self._kept: dict[str, int] = {}
        """What its memory holds that changes what other registers mean."""
        self.notes: list[str] = []
        """What a person must hear of its set-up."""
        self._limits: dict[str, int] = {}
        self._restarts_ns: collections.deque[int] = collections.deque(maxlen=64)

    # Set-up.

    def inspect(self) -> list[str]:
        """Read what the servo keeps and what changes the meaning of other registers; nothing kept is written.

        Returns:
            Why it cannot be used as it is, a sentence each.

        Raises:
            BusError: It does not answer.
        """
        self._kept = self._read_kept()
        found, oldest = [], self._family.oldest_firmware
        if self._kept.get("firmware", oldest) < oldest:
            found.append(
                f"{self.name} has firmware {self._kept['firmware']}, expected {oldest} or newer, "
                "which has its watchdog: update it with the maker's software"
            )
        for setting in self._settings:
            held = self._kept[setting.register]
            if not setting.is_written and not setting.is_met(held):
                hint = " or say `reverse: true` in the hardware file" if setting.moves_zero else ""
                found.append(
                    f"{self.name} holds {setting.register} {held}: {setting.why}; expected "
                    f"{setting.applied(held)}: set it with the maker's software{hint}"
                )
        return found

    def write_kept(self) -> None:
        """Write what the servo keeps, only where it differs (that memory wears out), and read it back.

        Raises:
            BusError: It holds torque, does not answer, or did not keep a value.
        """
        wanted = self._differing()
        if not wanted:
            return
        if self._read("torque_enable"):
            raise BusError(
                f"{self.name} holds with torque and has another {', '.join(wanted)}; support the head, "
                "run `timar bus release`, and start again"
            )
        for setting in self._settings:
            held = self._kept[setting.register]
            if setting.moves_zero and not setting.is_met(held):
                self.notes.append(
                    f"{self.name} held {setting.register} {held}: {setting.why}; it was set to "
                    f"{wanted[setting.register]}, as the hardware file says: where zero_tick or "
                    "sign were found with the other value, find them again"
                )
        writes = list(wanted.items())
        if "lock" in self._registers:
            writes = [("lock", 0), *writes, ("lock", 1)]
        for name, value in writes:
            self._write(name, value)
        self._kept = self._read_kept()
        if lost := self._differing():
            name, value = next(iter(lost.items()))
            raise BusError(
                f"{self.name} was told {name} {value} and holds {self._kept[name]}; it cannot be used so: "
                "set it with the maker's software, or replace the servo"
            )

    def arm(self, effort: float = 1.0) -> None:
        """Let the servo hold where it stands; its memory must be as `write_kept` leaves it.

        Args:
            effort: Share of its torque it may use.

        Raises:
            BusError: It does not answer or refuses.
        """
        self._restart_after_shutdown()
        if self.watchdog:
            # Writing 0 also clears a watchdog that has tripped; goals are read-only until then.
            self._write("watchdog", 0)
        is_holding = bool(self._read("torque_enable"))
        self._write("effort_limit", round(effort * self.full_effort))
        self._write("profile_acceleration", 0)
        self._write("profile_velocity", self._velocity_limit)
        tick = self._read("position")
        steps = [("goal_position", self.spec.nearest_tick(tick)), ("torque_enable", 1)]
        if self._family.goal_is_position_at_start and not is_holding:
            # It would forget a goal that it was given before.
            steps.reverse()
        for name, value in steps:
            self._write(name, value)
        self._take_position(tick)

    def read_limits(self) -> None:
        """Read the servo's own alarm limits."""
        for name in ("temperature_limit", "min_voltage", "max_voltage"):
            self._limits[name] = self._read(name)

    @property
    def full_effort(self) -> int:
        """The effort register's value for all the torque that the servo's memory allows."""
        return min(self._family.full_effort, self._kept.get("pwm_limit", self._family.full_effort))

    @property
    def _registers(self) -> Mapping[str, Register]:
        return self.spec.model.registers

    @property
    def _settings(self) -> list[Setting]:
        settings = [*self.spec.settings]
        if "velocity_limit" in self._registers:
            settings.append(Setting("velocity_limit", self._velocity_limit))
        for name, value in (("return_delay", 0), ("operating_mode", self._family.position_mode)):
            if all(setting.register != name for setting in settings):
                settings.append(Setting(name, value))
        return settings

    def _differing(self) -> dict[str, int]:
        """Return what registers have to be set to that hold something else."""
        wanted: dict[str, int] = {}
        for setting in self._settings:
            held = wanted.get(setting.register, self._kept[setting.register])
            if not setting.is_met(held):
                wanted[setting.register] = setting.applied(held)
        return wanted

    def _read_kept(self) -> dict[str, int]:
        """Read the memory; a servo that is set to answer less than everything is set to answer all."""
        names = {setting.register for setting in self._settings}
        names |= {"firmware", "shutdown", "pwm_limit", "phase"} & set(self._registers)
        if "reply_level" not in self._registers:
            return self._bus.read_block(self.servo_id, sorted(names))
        full = self._family.full_reply_level
        try:
            kept = self._bus.read_block(self.servo_id, sorted(names))
            if self._read("reply_level") == full:
                return kept
        except BusError:
            if self._bus.ping(self.servo_id) is None:
                raise
        is_locked = self._registers["reply_level"].is_kept and "lock" in self._registers
        writes = [("reply_level", full)]
        if is_locked:
            writes = [("lock", 0), *writes, ("lock", 1)]
        for name, value in writes:
            self._bus.write_unconfirmed(self.servo_id, name, value)
        if (level := self._read("reply_level")) != full:
            raise BusError(
                f"{self.name} holds reply_level {level}, expected {full}: it would not confirm what it is "
                "told; set it with the maker's software"
            )
        return self._bus.read_block(self.servo_id, sorted(names))

    def _restart_after_shutdown(self) -> None:
        """A servo that shut itself down has no torque to lose; only a reboot brings it back."""
        error = self._read("error")
        if not error & self._shutdown_bits or self._read("torque_enable"):
            return
        self._bus.reboot(self.servo_id)
        raise BusError(
            f"{self.name} had shut down: {self._family.named_faults(error)}; it was restarted: see what "
            "stopped it, then activate again"
        )

    @property
    def _velocity_limit(self) -> int:
        """The joint's limit in units of the velocity registers."""
        return max(1, round(self.spec.velocity_rad_s * self.spec.ratio / self._rad_s_per_unit))

    @property
    def _rad_s_per_unit(self) -> float:
        return self.spec.model.rad_s_per_unit(self._kept)

    @property
    def _shutdown_bits(self) -> int:
        """On which faults it takes its own torque."""
        return self._kept.get("shutdown", self._family.shutdown_bits)

    def _read(self, name: str) -> int:
        return self._bus.read(self.servo_id, name)

    def _write(self, name: str, value: int) -> None:
        self._bus.write(self.servo_id, name, value)

    # What it reports.

    def update(self, values: Mapping[str, int]) -> None:
        """Take a reading of some registers."""
        self._values |= values
        if "position" in values:
            self._take_position(values["position"])
        if "velocity" in values:
            # Register unit to [rad/s] of the servo, and by sign and ratio to the joint.
            servo_rad_s = values["velocity"] * self._rad_s_per_unit
            self.velocity_rad_s = servo_rad_s * self.spec.sign / self.spec.ratio

    def _take_position(self, tick: int) -> None:
        self.position_rad = (tick - self.spec.zero_tick) / self.spec.ticks_per_rad

    def count_restart(self, now_ns: int) -> int:
        """Count a restart; return how many there were within a minute."""
        self._restarts_ns.append(now_ns)
        return sum(now_ns - then_ns < _MINUTE_NS for then_ns in self._restarts_ns)

    def shutdown(self) -> str:
        """Return why the servo has shut itself down; empty when it has not."""
        bits = self._values.get("error", 0) & self._shutdown_bits
        if not bits:
            return ""
        named = self._family.named_faults(bits)
        return f"has shut down: {named}; let it cool, look for what blocks it, then resume"

    def warnings(self) -> list[str]:
        """Return what is wrong or near an alarm, a sentence each."""
        joint, values, limits = self.spec.joint, self._values, self._limits
        found = [*self.notes, *([f"{joint} is given up"] if self.is_given_up else [])]
        temperature, voltage = values.get("temperature"), values.get("voltage")
        if temperature is not None and temperature > limits["temperature_limit"] - _WARM_BELOW_LIMIT_C:
            limit = limits["temperature_limit"]
            found.append(f"{joint} is {temperature} C warm, its limit is {limit} C; let it rest")
        if voltage is not None and not limits["min_voltage"] <= voltage <= limits["max_voltage"]:
            found.append(
                f"{joint} has {0.1 * voltage:.1f} V, expected {0.1 * limits['min_voltage']:.1f} to "
                f"{0.1 * limits['max_voltage']:.1f} V; check the power supply"
            )
        if named := self._family.named_faults(values.get("error", 0)):
            found.append(f"{joint} reports: {named}")
        return found

    def numbers(self) -> dict[str, object]:
        """Return temperature, voltage and load by name, in their units."""
        load_name = "load_ma" if self.spec.model.load_unit == "mA" else "load_percent"
        units = (
            ("temperature", "temperature_c", 1.0),
            ("voltage", "voltage_v", 0.1),
            ("load", load_name, self.spec.model.load_scale),
        )
        return {
            f"{self.spec.joint}.{name}": round(scale * self._values[register], 1)
            for register, name, scale in units
            if register in self._values
        }
