"""The command `timar data`: synthesize dyads, and check or index a folder of dyads."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table
from timar_common.atomic import write_json, write_text
from timar_common.clock import FRAMES_PER_SECOND
from timar_common.config import describe
from timar_common.folder_lock import folder_lock
from timar_common.motion_file import write_motion
from timar_common.progress import progress_bars
from timar_common.user_motion import PARTS
from timar_perception.config import PerceptionConfig

from .corpora.ami import read_meetings
from .corpora.capture_readers import READERS, convert_seamless, read_capture
from .corpora.check import check_folder
from .corpora.dyads import SPEAKERS, Clip
from .corpora.gaze_policy import fit_gaze
from .corpora.head_capture import fit_kinematics
from .corpora.index import CACHE_FOLDER, index_corpus
from .corpora.repair import repair_folder
from .corpora.splits import check_splits
from .synthesis.annotated_corpus import AnnotatedCorpusConfig, make_corpus
from .synthesis.synthesize import CorpusConfig, synthesize

STYLES = {"error": "red", "warning": "yellow"}


def main(argv: list[str]) -> int:
    """Make dyads, check a folder of them, or fit how heads move."""
    parser = argparse.ArgumentParser(prog="timar data", description=main.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    check = commands.add_parser(
        "check",
        help="report what is wrong with a folder, and print hours and statistics",
        epilog="Exit status: 0 nothing found, 1 a clip cannot be used as it is, 3 warnings alone.",
    )
    check.add_argument("folder", type=Path, help="holds NAME_speaker1.wav, NAME_speaker2.wav and their .npz")
    check.add_argument("--json", type=Path, metavar="FILE", help="write everything found as JSON")
    check.add_argument(
        "--fix", type=Path, metavar="NEW",
        help="write the clips to a new folder, with all converted that has one meaning: rate, degrees, "
        "quaternions, gaps, 100 coefficients, two voices in one file",
    )  # fmt: skip
    check.set_defaults(run=_check)

    index = commands.add_parser("index", help="report in seconds what a large folder holds, by headers alone")
    index.add_argument("folder", type=Path, help="as of check; its file lists are checked for leaks")
    index.set_defaults(run=_index)

    convert = commands.add_parser(
        "convert",
        help="convert motion of Seamless Interaction, Learning to Listen, ViCo, Live Link Face or BVH",
    )
    convert.add_argument(
        "source", type=Path, help="a motion file, or a folder of Seamless Interaction, read with its voices"
    )
    convert.add_argument("target", type=Path, help="NAME_speakerN.npz, or the folder of dyads to write")
    convert.add_argument("--format", choices=sorted(READERS), default="", help="by default by the ending")
    convert.set_defaults(run=_convert)

    video = commands.add_parser(
        "from-video",
        help="make a dyad of your own recording: faces and voices of two people",
        epilog="Two videos start at the same instant, one person in each. One video shows a person in its "
        "left and one in its right half, and has a voice in each of two channels.",
    )
    video.add_argument("files", type=Path, nargs="+", metavar="FILE", help="one video, or one a person")
    video.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="of dyads, to add to")
    video.add_argument("--name", default="", help="of the clip (that of the first file)")
    described = describe(PerceptionConfig)
    for name in ("field_of_view_deg", "expression_map"):
        default, flag = getattr(PerceptionConfig(), name), f"--{name.replace('_', '-')}"
        video.add_argument(flag, type=type(default), default=default, help=described[name].text())
    video.set_defaults(run=_from_video)

    make = commands.add_parser("synthesize", help="make SYNTHETIC conversations by stated rules")
    make.add_argument("folder", type=Path, help="where to write; must not hold a corpus yet")
    for name, kind, text in (
        ("hours", float, "of training conversations"),
        ("clip_s", float, "length of each [s]"),
        ("held_out", int, "clips per other split"),
        ("seed", int, "everything follows from it"),
    ):
        default, flag = getattr(CorpusConfig(), name), f"--{name.replace('_', '-')}"
        make.add_argument(flag, type=kind, default=default, help=f"{text} (%(default)s)")
    text = "the agent makes no nod, beat or look away: what lies under the gestures that a running head draws"
    make.add_argument("--without-gestures", action="store_true", help=text)
    make.add_argument("--processes", type=int, default=None, help="how many work at once (one per core)")
    make.set_defaults(run=_synthesize)

    ami = commands.add_parser(
        "from-ami", help="make dyads of AMI's annotated meetings, with synthetic voices"
    )
    ami.add_argument("archive", type=Path, help="AMI's manual annotations, zip or folder, any meetings")
    ami.add_argument("folder", type=Path, help="where to write; a killed run is gone on with")
    for name, kind, text in (
        ("clip_s", float, "length of a clip [s]"),
        ("hours", float, "of clips at most, 0 for all [h]"),
        ("seed", int, "of voices, rooms and posture"),
    ):
        default, flag = getattr(AnnotatedCorpusConfig(), name), f"--{name.replace('_', '-')}"
        ami.add_argument(flag, type=kind, default=default, help=f"{text} (%(default)s)")
    ami.add_argument("--without-gestures", action="store_true", help=text)
    ami.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, help="on this machine (%(default)s)"
    )
    ami.add_argument("--dask", default="", metavar="ADDRESS", help="a Dask scheduler instead of processes")
    ami.set_defaults(run=_from_ami)

    fit = commands.add_parser("kinematics", help="fit strokes and posture to motion capture of heads")
    fit.add_argument(
        "capture", type=Path, help="npz of angles_deg (people, frames, roll pitch yaw) and rate_hz"
    )
    fit.add_argument("file", type=Path, help="YAML to write")
    fit.set_defaults(run=_kinematics)

    gaze = commands.add_parser(
        "gaze", help="fit when gaze turns away from a partner and back to AMI's targets"
    )
    gaze.add_argument("archive", type=Path, help="AMI's manual annotations, zip or folder, any meetings")
    gaze.add_argument("file", type=Path, help="YAML to write")
    gaze.set_defaults(run=_gaze)

    arguments = parser.parse_args(argv)
    console = Console(stderr=True)
    try:
        return int(arguments.run(arguments, console))
    except (OSError, RuntimeError, ValueError) as error:
        console.print(f"timar data {arguments.command}: {error}", style="red", markup=False)
        return 1


def _check(arguments: argparse.Namespace, console: Console) -> int:
    with progress_bars(console) as bars:
        report = check_folder(arguments.folder, bars.add("reading"))
    output = Console(file=sys.stdout)
    for finding in report.findings:
        text = f"{finding.severity}: {finding.clip}: {finding.message}"
        output.print(text, style=STYLES[finding.severity], markup=False)
    fixable = sum(finding.is_fixable for finding in report.findings)
    output.print(
        f"{len(report.clips)} clips, {report.hours:.2f} h of dyads; motion of speaker 1: "
        f"{report.hours_of_motion[1]:.2f} h, of speaker 2: {report.hours_of_motion[2]:.2f} h; "
        f"{len(report.findings)} findings" + (f", {fixable} of which --fix converts" if fixable else "")
    )
    if report.statistics:
        table = Table("signal", "mean [rad]", "spread within a clip [rad]", "speed, std [rad/s]")
        for name, row in report.statistics.items():
            table.add_row(name, *(f"{row[key]:.4f}" for key in ("mean_rad", "std_rad", "speed_std_rad_s")))
        output.print(table)
    if arguments.json is not None:
        write_json(arguments.json, report.to_json())
    if arguments.fix is None:
        return report.exit_status
    with folder_lock(arguments.fix), progress_bars(console) as bars:
        count = repair_folder(
            arguments.folder,
            arguments.fix,
            report.clips,
            lambda message: console.print(message, style="yellow", markup=False),
            bars.add("writing"),
        )
    output.print(f"{count} of {len(report.clips)} clips in {arguments.fix}", markup=False)
    return 0 if count == len(report.clips) else 1


def _convert(arguments: argparse.Namespace, console: Console) -> int:
    source, target = arguments.source, arguments.target
    if source.is_dir():
        with folder_lock(target), progress_bars(console) as bars:
            count = convert_seamless(
                source,
                target,
                lambda message: console.print(message, style="yellow", markup=False),
                bars.add("conversations"),
            )
        console.print(f"{count} conversations in {target}", markup=False)
        return 0 if count else 1
    if target.suffix != ".npz":
        raise ValueError(f"{target} is no motion file; give a name that ends in .npz")
    recorded = read_capture(source, arguments.format)
    track = recorded.at_frame_rate()
    write_motion(target, track)
    seen = ", ".join(
        f"{part} {share:.0%}" for part, share in zip(PARTS, track.valid.mean(axis=0), strict=True)
    )
    console.print(
        f"{len(track.vector)} frames from {recorded.rate_hz:.5g} a second; seen: {seen}", markup=False
    )
    return 0


def _index(arguments: argparse.Namespace, console: Console) -> int:
    folder = arguments.folder
    index = index_corpus(folder, folder / CACHE_FOLDER)
    frames = {
        speaker: sum(getattr(clip, side).motion_frames for clip in index.clips.values())
        for side, speaker in SPEAKERS.items()
    }
    hours = {speaker: count / FRAMES_PER_SECOND / 3600 for speaker, count in frames.items()}
    motion = ", ".join(f"of speaker {speaker} {value:.2f} h" for speaker, value in hours.items())
    found = ", ".join(f"{split} {len(clips)}" for split, clips in check_splits(folder).items()) or "none"
    sys.stdout.write(
        f"{len(index.clips)} clips, {index.hours:.2f} h of dyads; motion {motion}; "
        f"lists without leaks: {found}\n"
    )
    return 0


def _from_video(arguments: argparse.Namespace, console: Console) -> int:
    # Only here: it needs OpenCV, which comes with face tracking.
    from .corpora.from_video import convert_video

    config = PerceptionConfig(
        field_of_view_deg=arguments.field_of_view_deg, expression_map=arguments.expression_map
    )
    clip = Clip(arguments.name or arguments.files[0].stem, arguments.out)
    with progress_bars(console) as bars:
        seconds = convert_video(
            arguments.files,
            clip,
            config,
            lambda message: console.print(message, style="yellow", markup=False),
            bars.add,
        )
    console.print(
        f"{seconds:.1f} s of {clip.name} in {clip.folder}; look at it by: timar data check {clip.folder}",
        markup=False,
    )
    return 0


def _from_ami(arguments: argparse.Namespace, console: Console) -> int:
    has_gestures = not arguments.without_gestures
    config = AnnotatedCorpusConfig(arguments.clip_s, arguments.hours, arguments.seed, has_gestures)
    with folder_lock(arguments.folder), progress_bars(console) as bars:
        count = make_corpus(
            arguments.archive,
            arguments.folder,
            config,
            workers=arguments.processes,
            cluster=arguments.dask,
            log=lambda message: console.print(message, style="yellow", markup=False),
            advance=bars.add("clips"),
        )
    console.print(f"{count} clips in {arguments.folder}: genuine timing, SYNTHETIC voices", markup=False)
    return 0


def _kinematics(arguments: argparse.Namespace, console: Console) -> int:
    text = yaml.safe_dump(
        fit_kinematics(arguments.capture), sort_keys=False, default_flow_style=None, width=110
    )
    write_text(arguments.file, f"# Written by: timar data kinematics {arguments.capture.name} FILE\n{text}")
    console.print(f"strokes and posture in {arguments.file}", markup=False)
    return 0


def _gaze(arguments: argparse.Namespace, console: Console) -> int:
    meetings = read_meetings(
        arguments.archive, lambda message: console.print(message, style="yellow", markup=False)
    )
    text = yaml.safe_dump(fit_gaze(meetings), sort_keys=False)
    about = (
        "# When gaze turns away from a partner and back; written by: "
        f"timar data gaze {arguments.archive.name} FILE\n"
        "# AMI Meeting Corpus, the AMI Consortium, https://groups.inf.ed.ac.uk/ami, CC BY 4.0.\n"
    )
    write_text(arguments.file, about + text)
    console.print(f"gaze policy in {arguments.file}", markup=False)
    return 0


def _synthesize(arguments: argparse.Namespace, console: Console) -> int:
    config = CorpusConfig(
        arguments.hours,
        arguments.clip_s,
        arguments.held_out,
        arguments.seed,
        has_gestures=not arguments.without_gestures,
    )
    with folder_lock(arguments.folder), progress_bars(console) as bars:
        synthesize(
            arguments.folder,
            config,
            processes=arguments.processes,
            log=lambda message: console.print(message, style="yellow", markup=False),
            advance=bars.add("conversations"),
        )
    count = sum(config.counts().values())
    console.print(f"{count} SYNTHETIC conversations in {arguments.folder}", markup=False)
    return 0
