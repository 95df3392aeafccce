"""Sliders move joints only while the box is ticked, and begin where the joints are."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import viser
from timar_description.urdf import UrdfJoint
from timar_view.sliders import REPEAT_NS, JointSliders


def joint(name: str, lower: float, upper: float) -> UrdfJoint:
    return UrdfJoint(name, "a", "b", "revolute", np.eye(4), np.array([0.0, 0.0, 1.0]), lower, upper, name)


@pytest.fixture
def sliders() -> Iterator[JointSliders]:
    server = viser.ViserServer("127.0.0.1", 0, verbose=False)
    endless = joint("wheel", -np.inf, np.inf)
    yield JointSliders(server.gui, [joint("neck_yaw", -0.65, 0.65), joint("jaw", 0.0, 0.44), endless])
    server.stop()


def test_nothing_is_said_until_the_box_is_ticked(sliders: JointSliders) -> None:
    sliders.sliders["jaw"].value = 0.3
    assert sliders.targets(0) == {}
    assert all(slider.disabled for slider in sliders.sliders.values())


def test_ticking_the_box_puts_every_slider_where_its_joint_is(sliders: JointSliders) -> None:
    sliders.follow({"neck_yaw": 0.2, "jaw": -0.01, "tail": 1.0})
    sliders.switch(True)
    assert sliders.targets(0) == {"neck_yaw": 0.2, "jaw": 0.0}
    assert not sliders.sliders["jaw"].disabled


def test_a_moved_slider_is_said_at_once_and_a_still_one_once_a_second(sliders: JointSliders) -> None:
    sliders.switch(True)
    sliders.targets(0)
    assert sliders.targets(10) == {}
    sliders.sliders["jaw"].value = 0.25
    assert sliders.targets(20)["jaw"] == 0.25
    assert sliders.targets(20 + REPEAT_NS - 1) == {}
    assert sliders.targets(20 + REPEAT_NS)["jaw"] == 0.25


def test_unticking_the_box_ends_it(sliders: JointSliders) -> None:
    sliders.switch(True)
    sliders.switch(False)
    assert sliders.targets(0) == {}
    assert all(slider.disabled for slider in sliders.sliders.values())


def test_a_joint_without_limits_has_no_slider(sliders: JointSliders) -> None:
    assert "wheel" not in sliders.sliders
