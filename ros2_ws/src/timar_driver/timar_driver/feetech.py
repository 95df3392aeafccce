"""Feetech STS servos on a wire.

The protocol is small and kept here: the one package on PyPI, `feetech-servo-sdk`, was last published in 2022
and polls its port.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from timar_driver.feetech_packets import (
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
from timar_driver.registers import Register, RegisterBlock
from timar_driver.servo_bus import BusCounters, BusError, BusGoneError, ServoBus
from timar_driver.servo_models import FEETECH_STS
from timar_driver.transport import Transport

_MODEL_NUMBER = FEETECH_STS.register("model_number")


class FeetechBus(ServoBus):
    """Servos that speak Feetech's STS protocol.

    Args:
        open_wire: Opens the line; called by `open`.
        baud: Bits a second.
        reply_margin_ms: A reply may take this much longer than its bytes need on the line.
    """

    def __init__(self, open_wire: Callable[[], Transport], baud: int, reply_margin_ms: float = 4.0) -> None:
        self.family = FEETECH_STS
        self.counters = BusCounters()
        self._open_wire, self._s_per_byte = open_wire, 10.0 / baud
        self._margin_s = reply_margin_ms * 1e-3
        self._wire: Transport | None = None

    def open(self) -> None:
        """Open the line."""
        if self._wire is None:
            try:
                self._wire = self._open_wire()
            except OSError as error:
                raise BusGoneError(str(error)) from error

    def close(self) -> None:
        """Close the line."""
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    def ping(self, servo_id: int) -> int | None:
        """Return a servo's model number."""
        for _ in range(self.attempts):
            if self._ask(Packet(servo_id, PING), [servo_id], 0):
                try:
                    return self.read_once(servo_id, _MODEL_NUMBER)
                except BusError:
                    pass
            self.settle()
        return None

    def now_s(self) -> float:
        """Return the wire's time [s]."""
        return self._open().now_s()

    def settle(self) -> None:
        """Wait, then forget what came."""
        wire = self._open()
        end_s = wire.now_s() + self.QUIET_S
        while (left_s := end_s - wire.now_s()) > 0:
            self._guarded(lambda left=left_s: wire.read(256, left))
        self._guarded(wire.discard)

    def reboot(self, servo_id: int) -> None:
        """Let a servo start anew."""
        self._send(Packet(servo_id, REBOOT))

    def read_once(self, servo_id: int, register: Register) -> int:
        """Read one register."""
        request = Packet(servo_id, READ, bytes([register.address, register.size]))
        replies = self._ask(request, [servo_id], register.size)
        if not replies:
            raise BusError(
                f"servo {servo_id} did not read register {register.name}: no whole answer came; "
                "check its power, its cable and the bus's baud"
            )
        return register.from_bytes(replies[servo_id])

    def write_once(self, servo_id: int, register: Register, value: int) -> None:
        """Write one register."""
        request = Packet(servo_id, WRITE, bytes([register.address]) + register.to_bytes(value))
        if not self._ask(request, [servo_id], 0):
            raise BusError(
                f"servo {servo_id} did not write {value} to register {register.name}: no whole answer came; "
                "check its power, its cable and the bus's baud"
            )

    def sync_write(self, register: Register, values: Mapping[int, int]) -> None:
        """Write one register of many servos in one packet."""
        rows = b"".join(bytes([key]) + register.to_bytes(value) for key, value in values.items())
        self._send(Packet(BROADCAST, SYNC_WRITE, bytes([register.address, register.size]) + rows))

    def sync_read(self, block: RegisterBlock, servo_ids: Sequence[int]) -> dict[int, dict[str, int]]:
        """Read the same registers of many servos."""
        request = Packet(BROADCAST, SYNC_READ, bytes([block.address, block.size, *servo_ids]))
        replies = self._ask(request, list(servo_ids), block.size)
        return {servo_id: block.decode(data) for servo_id, data in replies.items()}

    def _ask(self, request: Packet, servo_ids: list[int], size: int) -> dict[int, bytes]:
        """Send a request and gather the replies of these servos until all are there or time is up."""
        wire = self._send(request)
        reader, found = PacketReader(), dict[int, bytes]()
        allowed_s = len(servo_ids) * (size + FEETECH_STS.reply_bytes) * self._s_per_byte + self._margin_s
        end_s = wire.now_s() + allowed_s
        while len(found) < len(servo_ids) and (remaining_s := end_s - wire.now_s()) > 0:
            for reply in reader.feed(self._guarded(lambda left=remaining_s: wire.read(256, left))):
                if reply.servo_id in servo_ids and len(reply.parameters) == size:
                    found[reply.servo_id] = reply.parameters
        self.counters.corrupt += reader.broken
        self.counters.replies += len(found)
        self.counters.missing += len(servo_ids) - len(found)
        return found

    def _send(self, request: Packet) -> Transport:
        wire = self._open()
        self.counters.requests += 1
        self._guarded(wire.discard)
        self._guarded(lambda: wire.write(request.to_bytes()))
        return wire

    def _open(self) -> Transport:
        if self._wire is None:
            raise BusGoneError("the servo bus is not open; call open() first")
        return self._wire

    def _guarded(self, call: Callable) -> bytes:
        try:
            return call() or b""
        except OSError as error:
            raise BusGoneError(f"the servo bus is gone: {error}; check the adapter's plug") from error
