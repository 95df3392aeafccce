"""The command `timar evaluate`: how plausible a model's or a baseline's motion is on a folder of dyads."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from timar_common.cli_options import add_deprecated_option
from timar_common.progress import progress_bars

from .corpora.dyads import find_clips, read_split
from .corpora.splits import check_splits, data_kind
from .sampling_options import add_sampling_options, sampling_of


def main(argv: list[str]) -> int:
    """Score a model's motion on a folder of dyads, turn by turn as the live head runs it."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if (arguments.data is None) == (arguments.events is None):
        parser.error("give a folder of dyads after the model, or --events ARCHIVE")
    console = Console(stderr=True)
    try:
        if arguments.events is not None:
            return _judge_events(arguments, console)
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
    add = parser.add_argument
    add("model", help="a model folder, a shipped name (calm-head), mean-pose, nearest-clip or energy-rule")
    add("data", type=Path, nargs="?", help="folder of dyads (docs/training.md)")
    text = (
        "judge gestures by AMI's manual annotations, zip or folder, or by a folder of dyads; the model may "
        "be gesture weights"
    )
    add("--events", type=Path, metavar="ARCHIVE", help=text)
    text = "gesture weights of --events in place of the model's own, such as folds of timar train-gestures"
    add("--gestures", default="", metavar="WEIGHTS", help=text)
    add("--json", type=Path, metavar="FILE", help="every figure of --events")
    text = "how far the newest known frame of the user stands behind, of --events [frames] (%(default)s)"
    add("--lag-frames", type=int, default=4, metavar="FRAMES", help=text)
    add("--split", help="file list of the folder, such as test; without it, all clips")
    add("--clips", type=int, help="only so many clips")
    add("--seconds", type=float, help="only so much of each clip")
    many: dict[str, Any] = {"type": int, "nargs": "*", "default": []}
    text = "turns seen before the newest, once each, such as 0 1 3 7; without it, the model's whole window"
    add("--history", metavar="TURNS", help=text, **many)
    text = "lengths of turns, once each, such as 5 10 25; without it, the model's own"
    add("--turn-frames", metavar="FRAMES", help=text, **many)
    text = "whether the user's motion is given"
    add("--user", choices=("seen", "unseen"), nargs="+", default=["seen"], help=text)
    add("--samples", type=int, default=1, help="motions drawn per clip for the energy score (%(default)s)")
    text = "predict again with the user's voice shifted by half its length: does the head answer it?"
    add("--shifted", action="store_true", help=text)
    add_deprecated_option(parser, "--turned", "--shifted")
    text = "curves over bursts of noise, silence and dropped motion"
    add("--robustness", action="store_true", help=text)
    add("--seed", type=int, default=0, help="of the noise (%(default)s)")
    add("--threads", type=int, default=1, help="of the arithmetic (%(default)s)")
    add("--out", type=Path, help="folder for results.json, table.md and plots")
    add_sampling_options(parser, "sampling: {} (the model's own)")
    return parser


def _judge_events(arguments: argparse.Namespace, console: Console) -> int:
    from timar_common.atomic import write_json

    from .evaluation.event_report import event_table
    from .evaluation.events import judge_events

    with progress_bars(console) as bars:
        result = judge_events(
            arguments.events,
            arguments.model,
            gestures=arguments.gestures,
            lag_frames=arguments.lag_frames,
            turn_frames=next(iter(arguments.turn_frames), None),
            seed=arguments.seed,
            log=lambda message: console.print(message, style="yellow", markup=False),
            progress=bars.add,
        )
    if arguments.json:
        write_json(arguments.json, result)
    sys.stdout.write(event_table(result))
    return 0


def _evaluate(arguments: argparse.Namespace, console: Console) -> dict[str, Any]:
    # Only now, for `timar --help` loads every command, and scoring takes seconds to import.
    from .evaluation.robustness import robustness_curves
    from .evaluation.scoring import EvaluationConfig, evaluate
    from .prediction.predictors import open_predictors

    data, split, seconds = arguments.data, arguments.split, arguments.seconds
    sampling, threads = sampling_of(arguments), arguments.threads
    histories, lengths = arguments.history or (None,), arguments.turn_frames or (None,)
    predictors = open_predictors(arguments.model, data, histories, threads, sampling, lengths)
    clips = check_splits(data).get(split) or read_split(data, split) if split else find_clips(data)
    clips = clips[: arguments.clips]
    result: dict[str, Any] = {
        "data": data.name,
        "data_kind": data_kind(data),
        "split": split,
        "clips": len(clips),
        "sampling": sampling,
        "settings": [],
    }
    with progress_bars(console) as bars:
        for history, predictor in predictors:
            for user in arguments.user:
                config = EvaluationConfig(
                    arguments.seed, user == "seen", arguments.samples, arguments.shifted
                )
                advance = bars.add(f"{predictor.name}, history {history}, user {user}")
                found = evaluate(predictor, clips, config, advance, seconds=seconds)
                setting = {"history_turns": history, "turn_frames": predictor.turn_frames}
                result["settings"].append({**setting, "is_user_seen": user == "seen", **found})
        if arguments.robustness:
            config, advance = EvaluationConfig(arguments.seed), bars.add("robustness")
            last = predictors[-1][1]
            result["robustness"] = robustness_curves(last, clips, config, seconds=seconds, advance=advance)
    return result
