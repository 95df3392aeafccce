"""A robot that another package brings: installed with pip, found by its name, checked, driven and drawn."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from example_packages import install_example
from timar_common.messages import new
from timar_description.find import find_joint_map, find_urdf, robot_names
from timar_description.urdf import read_drawable_urdf
from timar_driver.driver import read_driven_joints
from timar_driver.hardware_file import hardware_file_of, read_hardware
from timar_retargeting.config import RetargetingConfig
from timar_retargeting.retargeting_component import RetargetingComponent
from timar_retargeting.robot_command import main

NOW_NS = 1_000_000_000_000


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_example("timar_example_robot", tmp_path_factory.mktemp("robot"))


@pytest.fixture
def tiny_head(installed: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.syspath_prepend(str(installed))
    importlib.invalidate_caches()
    return "tiny_head"


def test_without_the_package_the_robot_is_unknown_and_those_known_are_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"The robots are: reachy_mini, timar_head"):
        find_joint_map("tiny_head")


def test_its_files_are_found_by_its_name_and_agree(tiny_head: str, installed: Path, capsys) -> None:
    assert tiny_head in robot_names()
    assert find_urdf(tiny_head) == installed / "timar_example_robot" / "tiny_head.urdf"
    assert read_drawable_urdf(find_urdf(tiny_head)).root == "base_link"
    assert main(["check", tiny_head, "--seconds", "5"]) == 0
    assert "tiny_head: 2 joints agree with tiny_head.urdf" in capsys.readouterr().out


def test_its_servos_fit_its_urdf(tiny_head: str) -> None:
    urdf = find_urdf(tiny_head)
    path = hardware_file_of(urdf)
    assert path is not None
    assert [servo.joint for servo in read_hardware(path, *read_driven_joints(urdf)).servo_bus().servos] == [
        "pan",
        "jaw",
    ]


def test_retargeting_moves_it(tiny_head: str) -> None:
    component = RetargetingComponent(RetargetingConfig(robot=tiny_head))
    component.start(NOW_NS)
    component.handle("joint_states", component.neutral_joint_states(NOW_NS), NOW_NS)
    targets = new("sensor_msgs/msg/JointState", name=["pan"], position=[0.4])
    output, _held_by = component.handle("joint_targets", targets, NOW_NS)
    assert output.message.joint_names == ["pan", "jaw"]
    assert output.message.points[-1].positions[0] == pytest.approx(0.4, abs=1e-4)
