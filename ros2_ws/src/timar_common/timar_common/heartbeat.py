"""Heartbeat of a process: sent from the thread that does the work, with the silence it may be allowed.

The allowed silence follows from what was measured: a multiple of the 99th percentile of the time between two
rounds of the thread, for a turn of one model takes tens of milliseconds and of another seconds.
"""

from __future__ import annotations

from collections.abc import Callable

from timar_common.clock import NS_PER_S
from timar_common.diagnostics import Percentiles
from timar_common.notify import notify

SHORTEST_ALLOWED_S = 5.0
"""A busy machine may hold a healthy process up for some seconds [s]."""
LONGEST_ALLOWED_S = 120.0
ALLOWED_P99 = 10.0
"""The allowed silence is so many times the 99th percentile of what was measured."""
UNMEASURED_ALLOWED_S = 60.0
"""Allowed as long as nothing was measured: the first computation of an engine prepares it [s]."""
_FEW = 5
_SEND_EVERY_NS = NS_PER_S // 2
_MEASURE_EVERY_NS = NS_PER_S


class AllowedTime:
    """How long something that happens again and again may take before it counts as hung.

    Args:
        unmeasured_s: What is allowed while little was measured [s].
    """

    def __init__(self, unmeasured_s: float) -> None:
        self._durations = Percentiles(512)
        self._count = 0
        self._unmeasured_s = unmeasured_s

    def add(self, duration_s: float) -> None:
        """Take a duration in that ended well [s]."""
        self._durations.add(duration_s)
        self._count += 1

    def allowed_s(self) -> float:
        """Return what is allowed [s]."""
        if self._count < _FEW:
            return self._unmeasured_s
        return min(max(SHORTEST_ALLOWED_S, ALLOWED_P99 * self._durations.summary()["p99"]), LONGEST_ALLOWED_S)


class Heartbeat:
    """Beats of the thread that calls `beat` once a round, however often that is.

    Args:
        publish: Called with every beat that the supervisor is sent: what hangs, and the allowed silence [s].
    """

    def __init__(self, publish: Callable[[str, float], None] = lambda hung, allowed_s: None) -> None:
        self._publish = publish
        self._allowed_s = UNMEASURED_ALLOWED_S
        self._rounds = AllowedTime(UNMEASURED_ALLOWED_S)
        self._last_ns = self._sent_ns = self._measured_ns = 0

    def beat(self, now_ns: int, hung: str = "") -> None:
        """Tell the supervisor that this thread has come round.

        Args:
            now_ns: CLOCK_MONOTONIC [ns].
            hung: What another thread of this process hangs in; empty: they work.
        """
        if self._last_ns:
            self._rounds.add((now_ns - self._last_ns) / NS_PER_S)
        self._last_ns = now_ns
        if now_ns - self._sent_ns < _SEND_EVERY_NS:
            return
        self._sent_ns = now_ns
        if hung:
            notify(WATCHDOG="trigger", STATUS=hung)
        elif now_ns - self._measured_ns >= _MEASURE_EVERY_NS:
            self._measured_ns = now_ns
            self._allowed_s = self._rounds.allowed_s()
            notify(WATCHDOG=1, WATCHDOG_USEC=round(self._allowed_s * 1e6))
        else:
            notify(WATCHDOG=1)
        self._publish(hung, self._allowed_s)
