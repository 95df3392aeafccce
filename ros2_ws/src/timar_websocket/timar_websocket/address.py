"""Where the address of a running head lies, with its token, for bots of the same user on this machine."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

ADDRESS_VARIABLE = "TIMAR_HEAD"
"""Environment variable with an address; it counts more than the file."""


def address_file(namespace: str = "") -> Path:
    """Return the file that holds the newest head's address; only its user may read it.

    Args:
        namespace: The head's namespace, empty for none.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(runtime) if runtime else Path(tempfile.gettempdir(), f"timar-{os.getuid()}")
    name = namespace.strip("/").replace("/", ".")
    return folder / "timar" / f"head{'-' + name if name else ''}.address"


def find_address(namespace: str = "") -> str:
    """Return the address of the head of this machine.

    Raises:
        OSError: None is running that serves bots.
    """
    if given := os.environ.get(ADDRESS_VARIABLE):
        return given
    path = address_file(namespace)
    try:
        # Elsewhere than in XDG_RUNTIME_DIR anybody could have put it there.
        if path.stat().st_uid != os.getuid():
            raise OSError(f"{path} belongs to somebody else; set {ADDRESS_VARIABLE} to the head's address")
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError as error:
        raise OSError(
            f"no head serves bots here (there is no {path}); start one with websocket:=true, or set "
            f"{ADDRESS_VARIABLE} to its address"
        ) from error


def leave_address(address: str, namespace: str) -> Path:
    """Write a head's address where bots of the same user find it, and return where that is.

    Raises:
        OSError: It cannot be written.
    """
    path = address_file(namespace)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # only its user may read it
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(address + "\n")
    os.replace(scratch, path)
    return path


def remove_address(address: str, namespace: str) -> None:
    """Remove what `leave_address` wrote, unless a newer head's address lies there."""
    path = address_file(namespace)
    with contextlib.suppress(OSError):
        if path.read_text(encoding="utf-8").strip() == address:
            path.unlink()
