"""Progress bars of the commands, on standard error; nothing is shown where nobody looks.

`rich` draws them: it is a dependency already, and knows terminals, pipes and widths.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Advance = Callable[[float, float], None]
"""Takes (done, total) of one task."""


class ProgressBars:
    """Bars that are on the screen, one for each task."""

    def __init__(self, console: Console, bars: Progress) -> None:
        self.console = console
        """Prints above the bars."""
        self._bars = bars

    def add(self, description: str) -> Advance:
        """Add a task and return what moves its bar."""
        task = self._bars.add_task(description, total=None)
        return lambda done, total: self._move(task, done, total)

    def describe(self, description: str, done: float, total: float) -> None:
        """Move the first bar and say what it shows; there is one afterwards."""
        if not self._bars.task_ids:
            self._bars.add_task(description, total=None)
        task = self._bars.task_ids[0]
        self._bars.update(task, description=description)
        self._move(task, done, total)

    def _move(self, task: TaskID, done: float, total: float) -> None:
        self._bars.update(task, completed=done, total=total or None)


@contextlib.contextmanager
def progress_bars(console: Console | None = None) -> Iterator[ProgressBars]:
    """Show progress bars while the block runs, and take them away at its end.

    Args:
        console: Where to; None: standard error.
    """
    console = console or Console(stderr=True, highlight=False)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        yield ProgressBars(console, bars)
