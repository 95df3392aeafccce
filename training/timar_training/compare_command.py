"""The command `timar compare-models`: the paper's comparison, by a protocol that was written before it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

DEFAULT = Path(__file__).parent / "configs" / "comparison.yaml"


def main(argv: list[str]) -> int:
    """Train TIMAR, its ablations and a DualTalk-like network alike, and write the paper's table."""
    parser = argparse.ArgumentParser(prog="timar compare-models", description=main.__doc__)
    parser.add_argument(
        "config", type=Path, nargs="?", default=DEFAULT, help="YAML file (docs/comparison-protocol.md)"
    )
    parser.add_argument("--data", help="folder of dyads, instead of the file's")
    parser.add_argument("--out", help="folder of runs and result, instead of the file's")
    parser.add_argument(
        "--train-alone",
        nargs="+",
        metavar="SYSTEM",
        help="only train these tuned systems, in a second process beside the first",
    )
    parser.add_argument(
        "--smoke", action="store_true", help="a few steps, one seed and two short clips: does it run at all?"
    )
    arguments = parser.parse_args(argv)
    console = Console(stderr=True)
    from .evaluation.comparison import ComparisonConfig, compare_models, train_alone
    from .evaluation.comparison_report import table

    given = {name: value for name in ("data", "out") if (value := getattr(arguments, name)) is not None}

    def log(line: str) -> None:
        console.print(line, markup=False)

    try:
        config = ComparisonConfig.from_yaml(arguments.config, **given)
        config = config.smoke() if arguments.smoke else config
        if arguments.train_alone:
            train_alone(config, arguments.train_alone, log)
        else:
            sys.stdout.write(table(compare_models(config, log)))
    except (ValueError, OSError) as error:
        console.print(f"timar compare-models: {error}", style="red", markup=False)
        return 1
    return 0
