"""What a training step reports, and its TensorBoard log."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class StepReport:
    """What the loop reports after each step."""

    step: int
    loss: float
    validation_loss: float | None
    """Set after a validation."""
    data_share: float
    """Share of the step's time that it waited for data."""
    gradient_norm: float = 0.0
    """Before clipping."""
    learning_rate: float = 0.0
    took_s: float = 1.0
    """The whole step [s]."""


@contextlib.contextmanager
def step_log(
    folder: Path, every: int, first_step: int, metric: str
) -> Iterator[Callable[[StepReport], None]]:
    """Yield what writes a step's numbers for TensorBoard; a resumed run overwrites what it does again.

    Args:
        folder: Of the log.
        every: Steps between two entries; 0: none is written.
        first_step: Entries from this step on are dropped.
        metric: Name of the validation metric.
    """
    if not every:
        yield lambda report: None
        return
    # Only here, for it takes a second to import.
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder), purge_step=first_step)

    def write(report: StepReport) -> None:
        scalars = {
            "train/loss": report.loss,
            "train/gradient_norm": report.gradient_norm,
            "train/learning_rate": report.learning_rate,
            "speed/steps_per_s": 1.0 / report.took_s,
            "speed/data_share": report.data_share,
        }
        if report.step % every:
            scalars = {}
        if report.validation_loss is not None:
            scalars[f"validation/{metric}"] = report.validation_loss
        for name, value in scalars.items():
            writer.add_scalar(name, value, report.step)

    try:
        yield write
    finally:
        writer.close()
