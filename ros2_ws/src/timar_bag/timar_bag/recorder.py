"""Records a bag in the background: a bounded queue, and a thread that writes to the disk."""

from __future__ import annotations

import collections
import dataclasses
import errno
import os
import shutil
import threading
from collections.abc import Iterable
from pathlib import Path

from timar_common.config import check, option
from timar_common.topics import Topic

from timar_bag.bag_writer import NO_ROOM, PART, BagWriter


@dataclasses.dataclass(frozen=True)
class RecorderConfig:
    """Where the recorder writes, and how much it may hold back."""

    out: str = option(
        "",
        "The bag's folder, which must not exist, unless this recorder was killed and goes on; empty: "
        "recordings/DATE-TIME where it was started.",
    )
    max_queue_mb: float = option(
        32.0, "Messages waiting for the disk; beyond it the oldest are dropped and counted.", unit="MB",
        minimum=0.1, maximum=4096.0,
    )  # fmt: skip
    flush_s: float = option(
        0.5, "Time between two writes to the disk; a kill loses at most this much.", unit="s",
        minimum=0.05, maximum=10.0,
    )  # fmt: skip

    min_free_mb: float = option(
        200.0, "With less room than this on the disk recording pauses, its bag whole, until there is more.",
        unit="MB", minimum=0.0, maximum=1e6,
    )  # fmt: skip

    def __post_init__(self) -> None:
        check(self)


@dataclasses.dataclass(frozen=True)
class RecorderCounts:
    """How far a recording is."""

    written: int
    """Messages handed to the disk."""
    dropped: int
    """Messages lost because the disk was too slow, or had failed."""
    waiting: int
    """Messages in the queue."""
    error: str
    """Why writing ended early; empty while all is well."""
    is_full: bool = False
    """Whether it ended because the disk, or this file, has no room: a new part may have."""


class BagRecorder:
    """Take messages from any thread without ever waiting for the disk.

    Args:
        path: The bag's folder; it must not exist yet.
        config: Bounds of the queue and the rhythm of writing.
    """

    def __init__(self, path: Path, config: RecorderConfig | None = None) -> None:
        self.path = path
        self._config = config or RecorderConfig()
        self._bag = BagWriter(path)
        self._queue: collections.deque[tuple[str, int, bytes]] = collections.deque()
        self._queued_bytes = 0
        self._dropped = 0
        self._error = ""
        self._is_full = False
        self._is_ending = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def open(self, topics: Iterable[tuple[str, Topic]]) -> None:
        """Make the bag and begin to write.

        Args:
            topics: The full name each topic has on the graph, and its entry in the table of topics.

        Raises:
            ValueError: The folder exists already.
            OSError: It cannot be made.
        """
        self._bag.open(topics)
        self._bag.flush()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def put(self, topic_name: str, receive_ns: int, data: bytes) -> None:
        """Queue one serialized message; when there is no room the oldest ones go, and are counted."""
        limit = int(self._config.max_queue_mb * 1e6)
        with self._changed:
            if self._error or self._is_ending:
                self._dropped += 1
                return
            self._queue.append((topic_name, receive_ns, data))
            self._queued_bytes += len(data)
            while self._queued_bytes > limit and self._queue:
                self._queued_bytes -= len(self._queue.popleft()[2])
                self._dropped += 1
            if self._queued_bytes > limit // 2:
                self._changed.notify()

    def close(self, timeout_s: float = 30.0) -> None:
        """Write what waits, the index and the metadata, and end; safe to call more than once.

        Raises:
            TimeoutError: The disk took longer than `timeout_s`.
        """
        thread, self._thread = self._thread, None
        if thread is None:
            return
        with self._changed:
            self._is_ending = True
            self._changed.notify()
        thread.join(timeout_s)
        if thread.is_alive():
            raise TimeoutError(f"the disk of {self.path} did not take the recording within {timeout_s:g} s")

    def counts(self) -> RecorderCounts:
        """Return how far the recording is."""
        with self._changed:
            return RecorderCounts(
                self._bag.written, self._dropped, len(self._queue), self._error, self._is_full
            )

    def has_room(self) -> bool:
        """Tell whether the disk has more room than the least that is left free."""
        folder = self.path if self.path.exists() else self.path.parent
        return shutil.disk_usage(folder).free >= self._config.min_free_mb * 1e6

    def _run(self) -> None:
        try:
            is_going_on = True
            while is_going_on and self.has_room():
                is_going_on = self._write_batch()
                self._bag.flush()
            self._bag.close()
            if is_going_on:
                self._end_early(OSError(errno.ENOSPC, ""))
        except OSError as error:
            self._end_early(error)
            self._bag.abandon()

    def _write_batch(self) -> bool:
        """Write everything that waits; return whether more may come."""
        with self._changed:
            if not self._is_ending:
                self._changed.wait(self._config.flush_s)
            batch, self._queue = self._queue, collections.deque()
            self._queued_bytes = 0
            is_ending = self._is_ending
        for message in batch:
            self._bag.write(*message)
        return not is_ending

    def _end_early(self, error: OSError) -> None:
        with self._changed:
            self._error = _why(error, self.path, self._bag.written)
            self._is_full = error.errno in (errno.ENOSPC, errno.EFBIG)
            self._dropped += len(self._queue)
            self._queue.clear()
            self._queued_bytes = 0


def next_part(path: Path) -> Path:
    """Return where a recorder that was started again goes on: a bag of its own inside the bag's folder.

    `timar_bag.bag.BagReader` reads them as one.
    """
    number = 2
    while (path / f"{PART}{number}").exists():
        number += 1
    return path / f"{PART}{number}"


def _why(error: OSError, path: Path, written: int) -> str:
    reason = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in NO_ROOM:
        free_mb = shutil.disk_usage(path).free / 1e6
        reason = f"there is no room left for it ({reason}, {free_mb:.0f} MB free on the disk)"
    return (
        f"recording to {path} ended after {written} messages: {reason}; what was written stays readable, "
        "free some space"
    )
