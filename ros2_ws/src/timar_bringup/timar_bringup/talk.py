"""`timar talk`: a head that one can talk with, by one command."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from timar_common.processes import stop_signals

from timar_bringup.composer import Composer, ros_environment
from timar_bringup.demo import has_screen, shown_line
from timar_bringup.files import with_urdf
from timar_bringup.graph import TALK_DEFAULTS, Plan, UsageError, plan, read_arguments
from timar_bringup.talk_status import TalkStatus

if TYPE_CHECKING:
    from timar_bringup.talk_node import TalkWatcher

READY_WITHIN_S = 180.0
"""A head that is not ready after so long says what it waits for [s]."""
_SHOWN_PROCESSES = ("view",)
"""Processes whose every line is shown: the page's address."""


def main(argv: list[str] | None = None) -> int:
    """Talk with the head: microphone, loudspeaker, words and a face in the browser."""
    console = Console(highlight=False)
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        typed = _parser().parse_args(sys.argv[1:] if argv is None else argv)
        if typed.forget:
            return forget(console)
        with contextlib.ExitStack() as ends:
            video: Path | None = None
            words = launch_arguments(typed)
            if typed.record is not None:
                from timar_report.video import check_video

                video = Path(typed.record).absolute()
                check_video(video)
                if not any(word.startswith("out:=") for word in words):
                    folder = ends.enter_context(tempfile.TemporaryDirectory(prefix="timar-talk-"))
                    words += [f"out:={folder}/talk"]
            graph = plan(with_urdf(read_arguments(words)))
            if graph.arguments["record"]:
                Path(str(graph.arguments["out"])).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            status = run(graph, typed.duration, console, video)
            return status if video is None else write_video(graph, video, console) or status
    except (UsageError, FileNotFoundError, ValueError) as error:
        errors.print(f"timar talk: {error}", markup=False)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="timar talk", description=main.__doc__)
    parser.add_argument(
        "--llm",
        metavar="URL",
        help="a server of OpenAI's chat completions (http://HOST/v1) or a "
        "realtime one (ws://HOST/v1/realtime) answers; its key: variable OPENAI_API_KEY",
    )
    parser.add_argument("--llm-model", metavar="NAME", default="", help="the server's model")
    parser.add_argument("--dialogue", default="", help="module:Class of yours that answers")
    parser.add_argument(
        "--voice", default="", help="auto, espeak, a Piper voice by path or name (de_DE-thorsten-medium)"
    )
    parser.add_argument(
        "--recogniser", default="", help="auto, none, or a Whisper model by path, size or name"
    )
    parser.add_argument("--language", default="", help="yours (default: en)")
    parser.add_argument(
        "--device", default="", help="microphone, by name or number; timar audio devices lists them"
    )
    parser.add_argument("--speaker", default="", help="loudspeaker, likewise")
    parser.add_argument(
        "--audio",
        choices=("device", "browser"),
        default="device",
        help="microphone and loudspeaker: this machine's, or those of the page that shows the head",
    )
    parser.add_argument("--mute", action="store_true", help="without the loudspeaker")
    parser.add_argument("--headless", action="store_true", help="without the browser view")
    parser.add_argument("--robot", default="", help="name of a shipped robot, or a robot YAML")
    parser.add_argument("--port", type=int, default=0, help="of the browser view (default: 8080)")
    parser.add_argument("--duration", type=float, default=0.0, metavar="S", help="end after so many seconds")
    parser.add_argument(
        "--record", metavar="FILE", help="make a video of the talk at its end: .mp4, .mkv or .webm"
    )
    parser.add_argument(
        "--forget", action="store_true", help="delete all that talks with record:=true have kept"
    )
    parser.add_argument("more", nargs="*", metavar="name:=value", help="further launch arguments")
    return parser


def launch_arguments(typed: argparse.Namespace) -> list[str]:
    """Return the launch arguments of what was typed; what was typed as one counts most.

    Raises:
        UsageError: Options contradict each other.
    """
    if typed.llm and typed.dialogue:
        raise UsageError("--llm and --dialogue are both given; leave one of them out")
    values: dict[str, object] = dict(TALK_DEFAULTS)
    if typed.llm:
        values["dialogue"] = "realtime" if typed.llm.startswith(("ws://", "wss://")) else "chat"
    if typed.audio == "browser":
        if typed.headless or typed.speaker or typed.device:
            raise UsageError("--audio browser is microphone and loudspeaker; leave the other option out")
        values |= {"source": "browser", "sink": "null" if typed.mute else "browser", "speaker": ""}
    elif typed.mute:
        values["speaker"] = ""
    if typed.headless:
        values["view"] = "false"
    values["open_browser"] = str(not typed.headless and has_screen()).lower()
    for name in (
        "llm",
        "llm_model",
        "dialogue",
        "voice",
        "recogniser",
        "language",
        "device",
        "speaker",
        "robot",
    ):
        if given := getattr(typed, name):
            values[name] = given
    if typed.port:
        values["view_port"] = typed.port
    for word in typed.more:
        name, separator, value = word.partition(":=")
        if not separator:
            raise UsageError(f"{word!r} is not of the form name:=value; timar run --help lists the arguments")
        values[name] = value
    if typed.record is not None:
        values["record"] = "true"
    elif values.get("record") == "true" and "out" not in values:
        values["out"] = kept_folder(os.environ) / time.strftime("%Y%m%d-%H%M%S")
    return [f"{name}:={value}" for name, value in values.items()]


def kept_folder(environment: Mapping[str, str]) -> Path:
    """Return where recorded talks are kept, unless they are told another folder."""
    base = environment.get("XDG_DATA_HOME") or Path(environment.get("HOME") or "/", ".local", "share")
    return Path(base, "timar", "talks")


def forget(console: Console) -> int:
    """Delete every recorded talk, and say how many there were."""
    folder = kept_folder(os.environ)
    talks = sorted(folder.iterdir()) if folder.is_dir() else []
    for talk in talks:
        shutil.rmtree(talk)
    said = f"{len(talks)} recorded talks were deleted" if talks else "no talk was recorded"
    console.print(f"{said} in {folder}; what was recorded with out:=FOLDER is there", markup=False)
    return 0


def write_video(graph: Plan, path: Path, console: Console) -> int:
    """Make the video of a recorded talk; return the exit status."""
    from timar_description import find_urdf
    from timar_report.video import save_video

    bag = Path(str(graph.arguments["out"]))
    console.print("Making the video ...", markup=False)
    try:
        seconds = save_video(bag, find_urdf(str(graph.arguments["urdf"])), path)
    except (FileNotFoundError, ValueError, RuntimeError) as error:
        console.print(f"no video was made: {error}", markup=False, soft_wrap=True)
        return 1
    console.print(f"{path}: {seconds:.0f} s with both voices", markup=False, soft_wrap=True)
    return 0


def privacy(graph: Plan, video: Path | None = None) -> str:
    """Say what is kept of what people say, and where it goes."""
    arguments = graph.arguments
    kept = "Nothing of what you say is kept."
    if video is not None:
        kept = f"Your voice is KEPT in the video {video}; rm {video} deletes it."
    elif arguments["record"]:
        out = Path(str(arguments["out"])).absolute()
        is_ours = kept_folder(os.environ) in out.parents
        delete = "timar talk --forget deletes it" if is_ours else f"rm -r {out} deletes it"
        kept = f"Your voice and words are KEPT in {out}; {delete}."
    if arguments["llm"]:
        what = "Your voice goes" if arguments["dialogue"] == "realtime" else "Your words go"
        kept += f" {what} to {arguments['llm']}."
    return kept


def chosen_source(environment: Mapping[str, str]) -> str:
    """Return the name of the sound server's microphone; empty when there is none to ask."""
    if name := environment.get("PULSE_SOURCE"):
        return name
    if shutil.which("pactl") is None:
        return ""
    try:
        done = subprocess.run(["pactl", "get-default-source"], capture_output=True, text=True, timeout=2.0)
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout.strip()


def talk_watcher(status: TalkStatus, namespace: str) -> TalkWatcher:
    """Return what follows the graph; it is imported while the graph's processes start."""
    from timar_bringup.talk_node import TalkWatcher

    return TalkWatcher(status, namespace)


def run(graph: Plan, duration_s: float, console: Console, video: Path | None = None) -> int:
    """Start the graph, show how it goes until it ends or is interrupted; return the exit status."""
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
    os.environ.update(ros_environment(os.environ))
    began_s = time.monotonic()
    wanted_end = threading.Event()
    status = TalkStatus()
    console.print(privacy(graph, video), markup=False, soft_wrap=True)
    if graph.arguments["source"] == "microphone" and str(graph.arguments["device"]) in (
        "",
        "pulse",
        "default",
    ):
        status.take_source(chosen_source(os.environ))

    failing: set[str] = set()

    def on_line(process: str, line: str) -> None:
        # Of a traceback the last line says what it was: the first that is not indented.
        is_last = process in failing and not line.startswith((" ", "Traceback"))
        if is_last:
            failing.discard(process)
        elif line.startswith("Traceback"):
            failing.add(process)
        is_bad = is_last or line.startswith(("ERROR", "FATAL"))
        is_bad |= process in ("composer", "dialogue") and line.startswith("WARN")
        if is_bad or process in _SHOWN_PROCESSES:
            console.print(f"[{process}] {line}", markup=False, soft_wrap=True)

    with (
        stop_signals(lambda _: wanted_end.set()),
        shown_line(console) as show,
        Composer(graph, on_line) as composer,
        talk_watcher(status, graph.namespace) as watcher,
    ):
        while True:
            watcher.watch(0.1)
            was_ready = status.is_ready
            for text in status.news():
                console.print(text, markup=False, soft_wrap=True)
            if status.is_ready and not was_ready:
                console.print(f"(ready after {time.monotonic() - began_s:.1f} s)", markup=False)
            show(status.line())
            if (ended := composer.poll()) is not None:
                console.print(ended.sentence(), markup=False)
                return 1
            if wanted_end.is_set():
                return 130
            elapsed_s = time.monotonic() - began_s
            if duration_s and elapsed_s > duration_s:
                return 0 if status.is_ready else 1
            waits_for_page = graph.arguments["source"] == "browser"  # For somebody who presses Start there.
            if not (status.is_ready or waits_for_page) and elapsed_s > READY_WITHIN_S:
                console.print(f"the head was not ready within {READY_WITHIN_S:.0f} s", markup=False)
                return 1


if __name__ == "__main__":
    sys.exit(main())
