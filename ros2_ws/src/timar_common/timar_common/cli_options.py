"""Command line options: an old name of an option that is still accepted, with a warning."""

from __future__ import annotations

import argparse
import sys
from typing import Any


def add_deprecated_option(parser: argparse.ArgumentParser, old: str, new: str) -> None:
    """Accept an option under the name it had in an earlier release; it is left out of the help.

    Args:
        parser: Already has the new option.
        old: The old name, such as "--fleet-minutes".
        new: The new one, such as "--batch-minutes".
    """
    action = next(action for action in parser._actions if new in action.option_strings)

    class Deprecated(type(action)):  # type: ignore[misc]
        """The new option's action, which warns first."""

        def __call__(self, *arguments: Any, **options: Any) -> None:
            sys.stderr.write(f"{parser.prog}: {old} is deprecated and will be removed; use {new}\n")
            super().__call__(*arguments, **options)

    alias = Deprecated.__new__(Deprecated)
    alias.__dict__ |= {**vars(action), "option_strings": [old], "help": argparse.SUPPRESS}
    parser._add_action(alias)
