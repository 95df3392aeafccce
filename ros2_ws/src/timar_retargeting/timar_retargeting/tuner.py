"""Move one joint at a time by short commands, and keep what was found for the robot's YAML."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from timar_retargeting.mapping import JointMap

HELP = """JOINT            choose a joint            JOINT VALUE   choose it and go there [rad]
VALUE            go there [rad]            + or -        one step up or down
step VALUE       size of a step [rad]      show          all joints, where they are
low, high, zero  keep this position as lower limit, upper limit, offset
help             this                      quit          end and write what was kept
"""
KEPT = ("low", "high", "zero")


class Tuner:
    """A conversation about joints: a line in, an answer out, and where the joints ought to be.

    Args:
        joints: Of the robot.
    """

    def __init__(self, joints: Sequence[JointMap]) -> None:
        self._joints = {joint.name: joint for joint in joints}
        self.targets: dict[str, float] = {}
        """Joints that were moved, and where to [rad]."""
        self.measured: dict[str, float] = {}
        """Where joints are, as far as it is known [rad]."""
        self.chosen = joints[0].name
        self.step_rad = 0.05
        self.is_over = False
        self._kept: dict[str, dict[str, float]] = {}

    def update(self, positions: Mapping[str, float]) -> None:
        """Take in where joints are."""
        self.measured.update({name: p for name, p in positions.items() if name in self._joints})

    def execute(self, line: str) -> str:
        """Carry out one line and return the answer."""
        words = line.split()
        if not words:
            return self._position_text()
        first = words[0]
        if first in ("quit", "q", "exit"):
            self.is_over = True
            return ""
        if first == "help":
            return HELP
        if first == "show":
            return "\n".join(self._position_text(name) for name in self._joints)
        if first in ("+", "-"):
            return self._go(self._where() + (self.step_rad if first == "+" else -self.step_rad))
        if first in KEPT:
            self._kept.setdefault(self.chosen, {})[first] = self._where()
            return f"{self.chosen}: {first} is {self._where():+.3f} rad"
        if first == "step" and len(words) == 2 and _number(words[1]) is not None:
            self.step_rad = abs(float(words[1]))
            return f"a step is {self.step_rad:g} rad"
        value = _number(words[-1])
        if first in self._joints and len(words) <= 2:
            self.chosen = first
            if len(words) == 1:
                return self._position_text()
        elif len(words) > 1 or value is None:
            joints = ", ".join(self._joints)
            return f"{line.strip()!r} is no command and no joint; try help. The joints are: {joints}"
        return f"{words[-1]!r} is no finite number" if value is None else self._go(value)

    def yaml(self) -> str:
        """Return what was kept, as lines for the robot's YAML; empty when nothing was."""
        lines = []
        for name, kept in self._kept.items():
            joint = self._joints[name]
            lower, upper = kept.get("low", joint.lower_rad), kept.get("high", joint.upper_rad)
            lines.append(f"  {name}:")
            if "zero" in kept:
                lines.append(f"    offset_rad: {kept['zero']:.4g}")
            if "low" in kept or "high" in kept:
                lines.append(f"    position_rad: [{min(lower, upper):.4g}, {max(lower, upper):.4g}]")
        return "\n".join(["joints:", *lines]) + "\n" if lines else ""

    def _where(self) -> float:
        joint = self._joints[self.chosen]
        return self.targets.get(self.chosen, self.measured.get(self.chosen, joint.offset_rad))

    def _go(self, value: float) -> str:
        joint = self._joints[self.chosen]
        target = min(max(value, joint.lower_rad), joint.upper_rad)
        self.targets[self.chosen] = target
        return f"{self.chosen} goes to {target:+.3f} rad" + (
            "" if target == value else f", its limit in the YAML (asked for {value:+.3f})"
        )

    def _position_text(self, name: str = "") -> str:
        joint = self._joints[name or self.chosen]
        there = f"{self.measured[joint.name]:+.3f}" if joint.name in self.measured else "unknown"
        return f"{joint.name}: at {there} rad, between {joint.lower_rad:+.3f} and {joint.upper_rad:+.3f}"


def _number(word: str) -> float | None:
    try:
        value = float(word)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
