"""Fixed-rate loop: call a function on a grid of instants in a real-time thread; measure its lateness."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable

from timar_common.diagnostics import Percentiles

_SWITCH_INTERVAL_S = 0.0005
"""How long another thread of this process may hold the interpreter while this one waits for it [s]."""


class FixedRateLoop:
    """A thread that keeps to a grid of instants; instants that are missed are left out and counted.

    Args:
        period_ns: Between two calls, > 0.
        call: Gets the time of CLOCK_MONOTONIC [ns].
        priority: Of the kernel's real-time scheduling, 1..99; 0 asks for none.
    """

    def __init__(self, period_ns: int, call: Callable[[int], None], priority: int = 0) -> None:
        if period_ns <= 0 or not 0 <= priority <= 99:
            raise ValueError(
                f"period_ns is {period_ns} and priority {priority}, expected above 0, and 0 to 99"
            )
        self.late_ms = Percentiles(4096)
        """By how much calls came after their instant."""
        self.busy_ms = Percentiles(4096)
        """How long calls took."""
        self.missed = 0
        self.last_ns = 0
        """When the last call ended; 0 before the first, CLOCK_MONOTONIC [ns]."""
        self.scheduling = "not started"
        self._period_ns, self._call, self._priority = period_ns, call, priority
        self._wanted_end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fixed-rate loop", daemon=True)

    @property
    def is_running(self) -> bool:
        """Whether the thread is alive."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin; the calling thread gets half the loop's priority until it calls `end`."""
        sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH_INTERVAL_S))
        if self._priority > 0:
            # Who holds the interpreter must not be held up by other processes while the loop waits for it.
            ask_for_priority(max(1, self._priority // 2))
        self._thread.start()

    def end(self, timeout_s: float = 1.0) -> None:
        """Stop calling; wait for a call under way."""
        self._wanted_end.set()
        if self._priority > 0:
            ask_for_priority(0)
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        self.scheduling = ask_for_priority(self._priority)
        due_ns = time.monotonic_ns()
        while not self._wanted_end.is_set():
            now_ns = time.monotonic_ns()
            self.late_ms.add((now_ns - due_ns) * 1e-6)
            self._call(now_ns)
            self.last_ns = done_ns = time.monotonic_ns()
            self.busy_ms.add((done_ns - now_ns) * 1e-6)
            due_ns += self._period_ns
            if done_ns >= due_ns + self._period_ns:
                missed = (done_ns - due_ns) // self._period_ns
                self.missed += missed
                due_ns += missed * self._period_ns
            time.sleep(max(0, due_ns - time.monotonic_ns()) * 1e-9)


def ask_for_priority(priority: int) -> str:
    """Ask the kernel to run the calling thread before ordinary ones, or as one; return what it granted."""
    policy = os.SCHED_FIFO if priority > 0 else os.SCHED_OTHER
    try:
        os.sched_setscheduler(0, policy, os.sched_param(priority))
    except (PermissionError, OSError) as error:
        return f"ordinary ({error.strerror}; see docs/driver.md)"
    return f"real-time, priority {priority}" if priority > 0 else "ordinary"
