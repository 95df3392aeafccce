"""Calibration of servo zeros: joints are put to 0 by hand, and the hardware file learns where that is.

The servo's own memory stays as it is, unless its offset is asked for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import yaml
from timar_common.atomic import replacing_file

from timar_driver.driver import JointLimits
from timar_driver.hardware_file import ServoSpec, read_hardware
from timar_driver.servo_bus import ServoBus

STILL_TICKS = 4
"""A joint that is held still by hand moves by no more while it is read."""
READINGS = 10


@dataclasses.dataclass(frozen=True)
class ZeroFound:
    """Where a joint's 0 was found."""

    spec: ServoSpec
    """What the hardware file says so far."""
    zero_tick: int
    """As the servo counts when it holds `homing_offset`."""
    homing_offset: int
    """What the servo is to hold; that of the file unless it was asked for."""

    @property
    def moved_by(self) -> int:
        """By how much the zero lies elsewhere than in the file [ticks]."""
        return self.zero_tick - self.homing_offset - self.spec.zero_tick + self.spec.homing_offset

    def values(self) -> dict[str, int]:
        """Return what changes in the joint's entry of the hardware file."""
        found = {"zero_tick": self.zero_tick}
        if self.homing_offset != self.spec.homing_offset:
            found["homing_offset"] = self.homing_offset
        return found


def find_zero(bus: ServoBus, spec: ServoSpec, *, is_in_motor: bool = False) -> ZeroFound:
    """Read where a joint stands that is held at 0.

    Args:
        bus: Open.
        spec: Its servo.
        is_in_motor: Choose the servo's own offset so that 0 is in the middle of its count; else keep it.

    Raises:
        ValueError: It holds torque, moves while it is read, is set to count the other way round, or the
        servo's
            offset cannot reach so far.
        BusError: The servo does not answer.
    """
    family = spec.model.family
    if bus.read(spec.servo_id, "torque_enable"):
        raise ValueError(f"{spec.joint} holds torque; support the head, and run `timar bus release` first")
    if family.reverse is not None:
        held = bus.read(spec.servo_id, family.reverse.register)
        if bool(held & family.reverse.mask) != spec.is_reversed:
            raise ValueError(
                f"{spec.joint} holds {family.reverse.register} {held} and counts the other way round "
                "than the "
                "hardware file says; start the driver once, which sets it, or say `reverse` in the file"
            )
    ticks = [bus.read(spec.servo_id, "position") for _ in range(READINGS)]
    if max(ticks) - min(ticks) > STILL_TICKS:
        raise ValueError(
            f"{spec.joint} moved by {max(ticks) - min(ticks)} ticks while it was read, expected at most "
            f"{STILL_TICKS}; hold it still"
        )
    held = bus.read(spec.servo_id, "homing_offset") if family.largest_offset else 0
    in_force = held if abs(held) <= family.largest_offset else 0
    encoder = sorted(ticks)[len(ticks) // 2] - family.offset_sign * in_force
    offset = spec.homing_offset
    if is_in_motor:
        offset = family.offset_sign * (family.ticks_per_turn // 2 - encoder)
        if abs(offset) > family.largest_offset:
            raise ValueError(
                f"{spec.joint} is at 0 where its servo counts {encoder}; its own offset would have to "
                f"be {offset}, "
                f"expected at most {family.largest_offset}: mount the horn nearer to the middle, or keep the "
                "offset in the file"
            )
    return ZeroFound(spec, encoder + family.offset_sign * offset, offset)


def write_offset(bus: ServoBus, found: ZeroFound) -> None:
    """Write the offset into the servo's memory and read it back.

    Raises:
        BusError: It does not answer, refuses, or does not keep it.
        ValueError: It holds another value after it.
    """
    servo_id, is_locked = found.spec.servo_id, "lock" in found.spec.model.registers
    if is_locked:
        bus.write(servo_id, "lock", 0)
    bus.write(servo_id, "homing_offset", found.homing_offset)
    if is_locked:
        bus.write(servo_id, "lock", 1)
    if (held := bus.read(servo_id, "homing_offset")) != found.homing_offset:
        raise ValueError(f"{found.spec.joint} was told homing_offset {found.homing_offset} and holds {held}")


def write_values(
    path: Path,
    values: Mapping[str, Mapping[str, int]],
    joint_names: tuple[str, ...],
    limits: JointLimits,
) -> None:
    """Change numbers of joints in a hardware file; everything else, comments too, stays as it is.

    Args:
        path: The file.
        values: By joint, then by key.
        joint_names: The URDF's driven joints.
        limits: Their limits.

    Raises:
        ValueError: With these numbers the file is none any more (a joint's range leaves its servo's); it is
        as
            before.
        OSError: It cannot be written.
    """
    path = path.resolve()
    text = path.read_text(encoding="utf-8")
    document = _entries(yaml.compose(text))
    servos = _entries(document.get("servos"))
    prefix = document["joint_prefix"].value if "joint_prefix" in document else ""
    changes = [
        change
        for joint, numbers in values.items()
        for change in _changes(servos[joint.removeprefix(prefix)], numbers)
    ]
    for begin, end, new in sorted(changes, reverse=True):
        text = text[:begin] + new + text[end:]
    with replacing_file(path) as scratch:
        scratch.write_text(text, encoding="utf-8")
        try:
            read_hardware(scratch, joint_names, limits)
        except ValueError as error:
            said = str(error).replace(str(scratch), str(path))
            raise ValueError(f"nothing was written: {said}") from error


def _changes(node: yaml.Node, numbers: Mapping[str, int]) -> list[tuple[int, int, str]]:
    """Return where in the text what is to be put, for one joint's mapping."""
    if not isinstance(node, yaml.MappingNode):
        raise ValueError("a joint's servo is no mapping in the hardware file")
    known = _entries(node)
    last_key, last_value = node.value[-1]
    between = ", " if node.flow_style else "\n" + " " * last_key.start_mark.column
    changes = []
    for key, number in numbers.items():
        if key in known:
            changes.append((known[key].start_mark.index, known[key].end_mark.index, str(number)))
        else:
            at = last_value.end_mark.index
            changes.append((at, at, f"{between}{key}: {number}"))
    return changes


def _entries(node: yaml.Node | None) -> dict[str, yaml.Node]:
    if not isinstance(node, yaml.MappingNode):
        return {}
    return {str(key.value): value for key, value in node.value}
