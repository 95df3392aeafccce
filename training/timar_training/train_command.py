"""The command `timar train`: one YAML file in, a model folder out."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from timar_common.folder_lock import folder_lock

from .corpora.dyads import BadClipError

if TYPE_CHECKING:
    from .training.config import TrainConfig
    from .training.trainer import Progress


def main(argv: list[str]) -> int:
    """Train a model from a YAML file; a second call goes on where the first one stopped."""
    parser = argparse.ArgumentParser(prog="timar train", description=main.__doc__)
    parser.add_argument("config", type=Path, help="see training/timar_training/configs/tiny.yaml")
    parser.add_argument("--data", default=None, help="folder of dyads, instead of the file's")
    parser.add_argument("--out", default=None, help="folder of the run, instead of the file's")
    parser.add_argument("--steps", type=int, default=None, help="steps, instead of the file's")
    parser.add_argument("--max-minutes", type=float, default=None, help="stop after this time")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads, instead of the file's")
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, help="that prepare data (%(default)s)"
    )
    arguments = parser.parse_args(argv)
    console = Console(stderr=True)
    # Only now, for `timar --help` loads every command, and torch takes seconds.
    from .training.config import TrainConfig
    from .training.trainer import NonFiniteLossError

    names = ("data", "out", "steps", "max_minutes", "threads")
    given = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    try:
        config = TrainConfig.from_yaml(arguments.config, **given)
        # Of the processes of one run (accelerate launch) the first holds the folder for all.
        is_first = os.environ.get("RANK", "0") == "0"
        with folder_lock(Path(config.out)) if is_first else contextlib.nullcontext():
            return _train(config, arguments.processes, shlex.join(["timar", "train", *argv]), console)
    except (BadClipError, NonFiniteLossError, ValueError, OSError) as error:
        console.print(f"timar train: {error}", style="red", markup=False)
        return 1


def _train(config: TrainConfig, processes: int, command: str, console: Console) -> int:
    from .training.trainer import open_run

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console) as bar:
        task = bar.add_task("preparing")
        trainer = open_run(
            config,
            processes=processes,
            command=command,
            advance=lambda split, done, total: bar.update(
                task, description=f"preparing {split}", completed=done, total=total
            ),
        )
        if trainer.resume():
            console.print(f"going on at step {trainer.step}")
        mean_loss = float("nan")

        def report(progress: Progress) -> None:
            nonlocal mean_loss
            mean_loss = progress.loss if mean_loss != mean_loss else 0.98 * mean_loss + 0.02 * progress.loss
            description = f"loss {mean_loss:.4f}"
            bar.update(task, description=description, completed=progress.step, total=config.last_step)
            if progress.validation_loss is not None:
                console.print(
                    f"step {progress.step}: loss {mean_loss:.4f}, validation {progress.validation_loss:.4f}, "
                    f"reading data {progress.data_share:.1%} of a step"
                )

        best = trainer.run(report)
    console.print(f"best validation loss {best:.4f}; the model is in {trainer.out / 'model'}", markup=False)
    return 0
