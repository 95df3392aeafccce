"""The project's message types for reading and writing bags, without ROS."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from pathlib import Path

from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.base import TypesysError
from rosbags.typesys.store import Typestore

PACKAGE = "timar_msgs"


def find_message_folder() -> Path:
    """Return the folder of the project's ``.msg`` files: the installed one, else the source tree's.

    Raises:
        FileNotFoundError: Neither exists; the message says what was looked for and what to do.
    """
    prefixes = [
        Path(prefix) for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix
    ]
    candidates = [prefix / "share" / PACKAGE / "msg" for prefix in prefixes]
    candidates.append(Path(__file__).resolve().parents[2] / PACKAGE / "msg")
    for folder in candidates:
        if any(folder.glob("*.msg")):
            return folder
    raise FileNotFoundError(
        f"no message definitions of {PACKAGE} in any of {', '.join(map(str, candidates))}; "
        "build the workspace and source its setup file"
    )


@functools.lru_cache(maxsize=1)
def standard_types() -> Typestore:
    """Return the types of ROS 2 Kilted and of this project; made once, for it takes a while."""
    store = get_typestore(Stores.ROS2_KILTED)
    for path in sorted(find_message_folder().glob("*.msg")):
        store.register(get_types_from_msg(path.read_text("utf-8"), f"{PACKAGE}/msg/{path.stem}"))
    return store


def types_of_bag(definitions: Mapping[str, str]) -> tuple[Typestore, list[str]]:
    """Return the types to read a bag with: its own definitions first, the standard ones for what it lacks.

    A bag is read by the definitions it carries, for the messages may have changed since it was recorded.

    Args:
        definitions: Text of the definition (msg or idl, with its dependencies) by type name; may be empty.

    Returns:
        The types, and one sentence for each definition that could not be understood.
    """
    store, problems = _types_of(tuple(sorted(definitions.items())))
    return store, list(problems)


@functools.lru_cache(maxsize=8)
def _types_of(definitions: tuple[tuple[str, str], ...]) -> tuple[Typestore, tuple[str, ...]]:
    """Make the types once for all bags of the same definitions, for it takes longer than opening a bag."""
    known = dict(standard_types().fielddefs)
    problems = []
    for name, text in definitions:
        if not text:
            continue
        try:
            is_idl = text.lstrip("=\n ").startswith("IDL:")
            known.update(get_types_from_idl(text) if is_idl else get_types_from_msg(text, name))
        except TypesysError as error:
            reason = " ".join(str(error).split())
            problems.append(f"the bag's definition of {name} could not be understood ({reason})")
    store = get_typestore(Stores.EMPTY)
    store.register(known)
    return store, tuple(problems)
