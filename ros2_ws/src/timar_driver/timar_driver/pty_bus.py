"""Simulated servo bus on a pseudo-terminal: a path that any servo software can open as its serial port."""

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
from timar_driver.transport import SerialTransport

_READY_WITHIN_S = 20.0
_POLL_S = 0.005


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
        """Held while the servos move; take it to look at them or to inject faults."""
        self._s_per_byte, self._priority = 10.0 / baud, priority
        self._master = self._slave = -1
        self._wanted_end = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> str:
        """Open the terminal and begin to serve; return its path."""
        self._master, self._slave = os.openpty()
        # Keeping our own end open lets hosts come and go.
        tty.setraw(self._slave)
        self.path = os.ttyname(self._slave)
        self._wanted_end.clear()
        self._thread = threading.Thread(target=self._serve, name="simulated bus", daemon=True)
        self._thread.start()
        return self.path

    def stop(self) -> None:
        """Close the terminal; the host sees its port vanish."""
        if self._thread is not None:
            self._wanted_end.set()
            self._thread.join(2.0)
            os.close(self._slave)
            os.close(self._master)
            self._thread = None

    def __enter__(self) -> PtyBus:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _serve(self) -> None:
        # A servo's processor has nothing else to do; this stands in for that where the kernel allows it.
        ask_for_priority(self._priority)
        while not self._wanted_end.is_set():
            is_ready = bool(select.select([self._master], [], [], _POLL_S)[0])
            now_ns = time.monotonic_ns()
            if not is_ready:
                with self.lock:
                    self.bus.advance(now_ns)
                continue
            data = os.read(self._master, 4096)
            with self.lock:
                reply = self.bus.receive(data, now_ns)
            if reply:
                time.sleep((len(data) + len(reply)) * self._s_per_byte + self.bus.answers_late_s)
                os.write(self._master, reply)


class SimulatedProcessTransport(SerialTransport):
    """The serial port of simulated servos in a process of their own, which ends when the port is closed.

    Args:
        robot: URDF of the robot.
        hardware: Its hardware file.
        baud: Bits a second.

    Raises:
        RuntimeError: The process did not come up.
    """

    def __init__(self, robot: Path, hardware: Path, baud: int) -> None:
        command = [sys.executable, "-m", "timar_driver.bus_command", "simulate", str(robot)]
        command += ["--hardware", str(hardware)]
        # Ctrl-C in a terminal is meant for the driver, which then stops the servos.
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        output = self._process.stdout
        is_ready = output is not None and select.select([output], [], [], _READY_WITHIN_S)[0]
        words = output.readline().split() if output is not None and is_ready else []
        if not words:
            self._end_process()
            raise RuntimeError(
                f"the simulated bus ended at once or took over {_READY_WITHIN_S:g} s; its output says why"
            )
        try:
            super().__init__(words[-1], baud)
        except OSError:
            self._end_process()
            raise

    def close(self) -> None:
        """Close the port and end the process."""
        super().close()
        self._end_process()

    def _end_process(self) -> None:
        # It ends with its standard input, also when this process is killed.
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(3.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
