"""Hardware file, `ROBOT.hardware.yaml` beside the URDF: servo bus or other driver, and how it stops.

Every mistake is named by file, line and rule before anything moves.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from timar_common.config import check, number
from timar_common.extensions import load_extension
from timar_common.suggest import unknown_name
from timar_common.yaml_map import YamlMap, read_yaml_map

from timar_driver.driver import Array, JointDriver, JointLimits
from timar_driver.packets import LAST_ID
from timar_driver.reachy_mini import reachy_mini
from timar_driver.registers import Setting
from timar_driver.servo_models import ServoFamily, ServoModel
from timar_driver.servo_protocols import ServoProtocol, find_protocol
from timar_driver.stop_sequence import StopConfig, check_parking

SUFFIX = ".hardware.yaml"
GROUP = "timar.joint_drivers"
BUILT_IN: dict[str, Callable[[YamlMap, tuple[str, ...], JointLimits], JointDriver]] = {
    "reachy_mini": reachy_mini
}


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
    homing_offset: int = 0
    """What the servo itself adds to its count; `zero_tick` is counted with it."""
    is_reversed: bool = False
    """Whether the servo is set to count the other way round; `sign` is counted with it."""

    @property
    def settings(self) -> tuple[Setting, ...]:
        """Return what the servo's memory must hold so that its ticks are those of this file."""
        family, (low, high) = self.model.family, self.tick_range
        found = [*family.settings]
        if family.reverse is not None:
            wanted = family.reverse.value if self.is_reversed else 0
            found.append(dataclasses.replace(family.reverse, value=wanted))
        if family.largest_offset:
            found.append(
                Setting("homing_offset", self.homing_offset, moves_zero=True, why="its zero lies elsewhere")
            )
        return (*found, Setting("min_position", low), Setting("max_position", high))

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
class BusTiming:
    """How long a servo bus and its servos may take."""

    reply_margin_ms: float = number(
        4.0, "A reply may take this much longer than its bytes need on the line.", 0.5, 50.0, "ms"
    )
    lost_after_ms: float = number(500.0, "A servo that is silent for so long is lost.", 50.0, 5000.0, "ms")
    restarts_per_minute: int = number(3, "A servo that restarts more often is faulty.", 0, 60)

    def __post_init__(self) -> None:
        check(self)


@dataclasses.dataclass(frozen=True)
class BusDescription:
    """A servo bus; servos are in the order of the URDF's driven joints."""

    protocol: ServoProtocol
    port: str
    baud: int
    watchdog_ms: float
    """0: none is set."""
    timing: BusTiming
    servos: tuple[ServoSpec, ...]

    @property
    def family(self) -> ServoFamily:
        """What the servos share."""
        return self.protocol.family

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Order of every array."""
        return tuple(servo.joint for servo in self.servos)

    @property
    def limits(self) -> JointLimits:
        """Limits of all joints."""
        rows = [(servo.lower_rad, servo.upper_rad, servo.velocity_rad_s) for servo in self.servos]
        return JointLimits(*np.array(rows).T)

    def check_period(self, period_s: float) -> None:
        """Check that the servos get commands often enough.

        Raises:
            ValueError: They would stop by their watchdog, or be taken for lost, between two cycles.
        """
        needed_ms = 2e3 * period_s
        for name, ms in (("watchdog_ms", self.watchdog_ms), ("lost_after_ms", self.timing.lost_after_ms)):
            if 0.0 < ms < needed_ms:
                raise ValueError(
                    f"{name} is {ms:g} and a cycle lasts {1e3 * period_s:g} ms, expected at least two "
                    f"cycles, {needed_ms:g} ms: raise it, or rate_hz"
                )


@dataclasses.dataclass(frozen=True)
class Hardware:
    """What moves a robot, and how it stops."""

    path: Path
    stop: StopConfig
    park_rad: Array
    """(J,) the parking pose, in the order of the URDF's driven joints [rad]."""
    limits: JointLimits
    bus: BusDescription | None = None
    driver: JointDriver | None = None
    """In place of a bus: what the file's `driver` names."""

    def servo_bus(self) -> BusDescription:
        """Return the bus.

        Raises:
            ValueError: There is none.
        """
        if self.bus is None:
            raise ValueError(f"{self.path} names a driver and no servo bus; there is none to look at here")
        return self.bus


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
    prefix = document.text("joint_prefix", "")
    short_names = tuple(name.removeprefix(prefix) for name in joint_names)
    stop = document.child("stop", optional=True).config(StopConfig)
    parked = document.child("park_rad", optional=True)
    _check_joints(parked, short_names)
    at_zero = np.clip(0.0, limits.lower, limits.upper)
    given = parked.number_by_key()
    park_rad = np.array([given.get(name, at_zero[row]) for row, name in enumerate(short_names)])
    driver, bus = None, None
    # Robots of their maker's daemon were the first of these drivers.
    kind = next((key for key in ("driver", "daemon") if document.has(key)), None)
    if kind is not None:
        driver = _driver(document.child(kind), joint_names, limits)
    else:
        bus = _bus(document, short_names, limits)
        servos = tuple(dataclasses.replace(servo, joint=prefix + servo.joint) for servo in bus.servos)
        bus = dataclasses.replace(bus, servos=servos)
        limits = bus.limits
    document.refuse_rest()
    with parked.blamed():
        check_parking(joint_names, park_rad, limits, stop)
    return Hardware(path, stop, park_rad, limits, bus, driver)


def _driver(settings: YamlMap, joint_names: tuple[str, ...], limits: JointLimits) -> JointDriver:
    with settings.blamed("kind"):
        make = load_extension(GROUP, settings.text("kind"), BUILT_IN, "kind")
    driver: JointDriver = make(settings, joint_names, limits)
    settings.refuse_rest()
    return driver


def _bus(document: YamlMap, joint_names: tuple[str, ...], limits: JointLimits) -> BusDescription:
    line = document.child("bus")
    with line.blamed("protocol"):
        protocol = find_protocol(line.text("protocol"))
    port, baud = line.text("port"), line.integer("baud", 1_000_000)
    if baud not in protocol.family.bauds:
        bauds = ", ".join(map(str, protocol.family.bauds))
        raise line.error(f"baud is {baud}, expected one of {bauds}", "baud")
    watchdog_ms = _watchdog_ms(line, protocol.family)
    timing = line.config(BusTiming)
    servos = _servos(document.child("servos"), protocol, joint_names, limits)
    return BusDescription(protocol, port, baud, watchdog_ms, timing, servos)


def _watchdog_ms(line: YamlMap, family: ServoFamily) -> float:
    unit_ms = family.watchdog_unit_ms
    if not unit_ms:
        if line.has("watchdog_ms"):
            raise line.error(f"{family.name} servos have no watchdog; leave it out", "watchdog_ms")
        return 0.0
    # Two units at least: the servo counts in whole ones, and a cycle must fit in.
    watchdog_ms = line.number("watchdog_ms", 80.0, minimum=2 * unit_ms, maximum=127 * unit_ms)
    if watchdog_ms % unit_ms:
        raise line.error(f"watchdog_ms is {watchdog_ms:g}, expected a multiple of {unit_ms:g}", "watchdog_ms")
    return watchdog_ms


def _check_joints(entries: YamlMap, joint_names: tuple[str, ...]) -> None:
    for name in entries.keys():  # noqa: SIM118 - a YamlMap is no mapping
        if name not in joint_names:
            raise entries.error(unknown_name("driven joint", name, joint_names, owner="the URDF"), name)


def _servos(
    entries: YamlMap, protocol: ServoProtocol, joint_names: tuple[str, ...], limits: JointLimits
) -> tuple[ServoSpec, ...]:
    _check_joints(entries, joint_names)
    if missing := [name for name in joint_names if not entries.has(name)]:
        raise entries.error(f"no servo is given for {', '.join(missing)}; every driven joint needs one")
    joint_by_id: dict[int, str] = {}
    servos = []
    for row, name in enumerate(joint_names):
        ends = (float(limits.lower[row]), float(limits.upper[row]), float(limits.velocity[row]))
        servo = _servo(name, entries.child(name), protocol, ends)
        other = joint_by_id.setdefault(servo.servo_id, name)
        if other != name:
            raise entries.error(f"{name!r} has the id {servo.servo_id} of {other!r}; give each its own", name)
        servos.append(servo)
    return tuple(servos)


def _servo(name: str, entry: YamlMap, protocol: ServoProtocol, ends: tuple[float, float, float]) -> ServoSpec:
    last_tick, largest_offset = protocol.family.ticks_per_turn - 1, protocol.family.largest_offset
    lower_rad, upper_rad = entry.numbers("position_rad", 2, ends[:2])
    servo = ServoSpec(
        name,
        entry.integer("id", minimum=0, maximum=LAST_ID),
        protocol.model(entry.text("model", choices=[model.name for model in protocol.models])),
        entry.integer("zero_tick", (last_tick + 1) // 2, minimum=0, maximum=last_tick),
        entry.integer("sign", 1),
        entry.number("ratio", 1.0, minimum=0.05, maximum=20.0),
        lower_rad,
        upper_rad,
        entry.number("velocity_rad_s", ends[2], minimum=0.01),
        entry.integer("homing_offset", 0, minimum=-largest_offset, maximum=largest_offset),
        entry.text("reverse", "false", choices=("true", "false")) == "true",
    )
    entry.refuse_rest()
    low, high = servo.tick_range
    lower, upper, velocity = servo.lower_rad, servo.upper_rad, servo.velocity_rad_s
    for key, is_possible, rule in (
        ("sign", servo.sign in (1, -1), f"sign is {servo.sign}, expected 1 or -1"),
        (
            "position_rad",
            ends[0] <= lower < upper <= ends[1],
            f"position_rad is [{lower:g}, {upper:g}], expected lower < upper within the URDF's "
            f"[{ends[0]:g}, {ends[1]:g}]",
        ),
        (
            "velocity_rad_s",
            velocity <= ends[2],
            f"velocity_rad_s is {velocity:g}, above the URDF's {ends[2]:g}: lower it",
        ),
        (
            "zero_tick",
            low >= 0 and high <= last_tick,
            f"the joint's range is [{low}, {high}] ticks of its servo, expected within 0 to {last_tick}: "
            f"mount the horn so that zero_tick {servo.zero_tick} lies in the middle",
        ),
        (
            "reverse",
            not servo.is_reversed or protocol.family.reverse is not None,
            f"{protocol.family.name} servos cannot be reversed; leave it out",
        ),
    ):
        if not is_possible:
            raise entry.error(rule, key)
    return servo
