"""Command line options of drawing motion, shared by the commands that draw."""

from __future__ import annotations

import argparse
from typing import Any

SAMPLING_OPTIONS = {"steps": int, "temperature": float, "guidance": float, "noise_correlation_s": float}


def add_sampling_options(parser: argparse.ArgumentParser, text: str) -> None:
    """Add an option for each number that decides how motion is drawn.

    Args:
        parser: Gets them.
        text: Help, with {} for the option's name.
    """
    for name, kind in SAMPLING_OPTIONS.items():
        help_text = text.format(name.replace("_", " "))
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=None, help=help_text)


def sampling_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options that were given."""
    return {name: value for name in SAMPLING_OPTIONS if (value := getattr(arguments, name)) is not None}
