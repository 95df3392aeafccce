"""The command `timar doctor`: checks what a head needs of this machine, and asks a graph that runs."""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import enum
import grp
import importlib.util
import json
import os
import platform
import resource
import shutil
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from timar_common import middleware as dds
from timar_common.topics import TOPICS

from timar_bringup.files import PROFILE, is_log_writable, shared_file
from timar_bringup.graph import NODES, ROLES

LOW_DISK_GB = 2.0
"""Warned below; an hour of recording takes about 0.3 GB."""
LEAST_DISK_GB = 0.2
LEAST_FILES = 256
"""Descriptors that a process may need: sockets to each other one, devices, pages of the view."""
VIEW_PORT = 8080
ONE_PUBLISHER = tuple(name for name, topic in TOPICS.items() if topic.publisher and not topic.is_shared)
"""Topics that only one node of a robot may publish."""
_TIME_ERROR = 5
_TIMEX_BYTES = 512


class CheckVerdict(str, enum.Enum):
    """How a check came out."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclasses.dataclass(frozen=True)
class DoctorFinding:
    """One line of the report."""

    check: str
    verdict: CheckVerdict
    text: str
    remedy: str = ""
    """What to do about it."""

    def line(self) -> str:
        """Return it for people."""
        return f"{self.verdict.value:<8} {self.check:<14} {self.text}" + (
            f"; {self.remedy}" if self.remedy else ""
        )


def _ok(check: str, text: str) -> DoctorFinding:
    return DoctorFinding(check, CheckVerdict.OK, text)


def _warning(check: str, text: str, remedy: str) -> DoctorFinding:
    return DoctorFinding(check, CheckVerdict.WARNING, text, remedy)


def _problem(check: str, text: str, remedy: str) -> DoctorFinding:
    return DoctorFinding(check, CheckVerdict.PROBLEM, text, remedy)


def machine() -> Iterator[DoctorFinding]:
    """Look at processor, memory and Python."""
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    cores = len(os.sched_getaffinity(0))
    text = f"{cores} cores, {memory_gb:.1f} GB, {platform.machine()}, Linux {platform.release()}"
    load = os.getloadavg()[0]
    if load > 2 * cores:
        yield _warning("machine", f"{text}; load {load:.1f}", "end what else computes here: turns come late")
    elif cores < 2 or memory_gb < 2.0:
        yield _warning("machine", text, "expected 2 cores and 2 GB for the shipped model")
    else:
        yield _ok("machine", text)
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if 0 <= files < LEAST_FILES:
        remedy = f"expected {LEAST_FILES}: ulimit -n {LEAST_FILES}"
        yield _warning("limits", f"a process may open {files} files", remedy)
    version = sys.version_info
    python = platform.python_version()
    if version < (3, 10):
        yield _problem("python", python, "expected 3.10 or later")
    else:
        yield _ok("python", python)


def ros(environment: Mapping[str, str]) -> Iterator[DoctorFinding]:
    """Look for ROS 2, our messages, and what the environment tells the middleware."""
    if importlib.util.find_spec("rclpy") is None:
        yield _problem("ros", "rclpy is not installed", "make setup brings it, or source a distribution")
        return
    distribution = environment.get("ROS_DISTRO", "from wheels")
    if importlib.util.find_spec("timar_msgs") is None:
        yield _problem("ros", f"{distribution}; timar_msgs is not built", "make setup, or colcon build")
    else:
        yield _ok("ros", distribution)
    yield from middleware(environment)


def middleware(environment: Mapping[str, str]) -> Iterator[DoctorFinding]:
    """Look at the variables by which processes of a graph could miss each other."""
    found = list(dds.suspicions(environment))
    for suspicion in found:
        judge = _problem if suspicion.is_certain else _warning
        yield judge("dds", suspicion.text, suspicion.remedy)
    profile = next((environment[name] for name in dds.PROFILE_VARIABLES if environment.get(name)), "")
    if profile and not Path(profile).is_file():
        return
    try:
        is_shipped = not profile or os.path.samefile(profile, shared_file(PROFILE, environment))
    except FileNotFoundError:
        is_shipped = False
    if is_shipped:
        yield _ok(
            "dds", f"{dds.settings(environment)}; only this machine reaches a graph that is started here"
        )
    else:
        yield _warning("dds", f"{dds.settings(environment)}, a profile of your own", "it says who is let in")


def sound(seconds: float) -> Iterator[DoctorFinding]:
    """List sound devices, and listen to the default microphone for a while."""
    from timar_audio.audio_command import measure
    from timar_audio.devices import import_portaudio, list_devices

    try:
        portaudio = import_portaudio()
        found = {kind: list_devices(portaudio, kind) for kind in ("input", "output")}
    except OSError as error:
        yield _problem("sound", str(error), "or give source:=file")
        return
    if not found["output"]:
        yield _warning("sound", "there is no loudspeaker", "plug one in; without, nobody hears the head")
    if not found["input"]:
        yield _problem("sound", "there is no microphone", "plug one in, or give source:=file")
        return
    counts = f"{len(found['input'])} microphones, {len(found['output'])} loudspeakers"
    if seconds <= 0:
        yield _ok("sound", counts)
        return
    try:
        measured = measure("", 16_000, seconds, None)
    except OSError as error:
        yield _problem("sound", f"{counts}; {error}", "timar audio devices lists them")
        return
    text = f"{counts}; level {measured.level_dbfs:.0f} dBFS, peak {measured.peak_dbfs:.0f} dBFS"
    if measured.complaint:
        yield _warning("sound", f"{text}; {measured.complaint}", "timar audio check listens for longer")
    else:
        yield _ok("sound", text)


def devices(folder: Path = Path("/dev")) -> Iterator[DoctorFinding]:
    """Look for serial ports and cameras, and whether this user may open them."""
    ports = sorted({*folder.glob("ttyUSB*"), *folder.glob("ttyACM*")})
    closed = [port.name for port in ports if not os.access(port, os.R_OK | os.W_OK)]
    if closed:
        group = _group_of(folder / closed[0])
        text = f"{', '.join(closed)} may not be opened"
        yield _problem("serial", text, f"sudo usermod -aG {group} $USER, then log in again")
    elif ports:
        names = ", ".join(port.name for port in ports)
        yield _ok("serial", f"{names}; timar bus scan --port {ports[0]} looks for servos")
    else:
        yield _ok("serial", "no serial port; only a robot with servos needs one")
    cameras = sorted(folder.glob("video*"))
    barred = [camera.name for camera in cameras if not os.access(camera, os.R_OK | os.W_OK)]
    if barred:
        text = f"{', '.join(barred)} may not be opened"
        yield _problem("camera", text, "sudo usermod -aG video $USER, then log in again")
    else:
        yield _ok("camera", ", ".join(camera.name for camera in cameras) or "none; only perception needs one")


def _group_of(path: Path) -> str:
    try:
        return grp.getgrgid(path.stat().st_gid).gr_name
    except (KeyError, OSError):
        return "dialout"


def model(name: str) -> Iterator[DoctorFinding]:
    """Read a model folder against its manifest, and ask which engines run it."""
    from timar_model.engines.environment import environment_troubles
    from timar_model.engines.obstacles import obstacles
    from timar_model.loading import find_model
    from timar_model.model_folder import read_model

    try:
        folder = read_model(find_model(name))
    except (OSError, ValueError) as error:
        yield _problem("model", _without_home(str(error)), "timar import brings one")
        return
    yield _ok("model", f"{name}: every file is as its manifest says")
    for trouble in environment_troubles():
        yield _warning("engines", trouble, "timar engines says what computes then")
    able = [engine for engine, why_not in obstacles(folder).items() if not why_not]
    if able:
        yield _ok("engines", ", ".join(able))
    else:
        yield _problem("engines", f"no engine runs {name} here", "timar engines says why of each")


def disk(here: Path, environment: Mapping[str, str]) -> Iterator[DoctorFinding]:
    """Look at the room for recordings, and whether ROS may write its log."""
    free_gb = shutil.disk_usage(here).free / 1e9
    text = f"{free_gb:.1f} GB free where you are"
    if not os.access(here, os.W_OK):
        yield _warning("disk", f"{text}, which may not be written", "recordings need out:=FOLDER")
    elif free_gb < LEAST_DISK_GB:
        yield _problem("disk", text, "free some: recordings stop when it is full")
    elif free_gb < LOW_DISK_GB:
        yield _warning("disk", text, "free some: an hour of recording takes about 0.3 GB")
    else:
        yield _ok("disk", text)
    if is_log_writable(environment):
        yield _ok("log", "the folder of ROS's log may be written")
    else:
        yield _warning("log", "the folder of ROS's log may not be written", "set ROS_LOG_DIR to one that may")


def ports(port: int = VIEW_PORT) -> Iterator[DoctorFinding]:
    """Look whether the view's port is free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            text = f"port {port} of the view: {error.strerror}"
            yield _warning("ports", text, "give view_port:=N, or end what uses it")
            return
    yield _ok("ports", f"{port}, the view's, is free")


def clock() -> Iterator[DoctorFinding]:
    """Ask the kernel whether its clock is kept by NTP."""
    buffer = ctypes.create_string_buffer(_TIMEX_BYTES)  # All zero: nothing is set, only read.
    state = ctypes.CDLL(None).adjtimex(buffer)
    if state == _TIME_ERROR:
        remedy = "a bag's stamps need it: sudo systemctl enable --now systemd-timesyncd"
        yield _warning("clock", "not kept by NTP", remedy)
    elif state < 0:
        yield _warning("clock", "the kernel does not say whether NTP keeps it", "timedatectl may")
    else:
        yield _ok("clock", "kept by NTP")


@dataclasses.dataclass(frozen=True)
class GraphProcesses:
    """Processes of graphs that run on this machine."""

    composers: tuple[int, ...]
    nodes: tuple[int, ...]
    orphans: tuple[int, ...]
    """Nodes whose composer or launch is gone."""


def graph_processes(proc: Path = Path("/proc")) -> GraphProcesses:
    """Find them by their command lines."""
    composers, nodes, orphans = [], [], []
    for folder in proc.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            parent = int((folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
        except OSError:
            continue
        if "timar_common.base_node" in words:
            nodes.append(int(folder.name))
            if parent == 1:
                orphans.append(int(folder.name))
        elif "timar_bringup.composer" in words or words[1:4:2] == ["-m", "run"]:
            composers.append(int(folder.name))
    return GraphProcesses(tuple(sorted(composers)), tuple(sorted(nodes)), tuple(sorted(orphans)))


def leftovers(found: GraphProcesses) -> Iterator[DoctorFinding]:
    """Report processes of a graph that nobody supervises any more."""
    if found.orphans:
        pids = " ".join(map(str, found.orphans))
        yield _problem("leftovers", f"processes of a graph that is gone: {pids}", f"kill {pids}")
    elif found.nodes:
        yield _ok("leftovers", f"none; a graph of {len(found.nodes)} processes runs")
    else:
        yield _ok("leftovers", "none; no graph runs")


def graph(
    health: Mapping[str, tuple[int, str]], publishers: Mapping[str, Iterable[str]]
) -> Iterator[DoctorFinding]:
    """Judge what a running graph says of itself.

    Args:
        health: Level and message of each node's diagnostics by its full name.
        publishers: Full names of the nodes that publish each topic.
    """
    if not health:
        yield _warning("graph", "a graph runs but none is heard", "is ROS_DOMAIN_ID the same here and there?")
        return
    for name, (level, message) in sorted(health.items()):
        verdict = (CheckVerdict.OK, CheckVerdict.WARNING, CheckVerdict.PROBLEM, CheckVerdict.PROBLEM)[
            min(level, 3)
        ]
        yield DoctorFinding("graph", verdict, f"{name}: {message}", "its log says more" if level else "")
    for space in sorted({name.rpartition("/")[0] for name in health}):
        essential = {node.name for node in NODES if ROLES[node.process].is_essential and not node.only_if}
        missing = sorted(name for name in essential if f"{space}/{name}" not in health)
        if missing:
            text = f"{', '.join(missing)} of {space or '/'} are not heard"
            yield _problem("graph", text, "the log says why they ended; with replay:=true some do not run")
    for topic, nodes in publishers.items():
        names = sorted(nodes)
        if len(names) > 1:
            text = f"{topic} has {len(names)} publishers: {', '.join(names)}"
            yield _problem("graph", text, "end all but one, or give each robot a namespace of its own")


def _without_home(text: str) -> str:
    return text.replace(str(Path.home()), "~")


def examine(listen_s: float, model_name: str, environment: Mapping[str, str]) -> Iterator[DoctorFinding]:
    """Carry out every check; one that fails itself is a finding like any other."""
    found = graph_processes()
    checks: list[tuple[str, Callable[[], Iterator[DoctorFinding]]]] = [
        ("machine", machine),
        ("ros", lambda: ros(environment)),
        # A graph that runs has the microphone.
        ("sound", lambda: sound(0.0 if found.nodes else listen_s)),
        ("devices", devices),
        ("model", lambda: model(model_name)),
        ("disk", lambda: disk(Path.cwd(), environment)),
        ("ports", ports if not found.nodes else lambda: iter(())),
        ("clock", clock),
        ("leftovers", lambda: leftovers(found)),
    ]
    if found.nodes and importlib.util.find_spec("rclpy") is not None:
        checks.append(("graph", _ask_graph))
    for name, check in checks:
        try:
            yield from check()
        except (OSError, ImportError, ValueError, RuntimeError) as error:
            yield _problem(name, f"could not be checked: {_without_home(str(error))}", "make setup")


def _ask_graph() -> Iterator[DoctorFinding]:
    from timar_bringup.doctor_node import ask_graph

    return graph(*ask_graph(ONE_PUBLISHER))


def main(argv: list[str] | None = None) -> int:
    """Check machine, ROS, sound, ports, model, disk, clock and a graph that runs; say what to do."""
    parser = argparse.ArgumentParser(prog="timar doctor", description=main.__doc__)
    parser.add_argument("--json", action="store_true", help="for bug reports; it holds no personal data")
    parser.add_argument("--listen", type=float, default=1.0, metavar="S", help="to the microphone; 0: do not")
    parser.add_argument("--model", default="calm-head", help="name or folder (default: %(default)s)")
    arguments = parser.parse_args(argv)
    findings = []
    for finding in examine(arguments.listen, arguments.model, os.environ):
        findings.append(finding)
        if not arguments.json:
            sys.stdout.write(f"{finding.line()}\n")
            sys.stdout.flush()
    if arguments.json:
        sys.stdout.write(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2) + "\n")
    return int(any(finding.verdict is CheckVerdict.PROBLEM for finding in findings))


if __name__ == "__main__":
    sys.exit(main())
