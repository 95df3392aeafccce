"""Simulated servos on one line: real packets in, real packets out, and every fault a workshop knows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from timar_common.config import check, option

from timar_driver import dynamixel_packets as dynamixel
from timar_driver import feetech_packets as feetech
from timar_driver.simulated_servo import SimulatedServo

_REFUSALS = {"": dynamixel.OK, "access": dynamixel.ACCESS, "range": dynamixel.RANGE}


@dataclasses.dataclass(frozen=True)
class Faults:
    """What is wrong with the line."""

    noise: float = option(0.0, "Share of replies with stray bytes before them.", minimum=0.0, maximum=1.0)
    corrupt: float = option(0.0, "Share of replies with a flipped bit.", minimum=0.0, maximum=1.0)
    lost: float = option(0.0, "Share of replies that never come.", minimum=0.0, maximum=1.0)
    deaf: float = option(0.0, "Share of requests with a flipped bit.", minimum=0.0, maximum=1.0)

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
        self.requests = 0
        self.on_goal: Callable[[int], None] = lambda now_ns: None
        """Called with the time of every group write of goals."""
        self._is_dynamixel = servos[0].family.protocol == "dynamixel"
        self._reader = dynamixel.PacketReader() if self._is_dynamixel else feetech.PacketReader()
        self._rng = np.random.default_rng(seed)

    @property
    def broken_requests(self) -> int:
        """Requests that failed their checksum."""
        return self._reader.broken

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
            if self._is_dynamixel and packet.code == dynamixel.STATUS:
                continue
            self.requests += 1
            self.advance(now_ns)
            for servo in self._listening(now_ns):
                servo.hear(now_ns)
            replies += self._dispatch(packet.servo_id, packet.code, packet.parameters, now_ns)
        return b"".join(map(self._on_the_line, replies))

    def advance(self, now_ns: int) -> None:
        """Let the servos move and their watchdogs count."""
        for servo in self.servos.values():
            servo.advance(now_ns)

    def brown_out(self, servo_ids: Sequence[int], now_ns: int) -> None:
        """Let the voltage of some servos break down for a moment: they start anew, without torque."""
        for servo_id in servo_ids:
            self.servos[servo_id].reboot(now_ns)

    def _listening(self, now_ns: int) -> list[SimulatedServo]:
        return [
            servo
            for servo in self.servos.values()
            if servo.servo_id not in self.silent and servo.is_awake(now_ns)
        ]

    def _dispatch(self, servo_id: int, code: int, parameters: bytes, now_ns: int) -> list[bytes]:
        listening = {servo.servo_id: servo for servo in self._listening(now_ns)}
        width = 2 if self._is_dynamixel else 1
        if code in (dynamixel.SYNC_READ, dynamixel.SYNC_WRITE):
            if len(parameters) < 2 * width:
                return []
            address = int.from_bytes(parameters[:width], "little")
            size = int.from_bytes(parameters[width : 2 * width], "little")
            rest = parameters[2 * width :]
            if code == dynamixel.SYNC_READ:
                asked = [listening[key] for key in rest if key in listening]
                return [self._reply(servo, dynamixel.OK, servo.read(address, size)) for servo in asked]
            self._sync_write(listening, address, size, rest, now_ns)
            return []
        named = list(listening.values()) if servo_id == dynamixel.BROADCAST else []
        if servo_id in listening:
            named = [listening[servo_id]]
        replies = [self._single(servo, code, parameters, width, now_ns) for servo in named]
        is_answered = servo_id != dynamixel.BROADCAST or code == dynamixel.PING
        return replies if is_answered else []

    def _sync_write(
        self, listening: dict[int, SimulatedServo], address: int, size: int, rows: bytes, now_ns: int
    ) -> None:
        for start in range(0, len(rows) - size, size + 1):
            servo = listening.get(rows[start])
            if servo is not None:
                servo.write(address, rows[start + 1 : start + 1 + size])
        goal = next(iter(self.servos.values())).family.register("goal_position")
        if address <= goal.address < address + size:
            self.on_goal(now_ns)

    def _single(self, servo: SimulatedServo, code: int, parameters: bytes, width: int, now_ns: int) -> bytes:
        if code == dynamixel.PING:
            model = servo.get("model_number").to_bytes(2, "little")
            return self._reply(servo, dynamixel.OK, model + b"\x01" if self._is_dynamixel else b"")
        if code == dynamixel.READ and len(parameters) >= 2 * width:
            address = int.from_bytes(parameters[:width], "little")
            size = int.from_bytes(parameters[width : 2 * width], "little")
            return self._reply(servo, dynamixel.OK, servo.read(address, size))
        if code == dynamixel.WRITE and len(parameters) > width:
            refusal = servo.write(int.from_bytes(parameters[:width], "little"), parameters[width:])
            return self._reply(servo, _REFUSALS[refusal])
        if code == dynamixel.REBOOT:
            reply = self._reply(servo, dynamixel.OK)
            servo.reboot(now_ns)
            return reply
        return self._reply(servo, dynamixel.UNKNOWN)

    def _reply(self, servo: SimulatedServo, error: int, data: bytes = b"") -> bytes:
        if not self._is_dynamixel:
            # An STS servo's reply carries its hardware's state and never a refusal.
            return feetech.Packet(servo.servo_id, servo.get("error"), data).to_bytes()
        error |= dynamixel.ALERT if servo.get("error") else 0
        return dynamixel.Packet(servo.servo_id, dynamixel.STATUS, bytes([error]) + data).to_bytes()

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
        place, bit = int(self._rng.integers(len(data))), int(self._rng.integers(8))
        return data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]


class SimulatedTransport:
    """A wire straight into a simulated bus, in simulated time: waiting costs no time of ours.

    Args:
        bus: The other end.
        baud: Bits a second; replies take as long as on a real line.
    """

    def __init__(self, bus: SimulatedBus, baud: int = 1_000_000) -> None:
        self.bus, self.now_ns = bus, 1_000_000_000
        self.is_unplugged = False
        self._ns_per_byte = 10 * 1_000_000_000 // baud
        self._waiting = bytearray()

    def write(self, data: bytes) -> None:
        """Send everything."""
        self._check()
        self.now_ns += len(data) * self._ns_per_byte
        self._waiting += self.bus.receive(data, self.now_ns)

    def read(self, size: int, timeout_s: float) -> bytes:
        """Return up to `size` bytes; time goes on by what they take, or by the whole timeout."""
        self._check()
        if not self._waiting or size <= 0:
            self.now_ns += round(timeout_s * 1e9) + 1
            return b""
        data = bytes(self._waiting[:size])
        del self._waiting[:size]
        self.now_ns += len(data) * self._ns_per_byte
        return data

    def discard(self) -> None:
        """Forget what came and was not read."""
        self._check()
        self._waiting.clear()

    def now_s(self) -> float:
        """Return the simulated time [s]."""
        return self.now_ns * 1e-9

    def close(self) -> None:
        """Forget everything on the line."""
        self._waiting.clear()

    def _check(self) -> None:
        if self.is_unplugged:
            raise OSError("the adapter was pulled out")
