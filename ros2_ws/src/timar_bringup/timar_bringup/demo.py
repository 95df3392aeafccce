"""`timar demo`: a head listens and talks through a conversation, by the nodes of the robot."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text
from timar_common.processes import stop_signals

from timar_bringup.composer import Composer, ros_environment
from timar_bringup.files import with_urdf
from timar_bringup.graph import Plan, UsageError, plan, read_arguments
from timar_bringup.progress import Progress
from timar_bringup.usage import cpu_seconds

CONVERSATION = Path("examples") / "data" / "conversation"
CLIP = "conversation"
CLIP_S = 61.0
BEGIN_WITHIN_S = 180.0
"""A graph that has made no turn after so long does not work; a large model is measured first [s]."""
MEASURING = ": measuring "
"""In what inference says while it measures."""
SAID_EVERY_S = 5.0
"""Where the output is no terminal, the progress line is written this often [s]."""


@dataclasses.dataclass(frozen=True)
class DemoOptions:
    """What was asked for."""

    out: Path
    duration_s: float
    arguments: tuple[str, ...]
    """Launch arguments, ``name:=value``."""
    robot: str


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How the run went."""

    status: int
    """Exit status: 0 ran to its end, 1 the graph broke, 130 interrupted."""
    run: dict[str, float | str | None]
    """What ``run.json`` holds."""


def main(argv: list[str] | None = None) -> int:
    """Watch the head listen and talk through a made-up conversation, or talk to it yourself."""
    console = Console(highlight=False)
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        options = read_options(sys.argv[1:] if argv is None else argv)
        graph = plan(with_urdf(read_arguments(options.arguments)))
        options.out.mkdir(parents=True, exist_ok=False)
    except FileExistsError:
        errors.print(f"timar demo: the folder {options.out} exists; name a new one with --out", markup=False)
        return 2
    except (UsageError, FileNotFoundError) as error:
        errors.print(f"timar demo: {error}", markup=False)
        return 2
    outcome = run_graph(graph, options, console)
    (options.out / "run.json").write_text(json.dumps(outcome.run, indent=2) + "\n", encoding="utf-8")
    if outcome.run["conversation_unix_s"] is not None:
        report(options, console)
    return outcome.status


def read_options(argv: list[str]) -> DemoOptions:
    """Read the command line.

    Raises:
        UsageError: Options contradict each other.
        FileNotFoundError: The conversation is not there.
    """
    parser = argparse.ArgumentParser(prog="timar demo", description=main.__doc__)
    parser.add_argument("--headless", action="store_true", help="without the browser view")
    parser.add_argument(
        "--duration", type=float, default=CLIP_S, metavar="S", help="seconds (default: %(default)g)"
    )
    parser.add_argument(
        "--out", type=Path, help="new folder for bag, summary and picture (default: runs/demo-TIME)"
    )
    parser.add_argument("--source", choices=("file", "microphone"), default="file", help="the user's voice")
    parser.add_argument("--device", default="", help="microphone, by name or number")
    parser.add_argument("--user-file", type=Path, help="WAV of the user (default: the shipped conversation)")
    parser.add_argument(
        "--user-motion",
        type=Path,
        help="npz of the user's motion (default: the shipped conversation's, with its voice)",
    )
    parser.add_argument("--agent-file", type=Path, help="WAV that the head says (default: likewise)")
    parser.add_argument("--model", default="calm-head", help="a shipped or imported model, or a model folder")
    parser.add_argument("--engine", default="auto", help="as `timar engines` lists (default: %(default)s)")
    parser.add_argument(
        "--audio",
        choices=("browser", "device"),
        help="where the head's voice is heard: on the page, after a click (default), or by the loudspeaker",
    )
    parser.add_argument("--mute", action="store_true", help="the voice is heard nowhere")
    parser.add_argument("--robot", default="timar_head", help="name of a shipped robot, or a robot YAML")
    parser.add_argument("--port", type=int, default=8080, help="of the browser view (default: 8080)")
    parser.add_argument("more", nargs="*", metavar="name:=value", help="further launch arguments")
    typed = parser.parse_args(argv)
    if not 1.0 <= typed.duration <= 3600.0:
        raise UsageError(f"--duration is {typed.duration:g}, expected 1 to 3600 seconds")
    if typed.source == "microphone" and typed.user_file:
        raise UsageError("--user-file is given and --source is microphone; leave one of them out")
    if typed.source == "microphone" and typed.user_motion:
        raise UsageError("--user-motion is given and --source is microphone; leave one of them out")
    if typed.mute and typed.audio:
        raise UsageError(f"--mute and --audio {typed.audio} contradict each other; leave one of them out")
    if typed.headless and typed.audio == "browser":
        raise UsageError("--audio browser needs the page that --headless leaves out; leave one of them out")
    out = (typed.out or Path("runs") / time.strftime("demo-%Y%m%d-%H%M%S")).expanduser().absolute()
    arguments = [
        f"source:={typed.source}",
        f"device:={typed.device}",
        f"model:={typed.model}",
        f"engine:={typed.engine}",
        f"robot:={typed.robot}",
        f"sink:={_sink(typed)}",
        "record:=true",
        f"out:={out / 'bag'}",
        f"view:={str(not typed.headless).lower()}",
        f"view_port:={typed.port}",
        f"open_browser:={str(not typed.headless and has_screen()).lower()}",
    ]
    if typed.source == "file":
        arguments.append(f"user_file:={typed.user_file or clip('speaker1')}")
        motion = typed.user_motion or (None if typed.user_file else clip("speaker1", ".npz"))
        if motion is not None:
            arguments.append(f"user_motion_file:={motion}")
    if typed.source == "file" or typed.agent_file:
        arguments.append(f"agent_file:={typed.agent_file or clip('speaker2')}")
    return DemoOptions(out, typed.duration, (*arguments, *typed.more), typed.robot)


def _sink(typed: argparse.Namespace) -> str:
    """Return where the voice is heard: on the page where there is one, unless something else is said."""
    if typed.mute or (typed.headless and typed.audio is None):
        return "null"
    return "speaker" if typed.audio == "device" else "browser"


def clip(speaker: str, suffix: str = ".wav") -> Path:
    """Return a voice (.wav) or a motion (.npz) of the shipped conversation.

    It is looked for upwards from this file and from the working folder.

    Raises:
        FileNotFoundError: This is no checkout of the project.
    """
    here = Path(__file__).resolve()
    for folder in (*here.parents, Path.cwd(), *Path.cwd().parents):
        path = folder / CONVERSATION / f"{CLIP}_{speaker}{suffix}"
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"{CONVERSATION} was not found above {here.parent} or {Path.cwd()}; start from a checkout, "
        "or name --user-file and --agent-file"
    )


def has_screen() -> bool:
    """Tell whether a browser window could be shown."""
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def run_graph(graph: Plan, options: DemoOptions, console: Console) -> Outcome:
    """Start the graph, follow it to its end or to an interruption, and stop it."""
    started_s = time.time()
    # A domain of its own keeps a demo out of a robot's way on the same machine.
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
    os.environ.update(ros_environment(os.environ))
    from timar_bringup.progress_node import Watcher

    progress = Progress()
    wanted_end = threading.Event()
    log = (options.out / "graph.log").open("w", encoding="utf-8")
    with log, stop_signals(lambda _: wanted_end.set()), shown_line(console) as show:

        def on_line(process: str, line: str) -> None:
            log.write(f"{time.time():.3f} [{process}] {line}\n")
            log.flush()
            is_trouble = line.startswith(("WARN", "ERROR", "FATAL", "Traceback"))
            if is_trouble or process == "view" or MEASURING in line:
                console.print(f"[{process}] {line}", markup=False, soft_wrap=True)

        with Composer(graph, on_line) as composer, Watcher(progress, graph.namespace) as watcher:
            status, usage = _follow(composer, watcher.watch, progress, options, wanted_end, show)
        if composer.not_stopped_gently:
            console.print(f"these processes had to be killed: {', '.join(composer.not_stopped_gently)}")
    if status == 1:
        console.print(f"the graph did not work; everything it said is in {options.out / 'graph.log'}")
    run: dict[str, float | str | None] = {
        "cpu_cores_used": usage,
        "started_unix_s": started_s,
        "first_motion_unix_s": _unix_s(progress.moved_ns),
        "conversation_unix_s": _unix_s(progress.began_ns),
    }
    return Outcome(status, run)


def _follow(
    composer: Composer,
    watch: Callable[[float], None],
    progress: Progress,
    options: DemoOptions,
    wanted_end: threading.Event,
    show: Callable[[str], None],
) -> tuple[int, float | None]:
    """Return the exit status and the processor cores used during the conversation."""
    began: tuple[int, float] | None = None
    deadline_s = time.monotonic() + BEGIN_WITHIN_S
    status = 0
    while progress.elapsed_s(time.monotonic_ns()) < options.duration_s:
        watch(0.1)
        now_ns = time.monotonic_ns()
        show(progress.line(now_ns, options.duration_s))
        if began is None and progress.began_ns is not None:
            began = (now_ns, cpu_seconds(composer.pids.values()))
        ended = composer.poll()
        if ended is not None:
            show(ended.sentence())
            status = 1
            break
        if wanted_end.is_set():
            status = 130
            break
        if began is None and time.monotonic() > deadline_s:
            show(f"no turn was made within {BEGIN_WITHIN_S:.0f} s")
            status = 1
            break
    if began is None or status == 1:
        return status, None
    spent_s = cpu_seconds(composer.pids.values()) - began[1]
    return status, spent_s / max((time.monotonic_ns() - began[0]) / 1e9, 1e-3)


def report(options: DemoOptions, console: Console) -> None:
    """Sum the recording up, draw it, and say where everything is."""
    from timar_report.joints import limits_of
    from timar_report.summary import summarize

    summary = summarize(options.out / "bag", options.out, limits=limits_of(options.robot))
    latency, joints = summary["latency_ms"], summary["joints"]
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in (
        ("turns", f"{summary['turns']}, late {summary['late_turns']}"),
        ("compute per turn", _percentiles(latency["compute"])),
        ("microphone to joint", _percentiles(latency["microphone_to_joint"])),
        ("sound lost", f"{summary['audio']['samples_lost']} of {summary['audio']['samples_in']} samples"),
        ("jaw and own voice", _rounded(summary["correlation"]["jaw_agent_level"], "correlation {:.2f}")),
        ("limits touched", str(sum(joint["limit_hits"] or 0 for joint in joints.values()))),
        ("processor", _rounded(summary["cpu_cores_used"], "{:.2f} cores")),
        ("engine", str(summary["engine"])),
    ):
        table.add_row(name, Text(value))
    console.print(table)
    for path in sorted(options.out.iterdir()):
        console.print(f"  {path}", markup=False, soft_wrap=True)


def _percentiles(values: dict[str, float]) -> str:
    return (
        ", ".join(f"{name} {value:.0f} ms" for name, value in values.items() if value is not None) or "none"
    )


def _rounded(value: float | None, form: str) -> str:
    return "unknown" if value is None else form.format(value)


def _unix_s(monotonic_ns: int | None) -> float | None:
    return None if monotonic_ns is None else time.time() - (time.monotonic_ns() - monotonic_ns) / 1e9


@contextlib.contextmanager
def shown_line(console: Console) -> Iterator[Callable[[str], None]]:
    """Give a function that shows a line that changes; without a terminal it is written now and then."""
    if console.is_terminal:
        with Live(Text(""), console=console, refresh_per_second=8) as live:
            yield lambda line: live.update(Text(line, overflow="ellipsis", no_wrap=True))
        return
    said_s = -SAID_EVERY_S

    def say(line: str) -> None:
        nonlocal said_s
        if time.monotonic() - said_s >= SAID_EVERY_S:
            said_s = time.monotonic()
            console.print(line, markup=False, soft_wrap=True)

    yield say


if __name__ == "__main__":
    sys.exit(main())
