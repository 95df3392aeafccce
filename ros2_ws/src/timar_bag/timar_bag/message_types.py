"""Message types of a bag: read by the definitions it carries, for they may differ from today's."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.base import TypesysError
from rosbags.typesys.store import Typestore
from timar_common.messages import standard_types


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
