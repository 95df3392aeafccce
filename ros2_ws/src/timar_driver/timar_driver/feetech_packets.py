"""Packets of Feetech's STS protocol: FF FF, id, length, instruction or error, parameters, inverted sum.

Source: Feetech's communication protocol manual (SCS/STS): frame layout, instruction codes, checksum.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

PING, READ, WRITE, REBOOT, SYNC_READ, SYNC_WRITE = 0x01, 0x02, 0x03, 0x08, 0x82, 0x83
BROADCAST = 0xFE
_HEADER = b"\xff\xff"


@dataclasses.dataclass(frozen=True)
class Packet:
    """A request, or a reply."""

    servo_id: int
    code: int
    """The instruction of a request, the error bits of a reply."""
    parameters: bytes = b""

    def to_bytes(self) -> bytes:
        """Return what goes over the line."""
        body = bytes([self.servo_id, len(self.parameters) + 2, self.code]) + self.parameters
        return _HEADER + body + bytes([checksum(body)])


def checksum(body: Sequence[int]) -> int:
    """Return the checksum of everything between header and checksum."""
    return ~sum(body) & 0xFF


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
            if checksum(frame[2:-1]) == frame[-1]:
                packets.append(Packet(frame[2], frame[4], frame[5:-1]))
                del self._buffer[:end]
            else:
                self.broken += 1
                # The length may be what is broken: look for a header right behind this one.
                del self._buffer[:2]
        return packets

    def clear(self) -> None:
        """Forget what is not whole."""
        self._buffer.clear()

    def _next_end(self) -> int:
        """Drop noise before a header; return the end of the first frame, 0 when it is not there yet."""
        start = self._buffer.find(_HEADER)
        # A header may be cut at the buffer's end.
        del self._buffer[: start if start >= 0 else max(0, len(self._buffer) - 1)]
        # An id is never 255, so of several FF only the last two are a header.
        while len(self._buffer) > 2 and self._buffer[2] == 0xFF:
            del self._buffer[0]
        if len(self._buffer) < 4:
            return 0
        length = self._buffer[3]
        if length < 2:
            del self._buffer[:2]
            self.broken += 1
            return self._next_end()
        return length + 4 if len(self._buffer) >= length + 4 else 0
