"""Two machines on one cable, played by two network namespaces of this one.

Each has a machine-id of its own (`ip netns exec` puts /etc/netns/NAME over /etc): by it Fast DDS decides who
is on this machine, and speaks with those over the loopback device only. Where both have the same one, neither
hears the other, for a reason that has nothing to do with the graph: that is checked first.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

_ANSWER = """
import socket, sys
with socket.create_server((sys.argv[1], 0)) as server:
    print(server.getsockname()[1], flush=True)
    server.accept()
"""
_ASK = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 20)"

ADDRESSES = {"head": "10.231.78.1", "box": "10.231.78.2"}


class TwoMachines:
    """Network namespaces `head` and `box`, with a cable that can be pulled."""

    def __init__(self) -> None:
        self._names = {name: f"timar_{name}_{os.getpid()}" for name in ADDRESSES}

    def command(self, machine: str) -> list[str]:
        """Return the words before a command that let it run on a machine."""
        return ["ip", "netns", "exec", self._names[machine]]

    def plug(self, is_plugged: bool) -> None:
        """Pull the cable, as seen from both ends, or put it back."""
        self._ip("-n", self._names["head"], "link", "set", "cable", "up" if is_plugged else "down")

    def address(self, machine: str, is_there: bool) -> None:
        """Give a machine its address, or take it away, as network managers do without a carrier."""
        verb = "replace" if is_there else "del"
        self._ip("-n", self._names[machine], "addr", verb, f"{ADDRESSES[machine]}/24", "dev", "cable")

    def delay(self, milliseconds: float, jitter: float = 0.0) -> None:
        """Let everything take longer, both ways; skips where the kernel cannot."""
        for name in self._names.values():
            self._run(
                "tc", "-n", name, "qdisc", "replace", "dev", "cable", "root", "netem", "delay",
                f"{milliseconds}ms", f"{jitter}ms",
            )  # fmt: skip

    @contextlib.contextmanager
    def connected(self) -> Iterator[TwoMachines]:
        """Set both up; skips where this machine makes no network namespaces."""
        if os.geteuid() != 0 or shutil.which("ip") is None:
            pytest.skip("network namespaces need root and iproute2")
        self._remove()
        try:
            for name in self._names.values():
                folder = Path("/etc/netns", name)
                folder.mkdir(parents=True, exist_ok=True)
                (folder / "machine-id").write_text(f"{uuid.uuid4().hex}\n", encoding="ascii")
                self._ip("netns", "add", name)
                self._ip("-n", name, "link", "set", "lo", "up")
            head, box = self._names.values()
            cable = ("link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", box)
            self._ip("-n", head, *cable)
            for machine, name in self._names.items():
                self.address(machine, True)
                self._ip("-n", name, "link", "set", "cable", "up")
            self._check()
            yield self
        finally:
            self._remove()

    def _check(self) -> None:
        """Skip where the two are one to Fast DDS, or nothing goes through the cable."""
        read = ["cat", "/etc/machine-id"]
        ids = {
            subprocess.run([*self.command(machine), *read], check=False, capture_output=True).stdout
            for machine in ADDRESSES
        }
        if len(ids) < len(ADDRESSES) and ids != {b""}:
            pytest.skip(
                "both network namespaces have one machine-id here: Fast DDS takes them for one machine"
            )
        server = [sys.executable, "-c", _ANSWER, ADDRESSES["head"]]
        with subprocess.Popen(
            [*self.command("head"), *server], stdout=subprocess.PIPE, text=True
        ) as answering:
            try:
                port = answering.stdout.readline().strip()  # It listens now.
                self._run(*self.command("box"), sys.executable, "-c", _ASK, ADDRESSES["head"], port)
            finally:
                answering.kill()

    def _remove(self) -> None:
        for name in self._names.values():
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
            shutil.rmtree(Path("/etc/netns", name), ignore_errors=True)

    def _ip(self, *arguments: str) -> None:
        self._run("ip", *arguments)

    @staticmethod
    def _run(*command: str) -> None:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"this machine plays no two machines: {' '.join(command)}: {done.stderr.strip()}")
