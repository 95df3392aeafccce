"""The command `timar evaluate`: how plausible a model's motion is on a folder of dyads."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from timar_model.loading import load_model

from . import dyads
from .evaluation import EvaluationConfig, evaluate

SAMPLING_OPTIONS = {"steps": int, "temperature": float, "guidance": float, "noise_correlation_s": float}


def main(argv: list[str]) -> int:
    """Score a model's motion on a folder of dyads, turn by turn as the live head runs it."""
    parser = argparse.ArgumentParser(prog="timar evaluate", description=main.__doc__)
    parser.add_argument("model", help='a model folder, or the name of a shipped one ("talking-head")')
    parser.add_argument("data", type=Path, help="folder of dyads (docs/training.md)")
    parser.add_argument(
        "--split", default=None, help="file list of the folder, such as test; without it, all clips"
    )
    parser.add_argument("--clips", type=int, default=None, help="only so many clips")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (%(default)s)")
    parser.add_argument("--unseen", action="store_true", help="the model does not get the user's motion")
    parser.add_argument("--threads", type=int, default=1, help="of the arithmetic (%(default)s)")
    parser.add_argument("--out", type=Path, default=None, help="write everything as JSON")
    for name, kind in SAMPLING_OPTIONS.items():
        help_text = f"sampling: {name.replace('_', ' ')} (the model's own)"
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=None, help=help_text)
    arguments = parser.parse_args(argv)
    console = Console(stderr=True)
    sampling = {name: value for name in SAMPLING_OPTIONS if (value := getattr(arguments, name)) is not None}
    config = EvaluationConfig(arguments.seed, not arguments.unseen, sampling, arguments.threads)
    try:
        model = load_model(arguments.model)
        clips = (
            dyads.read_split(arguments.data, arguments.split)
            if arguments.split
            else dyads.find_clips(arguments.data)
        )
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("generating")
            result = evaluate(
                model,
                clips[: arguments.clips],
                config,
                lambda done, total: progress.update(task, completed=done, total=total),
            )
    except (OSError, ValueError) as error:
        console.print(f"timar evaluate: {error}", style="red", markup=False)
        return 1
    result["data_kind"] = data_kind(arguments.data)
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    table = Table("score", f"mean of {len(result['clips'])} clips ({result['data_kind']})")
    for name, value in result["mean"].items():
        table.add_row(name, f"{value:.3f}")
    Console(file=sys.stdout).print(table)
    return 0


def data_kind(folder: Path) -> str:
    """Return what a folder of dyads calls itself: SYNTHETIC by its manifest, else recorded."""
    manifest = folder / "manifest.json"
    return (
        str(json.loads(manifest.read_text(encoding="utf-8")).get("kind", "recorded"))
        if manifest.is_file()
        else "recorded"
    )
