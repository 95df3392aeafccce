"""Start and supervise the graph without `ros2 launch`: one process per group of nodes, and no orphan ever.

A process that ends by itself is started again, after a wait that doubles, by its role (`graph.Plan.role`).

Every process leads a session of its own, so that Ctrl-C in a terminal reaches only the composer, which then
ends them in order. If the composer itself is killed, the kernel sends each of them SIGTERM.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType

import yaml
from timar_common.config import Positive, check
from timar_common.middleware import suspicions
from timar_common.notify import NotifySocket, notify
from timar_common.processes import (
    RESTARTS_VARIABLE,
    SHOW_STACKS,
    START_REFUSED,
    start_child,
    stop_signals,
)
from timar_common.retention import remove_surplus

from timar_bringup.files import middleware_environment, page_environment, profile_variable, with_urdf
from timar_bringup.graph import (
    FIRST_BACKOFF_S,
    LAST_BACKOFF_S,
    MAX_RESTARTS,
    RESTARTS_WITHIN_S,
    STOP_WITHIN_S,
    STOPS_LAST,
    Plan,
    PlannedNode,
    ProcessRole,
    UsageError,
    plan,
    read_arguments,
)
from timar_bringup.network import ENCLAVE, kept_profile, opened_profile, security, who_reaches
from timar_bringup.parameters import effective_values, graph_parameters, lines
from timar_bringup.watch import Watch, WatchConfig, carry_out, kernel_view, send_to_group

UNIT_WATCHDOG_S = 30.0
"""A composer that systemd has not heard for so long is started again [s]."""

LOGS_GB = 0.5
"""What the files of the folder `logs` may take together; who writes the newest is not disturbed [GB]."""
TIDY_EVERY_S = 3600.0

LineSink = Callable[[str, str], None]
"""Takes a process's name and one line it wrote."""


@dataclasses.dataclass(frozen=True)
class ComposerConfig:
    """How long an ending process may take."""

    interrupt_s: Positive = STOP_WITHIN_S
    """After SIGINT, before SIGTERM [s]."""
    answer_s: Positive = 2.0
    """A process that has not even answered SIGINT after so long hangs [s]."""
    terminate_s: Positive = 3.0
    """After SIGTERM, before SIGKILL [s]."""
    hung_terminate_s: Positive = 0.5
    """The same for a process that has not answered SIGINT [s]."""
    watch: WatchConfig = dataclasses.field(default_factory=WatchConfig)
    """When a running process counts as hung."""

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


class ServiceReport:
    """What systemd is told where it started the composer: that the graph is up, and the composer works."""

    def __init__(self) -> None:
        self._is_ready = False
        self._due_s = 0.0

    def update(self, is_ready: bool, now_s: float) -> None:
        """Send what is new; call it several times a second.

        Args:
            is_ready: Whether every process has finished its start.
            now_s: Time now [s].
        """
        if is_ready and not self._is_ready:
            self._is_ready = True
            notify(READY=1, STATUS="the head runs")
        if now_s >= self._due_s:
            self._due_s = now_s + UNIT_WATCHDOG_S / 6
            notify(WATCHDOG=1)


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
        if graph.arguments["logs"]:
            self._environment["ROS_LOG_DIR"] = str(Path(str(graph.arguments["logs"])).expanduser().absolute())
        self._tidy_s = 0.0
        self._on_line = on_line
        self._watch = Watch(self.config.watch)
        self._heard: NotifySocket | None = None
        self._parameters: int | None = None
        self._children: dict[str, subprocess.Popen[str]] = {}
        self._runs: dict[str, ChildRun] = {}
        self._commands: dict[str, list[str]] = {}
        self._readers: list[threading.Thread] = []
        self._stopped: set[str] = set()
        self._told: set[str] = set()
        self._wrote: set[int] = set()
        """Process ids that have written a line."""

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
        if self._heard is not None:
            raise RuntimeError("a composer starts its graph once; make another one")
        found = graph_parameters(self.plan, self._environment)
        self._check_middleware()
        self._open_network()
        self._heard = NotifySocket()
        self._environment |= self._heard.environment
        # A file without a name, inherited by every process: nothing is left behind when this one is killed.
        self._parameters = os.memfd_create("timar-parameters")
        path = Path(f"/proc/self/fd/{self._parameters}")
        path.write_text(yaml.safe_dump(found.to_ros()), encoding="utf-8")
        if found.others:
            self._on_line("composer", f"sections for nodes of others: {', '.join(found.others)}")
        if self.plan.arguments["log_level"] == "debug":
            for line in lines(effective_values(self.plan, found)):
                self._on_line("composer", line)
        for name, nodes in self.plan.processes().items():
            self._runs[name] = ChildRun(self.plan.role(name))
            self._commands[name] = command_line(self.plan, nodes, path)
            self._start_process(name, self._commands[name])

    def _check_middleware(self) -> None:
        """Refuse what no process could start with, and name what may keep nodes from finding each other."""
        for suspicion in suspicions(self._environment):
            if suspicion.is_certain:
                raise UsageError(f"{suspicion.text}; {suspicion.remedy}")
            self._log(f"WARN {suspicion.text}; {suspicion.remedy}")

    def _open_network(self) -> None:
        """Let the machines in that the arguments name, with keys unless declined; say who reaches it."""
        arguments = self.plan.arguments
        hosts = [host for host in (*str(arguments["network"]).split(","), self.plan.other_host) if host]
        if not hosts:
            self._log(f"INFO {who_reaches(self._environment)}")
            return
        if arguments["keystore"] != "none":
            self._environment |= security(Path(str(arguments["keystore"])))
        text, own = opened_profile(hosts, ask=True, base=self._environment)
        self._environment[profile_variable(self._environment)] = str(kept_profile(text, self._environment))
        who = "whoever holds its keys"
        if arguments["keystore"] == "none":
            who = "whoever reaches that address, unencrypted"
        self._log(f"WARN the graph listens at {', '.join(own)} to {who}; name no other machine to close it")

    def _tidy_logs(self) -> None:
        """Remove old logs from a folder that is this head's own."""
        if not self.plan.arguments["logs"]:
            return
        days = self.plan.arguments["keep_days"]
        files = Path(self._environment["ROS_LOG_DIR"]).glob("*.log")
        for gone in remove_surplus(files, LOGS_GB, float(days) if isinstance(days, int) else 0.0):
            self._log(f"removed the old log {gone.path.name}")

    @property
    def restarts(self) -> dict[str, int]:
        """How often each process was started again."""
        return {name: run.restarts for name, run in self._runs.items()}

    @property
    def are_ready(self) -> bool:
        """Whether every process has finished its start."""
        return all(map(self._watch.is_ready, self._children))

    def poll(self) -> Ended | None:
        """Start again what ended by itself and is due; call it several times a second.

        Returns:
            A process without which the graph cannot go on; None while it can.
        """
        now_s = time.monotonic()
        if now_s >= self._tidy_s:
            self._tidy_s = now_s + TIDY_EVERY_S
            self._tidy_logs()
        if self._heard is not None:
            self._watch.listen(self._heard, now_s)
        for step in self._watch.steps(now_s):
            carry_out(step, self._log, send_to_group)
        for name, run in self._runs.items():
            status = self._children[name].poll()
            if status is None or name in self._stopped or run.is_down:
                continue
            if run.due_s is None:
                ended = Ended(name, status)
                self._watch.end(name)
                wait_s = run.end(status, now_s)
                if wait_s is None and (run.role.is_essential or not run.is_down):
                    return ended
                self._log(after_end(ended, run, wait_s))
            elif now_s >= run.due_s:
                # What it left behind in its session would stand in the new one's way.
                send_to_group(self._children[name].pid, signal.SIGKILL)
                run.start()
                self._start_process(name, self._commands[name])
        return None

    def bad_ends(self) -> Iterable[str]:
        """Say of each process that did not stop as it should when it was told to, after `stop`."""
        for name in self.not_stopped_gently:
            yield f"the process {name!r} had to be killed; it last said: {self._watch.doing(name)}"
        for name, child in self._children.items():
            if child.returncode not in (None, 0) and child.returncode > 0 and name in self._told:
                yield f"the process {name!r} ended with status {child.returncode}; the log says why"

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
        if self._heard is not None:
            self._heard.close()
        if self._parameters is not None:
            os.close(self._parameters)
        self._parameters = None
        return {name: child.wait() for name, child in self._children.items()}

    def _start_process(self, name: str, command: list[str]) -> None:
        # What nobody waits for gives way to what has a deadline.
        niceness = self.plan.role(name).niceness
        politeness = ["nice", "-n", str(niceness)] if niceness else []
        child = start_child(
            [*politeness, *command],
            env={**self._environment, RESTARTS_VARIABLE: str(self._runs[name].restarts)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            bufsize=1,
            start_new_session=True,
            pass_fds=() if self._parameters is None else (self._parameters,),
        )
        self._watch.begin(name, child.pid, time.monotonic())
        self._children[name] = child
        reader = threading.Thread(target=self._read, args=(name, child), name=f"read-{name}", daemon=True)
        reader.start()
        self._readers.append(reader)

    def _read(self, name: str, child: subprocess.Popen[str]) -> None:
        if child.stdout is None:
            return
        with child.stdout as lines:
            for line in lines:
                self._wrote.add(child.pid)
                self._on_line(name, line.rstrip("\n"))

    def _stop_together(self, names: list[str]) -> None:
        self._stopped.update(names)
        running = [name for name in names if self._children[name].poll() is None]
        self._told.update(running)
        if self._heard is not None:
            self._watch.listen(self._heard, time.monotonic())
        for name in running:
            pid = self._children[name].pid
            # An interpreter that still starts answers SIGINT by "Fatal Python error", SIGTERM by its end.
            is_started = pid in self._wrote or self._watch.has_spoken(name)
            send_to_group(pid, signal.SIGINT if is_started else signal.SIGTERM)
        hung = self._wait(running, self.config.answer_s, until_answered=True)
        running = [name for name in running if self._children[name].poll() is None]
        self._kill(hung, self.config.hung_terminate_s)
        patience_s = max(0.0, self.config.interrupt_s - self.config.answer_s)
        self._kill(self._wait(running, patience_s), self.config.terminate_s)
        for name in names:
            # What a process has left behind in its session ends with it.
            send_to_group(self._children[name].pid, signal.SIGKILL)

    def _wait(self, names: list[str], patience_s: float, until_answered: bool = False) -> list[str]:
        """Wait for the end of processes, or for their answer; return which it did not come from in time."""
        end_s = time.monotonic() + patience_s
        while True:
            if self._heard is not None:
                self._watch.listen(self._heard, time.monotonic())
            names = [
                name
                for name in names
                if self._children[name].poll() is None
                and not (until_answered and self._watch.has_answered(name))
            ]
            if not names or time.monotonic() >= end_s:
                return names
            time.sleep(0.01)

    def _kill(self, names: list[str], terminate_s: float) -> None:
        """End processes that did not end by themselves: SIGTERM, then SIGKILL; say what they did."""
        for name in names:
            pid = self._children[name].pid
            self.not_stopped_gently.append(name)
            self._log(
                f"ERROR the process {name!r} did not stop and is ended; it last said: "
                f"{self._watch.doing(name)}; the kernel says: {kernel_view(pid)}; stacks follow if it runs"
            )
            if self._watch.is_ready(name):
                send_to_group(pid, SHOW_STACKS)
            send_to_group(pid, signal.SIGTERM)
        for name in self._wait(names, terminate_s):
            send_to_group(self._children[name].pid, signal.SIGKILL)
            self._children[name].wait()

    def _log(self, sentence: str) -> None:
        self._on_line("composer", sentence)


def after_end(ended: Ended, run: ChildRun, wait_s: float | None) -> str:
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
    if graph.arguments["network"] and graph.arguments["keystore"] != "none":
        command += ["--enclave", ENCLAVE]
    if graph.namespace:
        command += ["-r", f"__ns:={graph.namespace}"]
    return [*command, "--params-file", str(parameters)]


def ros_environment(base: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the graph's processes: what was set by hand stays."""
    environment = {**base, **middleware_environment(base), **page_environment(base)}
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
        with stop_signals(lambda _: wanted_end.set()):
            status = 0
            with composer:
                reported = ServiceReport()
                while not status and not wanted_end.wait(0.1):
                    ended = composer.poll()
                    reported.update(composer.are_ready, time.monotonic())
                    if ended is not None:
                        sys.stderr.write(f"timar: {ended.sentence()}\n")
                        status = 1
                notify(STOPPING=1)
            for sentence in composer.bad_ends():
                sys.stderr.write(f"timar: {sentence}\n")
                status = 1
    except (UsageError, FileNotFoundError) as error:
        sys.stderr.write(f"timar: {error}\n")
        return 2
    return status


def _write_line(process: str, line: str) -> None:
    try:
        sys.stdout.write(f"[{process}] {line}\n")
        sys.stdout.flush()
    except OSError:
        # The terminal was closed: what is said from now on, and what waits in Python's buffer, goes nowhere.
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
            os.dup2(nowhere.fileno(), sys.stderr.fileno())


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


if __name__ == "__main__":
    sys.exit(main())
