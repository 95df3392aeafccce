"""Sliders of the page that move the joints by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import viser
from timar_description.urdf import UrdfJoint

STEP = 0.005
"""Of a slider [rad or m]."""


class JointSliders:
    """A checkbox, and a slider per joint that moves it while the box is checked.

    Checking it sets every slider to its joint's position, so that nothing jumps.

    Args:
        gui: The browser's.
        joints: The joints to move.
    """

    def __init__(self, gui: viser.GuiApi, joints: Sequence[UrdfJoint]) -> None:
        self._positions: dict[str, float] = {}
        # Any: type checkers do not see what handles let be set.
        self.box: Any = gui.add_checkbox("Move joints by hand", False, hint="Motion is left out meanwhile.")
        self.sliders: dict[str, Any] = {
            joint.name: gui.add_slider(
                joint.name,
                min=joint.lower,
                max=joint.upper,
                step=STEP,
                initial_value=_clamped(joint, 0.0),
                disabled=True,
            )
            for joint in joints
            if math.isfinite(joint.upper - joint.lower) and joint.upper > joint.lower
        }
        self._joints = {joint.name: joint for joint in joints}
        self.box.on_update(lambda _: self.switch(self.box.value))

    def set_positions(self, positions: Mapping[str, float]) -> None:
        """Take where the joints are [rad or m]; moved sliders stay where they are."""
        self._positions.update(positions)

    def switch(self, is_by_hand: bool) -> None:
        """Begin or end moving joints by hand."""
        for name, slider in self.sliders.items():
            if is_by_hand and name in self._positions:
                slider.value = _clamped(self._joints[name], self._positions[name])
            slider.disabled = not is_by_hand
        self.box.value = is_by_hand

    def targets(self) -> dict[str, float]:
        """Return where the joints are to go by hand [rad or m]; empty while the box is not checked."""
        return {name: float(slider.value) for name, slider in self.sliders.items()} if self.box.value else {}


def _clamped(joint: UrdfJoint, position: float) -> float:
    return min(max(position, joint.lower), joint.upper)
