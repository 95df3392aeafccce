"""A pytest plugin: no process that a test has started outlives the test run, however that ends.

A helper process waits for the end of pytest, also by SIGKILL, and kills whoever carries the run's mark in
the environment: a child of a child as well.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

MARK = "TIMAR_TEST_RUN"


def pytest_configure(config: pytest.Config) -> None:
    if MARK not in os.environ:  # Workers of pytest-xdist have it from their parent.
        mark = uuid.uuid4().hex
        # The helper itself carries none: its environment is from before.
        subprocess.Popen([sys.executable, __file__, str(os.getpid()), mark], start_new_session=True)
        os.environ[MARK] = mark


def marked(mark: str) -> list[int]:
    """Return the processes with a mark in the environment they were started with."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"{MARK}={mark}".encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
        except OSError:
            continue  # It ended, or is another user's.
    return found


def clear_after(pid: int, mark: str) -> None:
    """Wait for the end of a process, then kill all that carry a mark."""
    with contextlib.suppress(ProcessLookupError):
        select.select([os.pidfd_open(pid)], [], [])
    for _ in range(20):
        left = marked(mark)
        for child in left:
            try:
                os.kill(child, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if not left:
            return
        time.sleep(0.1)


if __name__ == "__main__":
    clear_after(int(sys.argv[1]), sys.argv[2])
