"""Start and supervise the graph without `ros2 launch`: one process per group of nodes, and no orphan ever.

A process that ends by itself is started again, after a wait that doubles, by its role in `graph.ROLES`.

Every process leads a session of its own, so that Ctrl-C in a terminal reaches only the composer, which then
ends them in order. If the composer itself is killed, the kernel sends each of them SIGTERM.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType

import yaml
from timar_common.config import Positive, check
from timar_common.processes import START_REFUSED, start_child, stop_signals

from timar_bringup.files import middleware_environment, with_urdf
from timar_bringup.graph import (
    FIRST_BACKOFF_S,
    LAST_BACKOFF_S,
    MAX_RESTARTS,
    OPTIONAL_NICENESS,
    RESTARTS_WITHIN_S,
    ROLES,
    STOP_WITHIN_S,
    STOPS_LAST,
    Plan,
    PlannedNode,
    ProcessRole,
    UsageError,
    plan,
    read_arguments,
)
from timar_bringup.parameters import effective_values, graph_parameters, lines

LineSink = Callable[[str, str], None]
"""Takes a process's name and one line it wrote."""


@dataclasses.dataclass(frozen=True)
class ComposerConfig:
    """How long an ending process may take."""

    interrupt_s: Positive = STOP_WITHIN_S
    """After SIGINT, before SIGTERM [s]."""
    terminate_s: Positive = 3.0
    """After SIGTERM, before SIGKILL [s]."""

    def __post_init__(self) -> None:
        check(self)


@dataclasses.dataclass(frozen=True)
class Ended:
    """A process that ended by itself."""

    process: str
    status: int
    """Its exit status; negative: the signal that killed it."""

    def how(self) -> str:
        """Say how it ended."""
        if self.status == START_REFUSED:
            return "refused to start"
        if self.status < 0:
            return f"was killed by {signal.Signals(-self.status).name}"
        return f"ended with status {self.status}"

    def sentence(self) -> str:
        """Say it for people."""
        return f"the process {self.process!r} {self.how()}; the graph cannot go on without it"


class ChildRun:
    """One process of the graph over all its starts: when to start it again, and when it is enough.

    Args:
        role: What happens when it ends.
    """

    def __init__(self, role: ProcessRole) -> None:
        self.role = role
        self.restarts = 0
        self.due_s: float | None = None
        """When it is to be started again; None while it runs or stays down [s]."""
        self.is_down = False
        """Whether it ended too often and stays down."""
        self._ended_s: list[float] = []

    def end(self, status: int, now_s: float) -> float | None:
        """Take in that it ended by itself; return the wait before its next start [s], None for none.

        Args:
            status: Its exit status. One that refuses its first start has said why, and would refuse again.
            now_s: Time now [s].
        """
        if status == START_REFUSED and not self.restarts:
            return None
        self._ended_s = [at for at in self._ended_s if now_s - at < RESTARTS_WITHIN_S] + [now_s]
        if len(self._ended_s) > MAX_RESTARTS and (self.role.ends_graph or not self.role.is_essential):
            self.is_down = True
            return None
        wait_s = min(FIRST_BACKOFF_S * 2 ** (len(self._ended_s) - 1), LAST_BACKOFF_S)
        self.due_s = now_s + wait_s
        return wait_s

    def start(self) -> None:
        """Take in that it was started again."""
        self.due_s = None
        self.restarts += 1


class Composer:
    """Run a plan's processes.

    Use it as a context manager, from the main thread: the kernel ties the children's lives to the thread
    that made them.

    Args:
        graph: What to start.
        on_line: Takes every line a process writes; called from a thread per process.
        environment: What the processes inherit; default: this one's with `ros_environment` over it.
        config: Time-outs.
    """

    def __init__(
        self,
        graph: Plan,
        on_line: LineSink,
        environment: Mapping[str, str] | None = None,
        config: ComposerConfig | None = None,
    ) -> None:
        self.plan = graph
        self.config = config or ComposerConfig()
        self.not_stopped_gently: list[str] = []
        self._environment = dict(environment) if environment is not None else ros_environment(os.environ)
        self._on_line = on_line
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._children: dict[str, subprocess.Popen[str]] = {}
        self._runs: dict[str, ChildRun] = {}
        self._commands: dict[str, list[str]] = {}
        self._readers: list[threading.Thread] = []
        self._stopped: set[str] = set()

    @property
    def pids(self) -> dict[str, int]:
        """Process id by process name."""
        return {name: child.pid for name, child in self._children.items()}

    def __enter__(self) -> Composer:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start every process.

        Raises:
            RuntimeError: It was started before.
            UsageError: A parameters file cannot be used.
        """
        if self._folder is not None:
            raise RuntimeError("a composer starts its graph once; make another one")
        found = graph_parameters(self.plan, self._environment)
        self._folder = tempfile.TemporaryDirectory(prefix="timar-")
        path = Path(self._folder.name) / "parameters.yaml"
        path.write_text(yaml.safe_dump(found.to_ros()), encoding="utf-8")
        if found.others:
            self._on_line("composer", f"sections for nodes of others: {', '.join(found.others)}")
        if self.plan.arguments["log_level"] == "debug":
            for line in lines(effective_values(self.plan, found)):
                self._on_line("composer", line)
        for name, nodes in self.plan.processes().items():
            self._runs[name] = ChildRun(ROLES[name])
            self._commands[name] = command_line(self.plan, nodes, path)
            self._start_process(name, self._commands[name])

    @property
    def restarts(self) -> dict[str, int]:
        """How often each process was started again."""
        return {name: run.restarts for name, run in self._runs.items()}

    def poll(self) -> Ended | None:
        """Start again what ended by itself and is due; call it several times a second.

        Returns:
            A process without which the graph cannot go on; None while it can.
        """
        now_s = time.monotonic()
        for name, run in self._runs.items():
            status = self._children[name].poll()
            if status is None or name in self._stopped or run.is_down:
                continue
            if run.due_s is None:
                ended = Ended(name, status)
                wait_s = run.end(status, now_s)
                if wait_s is None and (run.role.is_essential or not run.is_down):
                    return ended
                self._on_line("composer", _after_end(ended, run, wait_s))
            elif now_s >= run.due_s:
                # What it left behind in its session would stand in the new one's way.
                _signal_group(self._children[name].pid, signal.SIGKILL)
                self._start_process(name, self._commands[name])
                run.start()
        return None

    def stop(self) -> dict[str, int]:
        """End every process and wait for it; safe to call again.

        Returns:
            Exit status by process name; negative: the signal that killed it.
        """
        last = [name for name in self._children if name in STOPS_LAST]
        self._stop_together([name for name in self._children if name not in last])
        self._stop_together(last)
        for reader in self._readers:
            reader.join(timeout=2.0)
        if self._folder is not None:
            self._folder.cleanup()
        return {name: child.wait() for name, child in self._children.items()}

    def _start_process(self, name: str, command: list[str]) -> None:
        # What nobody waits for gives way to what has a deadline.
        politeness = [] if ROLES[name].is_essential else ["nice", "-n", str(OPTIONAL_NICENESS)]
        child = start_child(
            [*politeness, *command],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            bufsize=1,
            start_new_session=True,
        )
        self._children[name] = child
        reader = threading.Thread(target=self._read, args=(name, child), name=f"read-{name}", daemon=True)
        reader.start()
        self._readers.append(reader)

    def _read(self, name: str, child: subprocess.Popen[str]) -> None:
        if child.stdout is None:
            return
        with child.stdout as lines:
            for line in lines:
                self._on_line(name, line.rstrip("\n"))

    def _stop_together(self, names: list[str]) -> None:
        self._stopped.update(names)
        steps = (
            (signal.SIGINT, self.config.interrupt_s),
            (signal.SIGTERM, self.config.terminate_s),
            (signal.SIGKILL, self.config.terminate_s),
        )
        for number, patience_s in steps:
            running = [name for name in names if self._children[name].poll() is None]
            if not running:
                break
            if number != signal.SIGINT:
                self.not_stopped_gently.extend(
                    name for name in running if name not in self.not_stopped_gently
                )
            for name in running:
                _signal_group(self._children[name].pid, number)
            deadline_s = time.monotonic() + patience_s
            for name in running:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._children[name].wait(max(0.0, deadline_s - time.monotonic()))
        for name in names:
            # What a process has left behind in its session ends with it.
            _signal_group(self._children[name].pid, signal.SIGKILL)


def _after_end(ended: Ended, run: ChildRun, wait_s: float | None) -> str:
    """Say for people what happens after a process ended by itself."""
    if wait_s is None:
        return (
            f"ERROR the process {ended.process!r} {ended.how()}, {MAX_RESTARTS + 1} times within "
            f"{RESTARTS_WITHIN_S:.0f} s; it stays down"
        )
    return (
        f"WARN the process {ended.process!r} {ended.how()} and is started again in {wait_s:g} s; meanwhile "
        f"{run.role.meanwhile}"
    )


def command_line(graph: Plan, nodes: Iterable[PlannedNode], parameters: Path) -> list[str]:
    """Return the command that runs some nodes in one process."""
    command = [sys.executable, "-m", "timar_common.base_node"]
    command += [planned.node.component for planned in nodes]
    command += ["--ros-args", "--log-level", str(graph.arguments["log_level"])]
    if graph.namespace:
        command += ["-r", f"__ns:={graph.namespace}"]
    return [*command, "--params-file", str(parameters)]


def ros_environment(base: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the graph's processes: what was set by hand stays."""
    environment = {**base, **middleware_environment(base)}
    environment.setdefault("RCUTILS_COLORIZED_OUTPUT", "0")
    environment.setdefault("RCUTILS_CONSOLE_OUTPUT_FORMAT", "{severity} {name}: {message}")
    environment.setdefault("PYTHONUNBUFFERED", "1")
    # One thread per library: the graph shares few cores, and spinning helpers steal them.
    environment.setdefault("OMP_NUM_THREADS", "1")
    environment.setdefault("OPENBLAS_NUM_THREADS", "1")
    return environment


def main(argv: list[str] | None = None) -> int:
    """Run the graph until Ctrl-C, without a ROS 2 distribution: timar run name:=value ..."""
    typed = sys.argv[1:] if argv is None else argv
    if typed and typed[0] in ("-h", "--help"):
        sys.stdout.write(_help())
        return 0
    wanted_end = threading.Event()
    try:
        composer = Composer(plan(with_urdf(read_arguments(typed))), _write_line)
        with stop_signals(lambda _: wanted_end.set()), composer:
            while not wanted_end.wait(0.1):
                ended = composer.poll()
                if ended is not None:
                    sys.stderr.write(f"timar: {ended.sentence()}\n")
                    return 1
    except (UsageError, FileNotFoundError) as error:
        sys.stderr.write(f"timar: {error}\n")
        return 2
    return 0


def _write_line(process: str, line: str) -> None:
    sys.stdout.write(f"[{process}] {line}\n")
    sys.stdout.flush()


def _help() -> str:
    from timar_bringup.graph import ARGUMENTS

    lines = ["usage: timar run [name:=value ...]", "", "arguments (default):"]
    width = max(len(argument.name) for argument in ARGUMENTS)
    for argument in ARGUMENTS:
        choices = f" One of: {', '.join(argument.choices)}." if argument.choices else ""
        lines.append(
            f"  {argument.name:<{width}}  {argument.doc}{choices} ({argument.written_default() or 'empty'})"
        )
    return "\n".join(lines) + "\n"


def _signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)


if __name__ == "__main__":
    sys.exit(main())
