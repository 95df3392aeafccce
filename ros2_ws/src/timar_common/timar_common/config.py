"""Described, checked configuration: a frozen dataclass per component, each field with doc, unit, range."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Description:
    """What a field means and what it may be."""

    doc: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    formerly: tuple[str, ...] = ()
    """Names the field had in an earlier release; still accepted, with a warning."""

    def text(self) -> str:
        """Return the description as one line, for `ros2 param describe` and for docs."""
        parts = [self.doc]
        if self.unit:
            parts.append(f"[{self.unit}]")
        if self.choices:
            parts.append("One of: " + ", ".join(self.choices) + ".")
        return " ".join(parts)


def option(
    default: Any,
    doc: str,
    *,
    unit: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    choices: Sequence[str] = (),
    formerly: Sequence[str] = (),
) -> Any:
    """Declare a described field of a configuration dataclass.

    Args:
        default: Its value when nothing is said; also its type (bool, int, float, str, tuple of str or float).
        doc: One sentence.
        unit: SI or the field's usual unit.
        minimum: Smallest number allowed.
        maximum: Largest number allowed.
        choices: The only strings allowed.
        formerly: Names it had in an earlier release, accepted with a warning.
    """
    description = Description(doc, unit, minimum, maximum, tuple(choices), tuple(formerly))
    return dataclasses.field(default=default, metadata={"timar": description})


def number(
    default: Any, doc: str, minimum: float, maximum: float, unit: str = "", *, formerly: Sequence[str] = ()
) -> Any:
    """Declare a field that is a number with a range, which every number has; else as `option`."""
    return option(default, doc, unit=unit, minimum=minimum, maximum=maximum, formerly=formerly)


def current_name(config_type: type, name: str) -> str:
    """Return what a field is called now, given a name of this or an earlier release."""
    return next(
        (new for new, description in describe(config_type).items() if name in description.formerly), name
    )


def describe(config_type: type) -> dict[str, Description]:
    """Return the description of each field of a configuration dataclass, in order."""
    return {field.name: field.metadata["timar"] for field in dataclasses.fields(config_type)}


def check(config: Any) -> None:
    """Check every field against its description; call it from ``__post_init__``.

    Raises:
        ValueError: A field has the wrong type or lies outside its range; the message names it and its value.
    """
    hints = typing.get_type_hints(type(config))
    for name, description in describe(type(config)).items():
        value = getattr(config, name)
        where = f"{type(config).__name__}.{name} is {value!r}"
        if not _has_type(value, hints[name]):
            raise ValueError(f"{where}, expected {_type_name(hints[name])}: {description.text()}")
        if description.choices and value not in description.choices:
            raise ValueError(f"{where}, expected one of {', '.join(description.choices)}: {description.doc}")
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            low = -math.inf if description.minimum is None else description.minimum
            high = math.inf if description.maximum is None else description.maximum
            if not (math.isfinite(value) and low <= value <= high):
                raise ValueError(f"{where}, expected a number from {low:g} to {high:g}: {description.text()}")


def _has_type(value: Any, hint: Any) -> bool:
    if isinstance(hint, types.GenericAlias):
        return isinstance(value, tuple) and all(isinstance(item, hint.__args__[0]) for item in value)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _type_name(hint: Any) -> str:
    return str(hint) if isinstance(hint, types.GenericAlias) else hint.__name__
