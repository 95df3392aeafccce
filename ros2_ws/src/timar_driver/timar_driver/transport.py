"""Transport of a servo bus: the serial port, or a pseudo-terminal, as bytes out and bytes in."""

from __future__ import annotations

import errno
import logging
import select
import termios
import time
from typing import Protocol

import serial
from serial.tools import list_ports

_LOG = logging.getLogger(__name__)
_NO_PORT = "there is no such port: check the adapter's plug and the path; serial ports here: "
_REMEDIES = {
    errno.ENOENT: _NO_PORT,
    errno.EACCES: "this user may not open it: join the port's group (often dialout) and log in again",
    errno.EAGAIN: "another program has it open: end that one",
    errno.EBUSY: "another program has it open: end that one",
}
"""By why a port cannot be opened."""


class Transport(Protocol):
    """A half-duplex line; an `OSError` means that it is gone."""

    def write(self, data: bytes) -> None:
        """Send everything."""

    def read(self, size: int, timeout_s: float) -> bytes:
        """Return 1 to `size` bytes as soon as there are any; nothing when none came in time."""

    def discard(self) -> None:
        """Forget what came and was not read."""

    def now_s(self) -> float:
        """Return the time by which replies are waited for [s]."""

    def close(self) -> None:
        """Let go of the line."""


class SerialTransport:
    """A serial port, or one end of a pseudo-terminal; the port is open from here on.

    Args:
        port: Its path.
        baud: Bits a second.

    Raises:
        OSError: It cannot be opened; the message says what to look at.
    """

    def __init__(self, port: str, baud: int) -> None:
        try:
            self._serial = serial.Serial(port, baud, timeout=0, write_timeout=0.1, exclusive=True)
        except (serial.SerialException, ValueError) as error:
            remedy = _REMEDIES.get(
                getattr(error, "errno", None) or 0, "check the plug, the path and the baud"
            )
            if remedy == _NO_PORT:
                remedy += ", ".join(item.device for item in list_ports.comports()) or "none"
            raise OSError(
                f"the servo bus {port} cannot be opened at {baud} baud: {error}; {remedy}"
            ) from error
        try:
            # A USB adapter otherwise keeps replies back for up to 16 ms.
            self._serial.set_low_latency_mode(True)
        except (ValueError, OSError, NotImplementedError) as error:
            _LOG.debug("no low-latency mode on %s: %s", port, error)

    def write(self, data: bytes) -> None:
        """Send everything."""
        self._serial.write(data)

    def read(self, size: int, timeout_s: float) -> bytes:
        """Return 1 to `size` bytes as soon as there are any."""
        if size <= 0 or not select.select([self._serial.fileno()], [], [], max(0.0, timeout_s))[0]:
            return b""
        # The port itself never waits, so this takes what is there.
        data: bytes = self._serial.read(size)
        return data

    def discard(self) -> None:
        """Forget what came and was not read."""
        try:
            self._serial.reset_input_buffer()
        except termios.error as error:
            # The one error of a vanished port that is no OSError by itself.
            raise OSError(*error.args) from error

    def now_s(self) -> float:
        """Return monotonic time [s]."""
        return time.monotonic()

    def close(self) -> None:
        """Close the port."""
        self._serial.close()
