"""Messages about unknown names: what is unknown, which known name is nearest, and which names are known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: object, known: Iterable[object]) -> str:
    """Return the known name that a misspelt one most likely means; empty when none is near."""
    return next(iter(difflib.get_close_matches(str(name), [str(one) for one in known], n=1)), "")


def unknown_name(what: str, name: object, known: Iterable[object], *, plural: str = "") -> str:
    """Return the sentence that refuses an unknown name.

    Args:
        what: What it was meant to be, such as "joint".
        name: As it was given.
        known: All names that would do.
        plural: Of `what`; empty: with an s.

    Example:
        >>> unknown_name("joint", "nek_yaw", ["jaw", "neck_yaw"])
        "there is no joint 'nek_yaw'; did you mean 'neck_yaw'? The joints are: jaw, neck_yaw"
    """
    names = [str(one) for one in known]
    near = nearest(name, names)
    hint = f"did you mean {near!r}? The" if near else "the"
    return f"there is no {what} {name!r}; {hint} {plural or what + 's'} are: {', '.join(names) or 'none'}"


def refuse_unknown(
    what: str, names: Iterable[object], known: Iterable[object], *, plural: str = "", error: type = ValueError
) -> None:
    """Raise an error that names the first of some names that is unknown; pass when all are known.

    Args:
        what: As of `unknown_name`.
        names: As they were given.
        known: All names that would do.
        plural: As of `unknown_name`.
        error: Class of the exception raised.

    Raises:
        ValueError: A name is unknown; another class when `error` says so.
    """
    everything = list(known)
    for name in names:
        if name not in everything:
            raise error(unknown_name(what, name, everything, plural=plural))
