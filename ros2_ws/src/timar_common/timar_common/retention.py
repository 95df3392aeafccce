"""Retention of recordings and logs: the newest stay, up to a size and an age, and what is in use."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

IN_USE_S = 600.0
"""What was written so recently may still be written [s]."""
NO_CLOCK_BEFORE_S = 1_577_836_800.0
"""A machine without a battery for its clock dates files before 2020; their age is not known."""
DAY_S = 86_400.0


class KeptFile(NamedTuple):
    """A file, or a folder with all that is in it."""

    path: Path
    size_bytes: int
    newest_s: float
    """When anything of it was written last [s since 1970]."""


def measured(path: Path) -> KeptFile:
    """Return size and time of a file, or of a folder with all that is in it."""
    size, newest_s = 0, 0.0
    for each in (path, *(path.rglob("*") if path.is_dir() else ())):
        with contextlib.suppress(OSError):
            found = each.lstat()
            size += 0 if each.is_dir() else found.st_size
            newest_s = max(newest_s, found.st_mtime)
    return KeptFile(path, size, newest_s)


def surplus(files: Iterable[KeptFile], max_bytes: float, max_age_s: float, now_s: float) -> list[KeptFile]:
    """Return what is to go, oldest first.

    Args:
        files: Everything that there is.
        max_bytes: What all may take together; 0: any size.
        max_age_s: How old the newest part of one may be; 0: any age.
        now_s: Time now [s since 1970].
    """
    oldest_first = sorted(files, key=lambda file: file.newest_s)
    total = sum(file.size_bytes for file in oldest_first)
    found = []
    for file in oldest_first:
        if now_s - file.newest_s < IN_USE_S:
            continue
        is_dated = file.newest_s >= NO_CLOCK_BEFORE_S
        is_old = bool(max_age_s) and is_dated and now_s - file.newest_s > max_age_s
        if is_old or (max_bytes and total > max_bytes):
            found.append(file)
            total -= file.size_bytes
    return found


def remove_surplus(paths: Iterable[Path], keep_gb: float, keep_days: float) -> list[KeptFile]:
    """Remove what is too old or too much, and return it, without what could not be removed.

    Args:
        paths: All files and folders that count.
        keep_gb: What all may take together [GB]; 0: any size.
        keep_days: How old one may be [days]; 0: any age.
    """
    if not (keep_gb or keep_days):
        return []
    removed = []
    for file in surplus(map(measured, paths), keep_gb * 1e9, keep_days * DAY_S, time.time()):
        with contextlib.suppress(OSError):
            if file.path.is_dir() and not file.path.is_symlink():
                shutil.rmtree(file.path)
            else:
                file.path.unlink()
            removed.append(file)
    return removed
