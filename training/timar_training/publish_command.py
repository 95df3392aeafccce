"""The command `timar publish`: from a finished run to a model folder that can be shipped."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from .sampling_options import add_sampling_options, sampling_of


def main(argv: list[str]) -> int:
    """Copy a trained model to where it is shipped, with its sampling defaults and its card."""
    parser = argparse.ArgumentParser(prog="timar publish", description=main.__doc__)
    parser.add_argument(
        "source",
        type=Path,
        nargs="+",
        help="the model folder that `timar train` left; of several, the mean of their weights is published",
    )
    parser.add_argument(
        "target", type=Path, help="where to, such as timar_model/timar_model/models/calm-head"
    )
    parser.add_argument("--card", type=Path, required=True, help="the model's card, Markdown")
    add_sampling_options(parser, "default of drawing motion: {}")
    arguments = parser.parse_args(argv)
    console = Console(stderr=True)
    # Only now, for `timar --help` loads every command, and torch takes seconds.
    from .publishing.publish import publish

    try:
        folder = publish(arguments.source, arguments.target, sampling_of(arguments), arguments.card)
    except (OSError, ValueError) as error:
        console.print(f"timar publish: {error}", style="red", markup=False)
        return 1
    console.print(f"{folder.path} holds the model {folder.sha256[:12]}", markup=False)
    return 0
