"""How much processor time a set of processes has used, with all their children."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def cpu_seconds(leaders: Iterable[int], proc: Path = Path("/proc")) -> float:
    """Return the processor time used so far by some sessions.

    Args:
        leaders: Process ids of session leaders (the composer makes every process one).
        proc: Where the kernel's process files are.

    Returns:
        User and system time [s] of every living process of these sessions and of those of their children
        that have ended and were waited for.

    Source: proc(5), /proc/PID/stat, fields 6 (session) and 14 to 17 (times in clock ticks).
    """
    sessions = set(leaders)
    ticks = 0
    for folder in proc.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            fields = (
                (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            )
        except (FileNotFoundError, ProcessLookupError):
            # It ended between the listing and the reading.
            continue
        # The name in parentheses was cut off, so fields[0] is field 3 of the manual.
        if int(fields[3]) in sessions:
            ticks += sum(int(field) for field in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")
