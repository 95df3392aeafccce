"""Messages about unknown names: what is unknown, which known name is nearest, and which names are known."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable


def nearest(name: object, known: Iterable[object]) -> str:
    """Return the known name that a misspelt one most likely means; empty when none is near."""
    return next(iter(difflib.get_close_matches(str(name), [str(one) for one in known], n=1)), "")


def unknown_name(what: str, name: object, known: Iterable[object], owner: str = "") -> str:
    """Return the sentence that rejects an unknown name.

    Args:
        what: What it was meant to be, such as "joint".
        name: As it was given.
        known: All names that would do.
        owner: What should have it, such as "the robot"; empty: nothing in particular.

    Example:
        >>> unknown_name("joint", "nek_yaw", ["jaw", "neck_yaw"])
        "there is no joint 'nek_yaw'; did you mean 'neck_yaw'? The joints are: jaw, neck_yaw"
        >>> unknown_name("field", "widht", ["width"], "ModelConfig")
        "ModelConfig has no field 'widht'; did you mean 'width'? It has: width"
    """
    names = [str(one) for one in known]
    near = nearest(name, names)
    start = f"{owner} has no {what} {name!r}" if owner else f"there is no {what} {name!r}"
    listing = f"it has: {', '.join(names)}" if owner else f"the {what}s are: {', '.join(names) or 'none'}"
    return (
        f"{start}; did you mean {near!r}? {listing[0].upper() + listing[1:]}"
        if near
        else f"{start}; {listing}"
    )


def refuse_unknown(
    what: str,
    names: Iterable[object],
    known: Iterable[object],
    owner: str = "",
    error: Callable[[str], Exception] = ValueError,
) -> None:
    """Raise an error that names the first of some names that is unknown; pass when all are known.

    Args:
        what: As of `unknown_name`.
        names: As they were given.
        known: All names that would do.
        owner: As of `unknown_name`.
        error: Makes the exception raised from its message.

    Raises:
        ValueError: A name is unknown; another class when `error` says so.
    """
    everything = list(known)
    for name in names:
        if name not in everything:
            raise error(unknown_name(what, name, everything, owner))
