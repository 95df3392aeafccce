"""The command `timar data`: make synthetic dyads, and look a folder of dyads over."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from timar_common.clock import FRAMES_PER_SECOND
from timar_common.folder_lock import folder_lock

from .corpora.check import FolderReport, check_folder
from .corpora.dyads import BadClipError
from .corpora.index import CACHE_FOLDER, check_splits, index_corpus
from .synthesis.synthesize import CorpusConfig, synthesize


def main(argv: list[str]) -> int:
    """Make synthetic dyads, or check a folder of recorded ones."""
    parser = argparse.ArgumentParser(prog="timar data", description=main.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    check = commands.add_parser(
        "check", help="tell what is wrong with a folder, and print hours and statistics"
    )
    check.add_argument("folder", type=Path, help="holds NAME_speaker1.wav, NAME_speaker2.wav and their .npz")

    index = commands.add_parser("index", help="tell in seconds what a large folder holds, by headers alone")
    index.add_argument("folder", type=Path, help="as of check; its file lists are checked for leaks")

    defaults = CorpusConfig()
    make = commands.add_parser("synthesize", help="make SYNTHETIC conversations by stated rules")
    make.add_argument("folder", type=Path, help="where to write; must not hold a corpus yet")
    make.add_argument(
        "--hours", type=float, default=defaults.hours, help="of training conversations (%(default)s)"
    )
    make.add_argument(
        "--clip-s", type=float, default=defaults.clip_s, help="length of each, seconds (%(default)s)"
    )
    make.add_argument(
        "--held-out", type=int, default=defaults.held_out, help="clips per other split (%(default)s)"
    )
    make.add_argument(
        "--seed", type=int, default=defaults.seed, help="everything follows from it (%(default)s)"
    )
    make.add_argument("--processes", type=int, default=None, help="how many work at once (one per core)")

    arguments = parser.parse_args(argv)
    console = Console(stderr=True)
    try:
        if arguments.command == "check":
            return _check(arguments.folder, console)
        if arguments.command == "index":
            return _index(arguments.folder)
        return _synthesize(arguments, console)
    except (BadClipError, FileExistsError, RuntimeError, ValueError) as error:
        console.print(f"timar data {arguments.command}: {error}", style="red", markup=False)
        return 1


def _check(folder: Path, console: Console) -> int:
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("reading")
        report = check_folder(folder, lambda done, total: progress.update(task, completed=done, total=total))
    _print_report(report, Console(file=sys.stdout))
    return 1 if report.has_errors else 0


def _index(folder: Path) -> int:
    index = index_corpus(folder, folder / CACHE_FOLDER)
    sides = {"speaker 1": "user", "speaker 2": "agent"}
    hours = {
        label: sum(getattr(clip, side).motion_frames for clip in index.clips.values())
        / FRAMES_PER_SECOND
        / 3600
        for label, side in sides.items()
    }
    motion = ", ".join(f"of {label} {value:.2f} h" for label, value in hours.items())
    lists = {split: len(clips) for split, clips in check_splits(folder).items()}
    found = ", ".join(f"{split} {count}" for split, count in lists.items()) or "none"
    sys.stdout.write(
        f"{len(index.clips)} clips, {index.hours:.2f} h of dyads; motion {motion}; "
        f"lists without leaks: {found}\n"
    )
    return 0


def _print_report(report: FolderReport, console: Console) -> None:
    for finding in report.findings:
        style = "red" if finding.severity == "error" else "yellow"
        console.print(f"{finding.severity}: {finding.clip}: {finding.message}", style=style, markup=False)
    console.print(
        f"{report.clips} clips, {report.hours:.2f} h of dyads; motion of speaker 1: "
        f"{report.hours_of_motion[1]:.2f} h, of speaker 2: {report.hours_of_motion[2]:.2f} h; "
        f"{len(report.findings)} findings"
    )
    if report.statistics:
        table = Table("signal", "mean [rad]", "spread within a clip [rad]", "speed, std [rad/s]")
        for name, row in report.statistics.items():
            table.add_row(name, *(f"{row[key]:.4f}" for key in ("mean_rad", "std_rad", "speed_std_rad_s")))
        console.print(table)


def _synthesize(arguments: argparse.Namespace, console: Console) -> int:
    config = CorpusConfig(arguments.hours, arguments.clip_s, arguments.held_out, arguments.seed)
    with folder_lock(arguments.folder), Progress(console=console, transient=True) as progress:
        task = progress.add_task("conversing")
        synthesize(
            arguments.folder,
            config,
            processes=arguments.processes,
            say=lambda message: console.print(message, style="yellow", markup=False),
            advance=lambda done, total: progress.update(task, completed=done, total=total),
        )
    console.print(
        f"{sum(config.counts().values())} SYNTHETIC conversations in {arguments.folder}", markup=False
    )
    return 0
