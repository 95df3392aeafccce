"""The command `timar summary`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from timar_bag.commands import add_bag

from timar_report.joints import limits_of
from timar_report.summary import FILE_NAME, PICTURE_NAME, summarize


def summary(argv: list[str]) -> int:
    """Sum a recorded conversation up: latencies, lost sound, joints, and a picture."""
    parser = argparse.ArgumentParser("timar summary", description=summary.__doc__)
    add_bag(parser)
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
