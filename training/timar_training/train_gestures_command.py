"""The command `timar train-gestures`: learn from annotated people when a head nods, shakes or tilts."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from timar_common.folder_lock import folder_lock
from timar_common.progress import progress_bars
from timar_model.gestures.kinematics import read_kinematics
from timar_model.gestures.predictor import GestureNetwork, read_weights

from .corpora.ami import read_meetings
from .preparation.annotated import annotated_tracks, folds_by_series

if TYPE_CHECKING:
    from .training.gesture_training import GestureTrainingConfig

WEIGHTS_FILE = "people.safetensors"
SOURCE = {
    "corpus": "AMI Meeting Corpus, manual annotations (head gestures and words)",
    "attribution": "AMI Meeting Corpus, the AMI Consortium, https://groups.inf.ed.ac.uk/ami",
    "licence": "CC BY 4.0",
}


def main(argv: list[str]) -> int:
    """Train the gesture predictor on AMI's annotations; with --folds, to judge it as well."""
    parser = argparse.ArgumentParser(prog="timar train-gestures", description=main.__doc__)
    parser.add_argument("archive", type=Path, help="AMI's manual annotations, zip or folder, any meetings")
    parser.add_argument("out", type=Path, help=f"folder for {WEIGHTS_FILE} and fold_N.safetensors")
    text = "train so many times more, each time without a share of the series (0)"
    parser.add_argument("--folds", type=int, default=0, help=text)
    parser.add_argument("--only-folds", action="store_true", help="leave the weights of all meetings out")
    parser.add_argument("--seed", type=int, default=0, help="everything follows from it (%(default)s)")
    parser.add_argument("--epochs", type=float, help="times that every sample is seen")
    parser.add_argument("--threads", type=int, default=1, help="of the arithmetic (%(default)s)")
    arguments = parser.parse_args(argv)
    console = Console(stderr=True)
    try:
        with folder_lock(arguments.out):
            _train(arguments, console)
    except (OSError, ValueError, RuntimeError) as error:
        console.print(f"timar train-gestures: {error}", style="red", markup=False)
        return 1
    return 0


def _train(arguments: argparse.Namespace, console: Console) -> None:
    # Only now, for `timar --help` loads every command, and torch takes seconds.
    import torch

    from .training.gesture_training import (
        GestureTrainingConfig,
        calibrate,
        collect_samples,
        save_weights,
        train_gestures,
    )

    def log(message: str) -> None:
        console.print(message, style="yellow", markup=False)

    torch.set_num_threads(arguments.threads)
    given = {} if arguments.epochs is None else {"epochs": arguments.epochs}
    config = dataclasses.replace(GestureTrainingConfig(), seed=arguments.seed, **given)
    tracks = annotated_tracks(read_meetings(arguments.archive, log))
    everybody = np.arange(len(tracks.people))
    jobs = [] if arguments.only_folds else [(WEIGHTS_FILE, everybody)]
    if arguments.folds:
        fold = folds_by_series(tracks, arguments.folds)
        jobs += [(f"fold_{k + 1}.safetensors", np.flatnonzero(fold != k)) for k in range(arguments.folds)]
    with progress_bars(console) as bars:
        found: dict[str, GestureNetwork] = {}
        waiting = [name for name, _ in jobs if not (arguments.out / name).is_file()]
        samples = collect_samples(tracks, config, bars.add("features")) if waiting else None
        for name, who in jobs:
            path = arguments.out / name
            if samples is None or name not in waiting:
                found[name] = _same_as(path, config, {tracks.people[i].meeting for i in who})
                continue
            found[name] = train_gestures(
                tracks, samples, who, config, read_kinematics(), SOURCE, bars.add(name)
            )
            save_weights(path, found[name])
        if arguments.folds:
            for one in found.values():
                one.arrays["calibration"][:] = 1.0, 0.0
            folds = [found[name] for name in found if name != WEIGHTS_FILE]
            calibrate(list(found.values()), folds, fold, tracks, bars.add("thresholds"))
            for name, one in found.items():
                save_weights(arguments.out / name, one)
    console.print(f"{', '.join(found)} in {arguments.out}", markup=False)


def _same_as(path: Path, config: GestureTrainingConfig, meetings: set[str]) -> GestureNetwork:
    """Return weights that an earlier run left; those of other settings are refused."""
    weights = read_weights(path)
    if weights.about["config"] != dataclasses.asdict(config) or set(weights.about["meetings"]) != meetings:
        raise ValueError(
            f"{path} was trained with other settings or meetings; remove it, or give another folder"
        )
    return weights
