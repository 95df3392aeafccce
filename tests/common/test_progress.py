"""Progress bars are shown where somebody looks, and nowhere else."""

import io

from rich.console import Console
from timar_common.progress import progress_bars


def shown(*, is_terminal):
    console = Console(file=io.StringIO(), force_terminal=is_terminal, width=80)
    with progress_bars(console) as bars:
        advance = bars.add("reading")
        advance(1, 4)
        bars.describe("reading b", 2, 4)
        bars.console.print("a line above the bars")
    return console.file.getvalue()


def test_a_terminal_sees_bars_and_a_pipe_only_what_was_printed():
    assert "reading b" in shown(is_terminal=True)
    assert shown(is_terminal=False).strip() == "a line above the bars"
