"""Follow the running graph's topics for the line of `timar talk`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, ClassVar

from timar_bringup.progress import Progress
from timar_bringup.progress_node import Watcher
from timar_bringup.talk_status import TalkStatus


class TalkWatcher(Watcher):
    """Keep a `TalkStatus` up to date while `watch` is called; a context manager."""

    FOLLOWS_JOINTS: ClassVar[bool] = False

    def __init__(self, status: TalkStatus, namespace: str) -> None:
        super().__init__(Progress(), namespace)
        self._status = status

    def __enter__(self) -> TalkWatcher:
        super().__enter__()
        status = self._status
        topics: dict[str, Callable[[Any], None]] = {
            "voice_activity": lambda m: status.take_level(m.speaker, m.level_dbfs, time.monotonic_ns()),
            "user/words": lambda m: status.take_words("you", m.text) if m.is_final else None,
            "agent/words": lambda m: status.take_words("head", m.text),
            "/diagnostics": self._on_diagnostics,
        }
        for name, callback in topics.items():
            self.subscribe(name, callback)
        return self

    def watch(self, seconds: float) -> None:
        """Take messages in for a while."""
        super().watch(seconds)
        self._status.floor = self._progress.floor
        self._status.has_moved = self._progress.turns > 0

    def _on_diagnostics(self, message: Any) -> None:
        for status in message.status:
            node = status.name.rpartition("/")[2]
            values = {pair.key: pair.value for pair in status.values}
            self._status.take_health(node, ord(status.level), status.message, values)
