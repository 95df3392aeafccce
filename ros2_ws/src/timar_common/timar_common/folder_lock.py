"""Locks an output folder for one run: a second run into the same folder ends with a message that names it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

LOCK_NAME = ".lock"


@contextlib.contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Hold a folder, made if need be, while the block runs.

    The lock ends with the process that holds it, however that ends; the file itself stays and says nothing.

    Raises:
        ValueError: Another process holds it; the message names folder and process.
        OSError: The folder cannot be made or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK_NAME).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise ValueError(
                f"the folder {folder} is in use: process {file.read().strip() or 'unknown'} writes into "
                "it; wait until that has ended, or give another folder (--out)"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
