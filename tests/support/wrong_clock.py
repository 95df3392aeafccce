"""Clocks of another machine for processes of a test: wall and monotonic clock differ from those here."""

from __future__ import annotations

import shutil
import struct
import subprocess
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

/* From a file, the clock can be stepped while the process runs. */
static int64_t ahead_s(void) {
    static const volatile int64_t *shared;
    const char *path = getenv("TEST_WALL_CLOCK_FILE"), *fixed = getenv("TEST_WALL_CLOCK_AHEAD_S");
    if (!shared && path) {
        void *mapped = mmap(0, sizeof *shared, PROT_READ, MAP_SHARED, open(path, O_RDONLY | O_CLOEXEC), 0);
        if (mapped != MAP_FAILED) shared = mapped;
    }
    return shared ? *shared : fixed ? atoll(fixed) : 0;
}

int rcutils_system_time_now(int64_t *now_ns) {
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    *now_ns = (at.tv_sec + ahead_s()) * INT64_C(1000000000) + at.tv_nsec;
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
    if (
        shutil.which("cc") is None
        or subprocess.run([*command, "true"], check=False, capture_output=True).returncode
    ):
        pytest.skip("another machine's clocks need a C compiler, root and time namespaces")
    return command, {"LD_PRELOAD": str(_library(folder)), "TEST_WALL_CLOCK_AHEAD_S": str(wall_s)}


class SteppedClock:
    """A wall clock, as ROS 2 reads it, that can be stepped while processes run.

    Args:
        folder: Where its library and file are made.

    Raises:
        FileNotFoundError: This machine has no C compiler.
    """

    def __init__(self, folder: Path) -> None:
        if shutil.which("cc") is None:
            raise FileNotFoundError("a wall clock that steps needs a C compiler (cc); apt install gcc")
        self._file = folder / "ahead_s"
        self.step_to(0)
        self.environment = {"LD_PRELOAD": str(_library(folder)), "TEST_WALL_CLOCK_FILE": str(self._file)}
        """What a process needs to read it."""

    def step_to(self, ahead_s: int) -> None:
        """Set by how much it is ahead of the machine's [s]."""
        # Written in place: processes have the file mapped.
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(struct.pack("=q", ahead_s))


def _library(folder: Path) -> Path:
    source, library = folder / "wrong_clock.c", folder / "wrong_clock.so"
    source.write_text(_SOURCE, encoding="utf-8")
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(source)], check=True)
    return library
