"""The command `timar train`: one YAML file in, a model folder out."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from timar_common.folder_lock import folder_lock
from timar_common.progress import progress_bars

if TYPE_CHECKING:
    from .training.config import TrainConfig
    from .training.log import StepReport


def main(argv: list[str]) -> int:
    """Train or fine-tune a model by a YAML file; a second call goes on where the first one stopped."""
    parser = argparse.ArgumentParser(prog="timar train", description=main.__doc__)
    parser.add_argument(
        "config",
        type=Path,
        nargs="?",
        help="see training/timar_training/configs/tiny.yaml (with --from: fine_tune.yaml there)",
    )
    parser.add_argument(
        "--from",
        dest="start_from",
        metavar="MODEL",
        help="fine-tune a model: a folder, or the name of a shipped or imported one; its encoder is frozen",
    )
    parser.add_argument(
        "--tune", choices=("low-rank", "full"), default="low-rank", help="what --from learns (%(default)s)"
    )
    parser.add_argument("--data", help="folder of dyads, instead of the file's")
    parser.add_argument("--out", help="folder of the run, instead of the file's")
    parser.add_argument("--steps", type=int, help="steps, instead of the file's")
    parser.add_argument("--max-minutes", type=float, help="stop after this time")
    parser.add_argument("--threads", type=int, help="CPU threads, instead of the file's")
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, help="that prepare data (%(default)s)"
    )
    arguments = parser.parse_args(argv)
    console = Console(stderr=True)
    # Only now, for `timar --help` loads every command, and torch takes seconds.
    from .training.config import TrainConfig
    from .training.optimisation import NonFiniteLossError

    names = ("start_from", "data", "out", "steps", "max_minutes", "threads")
    given = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    if arguments.start_from is not None:
        given["fine_tuning"] = arguments.tune
    elif arguments.config is None:
        parser.error("give a CONFIG, or a model to fine-tune by --from")
    path = arguments.config or Path(__file__).parent / "configs" / "fine_tune.yaml"
    try:
        config = TrainConfig.from_yaml(path, **given)
        # Of the processes of one run (accelerate launch) the first holds the folder for all.
        is_first = os.environ.get("RANK", "0") == "0"
        with folder_lock(Path(config.out)) if is_first else contextlib.nullcontext():
            return _train(config, arguments.processes, shlex.join(["timar", "train", *argv]), console)
    except (NonFiniteLossError, ValueError, OSError) as error:
        console.print(f"timar train: {error}", style="red", markup=False)
        return 1


def _train(config: TrainConfig, processes: int, command: str, console: Console) -> int:
    from .training.run import open_run

    with progress_bars(console) as bars:
        trainer = open_run(
            config,
            processes=processes,
            command=command,
            advance=lambda split, done, total: bars.describe(f"preparing {split}", done, total),
        )
        if trainer.resume():
            console.print(f"going on at step {trainer.step}")
        mean_loss = float("nan")

        def report(step: StepReport) -> None:
            nonlocal mean_loss
            mean_loss = step.loss if mean_loss != mean_loss else 0.98 * mean_loss + 0.02 * step.loss
            bars.describe(f"step {step.step}, loss {mean_loss:.4f}", step.step, config.last_step)
            if step.validation_loss is not None:
                console.print(
                    f"step {step.step}: loss {mean_loss:.4f}, validation {step.validation_loss:.4f}, "
                    f"reading data {step.data_share:.1%} of a step"
                )

        best = trainer.run(report)
    console.print(f"best validation loss {best:.4f}; the model is in {trainer.out / 'model'}", markup=False)
    return 0
