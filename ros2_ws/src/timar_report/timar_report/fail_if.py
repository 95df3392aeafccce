"""Conditions on a score, such as ``late_turns > 0``, read without running anything."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

from timar_common.suggest import nearest

COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Lt: operator.lt, ast.LtE: operator.le,
    ast.Eq: operator.eq, ast.NotEq: operator.ne,
}  # fmt: skip
ARITHMETIC: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
}  # fmt: skip
LONGEST = 500


class UnknownValueError(ValueError):
    """A condition asks for a number that the bag does not tell."""


class Condition:
    """One condition: comparisons of numbers and dotted names, joined by and, or, not.

    Args:
        text: For example ``late_turns > 0 or by_floor.speaking.neck_jerk_rad_s3 > 400``.

    Raises:
        ValueError: It is no such condition; the message shows what cannot be understood.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        if len(text) > LONGEST:
            raise ValueError(f"a condition of {len(text)} letters is too long, expected at most {LONGEST}")
        try:
            self._tree = ast.parse(text.strip(), mode="eval").body
        except SyntaxError as error:
            raise ValueError(
                f"the condition {text!r} cannot be read ({error.msg}); expected for example late_turns > 0"
            ) from None
        _require_condition(self._tree, text)

    def holds(self, numbers: Mapping[str, Any]) -> bool:
        """Tell whether it holds for a score.

        Args:
            numbers: Nested; what cannot be told is None.

        Raises:
            ValueError: It names a number that no score has.
            UnknownValueError: It names one that this score cannot tell.
        """
        return bool(self._value(self._tree, numbers))

    def _value(self, node: ast.AST, numbers: Mapping[str, Any]) -> Any:
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, (ast.Name, ast.Attribute)):
            return _look_up(_dotted(node), numbers)
        if isinstance(node, ast.BoolOp):
            values = (self._value(part, numbers) for part in node.values)
            return all(values) if isinstance(node.op, ast.And) else any(values)
        if isinstance(node, ast.UnaryOp):
            value = self._value(node.operand, numbers)
            return not value if isinstance(node.op, ast.Not) else -value
        if isinstance(node, ast.BinOp):
            left, right = self._value(node.left, numbers), self._value(node.right, numbers)
            try:
                return ARITHMETIC[type(node.op)](left, right)
            except ZeroDivisionError:
                raise UnknownValueError(f"{self.text!r} divides by zero here, so it cannot be told") from None
        if isinstance(node, ast.Compare):
            left = self._value(node.left, numbers)
            for comparison, part in zip(node.ops, node.comparators, strict=True):
                right = self._value(part, numbers)
                if not COMPARISONS[type(comparison)](left, right):
                    return False
                left = right
            return True
        raise TypeError(f"{type(node).__name__} was let through by the check of the condition {self.text!r}")


def _require_condition(node: ast.AST, text: str) -> None:
    """Refuse everything but comparisons, arithmetic and names, before anything is evaluated."""
    if not isinstance(node, (ast.Compare, ast.BoolOp)) and not (
        isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)
    ):
        raise ValueError(f"{text!r} compares nothing; expected for example late_turns > 0")
    for part in ast.walk(node):
        is_known = isinstance(
            part,
            (ast.Compare, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.BinOp, ast.Load),
        )
        is_known |= type(part) in COMPARISONS or type(part) in ARITHMETIC
        is_known |= isinstance(part, (ast.Name, ast.Attribute))
        is_known |= isinstance(part, ast.Constant) and type(part.value) in (int, float)
        if not is_known:
            raise ValueError(
                f"the condition {text!r} holds a {type(part).__name__}; expected numbers, names, + - * /, "
                "comparisons, and, or, not"
            )
        if isinstance(part, ast.Attribute):
            _dotted(part)


def _dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    raise ValueError("a name in a condition is words joined by dots, for example by_floor.idle.still_share")


def _look_up(name: str, numbers: Mapping[str, Any]) -> float:
    found: Any = numbers
    for word in name.split("."):
        if not isinstance(found, Mapping) or word not in found:
            near = nearest(name, _names(numbers))
            hint = f"; did you mean {near}?" if near else ""
            raise ValueError(f"a score has no number {name!r}{hint}")
        found = found[word]
    if found is None:
        raise UnknownValueError(f"{name} cannot be told from this bag")
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        raise ValueError(f"{name} is {type(found).__name__}, expected a number of the score")
    return float(found)


def _names(numbers: Mapping[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key, value in numbers.items():
        name = f"{prefix}{key}"
        found += _names(value, f"{name}.") if isinstance(value, Mapping) else [name]
    return found
