"""Tables of servo models: registers, units, fault bits of Dynamixel X and Feetech STS; one row a model.

Only facts of numbers and addresses are taken, from
- ROBOTIS e-Manual (emanual.robotis.com/docs/en/dxl/x/...), control tables of XL330-M288, XL430-W250 and
  XM430-W350: addresses, sizes, initial values, bits of drive mode, startup configuration, shutdown; "Homing
  Offset(20)", "Secondary(Shadow) ID(12)", "Status Return Level(68)", "Bus Watchdog(98)" for what they do;
- Feetech's memory table of the STS series (STS3215, STS3250), with its explanation of the phase byte (18) and
  of the offset (31), whose sign is bit 11. LeRobot's pull request 3373 tells what phase bit 4 does to
  positions.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping

from timar_driver.packets import DynamixelFormat, FeetechFormat, PacketFormat
from timar_driver.registers import Register, RegisterBlock, Setting

RAD_S_PER_RPM = 2 * math.pi / 60.0
BAUDS = (57_600, 115_200, 500_000, 1_000_000, 2_000_000, 3_000_000, 4_000_000)
_FACTORY = {"temperature_limit": 70, "min_position": 0, "max_position": 4095}


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
    settings: tuple[Setting, ...] = ()
    """What kept registers must hold, whatever the joint."""
    reverse: Setting | None = None
    """With what in a register the servo counts the other way round; None: it cannot."""
    offset_sign: int = 1
    """1: position is what the encoder says plus `homing_offset`; -1: less it."""
    largest_offset: int = 0
    """Of `homing_offset` in position mode; 0: there is none."""
    oldest_firmware: int = 0
    """An older one lacks registers that the driver needs; 0: any will do."""
    former_packets: PacketFormat | None = None
    """Of an earlier protocol that the servos can be set to."""
    full_reply_level: int = 0
    """What `reply_level` holds when every request is answered; one less: pings and reads are."""
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
    absent: frozenset[str] = frozenset()
    """Registers of the family that this model has not."""
    more: tuple[Register, ...] = ()
    """Registers that it has beyond those of the family."""
    factory_values: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Beyond those of the family, kept and volatile ones."""
    velocity_unit: tuple[str, int, float] | None = None
    """A register, a bit in it, and how many of the family's units a velocity counts while that bit is 0."""

    @functools.cached_property
    def registers(self) -> Mapping[str, Register]:
        """The model's whole control table, by name."""
        shared = [item for item in self.family.registers.values() if item.name not in self.absent]
        return register_table(*shared, *self.more)

    def rad_s_per_unit(self, kept: Mapping[str, int]) -> float:
        """Return the unit of velocity registers, as the servo's memory says."""
        unit = self.family.rad_s_per_unit
        if self.velocity_unit is not None:
            register, bit, coarser = self.velocity_unit
            if register in kept and not kept[register] & bit:
                return unit * coarser
        return unit


def register_table(*registers: Register) -> Mapping[str, Register]:
    """Return registers by name."""
    return {register.name: register for register in registers}


DYNAMIXEL_X = ServoFamily(
    name="dynamixel",
    packets=DynamixelFormat(),
    bauds=BAUDS,
    registers=register_table(
        Register("model_number", 0, 2, is_read_only=True, is_kept=True),
        Register("model_information", 2, 4, is_read_only=True, is_kept=True),
        Register("firmware", 6, 1, is_read_only=True, is_kept=True),
        Register("id", 7, 1, is_kept=True),
        Register("baud", 8, 1, is_kept=True),
        Register("return_delay", 9, 1, is_kept=True),
        Register("drive_mode", 10, 1, is_kept=True),
        Register("operating_mode", 11, 1, is_kept=True),
        Register("secondary_id", 12, 1, is_kept=True),
        Register("protocol_type", 13, 1, is_kept=True),
        Register("homing_offset", 20, 4, is_signed=True, is_kept=True),
        Register("moving_threshold", 24, 4, is_kept=True),
        Register("temperature_limit", 31, 1, is_kept=True),
        Register("max_voltage", 32, 2, is_kept=True),
        Register("min_voltage", 34, 2, is_kept=True),
        Register("pwm_limit", 36, 2, is_kept=True),
        Register("current_limit", 38, 2, is_kept=True),
        Register("velocity_limit", 44, 4, is_kept=True),
        Register("max_position", 48, 4, is_kept=True),
        Register("min_position", 52, 4, is_kept=True),
        Register("startup_configuration", 60, 1, is_kept=True),
        Register("pwm_slope", 62, 1, is_kept=True),
        Register("shutdown", 63, 1, is_kept=True),
        Register("torque_enable", 64, 1),
        Register("led", 65, 1),
        Register("reply_level", 68, 1),
        Register("registered_instruction", 69, 1, is_read_only=True),
        Register("error", 70, 1, is_read_only=True),
        Register("velocity_i_gain", 76, 2),
        Register("velocity_p_gain", 78, 2),
        Register("position_d_gain", 80, 2),
        Register("position_i_gain", 82, 2),
        Register("position_p_gain", 84, 2),
        Register("feedforward_2nd_gain", 88, 2),
        Register("feedforward_1st_gain", 90, 2),
        Register("watchdog", 98, 1, is_signed=True),
        Register("effort_limit", 100, 2, is_signed=True),
        Register("goal_current", 102, 2, is_signed=True),
        Register("goal_velocity", 104, 4, is_signed=True),
        Register("profile_acceleration", 108, 4),
        Register("profile_velocity", 112, 4),
        Register("goal_position", 116, 4, is_signed=True),
        Register("realtime_tick", 120, 2, is_read_only=True),
        Register("moving", 122, 1, is_read_only=True),
        Register("moving_status", 123, 1, is_read_only=True),
        Register("present_pwm", 124, 2, is_signed=True, is_read_only=True),
        Register("load", 126, 2, is_signed=True, is_read_only=True),
        Register("velocity", 128, 4, is_signed=True, is_read_only=True),
        Register("position", 132, 4, is_signed=True, is_read_only=True),
        Register("velocity_trajectory", 136, 4, is_signed=True, is_read_only=True),
        Register("position_trajectory", 140, 4, is_signed=True, is_read_only=True),
        Register("voltage", 144, 2, is_read_only=True),
        Register("temperature", 146, 1, is_read_only=True),
        Register("backup_ready", 147, 1, is_read_only=True),
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
    settings=(
        Setting("drive_mode", 0, 0x02, is_written=False, why="it is the slave of another servo"),
        Setting("drive_mode", 0, 0x0C, why="its profile counts in time, or a goal switches its torque on"),
        Setting("operating_mode", 3, why="it does not follow positions"),
        Setting("secondary_id", 255, why="it also obeys what is meant for another servo"),
        Setting("protocol_type", 2, why="it may speak another protocol after its next start"),
        Setting("startup_configuration", 0, why="after a brown-out it takes torque by itself"),
        Setting("return_delay", 0, why="it answers late"),
    ),
    reverse=Setting("drive_mode", 0x01, 0x01, moves_zero=True, why="it counts the other way round"),
    largest_offset=1024,
    oldest_firmware=38,
    # The frames of Protocol 1.0 are those that Feetech took over.
    former_packets=FeetechFormat(),
    full_reply_level=2,
    factory_values={
        **_FACTORY, "return_delay": 250, "baud": 1, "firmware": 46, "secondary_id": 255, "protocol_type": 2,
        "moving_threshold": 10, "pwm_limit": 885, "shutdown": 0x34,
    },
    power_on_values={"reply_level": 2},
)  # fmt: skip

FEETECH_STS = ServoFamily(
    name="feetech",
    packets=FeetechFormat(),
    bauds=BAUDS,
    registers=register_table(
        Register("firmware_major", 0, 1, is_read_only=True, is_kept=True),
        Register("firmware_minor", 1, 1, is_read_only=True, is_kept=True),
        Register("byte_order", 2, 1, is_read_only=True, is_kept=True),
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
        Register("max_torque", 16, 2, is_kept=True),
        Register("phase", 18, 1, is_kept=True),
        Register("shutdown", 19, 1, is_kept=True),
        Register("led_alarm", 20, 1, is_kept=True),
        Register("position_p_gain", 21, 1, is_kept=True),
        Register("position_d_gain", 22, 1, is_kept=True),
        Register("position_i_gain", 23, 1, is_kept=True),
        Register("min_startup_force", 24, 1, is_kept=True),
        Register("integral_limit", 25, 1, is_kept=True),
        Register("cw_dead_zone", 26, 1, is_kept=True),
        Register("ccw_dead_zone", 27, 1, is_kept=True),
        Register("protection_current", 28, 2, is_kept=True),
        Register("angle_resolution", 30, 1, is_kept=True),
        Register("homing_offset", 31, 2, minus_bit=11, is_kept=True),
        Register("operating_mode", 33, 1, is_kept=True),
        Register("protective_torque", 34, 1, is_kept=True),
        Register("protection_time", 35, 1, is_kept=True),
        Register("overload_torque", 36, 1, is_kept=True),
        Register("velocity_p_gain", 37, 1, is_kept=True),
        Register("overcurrent_time", 38, 1, is_kept=True),
        Register("velocity_i_gain", 39, 1, is_kept=True),
        Register("torque_enable", 40, 1),
        Register("profile_acceleration", 41, 1),
        Register("goal_position", 42, 2, minus_bit=15),
        Register("goal_time", 44, 2, minus_bit=10),
        Register("profile_velocity", 46, 2, minus_bit=15),
        Register("effort_limit", 48, 2),
        Register("lock", 55, 1),
        Register("position", 56, 2, minus_bit=15, is_read_only=True),
        Register("velocity", 58, 2, minus_bit=15, is_read_only=True),
        Register("load", 60, 2, minus_bit=10, is_read_only=True),
        Register("voltage", 62, 1, is_read_only=True),
        Register("temperature", 63, 1, is_read_only=True),
        Register("async_write", 64, 1, is_read_only=True),
        Register("error", 65, 1, is_read_only=True),
        Register("moving", 66, 1, is_read_only=True),
        Register("target_position", 67, 2, minus_bit=15, is_read_only=True),
        Register("current", 69, 2, minus_bit=15, is_read_only=True),
        Register("moving_threshold", 80, 1, is_read_only=True, is_kept=True),
        Register("control_period", 81, 1, is_read_only=True, is_kept=True),
        Register("velocity_unit_factor", 82, 1, is_read_only=True, is_kept=True),
        Register("timer_period", 83, 1, is_read_only=True, is_kept=True),
        Register("max_velocity", 84, 1, is_read_only=True, is_kept=True),
        Register("max_acceleration", 85, 1, is_read_only=True, is_kept=True),
        Register("acceleration_factor", 86, 1, is_read_only=True, is_kept=True),
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
    settings=(
        Setting("operating_mode", 0, why="it does not follow positions"),
        Setting("phase", 0, 0x10, moves_zero=True, why="it counts turns, and positions leave 0 to 4095"),
        Setting("angle_resolution", 1, moves_zero=True, why="a tick is another angle"),
        Setting("reply_level", 1, why="it does not confirm what is written"),
        Setting("return_delay", 0, why="it answers late"),
    ),
    # Motor and encoder belong together: whoever turns one round alone makes the servo run away.
    reverse=Setting(
        "phase", 0x81, 0x81, is_written=False, moves_zero=True, why="its motor or encoder runs the other way"
    ),
    offset_sign=-1,
    largest_offset=2047,
    full_reply_level=1,
    factory_values={
        **_FACTORY, "firmware_major": 3, "firmware_minor": 10, "return_delay": 0, "reply_level": 1,
        "max_torque": 1000, "phase": 0x0C, "shutdown": 0x2C, "led_alarm": 0x2F, "position_p_gain": 32,
        "position_d_gain": 32, "min_startup_force": 16, "cw_dead_zone": 1, "ccw_dead_zone": 1,
        "angle_resolution": 1, "protective_torque": 20, "protection_time": 200, "overload_torque": 80,
        "velocity_p_gain": 10, "overcurrent_time": 200, "velocity_i_gain": 10, "velocity_unit_factor": 1,
    },
    power_on_values={"lock": 1},
)  # fmt: skip


def _indirect(first: int, count: int, address: int, data: int) -> tuple[Register, ...]:
    """Return indirect addresses and their data, numbered from `first` on."""
    return tuple(
        register
        for k in range(count)
        for register in (
            Register(f"indirect_address_{first + k}", address + 2 * k, 2),
            Register(f"indirect_data_{first + k}", data + k, 1),
        )
    )


def _pointing(first: int, count: int, data: int) -> dict[str, int]:
    """Return what indirect addresses hold after power-on: each its own data."""
    return {f"indirect_address_{first + k}": data + k for k in range(count)}


# What X models have beside the family's registers, have not, or hold otherwise as they leave the factory.
_NO_CURRENT = frozenset({"current_limit", "goal_current", "pwm_slope"})
_NO_SLOPE = frozenset({"pwm_slope"})
_X330_INDIRECT = _indirect(1, 20, 168, 208)
_X430_INDIRECT = _indirect(1, 28, 168, 224) + _indirect(29, 28, 578, 634)
_X430_POINTING = {**_pointing(1, 28, 224), **_pointing(29, 28, 634)}
_X330_VALUES = {
    "max_voltage": 70, "min_voltage": 35, "current_limit": 1750, "velocity_limit": 445, "pwm_slope": 140,
    "shutdown": 0x35, "velocity_i_gain": 1600, "velocity_p_gain": 180, "position_p_gain": 400,
    **_pointing(1, 20, 208),
}  # fmt: skip
_XC330_12V_VALUES = {**_X330_VALUES, "max_voltage": 140, "min_voltage": 55}
_XL430_VALUES = {
    "temperature_limit": 72, "max_voltage": 140, "min_voltage": 60, "velocity_limit": 265,
    "velocity_i_gain": 1000, "velocity_p_gain": 100, "position_d_gain": 4000, "position_p_gain": 640,
    **_X430_POINTING,
}  # fmt: skip
_XM_VALUES = {
    "temperature_limit": 80, "max_voltage": 160, "min_voltage": 95, "current_limit": 1193,
    "velocity_limit": 200, "velocity_i_gain": 1920, "velocity_p_gain": 100, "position_p_gain": 800,
    **_X430_POINTING,
}  # fmt: skip
_XM540_VALUES = {**_XM_VALUES, "current_limit": 2047}
_FEETECH_UNIT = ("phase", 0x04, 50.0)

MODELS = (
    *(
        ServoModel(name, number, DYNAMIXEL_X, volt, unit, scale, absent, more, values)
        for name, number, volt, unit, scale, absent, more, values in (
            ("XL330-M077", 1190, 5.0, "mA", 1.0, frozenset[str](), _X330_INDIRECT, _X330_VALUES),
            ("XL330-M288", 1200, 5.0, "mA", 1.0, frozenset[str](), _X330_INDIRECT, _X330_VALUES),
            ("XC330-M181", 1230, 5.0, "mA", 1.0, frozenset[str](), _X330_INDIRECT, _X330_VALUES),
            ("XC330-M288", 1240, 5.0, "mA", 1.0, frozenset[str](), _X330_INDIRECT, _X330_VALUES),
            ("XC330-T181", 1210, 12.0, "mA", 1.0, frozenset[str](), _X330_INDIRECT, _XC330_12V_VALUES),
            ("XC330-T288", 1220, 12.0, "mA", 1.0, frozenset[str](), _X330_INDIRECT, _XC330_12V_VALUES),
            ("XL430-W250", 1060, 12.0, "%", 0.1, _NO_CURRENT, _X430_INDIRECT, _XL430_VALUES),
            ("2XL430-W250", 1090, 12.0, "%", 0.1, _NO_CURRENT, _X430_INDIRECT, _XL430_VALUES),
            ("XC430-W150", 1070, 12.0, "%", 0.1, _NO_CURRENT, _X430_INDIRECT, _XL430_VALUES),
            ("XC430-W240", 1080, 12.0, "%", 0.1, _NO_CURRENT, _X430_INDIRECT, _XL430_VALUES),
            ("XM430-W210", 1030, 12.0, "mA", 2.69, _NO_SLOPE, _X430_INDIRECT, _XM_VALUES),
            ("XM430-W350", 1020, 12.0, "mA", 2.69, _NO_SLOPE, _X430_INDIRECT, _XM_VALUES),
            ("XM540-W150", 1130, 12.0, "mA", 2.69, _NO_SLOPE, _X430_INDIRECT, _XM540_VALUES),
            ("XM540-W270", 1120, 12.0, "mA", 2.69, _NO_SLOPE, _X430_INDIRECT, _XM540_VALUES),
        )
    ),
    *(
        ServoModel(
            name, number, FEETECH_STS, volt, "%", 0.1, factory_values=values, velocity_unit=_FEETECH_UNIT
        )
        for name, number, volt, values in (
            ("STS3215", 777, 7.4, {"protection_current": 500, "max_voltage": 80, "min_voltage": 40}),
            ("STS3250", 2825, 12.0, {"protection_current": 511, "max_voltage": 140, "min_voltage": 40}),
        )
    ),
)
