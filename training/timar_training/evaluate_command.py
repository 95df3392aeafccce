"""The command `timar evaluate`: how plausible a model's or a baseline's motion is on a folder of dyads."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from .corpora import dyads
from .corpora.index import check_splits

SAMPLING_OPTIONS = {"steps": int, "temperature": float, "guidance": float, "noise_correlation_s": float}


def main(argv: list[str]) -> int:
    """Score a model's motion on a folder of dyads, turn by turn as the live head runs it."""
    arguments = _parser().parse_args(argv)
    console = Console(stderr=True)
    try:
        result = _evaluate(arguments, console)
    except (OSError, ValueError) as error:
        console.print(f"timar evaluate: {error}", style="red", markup=False)
        return 1
    from .evaluation.report import head_table, label_of, paper_table, write_report

    if arguments.out:
        write_report(arguments.out, result)
        console.print(f"results.json, table.md and plots are in {arguments.out}", markup=False)
    rows = [(label_of(setting), setting["mean"]) for setting in result["settings"]]
    sys.stdout.write(f"{result['clips']} clips, {result['data_kind']}, as shown\n\n")
    sys.stdout.write(f"{paper_table(rows)}\n{head_table(rows)}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="timar evaluate", description=main.__doc__)
    parser.add_argument(
        "model",
        help="a model folder, a shipped name (talking-head), mean-pose, nearest-clip or energy-rule",
    )
    parser.add_argument("data", type=Path, help="folder of dyads (docs/training.md)")
    parser.add_argument(
        "--split", default=None, help="file list of the folder, such as test; without it, all clips"
    )
    parser.add_argument("--clips", type=int, default=None, help="only so many clips")
    parser.add_argument("--seconds", type=float, default=None, help="only so much of each clip")
    parser.add_argument(
        "--history",
        type=int,
        nargs="*",
        default=None,
        metavar="TURNS",
        help="turns seen before the newest, once each, such as 0 1 3 7; without it, the model's whole window",
    )
    parser.add_argument(
        "--turn-frames",
        type=int,
        nargs="*",
        default=None,
        metavar="FRAMES",
        help="lengths of turns, once each, such as 5 10 25; without it, the model's own",
    )
    parser.add_argument(
        "--user",
        choices=("seen", "unseen"),
        nargs="+",
        default=["seen"],
        help="whether the user's motion is given",
    )
    parser.add_argument(
        "--samples", type=int, default=1, help="motions drawn per clip for the energy score (%(default)s)"
    )
    parser.add_argument(
        "--turned",
        action="store_true",
        help="generate again with the user's voice turned around: is it heard?",
    )
    parser.add_argument(
        "--robustness", action="store_true", help="curves over bursts of noise, silence and dropped motion"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the noise (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of the arithmetic (%(default)s)")
    parser.add_argument("--out", type=Path, default=None, help="folder for results.json, table.md and plots")
    for name, kind in SAMPLING_OPTIONS.items():
        help_text = f"sampling: {name.replace('_', ' ')} (the model's own)"
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=None, help=help_text)
    return parser


def _evaluate(arguments: argparse.Namespace, console: Console) -> dict[str, Any]:
    # Only now, for `timar --help` loads every command, and scoring takes seconds to import.
    from .evaluation.robustness import robustness_curves
    from .evaluation.scoring import EvaluationConfig, evaluate
    from .prediction.predictors import open_predictors

    sampling = {name: value for name in SAMPLING_OPTIONS if (value := getattr(arguments, name)) is not None}
    histories = arguments.history or (None,)
    predictors = open_predictors(
        arguments.model,
        arguments.data,
        histories,
        arguments.threads,
        sampling,
        arguments.turn_frames or (None,),
    )
    clips = (
        check_splits(arguments.data).get(arguments.split) or dyads.read_split(arguments.data, arguments.split)
        if arguments.split
        else dyads.find_clips(arguments.data)
    )[: arguments.clips]
    result: dict[str, Any] = {
        "data": arguments.data.name,
        "data_kind": data_kind(arguments.data),
        "split": arguments.split,
        "clips": len(clips),
        "sampling": sampling,
        "settings": [],
    }
    with Progress(console=console, transient=True) as progress:
        for history, predictor in predictors:
            for user in arguments.user:
                task = progress.add_task(f"{predictor.name}, history {history}, user {user}")
                config = EvaluationConfig(arguments.seed, user == "seen", arguments.samples, arguments.turned)
                found = evaluate(
                    predictor,
                    clips,
                    config,
                    lambda done, total, bar=task: progress.update(  # type: ignore[misc]
                        bar, completed=done, total=total
                    ),
                    seconds=arguments.seconds,
                )
                setting = {"history_turns": history, "turn_frames": predictor.turn_frames}
                setting |= {"is_user_seen": user == "seen", **found}
                result["settings"].append(setting)
        if arguments.robustness:
            task = progress.add_task("robustness")
            result["robustness"] = robustness_curves(
                predictors[-1][1],
                clips,
                EvaluationConfig(arguments.seed),
                seconds=arguments.seconds,
                advance=lambda done, total: progress.update(task, completed=done, total=total),
            )
    return result


def data_kind(folder: Path) -> str:
    """Return what a folder of dyads calls itself: SYNTHETIC by its manifest, else recorded."""
    manifest = folder / "manifest.json"
    return (
        str(json.loads(manifest.read_text(encoding="utf-8")).get("kind", "recorded"))
        if manifest.is_file()
        else "recorded"
    )
