"""Servo bus: find, read and write servos on one line, one or many at once; packet protocols."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from timar_driver.driver import HardwareGoneError
from timar_driver.packets import (
    BROADCAST,
    LAST_ID,
    PING,
    READ,
    REBOOT,
    SYNC_READ,
    SYNC_WRITE,
    WRITE,
    Packet,
    PacketReader,
)
from timar_driver.registers import Register, RegisterBlock
from timar_driver.servo_models import ServoFamily
from timar_driver.transport import Transport

_Result = TypeVar("_Result")


class BusError(RuntimeError):
    """A servo did not answer, or refused; the message names the servo by its id."""


class BusGoneError(HardwareGoneError):
    """The line itself is gone: nothing can be sent any more."""


@dataclasses.dataclass
class BusCounters:
    """What went over the bus."""

    requests: int = 0
    replies: int = 0
    missing: int = 0
    """Replies that never came whole."""
    corrupt: int = 0
    """Replies, or pieces of one, that failed their checksum."""
    late: int = 0
    """Replies that came after they were waited for."""
    foreign: int = 0
    """Replies of servos that were not asked."""


class ServoBus:
    """Servos on one line, in packets of their family's format. Every method may raise BusGoneError.

    Args:
        family: Of the servos.
        open_transport: Opens the line; called by `open`.
        baud: Bits a second.
        reply_margin_ms: A reply may take this much longer than its bytes need on the line.
    """

    QUIET_S = 0.03
    """After a failure the line rests for so long: a late answer must not pass for the next one [s]."""
    ROUNDS = 5
    """How often many servos are written to until all of them hold the value."""
    attempts = 3
    """How often a single read or write is tried; a running loop has time for one only."""

    def __init__(
        self,
        family: ServoFamily,
        open_transport: Callable[[], Transport],
        baud: int,
        reply_margin_ms: float = 4.0,
    ) -> None:
        self.family, self._format = family, family.packets
        self.counters = BusCounters()
        self.late_ids: set[int] = set()
        """Servos whose reply came after it was waited for, since the line was opened."""
        self.foreign_ids: set[int] = set()
        """Servos that replied and were not asked, since the line was opened."""
        self._open_transport, self._s_per_byte = open_transport, 10.0 / baud
        self._margin_s = reply_margin_ms * 1e-3
        self._transport: Transport | None = None

    def open(self) -> None:
        """Open the line; does nothing when it is open.

        Raises:
            BusGoneError: It cannot be opened.
        """
        if self._transport is None:
            self.late_ids, self.foreign_ids = set(), set()
            try:
                self._transport = self._open_transport()
            except OSError as error:
                raise BusGoneError(str(error)) from error

    def close(self) -> None:
        """Close the line; may be called at any time."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def ping(self, servo_id: int) -> int | None:
        """Return a servo's model number; None when none answers."""
        for _ in range(self.attempts):
            with contextlib.suppress(BusError):
                # A ping's reply that holds nothing cannot be told from an echo of the ping.
                if not self._format.ping_bytes:
                    return self._read_once(servo_id, self.family.registers["model_number"])
                data = self._ask_one("answer a ping", Packet(servo_id, PING), self._format.ping_bytes)
                return int.from_bytes(data[:2], "little")
            self.settle()
        return None

    def speaks_former_protocol(self, servo_id: int) -> bool:
        """Tell whether a servo answers in an earlier protocol of its family."""
        former = self.family.former_packets
        if former is None:
            return False
        reader, ping = PacketReader(former), Packet(servo_id, PING)
        with self._line() as line:
            line.discard()
            line.write(former.encode(ping))
            end_s = line.now_s() + self.reply_time_s(0, 1) + self.QUIET_S
            while (left_s := end_s - line.now_s()) > 0:
                if any(
                    packet != ping and packet.servo_id == servo_id for packet in self._fed(reader, left_s)
                ):
                    return True
        return False

    def reboot(self, servo_id: int) -> None:
        """Restart a servo."""
        if self._format.confirms_reboot:
            self._ask_one("confirm its reboot", Packet(servo_id, REBOOT), 0)
        else:
            self._send(Packet(servo_id, REBOOT))

    def read(self, servo_id: int, name: str) -> int:
        """Read one register of one servo.

        Raises:
            BusError: No whole answer came, for all attempts.
        """
        return self._retried(self._read_once, servo_id, self.family.registers[name])

    def write(self, servo_id: int, name: str, value: int) -> None:
        """Write one register of one servo and have it confirmed.

        Raises:
            BusError: It was not confirmed, for all attempts, or refused.
        """
        self._retried(self._write_once, servo_id, self.family.registers[name], value)

    def read_block(self, servo_id: int, names: Sequence[str]) -> dict[str, int]:
        """Read several registers of one servo in one piece.

        Raises:
            BusError: No whole answer came, for all attempts.
        """
        block = self.family.block(tuple(names))
        request = Packet(servo_id, READ, self._where(block))
        return block.decode(self._retried(self._ask_one, "read its memory", request, block.size))

    def write_unconfirmed(self, servo_id: int, name: str, value: int) -> None:
        """Write one register of one servo that may be set to confirm nothing."""
        register = self.family.registers[name]
        self._send(Packet(servo_id, WRITE, self._format.number(register.address) + register.to_bytes(value)))
        self.settle()

    def write_all(self, name: str, values: Mapping[int, int]) -> set[int]:
        """Write one register of many servos (value by id) and read it back until all hold it.

        Returns:
            Ids of the servos of which that is not known: they did not answer, or hold another value.
        """
        register, left = self.family.registers[name], dict(values)
        for _ in range(self.ROUNDS):
            if not left:
                break
            self.sync_write(register, left)
            held = self.sync_read(self.family.block((name,)), list(left))
            left = {key: value for key, value in left.items() if held.get(key, {}).get(name) != value}
            if left:
                self.settle()
        return set(left)

    def sync_write(self, register: Register, values: Mapping[int, int]) -> None:
        """Write one register of many servos (value by id) in one packet, unconfirmed."""
        rows = b"".join(bytes([key]) + register.to_bytes(value) for key, value in values.items())
        self._send(Packet(BROADCAST, SYNC_WRITE, self._where(register) + rows))

    def sync_read(self, block: RegisterBlock, servo_ids: Sequence[int]) -> dict[int, dict[str, int]]:
        """Read the same registers of many servos; those that did not answer whole are left out.

        One that stays silent costs the time of one reply.
        """
        request = Packet(BROADCAST, SYNC_READ, self._where(block) + bytes(servo_ids))
        return {
            servo_id: block.decode(reply.parameters)
            for servo_id, reply in self._ask(request, servo_ids, block.size).items()
            if not self._format.refusal(reply.code)
        }

    def reply_time_s(self, size: int, servos: int) -> float:
        """Return how long replies of `size` bytes by so many servos are waited for [s]."""
        return servos * (size + self._format.reply_bytes) * self._s_per_byte + self._margin_s

    def now_s(self) -> float:
        """Return the time by which replies are waited for [s]; the line must be open."""
        with self._line() as line:
            return line.now_s()

    def settle(self) -> None:
        """Let `QUIET_S` pass; what comes meanwhile is late."""
        reader = PacketReader(self._format)
        with self._line() as line:
            end_s = line.now_s() + self.QUIET_S
            while (left_s := end_s - line.now_s()) > 0:
                self._note_late(self._fed(reader, left_s))
            line.discard()

    def _retried(self, call: Callable[..., _Result], *arguments: Any) -> _Result:
        for _ in range(self.attempts - 1):
            try:
                return call(*arguments)
            except BusError:
                self.settle()
        return call(*arguments)

    def _read_once(self, servo_id: int, register: Register) -> int:
        request = Packet(servo_id, READ, self._where(register))
        return register.from_bytes(self._ask_one(f"read register {register.name}", request, register.size))

    def _write_once(self, servo_id: int, register: Register, value: int) -> None:
        data = self._format.number(register.address) + register.to_bytes(value)
        self._ask_one(f"write {value} to register {register.name}", Packet(servo_id, WRITE, data), 0)

    def _where(self, registers: Register | RegisterBlock) -> bytes:
        return self._format.number(registers.address) + self._format.number(registers.size)

    def _ask_one(self, action: str, request: Packet, size: int) -> bytes:
        """Send a request to one servo and return its reply's data."""
        servo_id = request.servo_id
        reply = self._ask(request, [servo_id], size).get(servo_id)
        if reply is None:
            raise BusError(
                f"servo {servo_id} did not {action}: no whole answer came; check its power, its cable and "
                "the bus's baud"
            )
        if refusal := self._format.refusal(reply.code):
            raise BusError(f"servo {servo_id} did not {action}: it {refusal}")
        return reply.parameters

    def _ask(self, request: Packet, servo_ids: Sequence[int], size: int) -> dict[int, Packet]:
        """Send a request and gather these servos' replies until all are there or the time is up."""
        self._send(request)
        reader, found = PacketReader(self._format), dict[int, Packet]()
        with self._line() as line:
            end_s = line.now_s() + self.reply_time_s(size, len(servo_ids))
            while len(found) < len(servo_ids) and (left_s := end_s - line.now_s()) > 0:
                for reply in self._fed(reader, left_s):
                    if reply == request or not self._is_reply(reply, size):
                        # An adapter may echo what it sends.
                        continue
                    if reply.servo_id in servo_ids:
                        found[reply.servo_id] = reply
                    else:
                        self.counters.foreign += 1
                        self.foreign_ids.add(reply.servo_id)
        is_garbled = reader.unused_bytes > 0 and len(found) < len(servo_ids)
        self.counters.corrupt += reader.broken or int(is_garbled)
        self.counters.replies += len(found)
        self.counters.missing += len(servo_ids) - len(found)
        return found

    def _fed(self, reader: PacketReader, timeout_s: float) -> list[Packet]:
        with self._line() as line:
            return reader.feed(line.read(256, timeout_s))

    def _note_late(self, packets: Sequence[Packet]) -> None:
        replies = [
            packet
            for packet in packets
            if (packet.is_reply or not self._format.marks_replies) and packet.servo_id <= LAST_ID
        ]
        self.counters.late += len(replies)
        self.late_ids |= {reply.servo_id for reply in replies}

    def _is_reply(self, packet: Packet, size: int) -> bool:
        if self._format.marks_replies and not packet.is_reply:
            return False
        return len(packet.parameters) == size or bool(self._format.refusal(packet.code))

    def _send(self, request: Packet) -> None:
        self.counters.requests += 1
        with self._line() as line:
            self._note_late(self._fed(PacketReader(self._format), 0.0))
            line.discard()
            line.write(self._format.encode(request))

    @contextlib.contextmanager
    def _line(self) -> Iterator[Transport]:
        if self._transport is None:
            raise BusGoneError("the servo bus is not open; call open() first")
        try:
            yield self._transport
        except OSError as error:
            raise BusGoneError(f"the servo bus is gone: {error}; check the adapter's plug") from error
