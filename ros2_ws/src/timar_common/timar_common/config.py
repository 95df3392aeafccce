"""Described, checked configuration: a frozen dataclass per component, each field with doc, unit, range."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Sequence
from typing import Annotated, Any


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
    is_live: bool = False
    """Whether a change takes effect while the node runs; others do when it is configured again."""

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
    is_live: bool = False,
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
        is_live: Whether a change takes effect while the node runs.
    """
    description = Description(doc, unit, minimum, maximum, tuple(choices), tuple(formerly), is_live)
    return dataclasses.field(default=default, metadata={"timar": description})


def number(
    default: Any,
    doc: str,
    minimum: float,
    maximum: float,
    unit: str = "",
    *,
    formerly: Sequence[str] = (),
    is_live: bool = False,
) -> Any:
    """Declare a field that is a number with a range, which every number has; else as `option`."""
    return option(
        default, doc, unit=unit, minimum=minimum, maximum=maximum, formerly=formerly, is_live=is_live
    )


def current_name(config_type: type, name: str) -> str:
    """Return what a field is called now, given a name of this or an earlier release."""
    return next(
        (new for new, description in describe(config_type).items() if name in description.formerly), name
    )


def describe(config_type: type) -> dict[str, Description]:
    """Return the description of each field of a configuration dataclass, in order."""
    return {field.name: field.metadata["timar"] for field in dataclasses.fields(config_type)}


def check(config: Any) -> None:
    """Check every field against its type hint and its description; call it from ``__post_init__``.

    A hint may carry its range: ``batch: Count = 8``, ``user_drop: Probability = 0.1``. Lists, as YAML gives
    them, become tuples where the hint asks for one.

    Raises:
        ValueError: A field has the wrong type or lies outside its range; the message names it and its value.
    """
    hints = typing.get_type_hints(type(config), include_extras=True)
    for field in dataclasses.fields(config):
        value, hint = getattr(config, field.name), hints[field.name]
        if isinstance(value, list) and typing.get_origin(_bare(hint)) is tuple:
            value = tuple(value)
            object.__setattr__(config, field.name, value)
        where = f"{type(config).__name__}.{field.name} is {value!r}"
        description: Description | None = field.metadata.get("timar")
        help_text = f": {description.text()}" if description else ""
        if expected := _mismatch(value, hint):
            raise ValueError(f"{where}, expected {expected}{help_text}")
        if description is None:
            continue
        if description.choices and value not in description.choices:
            raise ValueError(f"{where}, expected one of {', '.join(description.choices)}: {description.doc}")
        low = -math.inf if description.minimum is None else description.minimum
        high = math.inf if description.maximum is None else description.maximum
        if expected := Range(low, high).mismatch(value):
            raise ValueError(f"{where}, expected {expected}{help_text}")


@dataclasses.dataclass(frozen=True)
class Range:
    """Which finite numbers a field may hold; put into its hint by ``Annotated``."""

    minimum: float = -math.inf
    maximum: float = math.inf
    is_minimum_excluded: bool = False
    is_maximum_excluded: bool = False

    def mismatch(self, value: Any) -> str:
        """Return what was expected instead of a number outside; empty for one inside, and for no number."""
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            return ""
        is_inside = math.isfinite(value) and self.minimum <= value <= self.maximum
        is_inside &= not (self.is_minimum_excluded and value == self.minimum)
        is_inside &= not (self.is_maximum_excluded and value == self.maximum)
        low = f"above {self.minimum:g}" if self.is_minimum_excluded else f"from {self.minimum:g}"
        high = f" below {self.maximum:g}" if self.is_maximum_excluded else f" to {self.maximum:g}"
        return "" if is_inside else f"a number {low}{high if math.isfinite(self.maximum) else ''}"


@dataclasses.dataclass(frozen=True)
class Rising:
    """A (low, high) pair of a field's hint must not fall."""

    def mismatch(self, value: Any) -> str:
        """Return what was expected instead of a pair that falls; empty for one that does not."""
        return "" if value[0] <= value[1] else "(low, high) with low at most high"


@dataclasses.dataclass(frozen=True)
class OneOf:
    """The only strings that a field may hold."""

    choices: tuple[str, ...]

    def mismatch(self, value: Any) -> str:
        """Return what was expected instead of another string; empty for one of them."""
        return "" if value in self.choices else f"one of {', '.join(self.choices)}"


Count = Annotated[int, Range(1)]
"""A whole number of at least 1."""
CountOrZero = Annotated[int, Range(0)]
"""A whole number of at least 0."""
Probability = Annotated[float, Range(0.0, 1.0)]
"""A number from 0 to 1."""
Positive = Annotated[float, Range(0.0, is_minimum_excluded=True)]
"""A finite number above 0."""
NonNegative = Annotated[float, Range(0.0)]
"""A finite number of at least 0."""
Interval = Annotated[tuple[float, float], Rising()]
"""A pair (low, high) of finite numbers."""


def _bare(hint: Any) -> Any:
    """Return a hint without its annotations."""
    return typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint


def _mismatch(value: Any, hint: Any) -> str:
    """Return what a hint expects instead of a value; empty where the value fits."""
    if typing.get_origin(hint) is Annotated:
        bare, *rules = typing.get_args(hint)
        # A rule may rely on the type, so it is asked only where that fits.
        return _mismatch(value, bare) or next(filter(None, (rule.mismatch(value) for rule in rules)), "")
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, tuple):
            return f"a list of {_name(arguments[0])}"
        each = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
        if len(each) != len(value):
            return f"{len(each)} numbers"
        wrong = [found for item, kind in zip(value, each, strict=True) if (found := _mismatch(item, kind))]
        return f"a list in which each is {wrong[0]}" if wrong else ""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        wrong = [_mismatch(value, kind) for kind in arguments]
        return "" if not all(wrong) else wrong[0]
    if hint is float:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return "" if is_number and math.isfinite(value) else "float, a finite number"
    if hint is int:
        return "" if isinstance(value, int) and not isinstance(value, bool) else "int"
    kind = typing.get_origin(hint) or hint
    return "" if kind is Any or isinstance(value, kind) else _name(hint)


def _name(hint: Any) -> str:
    return getattr(_bare(hint), "__name__", str(hint))
