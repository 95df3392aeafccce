"""Remembers across a crash which utterances were being said, and how much of each was heard.

A file of one line of fixed length, written over in place: what the kernel was given outlives a killed
process, and a write this small is never seen in part.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

LENGTH = 4096
"""So many bytes are written at once; utterances beyond it are left out, the last to be said first."""


class UtteranceJournal:
    """The file of one playback node, which it holds locked as long as it lives.

    Args:
        path: Of the file; its folder is made.

    Raises:
        OSError: It cannot be written, or another process holds it.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            raise OSError(f"another playback node of this name holds {path}") from error
        self._written: list[tuple[str, int]] | None = None

    def read(self) -> list[tuple[str, int]]:
        """Return what was being said when it was written last: utterance id and samples heard."""
        try:
            entries = json.loads(os.pread(self._file, LENGTH, 0).decode("utf-8") or "[]")
            return [(str(name), max(0, int(heard))) for name, heard in entries]
        except (ValueError, TypeError):  # another program's, or none of ours any more
            return []

    def write(self, unfinished: Sequence[tuple[str, int]]) -> None:
        """Write what is being said or waits, if that is news."""
        if list(unfinished) == self._written or self._file < 0:
            return
        self._written = list(unfinished)
        for count in range(len(unfinished), -1, -1):
            text = json.dumps(unfinished[:count]).encode()
            if len(text) <= LENGTH:
                os.pwrite(self._file, text.ljust(LENGTH), 0)
                return

    def close(self) -> None:
        """Close the file; it stays."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def journal_path(namespace: str) -> Path:
    """Return the file of a namespace's playback node in this ROS domain, for this user of this machine."""
    folder = os.environ.get("XDG_RUNTIME_DIR") or os.path.join(tempfile.gettempdir(), f"timar-{os.getuid()}")
    name = namespace.strip("/").replace("/", ".") or "robot"
    return Path(folder, "timar", f"utterances.{os.environ.get('ROS_DOMAIN_ID', '0')}.{name}")
