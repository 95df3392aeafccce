"""Packet framing of servo buses, Dynamixel Protocol 2.0 and Feetech STS: encode, and find packets in noise.

Both sides use it: the driver, and the simulated servos. Written from the protocols' facts; the tests hold it
against ROBOTIS' SDK.

Sources: ROBOTIS e-Manual, "DYNAMIXEL Protocol 2.0" (header, byte stuffing, CRC-16 with polynomial 0x8005,
codes); Feetech's communication protocol manual (SCS/STS: frame layout, instruction codes, inverted sum).
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping, Sequence

PING, READ, WRITE, REBOOT, SYNC_READ, SYNC_WRITE = 0x01, 0x02, 0x03, 0x08, 0x82, 0x83
"""Instructions, the same in both protocols."""
BROADCAST = 0xFE
LAST_ID = 252


@dataclasses.dataclass(frozen=True)
class Packet:
    """A request, or a servo's reply."""

    servo_id: int
    code: int
    """The instruction of a request, the error byte of a reply."""
    parameters: bytes = b""
    is_reply: bool = False
    """Only where the protocol marks its replies."""


class PacketFormat(abc.ABC):
    """How packets of one protocol look on the line."""

    header: bytes
    head_bytes: int
    """How much of a packet must be there before its length is known."""
    address_bytes: int
    """Of a register's address, and of a length."""
    reply_bytes: int
    """A reply's length without parameters."""
    ping_bytes: int
    """Parameters of the reply to a ping: 0, or model number and firmware."""
    marks_replies: bool
    """Whether a reply looks different from a request."""
    confirms_reboot: bool

    @abc.abstractmethod
    def encode(self, packet: Packet) -> bytes:
        """Return what goes over the line."""

    @abc.abstractmethod
    def frame_size(self, head: Sequence[int]) -> int:
        """Return the length of the packet that begins with `head_bytes` of bytes; 0 when none can."""

    @abc.abstractmethod
    def decode(self, frame: bytes) -> Packet | None:
        """Return the packet of a whole frame; None when its checksum is wrong."""

    def refusal(self, error: int) -> str:
        """Say what a reply's error byte refuses; empty when the request was carried out."""
        return ""

    def error_byte(self, refusal: str, fault_bits: int) -> int:
        """Return the error byte of a servo: "", "access", "range" or "unknown", and its hardware's faults."""
        return fault_bits

    def number(self, value: int) -> bytes:
        """Return an address or a length as it stands in a request."""
        return value.to_bytes(self.address_bytes, "little")


def _crc_row(byte: int) -> int:
    value = byte << 8
    for _ in range(8):
        value = (value << 1 ^ 0x8005 if value & 0x8000 else value << 1) & 0xFFFF
    return value


_CRC_ROWS = tuple(_crc_row(byte) for byte in range(256))


def crc16(data: bytes) -> int:
    """Return the CRC of a Dynamixel packet up to its CRC field."""
    value = 0
    for byte in data:
        value = (value << 8 & 0xFFFF) ^ _CRC_ROWS[value >> 8 ^ byte]
    return value


class DynamixelFormat(PacketFormat):
    """Protocol 2.0: FF FF FD 00, id, length, instruction, parameters with stuffed headers, CRC-16."""

    header, head_bytes, address_bytes = b"\xff\xff\xfd", 7, 2
    reply_bytes, ping_bytes, marks_replies, confirms_reboot = 11, 3, True, True
    STATUS, ALERT, LONGEST = 0x55, 0x80, 1024
    ERRORS: Mapping[int, str] = {
        1: "could not do it", 2: "does not know the instruction", 3: "received a broken packet",
        4: "refuses the value as out of range", 5: "refuses the length",
        6: "refuses the value as beyond its limit", 7: "refuses access to the register",
    }  # fmt: skip
    REFUSALS: Mapping[str, int] = {"": 0, "unknown": 2, "range": 4, "access": 7}

    def encode(self, packet: Packet) -> bytes:
        """Return what goes over the line."""
        code = bytes([self.STATUS, packet.code] if packet.is_reply else [packet.code])
        body = (code + packet.parameters).replace(self.header, self.header + b"\xfd")
        head = self.header + bytes([0, packet.servo_id]) + (len(body) + 2).to_bytes(2, "little")
        return head + body + crc16(head + body).to_bytes(2, "little")

    def frame_size(self, head: Sequence[int]) -> int:
        """Return the length that the head states, where it can be one."""
        length = head[5] + 256 * head[6]
        return length + 7 if head[3] == 0 and 3 <= length <= self.LONGEST else 0

    def decode(self, frame: bytes) -> Packet | None:
        """Check the CRC and take the stuffing out."""
        if crc16(frame[:-2]) != int.from_bytes(frame[-2:], "little"):
            return None
        body = frame[7:-2].replace(self.header + b"\xfd", self.header)
        is_reply = body[0] == self.STATUS and len(body) > 1
        code, parameters = (body[1], body[2:]) if is_reply else (body[0], body[1:])
        return Packet(frame[4], code, parameters, is_reply)

    def refusal(self, error: int) -> str:
        """Read the error number; the alert bit only says that the hardware reports something."""
        number = error & ~self.ALERT
        return self.ERRORS.get(number, f"gave error {number}") if number else ""

    def error_byte(self, refusal: str, fault_bits: int) -> int:
        """Return the error number, with the alert bit where the hardware has a fault."""
        return self.REFUSALS[refusal] | (self.ALERT if fault_bits else 0)


class FeetechFormat(PacketFormat):
    """STS: FF FF, id, length, instruction or error, parameters, inverted sum.

    A reply's error byte is the state of the hardware and never a refusal.
    """

    header, head_bytes, address_bytes = b"\xff\xff", 4, 1
    reply_bytes, ping_bytes, marks_replies, confirms_reboot = 6, 0, False, False

    def encode(self, packet: Packet) -> bytes:
        """Return what goes over the line."""
        body = bytes([packet.servo_id, len(packet.parameters) + 2, packet.code]) + packet.parameters
        return self.header + body + bytes([~sum(body) & 0xFF])

    def frame_size(self, head: Sequence[int]) -> int:
        """Return the length that the head states; an id is never 255, so of several FF the last two count."""
        return head[3] + 4 if head[2] != 0xFF and head[3] >= 2 else 0

    def decode(self, frame: bytes) -> Packet | None:
        """Check the sum."""
        return Packet(frame[2], frame[4], frame[5:-1]) if ~sum(frame[2:-1]) & 0xFF == frame[-1] else None


class PacketReader:
    """Find packets in a stream of bytes that may also hold noise."""

    def __init__(self, packets: PacketFormat) -> None:
        self.broken = 0
        """Frames whose checksum was wrong."""
        self.unused_bytes = 0
        """What was in no whole packet."""
        self._format, self._buffer = packets, bytearray()

    def feed(self, data: bytes) -> list[Packet]:
        """Take bytes in; return the packets that are whole now."""
        self._buffer += data
        self.unused_bytes += len(data)
        found = []
        while size := self._next_size():
            packet = self._format.decode(bytes(self._buffer[:size]))
            if packet is None:
                # The length may be what is broken: look for a header right behind this one.
                self.broken += 1
                del self._buffer[0]
            else:
                found.append(packet)
                self.unused_bytes -= size
                del self._buffer[:size]
        return found

    def _next_size(self) -> int:
        """Drop noise before a header; return the length of the first frame, 0 while it is not whole."""
        header, head_bytes = self._format.header, self._format.head_bytes
        while True:
            start = self._buffer.find(header)
            # A header may be cut at the buffer's end.
            del self._buffer[: start if start >= 0 else max(0, len(self._buffer) - len(header) + 1)]
            if len(self._buffer) < head_bytes:
                return 0
            if size := self._format.frame_size(self._buffer):
                return size if len(self._buffer) >= size else 0
            del self._buffer[0]
