"""Tables of servo models: registers, units, fault bits of Dynamixel X and Feetech STS; one row a model.

Sources: ROBOTIS e-Manual, pages of the X series (control tables, protocol 2.0); Feetech's memory table of the
STS series. Only facts of numbers and addresses are taken.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from timar_driver.packets import DynamixelFormat, FeetechFormat, PacketFormat
from timar_driver.registers import Register, RegisterBlock

RAD_S_PER_RPM = 2 * math.pi / 60.0
BAUDS = (57_600, 115_200, 500_000, 1_000_000, 2_000_000, 3_000_000, 4_000_000)
_FACTORY = {"return_delay": 250, "temperature_limit": 70, "min_position": 0, "max_position": 4095}


@dataclasses.dataclass(frozen=True)
class ServoFamily:
    """What all models of one make and protocol share."""

    name: str
    """What a hardware file calls it."""
    packets: PacketFormat
    bauds: tuple[int, ...]
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
    position_mode: int
    full_effort: int
    """The effort register's value for full torque."""
    fault_bits: Mapping[int, str]
    """What a bit of the error register means."""
    shutdown_bits: int
    """Bits on which the servo takes its own torque off, as it leaves the factory."""
    watchdog_unit_ms: float = 0.0
    """0: the servo has no watchdog."""
    tripped_watchdog: int = -1
    goal_is_position_at_start: bool = False
    """Whether a servo that is switched on takes the position where it stands for its goal."""
    rejects_goals_outside_limits: bool = False
    """Otherwise it goes to the limit."""
    factory_values: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """What the registers hold as it leaves the factory, beyond its identity."""
    power_on_values: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """What volatile registers hold after power-on, where that is not 0."""

    def block(self, names: tuple[str, ...]) -> RegisterBlock:
        """Return registers to be read together."""
        registers = sorted((self.registers[name] for name in names), key=lambda item: item.address)
        return RegisterBlock(tuple(registers))

    def named_faults(self, error: int) -> str:
        """Return what the bits of an error register mean, after each other."""
        return ", ".join(text for bit, text in self.fault_bits.items() if error >> bit & 1)


@dataclasses.dataclass(frozen=True)
class ServoModel:
    """One model of servo."""

    name: str
    number: int
    """What its model register holds."""
    family: ServoFamily
    nominal_volt: float
    load_unit: str
    """What the load register counts."""
    load_scale: float
    """Load register to `load_unit`."""


def register_table(*registers: Register) -> Mapping[str, Register]:
    """Return registers by name."""
    return {register.name: register for register in registers}


DYNAMIXEL_X = ServoFamily(
    name="dynamixel",
    packets=DynamixelFormat(),
    bauds=BAUDS,
    registers=register_table(
        Register("model_number", 0, 2, is_read_only=True, is_kept=True),
        Register("id", 7, 1, is_kept=True),
        Register("baud", 8, 1, is_kept=True),
        Register("return_delay", 9, 1, is_kept=True),
        Register("drive_mode", 10, 1, is_kept=True),
        Register("operating_mode", 11, 1, is_kept=True),
        Register("homing_offset", 20, 4, is_signed=True, is_kept=True),
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
        Register("watchdog", 98, 1, is_signed=True),
        Register("effort_limit", 100, 2, is_signed=True),
        Register("profile_acceleration", 108, 4),
        Register("profile_velocity", 112, 4),
        Register("goal_position", 116, 4, is_signed=True),
        Register("load", 126, 2, is_signed=True, is_read_only=True),
        Register("velocity", 128, 4, is_signed=True, is_read_only=True),
        Register("position", 132, 4, is_signed=True, is_read_only=True),
        Register("voltage", 144, 2, is_read_only=True),
        Register("temperature", 146, 1, is_read_only=True),
    ),
    motion=("load", "velocity", "position"),
    state=("torque_enable", "error", "watchdog"),
    health=("voltage", "temperature"),
    ticks_per_turn=4096,
    rad_s_per_unit=0.229 * RAD_S_PER_RPM,
    position_mode=3,
    full_effort=885,
    watchdog_unit_ms=20.0,
    fault_bits={
        0: "input voltage out of range",
        2: "overheated",
        3: "encoder fault",
        4: "electrical shock or too little power",
        5: "overload",
    },
    shutdown_bits=0x34,
    goal_is_position_at_start=True,
    rejects_goals_outside_limits=True,
    factory_values={**_FACTORY, "velocity_limit": 445, "shutdown": 0x34},
    power_on_values={"reply_level": 2},
)

FEETECH_STS = ServoFamily(
    name="feetech",
    packets=FeetechFormat(),
    bauds=BAUDS,
    registers=register_table(
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
        Register("goal_position", 42, 2, minus_bit=15),
        Register("profile_velocity", 46, 2, minus_bit=15),
        Register("effort_limit", 48, 2),
        Register("lock", 55, 1),
        Register("position", 56, 2, minus_bit=15, is_read_only=True),
        Register("velocity", 58, 2, minus_bit=15, is_read_only=True),
        Register("load", 60, 2, minus_bit=10, is_read_only=True),
        Register("voltage", 62, 1, is_read_only=True),
        Register("temperature", 63, 1, is_read_only=True),
        Register("error", 65, 1, is_read_only=True),
    ),
    motion=("position", "velocity", "load"),
    state=("torque_enable", "error"),
    health=("voltage", "temperature"),
    ticks_per_turn=4096,
    rad_s_per_unit=2 * math.pi / 4096,
    position_mode=0,
    full_effort=1000,
    fault_bits={
        0: "input voltage out of range",
        1: "encoder fault",
        2: "overheated",
        3: "too much current",
        4: "angle fault",
        5: "overload",
    },
    shutdown_bits=0x2C,
    factory_values=_FACTORY,
    power_on_values={"lock": 1},
)

MODELS = tuple(
    ServoModel(name, number, family, volt, unit, scale)
    for family, name, number, volt, unit, scale in (
        (DYNAMIXEL_X, "XL330-M077", 1190, 5.0, "mA", 1.0),
        (DYNAMIXEL_X, "XL330-M288", 1200, 5.0, "mA", 1.0),
        (DYNAMIXEL_X, "XC330-M181", 1230, 5.0, "mA", 1.0),
        (DYNAMIXEL_X, "XC330-M288", 1240, 5.0, "mA", 1.0),
        (DYNAMIXEL_X, "XC330-T181", 1210, 12.0, "mA", 1.0),
        (DYNAMIXEL_X, "XC330-T288", 1220, 12.0, "mA", 1.0),
        (DYNAMIXEL_X, "XL430-W250", 1060, 12.0, "%", 0.1),
        (DYNAMIXEL_X, "2XL430-W250", 1090, 12.0, "%", 0.1),
        (DYNAMIXEL_X, "XC430-W150", 1070, 12.0, "%", 0.1),
        (DYNAMIXEL_X, "XC430-W240", 1080, 12.0, "%", 0.1),
        (DYNAMIXEL_X, "XM430-W210", 1030, 12.0, "mA", 2.69),
        (DYNAMIXEL_X, "XM430-W350", 1020, 12.0, "mA", 2.69),
        (DYNAMIXEL_X, "XM540-W150", 1130, 12.0, "mA", 2.69),
        (DYNAMIXEL_X, "XM540-W270", 1120, 12.0, "mA", 2.69),
        (FEETECH_STS, "STS3215", 777, 7.4, "%", 0.1),
        (FEETECH_STS, "STS3250", 2825, 12.0, "%", 0.1),
    )
)
