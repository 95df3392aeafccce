"""Faults for a running graph: each breaks one thing, for a while or for good, and says whom it hit."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from harness import running
from timar_common.heartbeat import SHORTEST_ALLOWED_S
from virtual_sound import VirtualSound
from wrong_clock import SteppedClock

IN_NAMESPACE = "TIMAR_CHAOS_NAMESPACE"
"""Set in the process whose network and mounts are its own."""
HANG, HOLD = signal.SIGUSR1, signal.SIGRTMIN + 1
BURN = "while True: sum(range(10_000))"
NETWORK, DISK = "loopback down", "disk full"

# Python runs a signal's handler in the main thread, which is the one that spins the nodes: between two of its
# callbacks, and so it is a callback like any other that does not come back.
_HANGING = f"""\
import ctypes, signal, threading
def deadlock(*_):
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()
def hold_interpreter(*_):
    ctypes.PyDLL(None).sleep(60)
signal.signal({int(HANG)}, deadlock)
signal.signal({int(HOLD)}, hold_interpreter)
"""


@dataclasses.dataclass(frozen=True)
class Fault:
    """One thing that goes wrong."""

    kind: str
    begin: Callable[[], str]
    """Does it; returns whom it hit."""
    lasts_s: float = 0.0
    """Until it is lifted [s]; 0: it is done at once, and recovery counts from then."""
    lift: Callable[[], None] = lambda: None
    allowed_s: float = 0.0
    """Silence that the supervisor allows before it acts [s]; recovery counts from its end."""
    restarts: bool = False
    """Whether the process that is hit has to be started again."""


@dataclasses.dataclass
class Surroundings:
    """What the faults act on; a part that this machine does not give is None."""

    pids: Callable[[], Mapping[str, int]]
    """Process ids of the graph by name."""
    tell_bus: Callable[[str], str]
    sound: VirtualSound | None
    clock: SteppedClock | None
    disk: SmallDisk | None
    has_own_network: bool


class SmallDisk:
    """A file system in memory that can be full.

    Args:
        folder: Where it is mounted, in a mount namespace of one's own.
        megabytes: How large it is.
    """

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.folder, self._filler = folder, folder / "filler"
        folder.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], check=True)

    def fill(self) -> None:
        """Leave no room at all."""
        with contextlib.suppress(OSError), self._filler.open("wb", buffering=0) as file:
            while file.write(bytes(65_536)):
                pass

    def free(self) -> None:
        """Give the room back."""
        self._filler.unlink(missing_ok=True)


def hanging_callbacks(folder: Path) -> dict[str, str]:
    """Return what lets Python processes hang on `HANG` and hold their interpreter on `HOLD`."""
    (folder / "sitecustomize.py").write_text(_HANGING, encoding="utf-8")
    return {"PYTHONPATH": f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}".rstrip(os.pathsep)}


class FaultSchedule:
    """All kinds of faults that this machine allows, and why it does not allow the others.

    Args:
        around: What they act on.
        rng: Chooses whom they hit.
    """

    def __init__(self, around: Surroundings, rng: random.Random) -> None:
        self._around, self._rng = around, rng
        self._hit = 0
        self._burning = contextlib.ExitStack()
        self._shifts_s = 0
        self.not_run: dict[str, str] = {}
        """Why, by kind."""

    def schedule(self) -> Iterator[Fault]:
        """Yield faults for ever, in rounds: every kind once and three processes killed, in a random order."""
        victims: list[str] = []
        while True:
            kinds = self._kinds()
            for _ in range(3):
                if not victims:
                    victims = sorted(self._around.pids())
                    self._rng.shuffle(victims)
                kinds.append(self._kill(victims.pop()))
            self._rng.shuffle(kinds)
            yield from kinds

    def end(self) -> None:
        """Lift what may still be."""
        self._burning.close()
        with contextlib.suppress(OSError, ValueError):
            self._around.tell_bus("heal")

    def _kinds(self) -> list[Fault]:
        around = self._around
        kinds = [
            self._stop_for(5.0),
            self._hang("callback in a deadlock", HANG),
            self._hang("callback holds the interpreter", HOLD),
            Fault("CPU taken by others", self._burn, 8.0, self._burning.close),
            Fault("10 % of the bus's packets lost", self._lose_packets, 8.0, self._heal),
        ]
        if around.sound is not None:
            kinds.append(Fault("sound device unplugged", self._unplug, 3.0, around.sound.plug_in))
        else:
            self.not_run["sound device unplugged"] = "no PulseAudio here"
        if around.clock is not None:
            kinds.append(Fault("wall clock steps", self._step_clock, 6.0, lambda: self._shift(0)))
        else:
            self.not_run["wall clock steps"] = "no C compiler here"
        if around.disk is not None:
            kinds.append(Fault(DISK, self._fill_disk, 5.0, around.disk.free))
        else:
            self.not_run[DISK] = "no mount namespace here; it needs root"
        if around.has_own_network:
            kinds.append(Fault(NETWORK, self._loopback_down, 2.0, lambda: _loopback("up")))
        else:
            self.not_run[NETWORK] = "no network namespace here; it needs root"
        return kinds

    def _kill(self, victim: str) -> Fault:
        def kill() -> str:
            _send(self._around.pids()[victim], signal.SIGKILL)
            return victim

        return Fault(f"kill -9 {victim}", kill, restarts=True)

    def _stop_for(self, seconds: float) -> Fault:
        stopped: list[int] = []

        def stop() -> str:
            name, pid = self._someone()
            stopped.append(pid)
            _send(pid, signal.SIGSTOP)
            return name

        def go_on() -> None:
            _send(stopped.pop(), signal.SIGCONT)

        return Fault(f"SIGSTOP {seconds:g} s", stop, seconds, go_on)

    def _hang(self, kind: str, number: int) -> Fault:
        def hang() -> str:
            name, pid = self._someone()
            _send(pid, number)
            return name

        return Fault(kind, hang, allowed_s=SHORTEST_ALLOWED_S, restarts=True)

    def _someone(self) -> tuple[str, int]:
        name, pid = self._rng.choice(sorted(self._around.pids().items()))
        return name, pid

    def _burn(self) -> str:
        count = 2 * len(os.sched_getaffinity(0))
        command = [sys.executable, "-S", "-c", BURN]
        for _ in range(count):
            self._burning.enter_context(running(command, signal.SIGKILL, env={}))
        return f"{count} busy processes"

    def _lose_packets(self) -> str:
        self._around.tell_bus("set lost 0.1")
        return "replies"

    def _heal(self) -> None:
        self._around.tell_bus("heal")

    def _unplug(self) -> str:
        assert self._around.sound is not None
        self._around.sound.unplug()
        return "microphone"

    def _step_clock(self) -> str:
        steps_s = (-3600, 3600, 86_400, -86_400)
        shift_s = steps_s[self._shifts_s % len(steps_s)]
        self._shifts_s += 1
        self._shift(shift_s)
        return f"by {shift_s:+d} s and back"

    def _shift(self, ahead_s: int) -> None:
        assert self._around.clock is not None
        self._around.clock.set(ahead_s)

    def _fill_disk(self) -> str:
        assert self._around.disk is not None
        self._around.disk.fill()
        return "recorder"

    def _loopback_down(self) -> str:
        _loopback("down")
        return "everybody"


def _send(pid: int, number: int) -> None:
    # The supervisor may have ended it meanwhile.
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _loopback(state: str) -> None:
    subprocess.run(["ip", "link", "set", "lo", state], check=True)


def enter_namespace() -> bool:
    """Run this program again with network and mounts of its own, where this machine allows it.

    Returns:
        Whether this process has them; the program is replaced where it may have them.
    """
    if IN_NAMESPACE not in os.environ:
        unshare = ["unshare", "--net", "--mount"]
        allowed = shutil.which("unshare") is not None and shutil.which("ip") is not None
        if allowed and not subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode:
            os.environ[IN_NAMESPACE] = "1"
            os.execvp("unshare", [*unshare, sys.executable, *sys.argv])
        return False
    _loopback("up")
    return True
