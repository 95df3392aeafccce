"""Clocks of another machine for processes of a test: wall and monotonic clock differ from those here."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

# ROS 2's reading of the wall clock. What the kernel waits by is left as it is: a wait until an instant of a
# wall clock that only the process believes in would last for as long as that clock is wrong.
_SOURCE = """
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

int rcutils_system_time_now(int64_t *now_ns) {
    const char *ahead_s = getenv("TEST_WALL_CLOCK_AHEAD_S");
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    *now_ns = (at.tv_sec + (ahead_s ? atoll(ahead_s) : 0)) * INT64_C(1000000000) + at.tv_nsec;
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
    compiler = shutil.which("cc")
    if compiler is None or subprocess.run([*command, "true"], check=False, capture_output=True).returncode:
        pytest.skip("another machine's clocks need a C compiler, root and time namespaces")
    source, library = folder / "wrong_clock.c", folder / "wrong_clock.so"
    source.write_text(_SOURCE, encoding="utf-8")
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(source)], check=True)
    return command, {"LD_PRELOAD": str(library), "TEST_WALL_CLOCK_AHEAD_S": str(wall_s)}
