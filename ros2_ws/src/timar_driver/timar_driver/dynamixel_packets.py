"""Packets of Dynamixel Protocol 2.0 as a servo sees them: requests in, status packets out.

The driver's own side is ROBOTIS' SDK; this is for the simulated servos, and written from the protocol's facts
alone, so that the two check each other.

Source: ROBOTIS e-Manual, "DYNAMIXEL Protocol 2.0": header, byte stuffing, CRC-16 (polynomial 0x8005), codes.
"""

from __future__ import annotations

import dataclasses

PING, READ, WRITE, REBOOT, STATUS, SYNC_READ, SYNC_WRITE = 0x01, 0x02, 0x03, 0x08, 0x55, 0x82, 0x83
BROADCAST = 0xFE
OK, FAILED, UNKNOWN, RANGE, LENGTH, LIMIT, ACCESS = 0, 1, 2, 4, 5, 6, 7
ALERT = 0x80

_HEADER = b"\xff\xff\xfd"
_LONGEST = 1024


def _crc_row(byte: int) -> int:
    value = byte << 8
    for _ in range(8):
        value = (value << 1 ^ 0x8005 if value & 0x8000 else value << 1) & 0xFFFF
    return value


_CRC_ROWS = tuple(_crc_row(byte) for byte in range(256))


def crc16(data: bytes) -> int:
    """Return the CRC of a packet up to its CRC field."""
    value = 0
    for byte in data:
        value = (value << 8 & 0xFFFF) ^ _CRC_ROWS[value >> 8 ^ byte]
    return value


@dataclasses.dataclass(frozen=True)
class Packet:
    """An instruction packet, or with the instruction STATUS a reply whose first parameter is the error."""

    servo_id: int
    code: int
    parameters: bytes = b""

    def to_bytes(self) -> bytes:
        """Return what goes over the line."""
        body = (bytes([self.code]) + self.parameters).replace(_HEADER, _HEADER + b"\xfd")
        head = _HEADER + bytes([0, self.servo_id]) + (len(body) + 2).to_bytes(2, "little")
        return head + body + crc16(head + body).to_bytes(2, "little")


class PacketReader:
    """Find packets in a stream of bytes that may also hold noise."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.broken = 0

    def feed(self, data: bytes) -> list[Packet]:
        """Take bytes in; return the packets that are whole now."""
        self._buffer += data
        packets = []
        while (end := self._next_end()) > 0:
            frame = bytes(self._buffer[:end])
            if crc16(frame[:-2]) == int.from_bytes(frame[-2:], "little"):
                body = frame[7:-2].replace(_HEADER + b"\xfd", _HEADER)
                packets.append(Packet(frame[4], body[0], body[1:]))
                del self._buffer[:end]
            else:
                self.broken += 1
                del self._buffer[:3]
        return packets

    def clear(self) -> None:
        """Forget what is not whole."""
        self._buffer.clear()

    def _next_end(self) -> int:
        """Drop noise before a header; return the end of the first frame, 0 when it is not there yet."""
        while True:
            start = self._buffer.find(_HEADER)
            # A header may be cut at the buffer's end.
            del self._buffer[: start if start >= 0 else max(0, len(self._buffer) - 2)]
            if len(self._buffer) < 7:
                return 0
            length = int.from_bytes(self._buffer[5:7], "little")
            if self._buffer[3] == 0 and 3 <= length <= _LONGEST:
                return length + 7 if len(self._buffer) >= length + 7 else 0
            del self._buffer[:3]
