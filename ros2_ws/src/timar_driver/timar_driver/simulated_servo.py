"""Simulated servo: control table with access rules, motor, torque, watchdog, reboot, hardware faults."""

from __future__ import annotations

import dataclasses
import math

from timar_common.config import check, number
from timar_common.suggest import refuse_unknown

from timar_driver.registers import Register
from timar_driver.servo_models import ServoFamily, ServoModel
from timar_driver.simulated_motor import follow


@dataclasses.dataclass(frozen=True)
class MotorConfig:
    """How the motor behaves."""

    delay_ms: float = number(20.0, "How far it stays behind a steadily moving goal.", 2.0, 200.0, "ms")
    top_speed_rad_s: float = number(15.0, "Without load.", 0.1, 100.0, "rad/s")
    boot_ms: float = number(200.0, "Silence after power comes back.", 0.0, 2000.0, "ms")
    sag_rad_s: float = number(0.0, "Without torque the joint sinks so fast.", 0.0, 10.0, "rad/s")
    sag_rad: float = number(0.5, "At most so far below where it was.", 0.0, 3.0, "rad")

    def __post_init__(self) -> None:
        check(self)


class SimulatedServo:
    """A servo as the bus sees it.

    Args:
        servo_id: On the bus.
        model: Its row in the model table.
        start_tick: Where it stands.
        config: Its motor.
    """

    def __init__(
        self, servo_id: int, model: ServoModel, start_tick: int = 2048, config: MotorConfig | None = None
    ) -> None:
        self.servo_id, self.model, self.config = servo_id, model, config or MotorConfig()
        self.family: ServoFamily = model.family
        self.position = float(start_tick)
        """[ticks]"""
        self.velocity = 0.0
        """[ticks/s]"""
        self.reboots = self.watchdog_trips = 0
        self._per_rad = self.family.ticks_per_turn / (2 * math.pi)
        self._now_ns = self._request_ns = self._awake_ns = 0
        self._sag_floor = self.position
        self._registers = model.registers
        self._values: dict[str, int] = {name: 0 for name in self._registers}
        self._goal_travel = 0.0
        """How far the last goal was away [ticks]."""
        self._set_factory_values()
        self._reset_volatile()

    # The control table.

    def get(self, name: str) -> int:
        """Return a register as the servo holds it."""
        if name == "position":
            return self._counted(round(self.position))
        if name == "velocity":
            counted = -self.velocity if self._is_reversed else self.velocity
            return round(counted / self._per_rad / self.model.rad_s_per_unit(self._values))
        return self._values[name]

    def set(self, name: str, value: int) -> None:
        """Set a register from inside, without asking whether a packet might."""
        self._values[name] = value

    def read(self, address: int, size: int) -> bytes:
        """Return a stretch of the table; where no register is, zeros."""
        data = bytearray(size)
        for register in self._within(address, size):
            data[register.address - address : register.end - address] = register.to_bytes(
                self.get(register.name)
            )
        return bytes(data)

    def has_secondary_id(self, servo_id: int) -> bool:
        """Tell whether it also obeys what is meant for this id."""
        return self._values.get("secondary_id", 255) == servo_id < 253

    def write(self, address: int, data: bytes, *, is_volatile_only: bool = False) -> str:
        """Write a stretch of the table as a packet does; `is_volatile_only`: one by its secondary id.

        Returns:
            Why it was refused: "access", "range", or nothing when it was done.
        """
        for register in self._within(address, len(data)):
            value = register.from_bytes(data[register.address - address :])
            if is_volatile_only and register.is_kept:
                return "access"
            if refusal := self._refusal(register, value):
                return refusal
            self._store(register, value)
        return ""

    def _within(self, address: int, size: int) -> list[Register]:
        return [
            register
            for register in self._registers.values()
            if register.address >= address and register.end <= address + size
        ]

    def _refusal(self, register: Register, value: int) -> str:
        if register.is_read_only or (register.is_kept and not self._is_unlocked()):
            return "access"
        if register.name == "effort_limit" and abs(value) > self._values.get("pwm_limit", abs(value)):
            return "range"
        is_goal = register.name in ("goal_position", "effort_limit")
        if is_goal and self.is_tripped:
            return "range"
        if register.name == "goal_position" and self.family.rejects_goals_outside_limits:
            return "" if self.get("min_position") <= value <= self.get("max_position") else "range"
        if register.name == "torque_enable" and value and self.get("error") & self._shutdown_bits:
            return "access"
        return ""

    def _is_unlocked(self) -> bool:
        if "lock" in self._values:
            return self._values["lock"] == 0
        return self._values["torque_enable"] == 0

    def _store(self, register: Register, value: int) -> None:
        is_switched_on = register.name == "torque_enable" and value and not self.has_torque
        if is_switched_on and self.family.goal_is_position_at_start:
            self._values["goal_position"] = self._clamped(self._counted(round(self.position)))
        if register.name == "torque_enable" and not value:
            self._begin_to_sag()
        if register.name == "goal_position":
            value = self._clamped(value)
            self._goal_travel = abs(self._ticks(value) - self.position)
            if self._values.get("drive_mode", 0) & 0x08:
                self._values["torque_enable"] = 1
        self._values[register.name] = value

    def _clamped(self, tick: int) -> int:
        return min(max(tick, self._values["min_position"]), self._values["max_position"])

    # What its memory makes of a count.

    @property
    def _is_reversed(self) -> bool:
        reverse = self.family.reverse
        return reverse is not None and bool(self._values[reverse.register] & reverse.mask)

    @property
    def _offset(self) -> int:
        offset = self._values.get("homing_offset", 0)
        # In position mode a larger one is ignored.
        return self.family.offset_sign * offset if abs(offset) <= self.family.largest_offset else 0

    @property
    def _shutdown_bits(self) -> int:
        return self._values.get("shutdown", self.family.shutdown_bits)

    def _counted(self, tick: int) -> int:
        """Return what the servo reports where its encoder says `tick`."""
        return (self.family.ticks_per_turn - tick if self._is_reversed else tick) + self._offset

    def _ticks(self, count: int) -> int:
        """Return where its encoder stands when it reports `count`."""
        count -= self._offset
        return self.family.ticks_per_turn - count if self._is_reversed else count

    # What happens in time.

    @property
    def has_torque(self) -> bool:
        """Whether it holds."""
        return bool(self._values["torque_enable"])

    @property
    def is_tripped(self) -> bool:
        """Whether its watchdog has stopped it."""
        return self._values.get("watchdog", 0) == self.family.tripped_watchdog

    def is_awake(self, now_ns: int) -> bool:
        """Whether it answers."""
        return now_ns >= self._awake_ns

    def note_request(self, now_ns: int) -> None:
        """Some valid request went over the bus: the watchdog counts from now."""
        self.advance(now_ns)
        self._request_ns = now_ns

    def reboot(self, now_ns: int) -> None:
        """Lose power and restart: what is not kept is forgotten, the torque is off."""
        self.advance(now_ns)
        self.reboots += 1
        self._reset_volatile()
        self._awake_ns = now_ns + int(self.config.boot_ms * 1e6)

    def inject_fault(self, fault: str) -> None:
        """Have a hardware fault of the family's table, such as "overload"; the dangerous ones end the torque.

        Raises:
            ValueError: There is no such fault.
        """
        bits = {text: bit for bit, text in self.family.fault_bits.items()}
        refuse_unknown("fault", [fault], bits, owner=f"a {self.family.name} servo")
        self._values["error"] |= 1 << bits[fault]
        if self._values["error"] & self._shutdown_bits:
            self._values["torque_enable"] = 0
            self._begin_to_sag()

    def _begin_to_sag(self) -> None:
        self._sag_floor = self.position - self.config.sag_rad * self._per_rad

    def advance(self, now_ns: int) -> None:
        """Let time pass."""
        watchdog = self._values.get("watchdog", 0)
        if watchdog > 0 and self.has_torque:
            trip_ns = self._request_ns + int(watchdog * self.family.watchdog_unit_ms * 1e6)
            if now_ns > trip_ns:
                self._move(max(trip_ns, self._now_ns))
                self._trip()
        self._move(now_ns)

    def _trip(self) -> None:
        self.watchdog_trips += 1
        self.velocity = 0.0
        self._values["watchdog"] = self.family.tripped_watchdog
        self._values["goal_position"] = self._counted(round(self.position))
        self._values["profile_acceleration"] = self._values["profile_velocity"] = 0

    def _move(self, now_ns: int) -> None:
        remaining_s = (now_ns - self._now_ns) * 1e-9
        # The first call only tells what time it is.
        if self._now_ns == 0 or remaining_s <= 0.0:
            self._now_ns = max(now_ns, self._now_ns)
            return
        self._now_ns = now_ns
        if not self.has_torque or self._values["operating_mode"] != self.family.position_mode:
            self.velocity = 0.0
            if self.has_torque:
                return
            sunk = self.position - self.config.sag_rad_s * self._per_rad * remaining_s
            self.position = min(self.position, max(sunk, self._sag_floor))
            return
        self.position, self.velocity = follow(
            self.position,
            self.velocity,
            self._ticks(self._values["goal_position"]),
            delay_s=1e-3 * self.config.delay_ms,
            top_speed=self._top_speed(),
            duration_s=remaining_s,
        )

    def _top_speed(self) -> float:
        """[ticks/s]; an eased torque also moves more slowly."""
        top = self.config.top_speed_rad_s
        profile = self._values["profile_velocity"]
        if profile > 0 and self._values.get("drive_mode", 0) & 0x04:
            # A time-based profile: so many milliseconds for every goal, however near.
            top = min(top, self._goal_travel / self._per_rad / (1e-3 * profile))
        elif profile > 0:
            top = min(top, profile * self.model.rad_s_per_unit(self._values))
        effort = min(1.0, max(0.0, self._values["effort_limit"] / self.family.full_effort))
        return top * effort * self._per_rad

    def _set_factory_values(self) -> None:
        nominal = self.model.nominal_volt
        self._values |= {
            "model_number": self.model.number, "id": self.servo_id, "temperature": 35,
            "operating_mode": self.family.position_mode, "voltage": round(10 * nominal),
            "max_voltage": round(14 * nominal), "min_voltage": round(7 * nominal),
            **self.family.factory_values, **self.model.factory_values,
        }  # fmt: skip

    def _reset_volatile(self) -> None:
        sensed = ("voltage", "temperature", "load")
        at_start = {**self.model.factory_values, **self.family.power_on_values}
        for name, register in self._registers.items():
            if not register.is_kept and name not in sensed:
                self._values[name] = at_start.get(name, 0)
        self._values["effort_limit"] = self.family.full_effort
        self._values["goal_position"] = self._counted(round(self.position))
        self._values["torque_enable"] = self._values.get("startup_configuration", 0) & 1
        self.velocity = 0.0
        self._begin_to_sag()
