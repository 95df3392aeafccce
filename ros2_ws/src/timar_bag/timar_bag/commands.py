"""The command `timar bag`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from timar_description import find_urdf

from timar_bag.check import BagReport, check_bag
from timar_bag.layout import layout_of_bag, write_layout
from timar_bag.make_command import add_makers


def bag(argv: list[str]) -> int:
    """Look after bags: check one, lay it out for Foxglove, make one from sound files, make training data."""
    parser = argparse.ArgumentParser("timar bag", description=bag.__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    add_makers(actions)
    check = actions.add_parser(
        "check",
        help="topics, counts, gaps on the sample clock, stamps, rates; status 1 when something is wrong",
    )
    add_bag(check)
    check.set_defaults(run=_check)
    layout = actions.add_parser("layout", help="a layout for Foxglove that fits the robot of a bag")
    add_bag(layout)
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


def add_bag(parser: argparse.ArgumentParser) -> None:
    """Add the arguments by which every command takes a bag."""
    parser.add_argument("bag", type=Path, help="rosbag2 folder, .mcap or .db3 file")
    parser.add_argument("--namespace", help="the robot's namespace, when the bag holds several robots")


def _table(report: BagReport) -> str:
    width = max(len(topic.name) for topic in report.topics)
    lines = [f"namespace {report.namespace or '/'}"]
    for topic in report.topics:
        rate = f"{topic.rate_hz:8.1f} Hz" if topic.rate_hz is not None else " " * 11
        lines.append(f"{topic.name:<{width}} {topic.messages:>8} {rate}  {topic.type_name}")
    lines += [f"wrong: {problem}" for problem in report.problems] or ["nothing wrong"]
    return "\n".join(lines) + "\n"
