"""The command `timar compare-models`: the paper's comparison, by a protocol that was written before it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

DEFAULT = Path(__file__).parent / "configs" / "comparison.yaml"


def main(argv: list[str]) -> int:
    """Train TIMAR, its ablations and a DualTalk-like network alike, and write the paper's table."""
    parser = argparse.ArgumentParser(prog="timar compare-models", description=main.__doc__)
    parser.add_argument(
        "config", type=Path, nargs="?", default=DEFAULT, help="YAML file (docs/comparison-protocol.md)"
    )
    parser.add_argument("--data", default=None, help="folder of dyads, instead of the file's")
    parser.add_argument("--out", default=None, help="folder of runs and result, instead of the file's")
    parser.add_argument(
        "--train-alone",
        nargs="+",
        default=None,
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

    changes: dict[str, Any] = {
        name: value for name in ("data", "out") if (value := getattr(arguments, name)) is not None
    }
    try:
        config = ComparisonConfig.from_yaml(arguments.config, **changes)
        if arguments.smoke:
            config = smoke(config)
        if arguments.train_alone:
            train_alone(config, arguments.train_alone, lambda line: console.print(line, markup=False))
            return 0
        result = compare_models(config, lambda line: console.print(line, markup=False))
    except (ValueError, OSError) as error:
        console.print(f"timar compare-models: {error}", style="red", markup=False)
        return 1
    sys.stdout.write(table(result))
    return 0


def smoke(config: Any) -> Any:
    """Return a comparison that only shows that everything runs; its numbers mean nothing."""
    import dataclasses

    shared = {**config.shared, "steps": 4, "warmup_steps": 1, "batch": 4, "validation_batches": 1}
    shared |= {"validate_every": 4, "checkpoint_every": 4}
    return dataclasses.replace(
        config,
        out=str(Path(config.out) / "smoke"),
        shared=shared,
        seeds=config.seeds[:1],
        learning_rates=config.learning_rates[:1],
        clips=2,
        seconds=6.0,
    )
