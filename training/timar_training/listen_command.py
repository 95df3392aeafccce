"""The command `timar listen`: blind pairs of an annotated and a drawn head, for a person to rate."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from timar_common.folder_lock import folder_lock
from timar_common.progress import progress_bars

if TYPE_CHECKING:
    from timar_model.gestures.predictor import GestureNetwork


def main(argv: list[str]) -> int:
    """Make a page with pairs of heads: one gestures as a person did, the other as the predictor draws."""
    parser = argparse.ArgumentParser(prog="timar listen", description=main.__doc__)
    parser.add_argument("archive", type=Path, help="AMI's manual annotations, zip or folder")
    parser.add_argument("out", type=Path, help="folder for index.html, sounds and key.json")
    parser.add_argument("--model", default="calm-head", help="as of timar evaluate --events (%(default)s)")
    parser.add_argument("--pairs", type=int, default=12, help="(%(default)s)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of a clip (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of choice, sides and voices (%(default)s)")
    arguments = parser.parse_args(argv)
    console = Console(stderr=True)
    from .corpora.ami import read_meetings, series_of
    from .evaluation.events import find_weights
    from .evaluation.listen import ListenConfig, make_pairs

    try:
        config = ListenConfig(arguments.pairs, arguments.seconds, arguments.seed)
        weights = find_weights(arguments.model)

        def weights_for(series: str) -> GestureNetwork:
            fresh = (w for w in weights if series not in {series_of(m) for m in w.about.get("meetings", ())})
            return next(fresh, weights[0])

        with folder_lock(arguments.out), progress_bars(console) as bars:
            meetings = read_meetings(arguments.archive)
            count = make_pairs(meetings, weights_for, arguments.out, config, bars.add("pairs"))
    except (OSError, ValueError, RuntimeError) as error:
        console.print(f"timar listen: {error}", style="red", markup=False)
        return 1
    console.print(
        f"{count} pairs: open {arguments.out / 'index.html'}; key.json says which is which", markup=False
    )
    return 0
