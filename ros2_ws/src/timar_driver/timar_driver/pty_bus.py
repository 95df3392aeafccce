"""A simulated bus on a pseudo-terminal: a path that any servo software can open as its serial port."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import threading
import time
import tty
from pathlib import Path

from timar_driver.fixed_rate_loop import ask_for_priority
from timar_driver.simulated_bus import SimulatedBus

_READY_WITHIN_S = 20.0


class PtyBus:
    """Serve a simulated bus on a pseudo-terminal, in a thread, at the pace of a real line.

    Args:
        bus: The servos.
        baud: Replies take as long as they would at this rate.
        priority: Of the kernel's real-time scheduling, 0 for none.
    """

    def __init__(self, bus: SimulatedBus, baud: int = 1_000_000, priority: int = 0) -> None:
        self.bus = bus
        self.path = ""
        """What to open; known after `start`."""
        self.lock = threading.Lock()
        """Held while the servos live; take it to look at them or to hurt them."""
        self._s_per_byte, self._priority = 10.0 / baud, priority
        self._master = self._slave = -1
        self._wake_out = self._wake_in = -1
        self._thread: threading.Thread | None = None

    def start(self) -> str:
        """Open the terminal and begin to serve; return its path."""
        self._master, self._slave = os.openpty()
        # Keeping our own end open lets hosts come and go.
        tty.setraw(self._slave)
        self.path = os.ttyname(self._slave)
        self._wake_out, self._wake_in = os.pipe()
        self._thread = threading.Thread(target=self._serve, name="simulated bus", daemon=True)
        self._thread.start()
        return self.path

    def stop(self) -> None:
        """Close the terminal; the host sees its port vanish."""
        if self._thread is not None:
            os.write(self._wake_in, b"x")
            self._thread.join(2.0)
            for handle in (self._slave, self._master, self._wake_in, self._wake_out):
                os.close(handle)
            self._thread = None

    def __enter__(self) -> PtyBus:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _serve(self) -> None:
        # A servo's processor has nothing else to do; this stands in for that where the kernel allows it.
        ask_for_priority(self._priority)
        while True:
            ready, _, _ = select.select([self._master, self._wake_out], [], [], 0.005)
            if self._wake_out in ready:
                return
            now_ns = time.monotonic_ns()
            if self._master not in ready:
                with self.lock:
                    self.bus.advance(now_ns)
                continue
            data = os.read(self._master, 4096)
            with self.lock:
                reply = self.bus.receive(data, now_ns)
            if reply:
                time.sleep((len(data) + len(reply)) * self._s_per_byte)
                os.write(self._master, reply)


class BusProcess:
    """A simulated bus in a process of its own, so that it outlives a driver that is killed, as servos do.

    Args:
        robot: URDF of the robot.
        hardware: Its hardware file.
    """

    def __init__(self, robot: Path, hardware: Path) -> None:
        self._command = [
            sys.executable, "-m", "timar_driver.bus_command", "simulate", str(robot),
            "--hardware", str(hardware),
        ]  # fmt: skip
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> str:
        """Start it and return the port to open.

        Raises:
            RuntimeError: It did not come up.
        """
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        output = self._process.stdout
        if output is None or not select.select([output], [], [], _READY_WITHIN_S)[0]:
            self.stop()
            raise RuntimeError(
                f"the simulated bus did not start within {_READY_WITHIN_S:g} s; see its output"
            )
        words = output.readline().split()
        if not words:
            self.stop()
            raise RuntimeError("the simulated bus ended at once; its output says why")
        return words[-1]

    def stop(self) -> None:
        """End it; its standard input closes, which it takes as the word to go."""
        if self._process is not None:
            if self._process.stdin is not None:
                self._process.stdin.close()
            try:
                self._process.wait(3.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
