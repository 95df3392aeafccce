"""Lock of an output folder: two runs never write into one folder, and the second names the first."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


class FolderInUseError(OSError):
    """Another process writes into the folder; the message names both."""


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold a folder, which is made if need be, for this process while the block runs.

    The lock is the kernel's, on the folder itself: it leaves no file behind, and ends with the process,
    however that ends. A file system without locks (some network file systems) is used without one.

    Raises:
        FolderInUseError: Another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderInUseError(
                f"the folder {folder} is in use by {_holder(handle)}; wait for it, or name another folder"
            ) from None
        except OSError:
            pass  # No locks here.
        yield
    finally:
        os.close(handle)


def _holder(handle: int) -> str:
    """Return who holds a lock, as far as this machine can tell."""
    inode = str(os.fstat(handle).st_ino)
    with contextlib.suppress(OSError):
        # "1: FLOCK  ADVISORY  WRITE 4242 08:01:1234 0 EOF": process and inode, see proc(5).
        for fields in map(str.split, Path("/proc/locks").read_text(encoding="ascii").splitlines()):
            if fields[1] == "FLOCK" and fields[5].split(":")[-1] == inode:
                words = Path(f"/proc/{fields[4]}/cmdline").read_bytes().split(b"\0")
                return f"process {fields[4]} ({b' '.join(words).decode(errors='replace').strip()})"
    return "another process"
