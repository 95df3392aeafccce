"""Watch over processes that may hang: when one is asked for its stacks, told to end, and killed.

The composer and the launch file both carry out what a `Watch` says.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from timar_common.config import Positive, check
from timar_common.notify import NotifySocket
from timar_common.processes import SHOW_STACKS

_NOTHING_YET = "nothing yet"


@dataclasses.dataclass(frozen=True)
class WatchConfig:
    """How patient the watch is."""

    start_said_after_s: Positive = 10.0
    """A start that takes longer is said, with what it waits for [s]."""
    start_within_s: Positive = 180.0
    """A start that takes longer counts as hung: a large model is read within a minute, and measured for 90 s
    where it never was [s]."""
    allowed_s: Positive = 5.0
    """Silence that is allowed until the process itself says how much [s]."""
    ask_s: Positive = 0.5
    """From asking for the stacks to SIGTERM [s]."""
    terminate_s: Positive = 1.5
    """From SIGTERM to SIGKILL [s]."""

    def __post_init__(self) -> None:
        check(self)


@dataclasses.dataclass(frozen=True)
class Step:
    """What is to be done about a process now."""

    process: str
    pid: int
    sentence: str = ""
    """For the log; empty: it was said before."""
    number: signal.Signals | None = None
    """What to send; None: nothing."""


@dataclasses.dataclass
class _Life:
    """What is known of one start of a process."""

    pid: int
    since_s: float
    """When it was started, or heard last [s]."""
    allowed_s: float
    status: str = _NOTHING_YET
    failed: str = ""
    is_ready: bool = False
    is_slow_said: bool = False
    is_stopping: bool = False
    next_number: signal.Signals = SHOW_STACKS
    due_s: float | None = None
    """When the next signal is due once it has been asked [s]."""


class Watch:
    """What processes say of themselves, and what follows when they fall silent.

    Args:
        config: Patience.
    """

    def __init__(self, config: WatchConfig | None = None) -> None:
        self.config = config or WatchConfig()
        self.hung = 0
        """How many processes hung."""
        self._lives: dict[str, _Life] = {}
        self._last_s: float | None = None

    def begin(self, process: str, pid: int, now_s: float) -> None:
        """Take in that a process was started."""
        self._lives[process] = _Life(pid, now_s, self.config.allowed_s)

    def end(self, process: str) -> None:
        """Take in that a process has ended, or is being ended by somebody else."""
        self._lives.pop(process, None)

    def has_answered(self, process: str) -> bool:
        """Tell whether a process has said that it is stopping."""
        return process in self._lives and self._lives[process].is_stopping

    def is_ready(self, process: str) -> bool:
        """Tell whether a process has finished its start."""
        return process in self._lives and self._lives[process].is_ready

    def has_spoken(self, process: str) -> bool:
        """Tell whether a process has said anything yet."""
        return self.doing(process) != _NOTHING_YET

    def doing(self, process: str) -> str:
        """Return what a process said last."""
        return self._lives[process].status if process in self._lives else _NOTHING_YET

    def hear(self, pid: int, said: Mapping[str, str], now_s: float) -> None:
        """Take in what a process said (`timar_common.notify`); others than the watched ones are ignored."""
        for life in self._lives.values():
            if life.pid != pid:
                continue
            life.since_s = now_s if life.is_ready or "READY" in said else life.since_s
            life.is_ready |= "READY" in said
            life.is_stopping |= "STOPPING" in said
            life.status = said.get("STATUS", life.status)
            if said.get("WATCHDOG") == "trigger":
                life.failed = life.status
            if said.get("WATCHDOG_USEC", "").isdigit():
                life.allowed_s = int(said["WATCHDOG_USEC"]) * 1e-6

    def listen(self, heard: NotifySocket, now_s: float) -> None:
        """Take in everything that has come by a socket."""
        for pid, said in heard.read():
            self.hear(pid, said, now_s)

    def steps(self, now_s: float) -> Iterator[Step]:
        """Yield what is to be done now; call it several times a second, after `hear`."""
        if self._last_s is not None and now_s - self._last_s > self.config.allowed_s / 2:
            # It was this process that stood still: what the others said meanwhile may be lost.
            for life in self._lives.values():
                life.since_s += now_s - self._last_s
        self._last_s = now_s
        for process, life in self._lives.items():
            step = self._step(process, life, now_s)
            if step is not None:
                yield step

    def _step(self, process: str, life: _Life, now_s: float) -> Step | None:
        if life.due_s is not None:
            return self._next_signal(process, life, now_s) if now_s >= life.due_s else None
        silent_s = now_s - life.since_s
        if life.is_stopping:
            return None
        if not life.is_ready:
            if silent_s > self.config.start_within_s:
                why = f"has not finished its start within {silent_s:.0f} s ({life.status})"
                return self._next_signal(process, life, now_s, why)
            if silent_s > self.config.start_said_after_s and not life.is_slow_said:
                life.is_slow_said = True
                return Step(
                    process,
                    life.pid,
                    f"WARN the process {process!r} has not finished its start after {silent_s:.0f} s; it "
                    f"says: {life.status}; the kernel says: {kernel_view(life.pid)}",
                )
            return None
        if life.failed:
            return self._next_signal(process, life, now_s, f"hangs ({life.failed})")
        if silent_s > life.allowed_s:
            why = f"hangs: it was not heard for {silent_s:.1f} s, allowed {life.allowed_s:.1f} s"
            return self._next_signal(process, life, now_s, why)
        return None

    def _next_signal(self, process: str, life: _Life, now_s: float, why: str = "") -> Step:
        number = life.next_number
        if number == SHOW_STACKS:
            self.hung += 1
            life.next_number, life.due_s = signal.SIGTERM, now_s + self.config.ask_s
            sentence = (
                f"ERROR the process {process!r} {why}; the kernel says: {kernel_view(life.pid)}; its stacks "
                "follow if it still runs, then it is ended"
            )
            return Step(process, life.pid, sentence, number)
        life.next_number, life.due_s = signal.SIGKILL, now_s + self.config.terminate_s
        return Step(process, life.pid, "", number)


def kernel_view(pid: int) -> str:
    """Return what the kernel knows of a process: its state, and in which of its functions it waits."""
    folder = Path(f"/proc/{pid}")
    state, waits = "gone", ""
    with contextlib.suppress(OSError):
        lines = (folder / "status").read_text(encoding="utf-8").splitlines()
        state = next((line.partition(":")[2].strip() for line in lines if line.startswith("State:")), state)
    with contextlib.suppress(OSError):
        waits = (folder / "wchan").read_text(encoding="utf-8").strip("0\n")
    return f"{state}, waits in {waits}" if waits else state


def carry_out(step: Step, log: Callable[[str], None], send: Callable[[int, int], None]) -> None:
    """Say what a step says, and send its signal by `send(pid, number)`."""
    if step.sentence:
        log(step.sentence)
    if step.number is not None:
        with contextlib.suppress(ProcessLookupError):
            send(step.pid, step.number)


def send_to_group(pid: int, number: int) -> None:
    """Send a signal to a process and all that it started in its session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)
