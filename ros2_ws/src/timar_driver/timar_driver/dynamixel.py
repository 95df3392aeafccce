"""Dynamixel Protocol 2.0, by ROBOTIS' dynamixel-sdk, on a wire of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from dynamixel_sdk import COMM_RX_CORRUPT, COMM_SUCCESS, PacketHandler, PortHandler

from timar_driver.registers import Register, RegisterBlock
from timar_driver.servo_bus import BusCounters, BusError, BusGoneError, ServoBus
from timar_driver.servo_models import DYNAMIXEL_X
from timar_driver.transport import Transport

_STATUS_ERRORS = {
    1: "could not do it", 2: "does not know the instruction", 3: "received a broken packet",
    4: "refuses the value as out of range", 5: "refuses the length",
    6: "refuses the value as beyond its limit", 7: "refuses access to the register",
}  # fmt: skip
_ALERT = 0x80
_ERROR_AT, _DATA_AT = 8, 9


class _SdkPort(PortHandler):  # type: ignore[misc]
    """The SDK's port on a `Transport`: waits asleep instead of polling, and by the wire's time."""

    def __init__(self, wire: Transport, baud: int, reply_margin_ms: float) -> None:
        super().__init__("wire")
        self.baudrate, self.is_open = baud, True
        self.tx_time_per_byte = 10e3 / baud
        self._wire, self._margin_ms = wire, reply_margin_ms

    def closePort(self) -> None:  # noqa: N802 - the SDK's name
        self._wire.close()
        self.is_open = False

    def clearPort(self) -> None:  # noqa: N802
        self._wire.discard()

    def getBytesAvailable(self) -> int:  # noqa: N802
        return 0

    def readPort(self, length: int) -> bytes:  # noqa: N802
        remaining_ms = self.packet_timeout - self.getTimeSinceStart()
        return self._wire.read(length, max(0.0, remaining_ms * 1e-3))

    def settle(self, quiet_s: float) -> None:
        """Let time pass, then forget what came."""
        end_s = self._wire.now_s() + quiet_s
        while (left_s := end_s - self._wire.now_s()) > 0:
            self._wire.read(256, left_s)
        self._wire.discard()

    def writePort(self, packet: Sequence[int]) -> int:  # noqa: N802
        self._wire.write(bytes(packet))
        return len(packet)

    def setPacketTimeout(self, packet_length: int) -> None:  # noqa: N802
        self.setPacketTimeoutMillis(self.tx_time_per_byte * packet_length + self._margin_ms)

    def getCurrentTime(self) -> float:  # noqa: N802
        return self._wire.now_s() * 1e3


class DynamixelBus(ServoBus):
    """Servos that speak Protocol 2.0.

    Args:
        open_wire: Opens the line; called by `open`.
        baud: Bits a second.
        reply_margin_ms: A reply may take this much longer than its bytes need on the line.
    """

    def __init__(self, open_wire: Callable[[], Transport], baud: int, reply_margin_ms: float = 4.0) -> None:
        self.family = DYNAMIXEL_X
        self.counters = BusCounters()
        self._open_wire, self._baud, self._margin_ms = open_wire, baud, reply_margin_ms
        self._port: _SdkPort | None = None
        self._sdk = PacketHandler(2.0)

    def open(self) -> None:
        """Open the line."""
        if self._port is None:
            try:
                self._port = _SdkPort(self._open_wire(), self._baud, self._margin_ms)
            except OSError as error:
                raise BusGoneError(str(error)) from error

    def close(self) -> None:
        """Close the line."""
        if self._port is not None:
            self._port.closePort()
            self._port = None

    def ping(self, servo_id: int) -> int | None:
        """Return a servo's model number."""
        for _ in range(self.attempts):
            number, result, _ = self._ask(self._sdk.ping, servo_id)
            if result == COMM_SUCCESS:
                return int(number)
            self.settle()
        return None

    def now_s(self) -> float:
        """Return the wire's time [s]."""
        return self._open_port().getCurrentTime() * 1e-3

    def settle(self) -> None:
        """Wait, then forget what came."""
        self._guarded(_SdkPort.settle, self.QUIET_S)

    def reboot(self, servo_id: int) -> None:
        """Let a servo start anew."""
        result, _ = self._ask(self._sdk.reboot, servo_id)
        if result != COMM_SUCCESS:
            raise BusError(f"servo {servo_id} did not confirm its reboot; check its power and its cable")

    def read_once(self, servo_id: int, register: Register) -> int:
        """Read one register."""
        data, result, error = self._ask(self._sdk.readTxRx, servo_id, register.address, register.size)
        self._check(servo_id, register, "read", result, error)
        return register.from_bytes(bytes(data))

    def write_once(self, servo_id: int, register: Register, value: int) -> None:
        """Write one register."""
        data = list(register.to_bytes(value))
        result, error = self._ask(self._sdk.writeTxRx, servo_id, register.address, register.size, data)
        self._check(servo_id, register, f"write {value}", result, error)

    def sync_write(self, register: Register, values: Mapping[int, int]) -> None:
        """Write one register of many servos in one packet."""
        rows = [byte for key, value in values.items() for byte in (key, *register.to_bytes(value))]
        self._ask(self._sdk.syncWriteTxOnly, register.address, register.size, rows, len(rows))

    def sync_read(self, block: RegisterBlock, servo_ids: Sequence[int]) -> dict[int, dict[str, int]]:
        """Read the same registers of many servos.

        The SDK's own group reader gives up at the first servo that stays silent; its packet layer is used
        here instead, so that one lost servo costs one reply.
        """
        ids = list(servo_ids)
        self._ask(self._sdk.syncReadTx, block.address, block.size, ids, len(ids), False)
        found: dict[int, dict[str, int]] = {}
        while len(found) < len(ids):
            packet, result = self._guarded(self._sdk.rxPacket, False)
            if result == COMM_SUCCESS:
                self._take(packet, block, ids, found)
            elif result == COMM_RX_CORRUPT:
                self.counters.corrupt += 1
            # What is left of the time allowed decides whether more is waited for.
            if result != COMM_SUCCESS and self._open_port().isPacketTimeout():
                break
        self.counters.replies += len(found)
        self.counters.missing += len(ids) - len(found)
        return found

    def _take(
        self, packet: Sequence[int], block: RegisterBlock, ids: list[int], found: dict[int, dict[str, int]]
    ) -> None:
        servo_id, data = int(packet[4]), packet[_DATA_AT : _DATA_AT + block.size]
        is_whole = int(packet[5]) + 256 * int(packet[6]) == block.size + 4
        if servo_id in ids and is_whole and not packet[_ERROR_AT] & ~_ALERT:
            found[servo_id] = block.decode(data)
        else:
            self.counters.corrupt += 1

    def _check(self, servo_id: int, register: Register, deed: str, result: int, error: int) -> None:
        where = f"servo {servo_id} did not {deed} register {register.name}"
        if result != COMM_SUCCESS:
            reason = "its answer was broken" if result == COMM_RX_CORRUPT else "no answer came"
            raise BusError(f"{where}: {reason}; check its power, its cable and the bus's baud")
        if error & ~_ALERT:
            raise BusError(f"{where}: it {_STATUS_ERRORS.get(error & ~_ALERT, f'gave error {error}')}")

    def _ask(self, call: Callable, *arguments: object) -> tuple:
        self.counters.requests += 1
        result: tuple = self._guarded(call, *arguments)
        # A request without a reply leaves the SDK's port marked as busy when it failed.
        self._open_port().is_using = False
        return result

    def _guarded(self, call: Callable, *arguments: object) -> tuple:
        try:
            result: tuple = call(self._open_port(), *arguments)
        except OSError as error:
            raise BusGoneError(f"the servo bus is gone: {error}; check the adapter's plug") from error
        return result

    def _open_port(self) -> _SdkPort:
        if self._port is None:
            raise BusGoneError("the servo bus is not open; call open() first")
        return self._port
