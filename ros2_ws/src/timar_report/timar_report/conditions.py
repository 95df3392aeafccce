"""Conditions on a score, such as ``late_turns > 0``: only comparisons and arithmetic are evaluated."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from typing import Any

from timar_common.suggest import nearest

from timar_report.statistics import flat

ALLOWED = (
    ast.Compare, ast.Gt, ast.GtE, ast.Lt, ast.LtE, ast.Eq, ast.NotEq, ast.BoolOp, ast.And, ast.Or,
    ast.UnaryOp, ast.Not, ast.USub, ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Name, ast.Attribute,
    ast.Load,
)  # fmt: skip
LONGEST = 500


class UnknownValueError(ValueError):
    """A condition asks for a number that is not known for the bag."""


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
            tree = ast.parse(text.strip(), mode="eval")
        except SyntaxError as error:
            raise ValueError(
                f"the condition {text!r} cannot be read ({error.msg}); expected for example late_turns > 0"
            ) from None
        _require_condition(tree.body, text)
        # What is left is comparisons, arithmetic and names, and each dotted name becomes one name: evaluating
        # it calls and reads nothing but the score.
        self._code = compile(ast.fix_missing_locations(_DottedNames().visit(tree)), "<condition>", "eval")

    def holds(self, numbers: Mapping[str, Any]) -> bool:
        """Return whether it holds for a score.

        Args:
            numbers: Nested; what is not known is None.

        Raises:
            ValueError: It names a number that no score has.
            UnknownValueError: It names one that is not known for this score.
        """
        try:
            return bool(eval(self._code, {"__builtins__": {}}, _ScoreNames(numbers)))
        except ZeroDivisionError:
            raise UnknownValueError(f"{self.text!r} divides by zero here, so it is not known") from None


class _DottedNames(ast.NodeTransformer):
    """Make one name of ``by_floor.idle.still_share``."""

    def visit_Attribute(self, node: ast.Attribute) -> ast.Name:
        return ast.Name(ast.unparse(node), ast.Load())


class _ScoreNames(dict):
    """Look names up in a score."""

    def __init__(self, numbers: Mapping[str, Any]) -> None:
        super().__init__(flat(numbers))

    def __missing__(self, name: str) -> float:
        near = nearest(name, self)
        raise ValueError(f"a score has no number {name!r}" + (f"; did you mean {near}?" if near else ""))

    def __getitem__(self, name: str) -> float:
        value = super().__getitem__(name)
        if value is None:
            raise UnknownValueError(f"{name} is not known for this bag")
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"{name} is {type(value).__name__}, expected a number of the score")
        return float(value)


def _require_condition(tree: ast.expr, text: str) -> None:
    """Refuse everything but comparisons, arithmetic and names, before anything is evaluated."""
    is_negated = isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.Not)
    if not isinstance(tree, (ast.Compare, ast.BoolOp)) and not is_negated:
        raise ValueError(f"{text!r} compares nothing; expected for example late_turns > 0")
    for part in ast.walk(tree):
        is_number = isinstance(part, ast.Constant) and type(part.value) in (int, float)
        if not is_number and not isinstance(part, ALLOWED):
            raise ValueError(
                f"the condition {text!r} holds a {type(part).__name__}; expected numbers, names, + - * /, "
                "comparisons, and, or, not"
            )
        if isinstance(part, ast.Attribute) and not isinstance(part.value, (ast.Attribute, ast.Name)):
            raise ValueError(
                "a name in a condition is words joined by dots, for example by_floor.idle.still_share"
            )


def judge(conditions: Iterable[Condition], numbers: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return which conditions hold for a score, and one sentence for each that is not known for it.

    Raises:
        ValueError: A condition names a number that no score has.
    """
    held, unknown = [], []
    for condition in conditions:
        try:
            held += [condition.text] if condition.holds(numbers) else []
        except UnknownValueError as error:
            unknown.append(f"{condition.text} is not known: {error}")
    return held, unknown
