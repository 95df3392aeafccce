"""However a graph that starts is told to stop, it is gone within three seconds.

The composer runs as `timar run` does, the leader of a session with a terminal of its own. A closed terminal
is a SIGHUP and an output that refuses every line.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from node_process import PATIENCE_S

pytestmark = pytest.mark.ros

STOP_WITHIN_S = 3.0
CLOSED = "closed terminal"
WAYS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, CLOSED)


class Terminal:
    """A composer in a terminal of its own."""

    def __init__(self, *typed: str) -> None:
        self._master, slave = pty.openpty()

        def take_terminal() -> None:
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            [sys.executable, "-u", "-m", "timar_bringup.composer", *typed],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=take_terminal,
        )
        os.close(slave)
        self.output = b""
        self._is_closed = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        # A thread that waits in read() would keep the terminal open beyond its close.
        with contextlib.suppress(OSError):
            while not self._is_closed.is_set():
                if select.select([self._master], [], [], 0.02)[0]:
                    self.output += os.read(self._master, 65536)

    @property
    def children(self) -> list[int]:
        """Processes that the composer has started."""
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
            return [int(pid) for pid in text.split()]
        return []

    def until(self, condition: Callable[[], bool]) -> None:
        end_s = time.monotonic() + 2 * PATIENCE_S
        while not condition():
            assert self.process.poll() is None, self.output.decode()
            assert time.monotonic() < end_s, self.output.decode()
            time.sleep(0.02)

    def stop(self, way: signal.Signals | str) -> None:
        if way == CLOSED:
            self._close_terminal()
        else:
            self.process.send_signal(way)

    def _close_terminal(self) -> None:
        self._is_closed.set()
        self._reader.join(PATIENCE_S)
        os.close(self._master)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        if not self._is_closed.is_set():
            self._close_terminal()


@pytest.fixture
def graph(random_model: Path) -> Iterator[Terminal]:
    terminal = Terminal("replay:=true", f"model:={random_model}", "engine:=torch", "threads:=1")
    yield terminal
    terminal.close()


def living_in_sessions(leaders: list[int]) -> list[str]:
    """Return what still lives in the sessions of some leaders."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) in leaders and fields[0] != "Z":
                found.append((stat.parent / "cmdline").read_text().replace("\0", " "))
    return found


@pytest.mark.parametrize("way", WAYS, ids=[getattr(way, "name", way) for way in WAYS])
def test_graph_that_is_told_to_stop_while_it_starts_is_gone_within_three_seconds(
    graph: Terminal, way: signal.Signals | str
) -> None:
    graph.until(lambda: len(graph.children) >= 4)
    leaders = graph.children
    began_s = time.monotonic()
    graph.stop(way)
    status = graph.process.wait(PATIENCE_S)
    took_s = time.monotonic() - began_s
    assert living_in_sessions(leaders) == []
    assert status == 0, graph.output.decode()
    assert took_s <= STOP_WITHIN_S
