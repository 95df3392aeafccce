"""Sliders that move the joints by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import viser
from timar_description.urdf import UrdfJoint

STEP = 0.005
"""Of a slider [rad or m]."""
REPEAT_NS = 1_000_000_000
"""Targets that did not change are said again so often, so that the joints stay."""


class JointSliders:
    """A box to tick, and a slider per joint that moves it while the box is ticked.

    Ticking it puts every slider where its joint is, so that nothing jumps.

    Args:
        gui: The browser's.
        joints: The joints to move.
    """

    def __init__(self, gui: viser.GuiApi, joints: Sequence[UrdfJoint]) -> None:
        self._positions: dict[str, float] = {}
        self._sent: dict[str, float] = {}
        self._due_ns = 0
        # Any: what handles let be set, type checkers do not see.
        self.box: Any = gui.add_checkbox("Move joints by hand", False, hint="Motion is left out meanwhile.")
        self.sliders: dict[str, Any] = {
            joint.name: gui.add_slider(
                joint.name,
                min=joint.lower,
                max=joint.upper,
                step=STEP,
                initial_value=_within(joint, 0.0),
                disabled=True,
            )
            for joint in joints
            if math.isfinite(joint.upper - joint.lower) and joint.upper > joint.lower
        }
        self._joints = {joint.name: joint for joint in joints}
        self.box.on_update(lambda _: self.switch(self.box.value))

    def follow(self, positions: Mapping[str, float]) -> None:
        """Take in where the joints are [rad or m]."""
        self._positions.update(positions)

    def switch(self, is_by_hand: bool) -> None:
        """Begin or end moving joints by hand."""
        for name, slider in self.sliders.items():
            if is_by_hand and name in self._positions:
                slider.value = _within(self._joints[name], self._positions[name])
            slider.disabled = not is_by_hand
        self.box.value = is_by_hand
        self._sent, self._due_ns = {}, 0

    def targets(self, monotonic_ns: int) -> dict[str, float]:
        """Return where the joints are to go, when that is to be said now; else nothing.

        Args:
            monotonic_ns: Machine time now [ns].
        """
        if not self.box.value:
            return {}
        wanted = {name: float(slider.value) for name, slider in self.sliders.items()}
        if wanted == self._sent and monotonic_ns < self._due_ns:
            return {}
        self._sent, self._due_ns = wanted, monotonic_ns + REPEAT_NS
        return wanted


def _within(joint: UrdfJoint, position: float) -> float:
    return min(max(position, joint.lower), joint.upper)
