"""Scan of a servo bus: who answers, and whatever is wrong with who does not answer well."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable

from timar_driver.hardware_file import BusDescription
from timar_driver.packets import LAST_ID
from timar_driver.servo_bus import BusError, ServoBus

OpenBus = Callable[[BusDescription], contextlib.AbstractContextManager[ServoBus]]
_PROBES = 4
"""Two servos with one id may answer one request alike; hardly so many."""


@dataclasses.dataclass
class ScanResult:
    """What a scan found."""

    servos: dict[int, str] = dataclasses.field(default_factory=dict)
    """Id -> model of who answered."""
    complaints: list[str] = dataclasses.field(default_factory=list)
    """What is wrong, a sentence each."""


def scan_bus(description: BusDescription, last_id: int, open_bus: OpenBus) -> ScanResult:
    """Ping every id up to `last_id`, and look at each servo that answers.

    Args:
        description: The bus; its ids are also tried at other rates when nobody answers.
        last_id: The highest id.
        open_bus: Opens a bus for as long as its context lasts.

    Raises:
        RuntimeError: The port cannot be opened, or is gone.
    """
    result, last_id = ScanResult(), min(last_id, LAST_ID)
    joints = {spec.servo_id: spec.joint for spec in description.servos}
    former: list[int] = []
    colliding: list[int] = []
    with open_bus(description) as bus:
        for servo_id in range(last_id + 1):
            before = bus.counters.corrupt
            number = bus.ping(servo_id)
            if number is not None:
                result.servos[servo_id] = description.protocol.model_name(number)
                name = f"servo {servo_id} ({joints.get(servo_id) or result.servos[servo_id]})"
                if fault := _probe(bus, servo_id):
                    result.complaints.append(f"{name} {fault}")
            if bus.counters.corrupt > before:
                colliding.append(servo_id)
            elif number is None and servo_id in joints and bus.speaks_former_protocol(servo_id):
                former.append(servo_id)
        late, foreign = sorted(bus.late_ids), sorted(bus.foreign_ids)
        is_garbled = len(colliding) > max(1, last_id // 2)
    if former:
        result.complaints.append(
            f"servo {_listed(former)} answers in an earlier protocol: set its protocol_type to 2 with "
            "the maker's software"
        )
    if late:
        result.complaints.append(
            f"servo {_listed(late)} answers later than reply_margin_ms "
            f"{description.timing.reply_margin_ms:g}: "
            "raise it, or lower the adapter's latency timer"
        )
    if foreign:
        result.complaints.append(
            f"servo {_listed(foreign)} answers in place of another that was asked: look for a second "
            "program or controller on this bus"
        )
    if colliding and not is_garbled:
        result.complaints.append(
            f"the answers of id {_listed(colliding)} come broken: two servos with this id, or a bad cable; "
            "connect them one at a time and give each its own id"
        )
    if not result.servos:
        result.complaints.append(_silence(description, last_id, open_bus, is_garbled=is_garbled))
    return result


def _probe(bus: ServoBus, servo_id: int) -> str:
    """Read a servo's error register and, several times, registers in which no two servos are alike."""
    try:
        fault = bus.family.named_faults(bus.read(servo_id, "error"))
        for _ in range(_PROBES):
            bus.read_block(servo_id, (*bus.family.motion, *bus.family.health))
    except BusError as error:
        return f"answers a ping and then no more: {error}"
    return f"reports: {fault}" if fault else ""


def _silence(description: BusDescription, last_id: int, open_bus: OpenBus, *, is_garbled: bool) -> str:
    """Say what was tried where nobody answered, and what to look at."""
    if bauds := _bauds_with_answers(description, open_bus):
        return (
            f"nobody answered on {description.port} at {description.baud} baud, but at {_listed(bauds)}: set "
            "bus.baud, or the servos' own"
        )
    heard = (
        "answers came broken: another baud, or a bad line"
        if is_garbled
        else "nothing came back: look at the servos' power, the data line, the baud, and whether "
        "the adapter is one for a half-duplex bus"
    )
    return (
        f"nobody answered on {description.port} at {description.baud} baud to ids 0 to {last_id}, nor "
        f"the file's ids at other rates; {heard}"
    )


def _bauds_with_answers(description: BusDescription, open_bus: OpenBus) -> list[int]:
    """Return other rates at which a servo of the hardware file answers."""
    found = []
    for baud in description.family.bauds:
        if baud == description.baud:
            continue
        with contextlib.suppress(RuntimeError), open_bus(dataclasses.replace(description, baud=baud)) as bus:
            bus.attempts = 1
            if any(bus.ping(spec.servo_id) is not None for spec in description.servos):
                found.append(baud)
    return found


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))
