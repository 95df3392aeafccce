"""systemd's notification protocol (sd_notify): tell who supervises this process that it works, and on what.

The composer and the launch file supervise the graph's processes by it, systemd the composer itself. One
datagram carries assignments: ``READY=1``, ``STATUS=...``, ``WATCHDOG=1`` (alive), ``WATCHDOG=trigger``
(failed), ``WATCHDOG_USEC=...`` (allowed silence), ``STOPPING=1``.

Source: sd_notify(3).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import struct
from collections.abc import Iterator

_VARIABLE = "NOTIFY_SOCKET"
_CREDENTIALS = struct.Struct("3i")
_LARGEST = 4096


def notify(**assignments: object) -> bool:
    """Send assignments to the supervisor; return False when there is none, or it does not read."""
    address = os.environ.get(_VARIABLE, "")
    if not address:
        return False
    text = "\n".join(f"{name}={value}" for name, value in assignments.items())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        try:
            target = "\0" + address[1:] if address[0] == "@" else address
            sender.sendto(text.encode()[:_LARGEST], socket.MSG_DONTWAIT, target)
        except OSError:
            return False
    return True


class NotifySocket:
    """The supervisor's end: its name lives in no file system, so nothing is left behind when it is killed."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.setblocking(False)
        self._name = f"timar-{os.getpid()}-{secrets.token_hex(4)}"
        self._socket.bind("\0" + self._name)

    @property
    def environment(self) -> dict[str, str]:
        """What a supervised process needs in its environment."""
        return {_VARIABLE: f"@{self._name}"}

    def read(self) -> Iterator[tuple[int, dict[str, str]]]:
        """Yield what has come since: the sender's process id, as the kernel says, and what it said."""
        while self._socket.fileno() >= 0:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(_LARGEST, socket.CMSG_SPACE(_CREDENTIALS.size))
            except BlockingIOError:
                return
            for level, kind, content in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                    pid, _, _ = _CREDENTIALS.unpack(content[: _CREDENTIALS.size])
                    words = (line.partition("=") for line in data.decode(errors="replace").splitlines())
                    yield pid, {name: value for name, _, value in words}

    def close(self) -> None:
        """Give the name back; safe more than once."""
        with contextlib.suppress(OSError):
            self._socket.close()
