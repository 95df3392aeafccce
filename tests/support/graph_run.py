"""Let the whole graph hold its conversation, for as long as a test needs and the machine takes."""

from __future__ import annotations

import time

from node_process import PATIENCE_S
from timar_bringup.composer import Composer
from timar_bringup.progress import Progress
from timar_bringup.progress_node import Watcher

TURNS_PER_S = 5.0
CLIP_S = 28.0
"""The shipped conversation is a little longer [s]."""


def converse(
    composer: Composer, watcher: Watcher, progress: Progress, seconds: float, lines: list[tuple[str, str]]
) -> None:
    """Watch until so many seconds have passed and almost as many seconds of turns have been drawn.

    A busy machine commits turns unsampled, and goes on until enough were drawn or the clip is over.

    Args:
        composer: Runs the graph.
        watcher: Keeps `progress` up to date.
        progress: How the conversation goes.
        seconds: Of conversation.
        lines: What the processes wrote, for the message of a failure.
    """
    enough = TURNS_PER_S * (seconds - 1.0)
    deadline_s = time.monotonic() + 2 * PATIENCE_S
    while True:
        watcher.watch(0.1)
        assert composer.poll() is None, lines
        assert time.monotonic() < deadline_s, lines
        elapsed_s = progress.elapsed_s(time.monotonic_ns())
        if elapsed_s >= CLIP_S:
            return
        if elapsed_s >= seconds and progress.turns - progress.unsampled_turns >= enough:
            return
