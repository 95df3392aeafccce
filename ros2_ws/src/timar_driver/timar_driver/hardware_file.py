"""What moves a robot: one `ROBOT.hardware.yaml` beside its URDF, checked line by line before it moves."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
from timar_common.suggest import refuse_unknown, unknown_name
from timar_common.yaml_map import YamlMap, read_yaml_map

from timar_driver.driver import Array, JointLimits
from timar_driver.servo_models import MODELS, PROTOCOLS, ServoFamily, ServoModel
from timar_driver.stop_sequence import CATEGORIES, StopConfig, check_parking

BAUDS = (57_600, 115_200, 500_000, 1_000_000, 2_000_000, 3_000_000, 4_000_000)
SUFFIX = ".hardware.yaml"


@dataclasses.dataclass(frozen=True)
class ServoSpec:
    """One joint's servo."""

    joint: str
    servo_id: int
    model: ServoModel
    zero_tick: int
    """Where the servo stands when the joint is at 0."""
    sign: int
    """1 or -1: whether the servo counts up when the joint turns positively."""
    ratio: float
    """Turns of the servo for one turn of the joint."""
    lower_rad: float
    upper_rad: float
    velocity_rad_s: float

    @property
    def ticks_per_rad(self) -> float:
        """Ticks of the servo for a radian of the joint, with sign."""
        return self.sign * self.ratio * self.model.family.ticks_per_turn / (2 * math.pi)

    def tick(self, rad: float) -> int:
        """Return the servo's tick for a joint position."""
        return round(self.zero_tick + self.ticks_per_rad * rad)

    @property
    def tick_range(self) -> tuple[int, int]:
        """Return the ticks at the joint's limits, the lower first."""
        ends = sorted((self.tick(self.lower_rad), self.tick(self.upper_rad)))
        return ends[0], ends[1]

    def nearest_tick(self, tick: int) -> int:
        """Return the tick within the joint's limits that is nearest."""
        low, high = self.tick_range
        return min(max(tick, low), high)


@dataclasses.dataclass(frozen=True)
class BusDescription:
    """A servo bus; servos are in the order of the URDF's driven joints."""

    protocol: str
    port: str
    baud: int
    reply_margin_ms: float
    watchdog_ms: float
    """0: none is set."""
    lost_after_ms: float
    """A servo that is silent for so long is lost."""
    restarts_per_minute: int
    """A servo that starts anew more often is faulty."""
    servos: tuple[ServoSpec, ...]

    @property
    def family(self) -> ServoFamily:
        """What the servos share."""
        return PROTOCOLS[self.protocol]

    def longest_wait_s(self, size: int, servos: int) -> float:
        """Return how long replies of `size` bytes by so many servos may be waited for [s]."""
        bits = 10 * servos * (size + self.family.reply_bytes)
        return bits / self.baud + 1e-3 * self.reply_margin_ms

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Order of every array."""
        return tuple(servo.joint for servo in self.servos)

    @property
    def limits(self) -> JointLimits:
        """Limits of all joints."""
        return JointLimits(
            np.array([servo.lower_rad for servo in self.servos]),
            np.array([servo.upper_rad for servo in self.servos]),
            np.array([servo.velocity_rad_s for servo in self.servos]),
        )


@dataclasses.dataclass(frozen=True)
class DaemonDescription:
    """A robot that is moved by a program of its maker."""

    host: str
    port: int


@dataclasses.dataclass(frozen=True)
class Hardware:
    """What moves a robot, and how it stops."""

    path: Path
    stop: StopConfig
    park_rad: Array
    """(J,) the parking pose, in the order of the URDF's driven joints [rad]."""
    limits: JointLimits
    bus: BusDescription | None = None
    daemon: DaemonDescription | None = None


def hardware_file_of(urdf: Path) -> Path:
    """Return where the hardware of the robot of this URDF is looked for."""
    return urdf.with_name(urdf.stem + SUFFIX)


def read_hardware(path: Path, joint_names: tuple[str, ...], limits: JointLimits) -> Hardware:
    """Read what moves a robot and check it against its driven joints.

    Args:
        path: The file.
        joint_names: The URDF's driven joints.
        limits: Their limits.

    Raises:
        ValueError: Something is misspelt, missing, doubled or out of range; the message names file, line and
            rule.
        OSError: It cannot be read.
    """
    document = read_yaml_map(path)
    stop = _stop(document.child("stop", optional=True))
    parked = document.child("park_rad", optional=True)
    park_rad = _park_rad(parked, joint_names, limits)
    daemon, bus = None, None
    if "daemon" in document.keys():  # noqa: SIM118 - a YamlMap is no mapping
        daemon = _daemon(document.child("daemon"))
    else:
        bus = _bus(document, joint_names, limits)
        limits = bus.limits
    document.refuse_rest()
    try:
        check_parking(joint_names, park_rad, limits, stop)
    except ValueError as error:
        raise parked.error(str(error)) from error
    return Hardware(path, stop, park_rad, limits, bus, daemon)


def _park_rad(entry: YamlMap, joint_names: tuple[str, ...], limits: JointLimits) -> Array:
    given = entry.number_by_key()
    refuse_unknown("driven joint", given, joint_names, owner="the URDF", error=entry.error)
    nearest_zero = np.clip(0.0, limits.lower, limits.upper)
    return np.array([given.get(name, nearest_zero[row]) for row, name in enumerate(joint_names)])


def _daemon(entry: YamlMap) -> DaemonDescription:
    entry.text("kind", choices=("reachy_mini",))
    daemon = DaemonDescription(
        entry.text("host", "127.0.0.1"), entry.integer("port", 8000, minimum=1, maximum=65535)
    )
    entry.refuse_rest()
    return daemon


def _bus(document: YamlMap, joint_names: tuple[str, ...], limits: JointLimits) -> BusDescription:
    line = document.child("bus")
    protocol = line.text("protocol", choices=tuple(PROTOCOLS))
    port = line.text("port")
    baud = line.integer("baud", 1_000_000)
    if baud not in BAUDS:
        raise line.error(f"baud is {baud}, expected one of {', '.join(map(str, BAUDS))}", "baud")
    reply_margin_ms = line.number("reply_margin_ms", 4.0, minimum=0.5, maximum=50.0)
    watchdog_ms = _watchdog_ms(line, PROTOCOLS[protocol])
    lost_after_ms = line.number("lost_after_ms", 500.0, minimum=50.0, maximum=5000.0)
    restarts = line.integer("restarts_per_minute", 3, minimum=0, maximum=60)
    line.refuse_rest()
    servos = _servos(document, PROTOCOLS[protocol], joint_names, limits)
    return BusDescription(protocol, port, baud, reply_margin_ms, watchdog_ms, lost_after_ms, restarts, servos)


def _watchdog_ms(line: YamlMap, family: ServoFamily) -> float:
    unit_ms = family.watchdog_unit_ms
    if not unit_ms:
        if "watchdog_ms" in line.keys():  # noqa: SIM118 - a YamlMap is no mapping
            raise line.error(f"{family.protocol} servos have no watchdog; leave it out", "watchdog_ms")
        return 0.0
    # Two units at least: the servo counts in whole ones, and a cycle must fit in.
    watchdog_ms = line.number("watchdog_ms", 80.0, minimum=2 * unit_ms, maximum=127 * unit_ms)
    if watchdog_ms % unit_ms:
        raise line.error(f"watchdog_ms is {watchdog_ms:g}, expected a multiple of {unit_ms:g}", "watchdog_ms")
    return watchdog_ms


def _stop(entry: YamlMap) -> StopConfig:
    default = StopConfig()
    category = entry.text("category", default.category, CATEGORIES)
    names = [field.name for field in dataclasses.fields(StopConfig) if field.name != "category"]
    numbers = {name: entry.number(name, getattr(default, name)) for name in names}
    entry.refuse_rest()
    try:
        return StopConfig(category, **numbers)
    except ValueError as error:
        raise entry.error(str(error)) from error


def _servos(
    document: YamlMap, family: ServoFamily, joint_names: tuple[str, ...], limits: JointLimits
) -> tuple[ServoSpec, ...]:
    entries = document.child("servos")
    for name in entries.keys():  # noqa: SIM118
        if name not in joint_names:
            raise entries.error(unknown_name("driven joint", name, joint_names, owner="the URDF"), name)
    missing = [name for name in joint_names if name not in entries.keys()]  # noqa: SIM118
    if missing:
        raise entries.error(f"no servo is given for {', '.join(missing)}; every driven joint needs one")
    owners: dict[int, str] = {}
    servos = []
    for row, name in enumerate(joint_names):
        ends = (float(limits.lower[row]), float(limits.upper[row]), float(limits.velocity[row]))
        servo = _servo(name, entries.child(name), family, ends)
        if servo.servo_id in owners:
            raise entries.error(
                f"{name!r} has the id {servo.servo_id} of {owners[servo.servo_id]!r}; give each its own",
                name,
            )
        owners[servo.servo_id] = name
        servos.append(servo)
    return tuple(servos)


def _servo(name: str, entry: YamlMap, family: ServoFamily, ends: tuple[float, float, float]) -> ServoSpec:
    known = tuple(key for key, model in MODELS.items() if model.family is family)
    servo_id = entry.integer("id", minimum=0, maximum=252)
    model = MODELS[entry.text("model", choices=known)]
    zero_tick = entry.integer("zero_tick", family.ticks_per_turn // 2, minimum=0, maximum=4095)
    sign = entry.integer("sign", 1)
    if sign not in (1, -1):
        raise entry.error(f"sign is {sign}, expected 1 or -1", "sign")
    ratio = entry.number("ratio", 1.0, minimum=0.05, maximum=20.0)
    lower, upper = entry.numbers("position_rad", 2, ends[:2])
    velocity = entry.number("velocity_rad_s", ends[2], minimum=0.01)
    entry.refuse_rest()
    if not ends[0] <= lower < upper <= ends[1]:
        raise entry.error(
            f"position_rad is [{lower:g}, {upper:g}], expected lower < upper within the URDF's "
            f"[{ends[0]:g}, {ends[1]:g}]",
            "position_rad",
        )
    if velocity > ends[2]:
        raise entry.error(
            f"velocity_rad_s is {velocity:g}, above the URDF's {ends[2]:g}: lower it", "velocity_rad_s"
        )
    servo = ServoSpec(name, servo_id, model, zero_tick, sign, ratio, lower, upper, velocity)
    low, high = servo.tick_range
    if low < 0 or high >= family.ticks_per_turn:
        raise entry.error(
            f"the joint's range is [{low}, {high}] ticks of its servo, expected within 0 to "
            f"{family.ticks_per_turn - 1}: mount the horn so that zero_tick {zero_tick} lies in the middle",
            "zero_tick",
        )
    return servo
