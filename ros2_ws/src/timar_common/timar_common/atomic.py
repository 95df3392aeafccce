"""Atomic file and folder writes: a reader, or whoever comes after a kill, finds the old content or the new.

Content is written beside its place, on the same file system, and moved there by one `rename`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def replacing_file(path: Path, *, is_private: bool = False) -> Iterator[Path]:
    """Lend the name of a scratch file that takes the place of `path` when the block ends without an error.

    Args:
        path: The file; its folder is made if need be.
        is_private: Let nobody but this user read it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    scratch = Path(name)
    try:
        yield scratch
        # mkstemp lets only its user read; a file that is written in the ordinary way obeys the umask.
        if not is_private:
            scratch.chmod(0o666 & ~_umask())
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file, whole or not at all."""
    with replacing_file(path) as scratch:
        scratch.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any, indent: int | None = 2) -> None:
    """Write a JSON file, whole or not at all.

    Raises:
        ValueError: A number is not finite, which JSON does not know.
    """
    write_text(path, json.dumps(content, indent=indent, allow_nan=False) + "\n")


@contextlib.contextmanager
def replacing_folder(path: Path, *, is_first_kept: bool = False) -> Iterator[Path]:
    """Lend an empty folder that takes the place of `path` when the block ends without an error.

    Args:
        path: The folder; an older one there is replaced as a whole, and stays until then.
        is_first_kept: Keep a folder that another process put there meanwhile, for both hold the same.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as scratch:
        new, old = Path(scratch) / "new", Path(scratch) / "old"
        new.mkdir()
        yield new
        if path.exists() and is_first_kept:
            return
        if path.exists():
            os.replace(path, old)
        try:
            os.replace(new, path)
        except OSError:
            if is_first_kept and path.is_dir():
                return
            if old.exists():
                os.replace(old, path)
            raise


def remove_leftovers(path: Path) -> None:
    """Remove what killed writers of a folder left beside it; only for who alone writes it, by a lock.

    Args:
        path: As of `replacing_folder`.
    """
    for scratch in path.parent.glob(f".{path.name}.????????"):
        if scratch.is_dir() and {inner.name for inner in scratch.iterdir()} <= {"new", "old"}:
            shutil.rmtree(scratch, ignore_errors=True)


def _umask() -> int:
    """Return the process's umask, which can be read only by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
