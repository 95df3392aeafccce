"""Simulated servo bus: real packets in, real packets out, and faults of line and servos on request."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from timar_common.config import check, number

from timar_driver.hardware_file import BusDescription
from timar_driver.packets import (
    BROADCAST,
    PING,
    READ,
    REBOOT,
    SYNC_READ,
    SYNC_WRITE,
    WRITE,
    Packet,
    PacketReader,
)
from timar_driver.simulated_servo import MotorConfig, SimulatedServo

FAULT_COMMANDS = (
    "lose ID | find ID | brownout ID... | overload ID | set noise|corrupt|lost|deaf SHARE | heal | state"
)


@dataclasses.dataclass(frozen=True)
class Faults:
    """What is wrong with the line."""

    noise: float = number(0.0, "Share of replies with stray bytes before them.", 0.0, 1.0)
    corrupt: float = number(0.0, "Share of replies with a flipped bit.", 0.0, 1.0)
    lost: float = number(0.0, "Share of replies that never come.", 0.0, 1.0)
    deaf: float = number(0.0, "Share of requests with a flipped bit.", 0.0, 1.0)

    def __post_init__(self) -> None:
        check(self)


class SimulatedBus:
    """A line with servos on it; bytes in, bytes out, time as an argument.

    Args:
        servos: All of one protocol.
        seed: Of the faults.
    """

    def __init__(self, servos: Sequence[SimulatedServo], seed: int = 0) -> None:
        self.servos = {servo.servo_id: servo for servo in servos}
        self.faults = Faults()
        self.silent: set[int] = set()
        """Servos whose cable is out."""
        self.twins: set[int] = set()
        """Ids that a second servo has, too: both answer at once."""
        self.impostors: dict[int, int] = {}
        """Id that answers in place of the one that was asked, by that one."""
        self.late_ms: dict[int, float] = {}
        """By how much later than its fellows a servo answers, by id."""
        self.answers_late_s = 0.0
        """How late the newest replies are."""
        self.requests = 0
        self.on_goal: Callable[[int], None] = lambda now_ns: None
        """Called with the time of every group write of goals."""
        self._format = servos[0].family.packets
        self._goal = servos[0].family.registers["goal_position"]
        self._reader = PacketReader(self._format)
        self._rng = np.random.default_rng(seed)

    def receive(self, data: bytes, now_ns: int) -> bytes:
        """Take bytes from the line and return the servos' replies to whole requests.

        Args:
            data: What the host sent.
            now_ns: When.
        """
        if self.faults.deaf and self._happens(self.faults.deaf):
            data = self._flipped(data)
        replies: list[bytes] = []
        for packet in self._reader.feed(data):
            if packet.is_reply:
                continue
            self.requests += 1
            self.advance(now_ns)
            listening = {
                key: servo
                for key, servo in self.servos.items()
                if key not in self.silent and servo.is_awake(now_ns)
            }
            for servo in listening.values():
                servo.note_request(now_ns)
            replies += self._answer(packet, listening, now_ns)
            self.answers_late_s = 1e-3 * self.late_ms.get(packet.servo_id, 0.0)
        return b"".join(map(self._on_the_line, replies))

    def advance(self, now_ns: int) -> None:
        """Let the servos move and their watchdogs count."""
        for servo in self.servos.values():
            servo.advance(now_ns)

    def brown_out(self, servo_ids: Sequence[int], now_ns: int) -> None:
        """Let the voltage of some servos break down for a moment: they restart, without torque."""
        for servo_id in servo_ids:
            self.servos[servo_id].reboot(now_ns)

    def _answer(self, request: Packet, listening: Mapping[int, SimulatedServo], now_ns: int) -> list[bytes]:
        address, size, rest = self._address_and_size(request.parameters)
        if request.code == SYNC_READ:
            asked = [listening[key] for key in rest if key in listening]
            return [self._reply(servo, data=servo.read(address, size)) for servo in asked]
        if request.code == SYNC_WRITE:
            self._sync_write(listening, address, size, rest)
            if address <= self._goal.address < address + size:
                self.on_goal(now_ns)
            return []
        is_broadcast = request.servo_id == BROADCAST
        named = [servo for key, servo in listening.items() if is_broadcast or key == request.servo_id]
        replies = [self._carry_out(servo, request, now_ns) for servo in named]
        if request.code == WRITE:
            self._write_by_secondary_id(request.servo_id, address, request.parameters, listening)
        # A servo may be set to answer pings, or pings and reads, only.
        needed = self._format_level(named[0], request.code) if named else 0
        replies = [
            reply for servo, reply in zip(named, replies, strict=True) if _reply_level(servo) >= needed
        ]
        return [] if is_broadcast and request.code != PING else replies

    def _format_level(self, servo: SimulatedServo, code: int) -> int:
        full = servo.family.full_reply_level
        return 0 if code == PING else max(0, full - 1) if code == READ else full

    def _write_by_secondary_id(
        self, servo_id: int, address: int, parameters: bytes, listening: Mapping[int, SimulatedServo]
    ) -> None:
        """A secondary id is obeyed without an answer, and reaches volatile registers only."""
        for servo in listening.values():
            if servo.servo_id != servo_id and servo.has_secondary_id(servo_id):
                servo.write(address, parameters[self._format.address_bytes :], is_volatile_only=True)

    def _address_and_size(self, parameters: bytes) -> tuple[int, int, bytes]:
        """Read what reading and group requests begin with; 0 where it is not there."""
        width = self._format.address_bytes
        address, size = (int.from_bytes(parameters[start : start + width], "little") for start in (0, width))
        return address, size, parameters[2 * width :]

    def _sync_write(
        self, listening: Mapping[int, SimulatedServo], address: int, size: int, rows: bytes
    ) -> None:
        for start in range(0, len(rows) - size, size + 1):
            servo_id, data = rows[start], rows[start + 1 : start + 1 + size]
            for servo in listening.values():
                if servo.servo_id == servo_id:
                    servo.write(address, data)
                elif servo.has_secondary_id(servo_id):
                    servo.write(address, data, is_volatile_only=True)

    def _carry_out(self, servo: SimulatedServo, request: Packet, now_ns: int) -> bytes:
        address, size, _ = self._address_and_size(request.parameters)
        width = self._format.address_bytes
        if request.code == PING:
            identity = servo.get("model_number").to_bytes(2, "little") + b"\x01"
            return self._reply(servo, data=identity[: self._format.ping_bytes])
        if request.code == READ and len(request.parameters) >= 2 * width:
            return self._reply(servo, data=servo.read(address, size))
        if request.code == WRITE and len(request.parameters) > width:
            return self._reply(servo, servo.write(address, request.parameters[width:]))
        if request.code == REBOOT:
            reply = self._reply(servo)
            servo.reboot(now_ns)
            return reply
        return self._reply(servo, "unknown")

    def _reply(self, servo: SimulatedServo, refusal: str = "", data: bytes = b"") -> bytes:
        error = self._format.error_byte(refusal, servo.get("error"))
        servo_id = self.impostors.get(servo.servo_id, servo.servo_id)
        reply = self._format.encode(Packet(servo_id, error, data, is_reply=True))
        if servo.servo_id in self.twins:
            # The other one begins a byte later; a 0 of either pulls the line down.
            reply = bytes(a & b for a, b in zip(reply + b"\xff", b"\xff" + reply, strict=True))
        return reply

    def _on_the_line(self, reply: bytes) -> bytes:
        """Let the line do to a reply what its faults do."""
        if self._happens(self.faults.lost):
            return b""
        if self._happens(self.faults.corrupt):
            reply = self._flipped(reply)
        if self._happens(self.faults.noise):
            reply = self._rng.bytes(int(self._rng.integers(1, 12))) + reply
        return reply

    def _happens(self, share: float) -> bool:
        return share > 0.0 and bool(self._rng.random() < share)

    def _flipped(self, data: bytes) -> bytes:
        if not data:
            return data
        index, bit = int(self._rng.integers(len(data))), int(self._rng.integers(8))
        return data[:index] + bytes([data[index] ^ 1 << bit]) + data[index + 1 :]

    def state(self) -> dict[int, dict[str, object]]:
        """Return what can be seen of every servo, by id."""
        names = ("position", "velocity", "has_torque", "is_tripped", "watchdog_trips")
        return {key: {name: getattr(servo, name) for name in names} for key, servo in self.servos.items()}

    def obey(self, words: Sequence[str], now_ns: int) -> str:
        """Carry out one of `FAULT_COMMANDS`; return what is to be answered.

        Raises:
            ValueError: The words mean nothing.
            KeyError: There is no such servo.
        """
        match list(words):
            case []:
                return ""
            case ["lose", servo_id]:
                self.silent.add(self.servos[int(servo_id)].servo_id)
            case ["find", servo_id]:
                self.silent.discard(int(servo_id))
            case ["brownout", *ids] if ids:
                self.brown_out([int(servo_id) for servo_id in ids], now_ns)
            case ["overload", servo_id]:
                self.servos[int(servo_id)].inject_fault("overload")
            case ["set", "noise" | "corrupt" | "lost" | "deaf" as name, share]:
                self.faults = dataclasses.replace(self.faults, **{name: float(share)})
            case ["heal"]:
                self.faults = Faults()
                self.silent.clear()
            case ["state"]:
                self.advance(now_ns)
                return json.dumps(self.state())
            case _:
                raise ValueError(" ".join(words))
        return "done"


def simulated_bus(bus: BusDescription, motor: MotorConfig | None = None, seed: int = 0) -> SimulatedBus:
    """Return simulated servos as a bus describes them, each joint standing at 0 or its nearest limit."""
    servos = []
    for spec in bus.servos:
        tick = spec.tick(min(max(0.0, spec.lower_rad), spec.upper_rad))
        servos.append(SimulatedServo(spec.servo_id, spec.model, tick, motor))
    return SimulatedBus(servos, seed)


def _reply_level(servo: SimulatedServo) -> int:
    return servo.get("reply_level") if servo.family.full_reply_level else 0
