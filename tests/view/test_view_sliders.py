"""Sliders move joints only while the box is ticked, and begin where the joints are."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import viser
from timar_description.urdf import UrdfJoint
from timar_view.sliders import JointSliders


def joint(name: str, lower: float, upper: float) -> UrdfJoint:
    return UrdfJoint(name, "a", "b", "revolute", np.eye(4), np.array([0.0, 0.0, 1.0]), lower, upper, name)


@pytest.fixture
def sliders() -> Iterator[JointSliders]:
    server = viser.ViserServer("127.0.0.1", 0, verbose=False)
    endless = joint("wheel", -np.inf, np.inf)
    yield JointSliders(server.gui, [joint("neck_yaw", -0.65, 0.65), joint("jaw", 0.0, 0.44), endless])
    server.stop()


def test_there_are_no_targets_until_the_box_is_checked(sliders: JointSliders) -> None:
    sliders.sliders["jaw"].value = 0.3
    assert sliders.targets() == {}
    assert all(slider.disabled for slider in sliders.sliders.values())


def test_checking_the_box_sets_every_slider_to_its_joint(sliders: JointSliders) -> None:
    sliders.set_positions({"neck_yaw": 0.2, "jaw": -0.01, "tail": 1.0})
    sliders.switch(True)
    assert sliders.targets() == {"neck_yaw": 0.2, "jaw": 0.0}
    assert not sliders.sliders["jaw"].disabled
    sliders.sliders["jaw"].value = 0.25
    assert sliders.targets()["jaw"] == 0.25


def test_unchecking_the_box_ends_it(sliders: JointSliders) -> None:
    sliders.switch(True)
    sliders.switch(False)
    assert sliders.targets() == {}
    assert all(slider.disabled for slider in sliders.sliders.values())


def test_a_joint_without_limits_has_no_slider(sliders: JointSliders) -> None:
    assert "wheel" not in sliders.sliders
