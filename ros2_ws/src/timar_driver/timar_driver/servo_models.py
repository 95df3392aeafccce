"""Servo models as tables: registers, units, fault bits. No logic; another model is another row.

Sources: ROBOTIS e-Manual, pages of the X series (control tables, protocol 2.0); Feetech's memory table of the
STS series. Only facts of numbers and addresses are taken.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from types import MappingProxyType

from timar_driver.registers import Register, RegisterBlock, Sign

RAD_S_PER_RPM = 2 * math.pi / 60.0


@dataclasses.dataclass(frozen=True)
class ServoFamily:
    """What all models of one make and protocol share."""

    protocol: str
    registers: Mapping[str, Register]
    motion: tuple[str, ...]
    """Read in every cycle."""
    state: tuple[str, ...]
    """Read several times a second: whether the servo is still as it was set."""
    health: tuple[str, ...]
    """Read several times a second: temperature, voltage, and what the servo complains of."""
    ticks_per_turn: int
    rad_s_per_unit: float
    """Of velocity registers."""
    rad_s2_per_unit: float
    """Of the acceleration register."""
    position_mode: int
    full_effort: int
    """The effort register's value for full torque."""
    watchdog_unit_ms: float
    """0: the servo has no watchdog."""
    fault_bits: Mapping[int, str]
    """What a bit of the error register means."""
    shutdown_bits: int
    """Bits on which the servo takes its own torque off, as it leaves the factory."""
    tripped_watchdog: int = -1
    reply_bytes: int = 11
    """A reply's length without parameters."""

    def register(self, name: str) -> Register:
        """Return a register by name."""
        return self.registers[name]

    def block(self, names: tuple[str, ...]) -> RegisterBlock:
        """Return registers to be read together."""
        return RegisterBlock(
            tuple(sorted((self.registers[name] for name in names), key=lambda item: item.address))
        )


@dataclasses.dataclass(frozen=True)
class ServoModel:
    """One model of servo."""

    name: str
    number: int
    family: ServoFamily
    nominal_volt: float
    load_unit: str
    """What the load register counts."""
    load_scale: float
    """Load register to `load_unit`."""


def _table(*registers: Register) -> Mapping[str, Register]:
    return MappingProxyType({register.name: register for register in registers})


_TWOS, _TOP = Sign.TWOS_COMPLEMENT, Sign.TOP_BIT

DYNAMIXEL_X = ServoFamily(
    protocol="dynamixel",
    registers=_table(
        Register("model_number", 0, 2, is_read_only=True, is_kept=True),
        Register("id", 7, 1, is_kept=True),
        Register("baud", 8, 1, is_kept=True),
        Register("return_delay", 9, 1, is_kept=True),
        Register("drive_mode", 10, 1, is_kept=True),
        Register("operating_mode", 11, 1, is_kept=True),
        Register("homing_offset", 20, 4, _TWOS, is_kept=True),
        Register("temperature_limit", 31, 1, is_kept=True),
        Register("max_voltage", 32, 2, is_kept=True),
        Register("min_voltage", 34, 2, is_kept=True),
        Register("velocity_limit", 44, 4, is_kept=True),
        Register("max_position", 48, 4, is_kept=True),
        Register("min_position", 52, 4, is_kept=True),
        Register("shutdown", 63, 1, is_kept=True),
        Register("torque_enable", 64, 1),
        Register("reply_level", 68, 1),
        Register("error", 70, 1, is_read_only=True),
        Register("watchdog", 98, 1, _TWOS),
        Register("effort_limit", 100, 2, _TWOS),
        Register("profile_acceleration", 108, 4),
        Register("profile_velocity", 112, 4),
        Register("goal_position", 116, 4, _TWOS),
        Register("load", 126, 2, _TWOS, is_read_only=True),
        Register("velocity", 128, 4, _TWOS, is_read_only=True),
        Register("position", 132, 4, _TWOS, is_read_only=True),
        Register("voltage", 144, 2, is_read_only=True),
        Register("temperature", 146, 1, is_read_only=True),
    ),
    motion=("load", "velocity", "position"),
    state=("torque_enable", "error", "watchdog"),
    health=("voltage", "temperature"),
    ticks_per_turn=4096,
    rad_s_per_unit=0.229 * RAD_S_PER_RPM,
    rad_s2_per_unit=214.577 * RAD_S_PER_RPM / 60.0,
    position_mode=3,
    full_effort=885,
    watchdog_unit_ms=20.0,
    fault_bits=MappingProxyType(
        {
            0: "input voltage out of range",
            2: "overheated",
            3: "encoder fault",
            4: "electrical shock or too little power",
            5: "overload",
        }
    ),
    shutdown_bits=0x34,
)

FEETECH_STS = ServoFamily(
    protocol="feetech",
    registers=_table(
        Register("model_number", 3, 2, is_read_only=True, is_kept=True),
        Register("id", 5, 1, is_kept=True),
        Register("baud", 6, 1, is_kept=True),
        Register("return_delay", 7, 1, is_kept=True),
        Register("reply_level", 8, 1, is_kept=True),
        Register("min_position", 9, 2, is_kept=True),
        Register("max_position", 11, 2, is_kept=True),
        Register("temperature_limit", 13, 1, is_kept=True),
        Register("max_voltage", 14, 1, is_kept=True),
        Register("min_voltage", 15, 1, is_kept=True),
        Register("operating_mode", 33, 1, is_kept=True),
        Register("torque_enable", 40, 1),
        Register("profile_acceleration", 41, 1),
        Register("goal_position", 42, 2, _TOP),
        Register("profile_velocity", 46, 2, _TOP),
        Register("effort_limit", 48, 2),
        Register("lock", 55, 1),
        Register("position", 56, 2, _TOP, is_read_only=True),
        Register("velocity", 58, 2, _TOP, is_read_only=True),
        Register("load", 60, 2, Sign.BIT_10, is_read_only=True),
        Register("voltage", 62, 1, is_read_only=True),
        Register("temperature", 63, 1, is_read_only=True),
        Register("error", 65, 1, is_read_only=True),
    ),
    motion=("position", "velocity", "load"),
    state=("torque_enable", "error"),
    health=("voltage", "temperature"),
    ticks_per_turn=4096,
    rad_s_per_unit=2 * math.pi / 4096,
    rad_s2_per_unit=100 * 2 * math.pi / 4096,
    position_mode=0,
    full_effort=1000,
    watchdog_unit_ms=0.0,
    fault_bits=MappingProxyType(
        {
            0: "input voltage out of range",
            1: "encoder fault",
            2: "overheated",
            3: "too much current",
            4: "angle fault",
            5: "overload",
        }
    ),
    shutdown_bits=0x2C,
    reply_bytes=6,
)

_MODELS = (
    ServoModel("XL330-M077", 1190, DYNAMIXEL_X, 5.0, "mA", 1.0),
    ServoModel("XL330-M288", 1200, DYNAMIXEL_X, 5.0, "mA", 1.0),
    ServoModel("XC330-M181", 1230, DYNAMIXEL_X, 5.0, "mA", 1.0),
    ServoModel("XC330-M288", 1240, DYNAMIXEL_X, 5.0, "mA", 1.0),
    ServoModel("XC330-T181", 1210, DYNAMIXEL_X, 12.0, "mA", 1.0),
    ServoModel("XC330-T288", 1220, DYNAMIXEL_X, 12.0, "mA", 1.0),
    ServoModel("XL430-W250", 1060, DYNAMIXEL_X, 12.0, "%", 0.1),
    ServoModel("2XL430-W250", 1090, DYNAMIXEL_X, 12.0, "%", 0.1),
    ServoModel("XC430-W150", 1070, DYNAMIXEL_X, 12.0, "%", 0.1),
    ServoModel("XC430-W240", 1080, DYNAMIXEL_X, 12.0, "%", 0.1),
    ServoModel("XM430-W210", 1030, DYNAMIXEL_X, 12.0, "mA", 2.69),
    ServoModel("XM430-W350", 1020, DYNAMIXEL_X, 12.0, "mA", 2.69),
    ServoModel("XM540-W150", 1130, DYNAMIXEL_X, 12.0, "mA", 2.69),
    ServoModel("XM540-W270", 1120, DYNAMIXEL_X, 12.0, "mA", 2.69),
    ServoModel("STS3215", 777, FEETECH_STS, 7.4, "%", 0.1),
    ServoModel("STS3250", 2825, FEETECH_STS, 12.0, "%", 0.1),
)

MODELS: Mapping[str, ServoModel] = MappingProxyType({model.name: model for model in _MODELS})
PROTOCOLS: Mapping[str, ServoFamily] = MappingProxyType(
    {family.protocol: family for family in (DYNAMIXEL_X, FEETECH_STS)}
)
