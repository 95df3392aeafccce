"""The command `timar summary`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from timar_bag.commands import add_bag

from timar_report.joints import limits_of
from timar_report.overview import overview_text
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
            arguments.bag, out, limits=limits_of(arguments.robot), namespace=arguments.namespace,
            title=arguments.title, has_picture=not arguments.no_picture,
        )  # fmt: skip
    except (ValueError, OSError) as error:
        sys.stderr.write(f"timar summary: {error}\n")
        return 1
    sys.stdout.write(overview_text(numbers) + f"written to {out}\n")
    return 0
