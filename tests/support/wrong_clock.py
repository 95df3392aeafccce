"""Clocks of another machine for processes of a test: wall and monotonic clock differ from those here."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# ROS 2's reading of the wall clock. What the kernel waits by is left as it is: a wait until an instant of a
# wall clock that only the process believes in would last for as long as that clock is wrong.
_SOURCE = """
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

static int64_t ahead(void) {
    static const int64_t *shared;
    const char *path = getenv("TEST_WALL_CLOCK_FILE"), *fixed = getenv("TEST_WALL_CLOCK_AHEAD_S");
    if (path && !shared) {
        void *found = mmap(0, sizeof *shared, PROT_READ, MAP_SHARED, open(path, O_RDONLY), 0);
        if (found == MAP_FAILED) abort();
        shared = found;
    }
    return shared ? *shared : fixed ? atoll(fixed) : 0;
}

int rcutils_system_time_now(int64_t *now_ns) {
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    *now_ns = (at.tv_sec + ahead()) * INT64_C(1000000000) + at.tv_nsec;
    return 0;
}
"""


def wrong_clocks(folder: Path, wall_s: int, monotonic_s: int) -> tuple[list[str], dict[str, str]]:
    """Return the words before a command, and variables, with which it runs on another machine's clocks.

    Skips where this machine has no C compiler or no time namespaces.

    Args:
        folder: Where the library that shifts the wall clock is built.
        wall_s: By how much the wall clock, as ROS 2 reads it, is ahead [s].
        monotonic_s: By how much the monotonic clock is ahead [s].
    """
    command = ["unshare", "--time", "--monotonic", str(monotonic_s)]
    if subprocess.run([*command, "true"], check=False, capture_output=True).returncode:
        pytest.skip("another machine's clocks need root and time namespaces")
    return command, {"LD_PRELOAD": str(_library(folder)), "TEST_WALL_CLOCK_AHEAD_S": str(wall_s)}


class SteppedClock:
    """ROS 2's wall clock of the processes that get `environment`, set while they run.

    Skips where this machine has no C compiler.

    Args:
        folder: Where the library is built.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "ahead"
        self.set(0)
        self.environment = {"LD_PRELOAD": str(_library(folder)), "TEST_WALL_CLOCK_FILE": str(self._file)}

    def set(self, ahead_s: int) -> None:
        """Set it to so many seconds ahead of this machine's; in place, for it is mapped."""
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(ahead_s.to_bytes(8, sys.byteorder, signed=True))


def _library(folder: Path) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("a wrong clock needs a C compiler")
    source, library = folder / "wrong_clock.c", folder / "wrong_clock.so"
    source.write_text(_SOURCE, encoding="utf-8")
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(source)], check=True)
    return library
