"""The commands `timar summary` and `timar bag`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from timar_description import find_urdf

from timar_replay.check import BagReport, check_bag
from timar_replay.joints import limits_of
from timar_replay.layout import layout_of_bag, write_layout
from timar_replay.make_command import add_makers
from timar_replay.summary import FILE_NAME, PICTURE_NAME, summarize


def summary(argv: list[str]) -> int:
    """Sum a recorded conversation up: latencies, lost sound, joints, and a picture."""
    parser = argparse.ArgumentParser("timar summary", description=summary.__doc__)
    _add_bag(parser)
    parser.add_argument(
        "--out", type=Path, help=f"folder for {FILE_NAME} and {PICTURE_NAME} (default: beside the bag)"
    )
    parser.add_argument(
        "--robot", default="timar_head", help="whose limits count: a name or a YAML (default: %(default)s)"
    )
    parser.add_argument("--title", default="", help="what was run, for the picture")
    parser.add_argument("--no-picture", action="store_true", help=f"write {FILE_NAME} only")
    arguments = parser.parse_args(argv)
    out = arguments.out or arguments.bag.absolute().parent
    try:
        numbers = summarize(
            arguments.bag,
            out,
            limits=limits_of(arguments.robot),
            namespace=arguments.namespace,
            title=arguments.title,
            has_picture=not arguments.no_picture,
        )
    except (ValueError, OSError) as error:
        sys.stderr.write(f"timar summary: {error}\n")
        return 1
    sys.stdout.write(_overview(numbers) + f"written to {out}\n")
    return 0


def bag(argv: list[str]) -> int:
    """Look after bags: check one, lay it out for Foxglove, make one from sound files, make training data."""
    parser = argparse.ArgumentParser("timar bag", description=bag.__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    add_makers(actions)
    check = actions.add_parser(
        "check",
        help="topics, counts, gaps on the sample clock, stamps, rates; status 1 when something is wrong",
    )
    _add_bag(check)
    check.set_defaults(run=_check)
    layout = actions.add_parser("layout", help="a layout for Foxglove that fits the robot of a bag")
    _add_bag(layout)
    layout.add_argument("out", type=Path, help="the JSON file; import it in Foxglove")
    layout.add_argument("--urdf", help="show this robot moving: a name such as timar_head, or a URDF file")
    layout.set_defaults(run=_layout)
    arguments = parser.parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except (ValueError, OSError) as error:
        sys.stderr.write(f"timar bag {arguments.action}: {error}\n")
        return 1


def _check(arguments: argparse.Namespace) -> int:
    report = check_bag(arguments.bag, arguments.namespace)
    sys.stdout.write(_table(report))
    return 1 if report.problems else 0


def _layout(arguments: argparse.Namespace) -> int:
    urdf = find_urdf(arguments.urdf) if arguments.urdf else None
    write_layout(arguments.out, layout_of_bag(arguments.bag, urdf, arguments.namespace))
    sys.stdout.write(f"written to {arguments.out}\n")
    return 0


def _add_bag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bag", type=Path, help="rosbag2 folder, .mcap or .db3 file")
    parser.add_argument("--namespace", help="the robot's namespace, when the bag holds several robots")


def _overview(numbers: dict[str, Any]) -> str:
    latency, extra = numbers["latency_ms"], numbers["extra"]
    to_joint = _milliseconds(latency["microphone_to_joint"])
    correlation = _number(numbers["correlation"]["jaw_agent_level"], 2)
    lines = [
        ("turns", f"{numbers['turns']}, {numbers['late_turns']} late, {extra['unsampled_turns']} unsampled"),
        ("sound", f"{numbers['duration_s']:.1f} s, {numbers['audio']['samples_lost']} samples lost"),
        ("compute", _milliseconds(latency["compute"])),
        ("microphone to joint", f"{to_joint} (floor {_number(latency['floor'])} ms)"),
        ("jaw and voice", f"correlation {correlation}, lag {_number(extra['jaw_lag_ms'])} ms"),
        ("limit hits", str(sum(joint["limit_hits"] or 0 for joint in numbers["joints"].values()))),
    ]
    lines += [("missing", loss) for loss in extra["losses"]]
    return "".join(f"{name:<20} {value}\n" for name, value in lines)


def _milliseconds(values: dict[str, float | None]) -> str:
    return ", ".join(f"{name} {_number(value)} ms" for name, value in values.items())


def _number(value: float | None, digits: int = 0) -> str:
    return "unknown" if value is None else f"{value:.{digits}f}"


def _table(report: BagReport) -> str:
    width = max(len(topic.name) for topic in report.topics)
    lines = [f"namespace {report.namespace or '/'}"]
    for topic in report.topics:
        rate = f"{topic.rate_hz:8.1f} Hz" if topic.rate_hz is not None else " " * 11
        lines.append(f"{topic.name:<{width}} {topic.messages:>8} {rate}  {topic.type_name}")
    lines += [f"wrong: {problem}" for problem in report.problems] or ["nothing wrong"]
    return "\n".join(lines) + "\n"
