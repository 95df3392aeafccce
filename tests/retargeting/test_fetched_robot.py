"""A URDF from a running graph becomes a robot's files, with or without a prefix before each joint's name."""

import re
from pathlib import Path

import pytest
from timar_description.find import find_joint_map, find_urdf
from timar_driver.calibration import write_values
from timar_driver.driver import read_driven_joints
from timar_driver.hardware_file import read_hardware
from timar_retargeting.fetched_robot import common_prefix, write_fetched
from timar_retargeting.robot import load_robot

HEAD = find_urdf().read_text(encoding="utf-8")


def with_prefix(text: str, prefix: str) -> str:
    return re.sub(r'(<(?:joint|mimic)\b[^>]*?(?:name|joint)=")', rf"\g<1>{prefix}", text)


@pytest.mark.parametrize("prefix", ["", "head1_", "left/"])
def test_a_prefixed_robot_is_the_same_robot_by_other_names(tmp_path: Path, prefix: str) -> None:
    found = write_fetched(with_prefix(HEAD, prefix), "here", tmp_path, "mine", "timar_head")
    assert found == prefix
    ours, fetched = load_robot(find_joint_map()), load_robot(tmp_path / "mine.yaml")
    assert fetched.joint_names == tuple(prefix + name for name in ours.joint_names)
    assert fetched.limits.upper.tolist() == ours.limits.upper.tolist()
    assert (fetched.mapper.neutral == ours.mapper.neutral).all()
    driven = read_driven_joints(tmp_path / "mine.urdf")
    hardware = read_hardware(tmp_path / "mine.hardware.yaml", *driven)
    assert hardware.servo_bus().joint_names == driven[0]
    first = driven[0][0]
    write_values(tmp_path / "mine.hardware.yaml", {first: {"zero_tick": 2000}}, *driven)
    changed = read_hardware(tmp_path / "mine.hardware.yaml", *driven).servo_bus()
    assert changed.servos[0].joint == first
    assert changed.servos[0].zero_tick == 2000


def test_the_urdf_alone_is_written_where_no_joint_map_is_named(tmp_path: Path) -> None:
    assert write_fetched(HEAD, "here", tmp_path, "mine", "") == ""
    assert [path.name for path in tmp_path.iterdir()] == ["mine.urdf"]
    assert (tmp_path / "mine.urdf").read_text(encoding="utf-8") == HEAD


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "here: .* is not a URDF, for it is not XML"),
        ("<robot name='a'><group name='head'/></robot>", "here: .*an SRDF and an SDF are other formats"),
        (HEAD.replace("neck_yaw", "pan"), "here: no one prefix fits the joints neck_yaw, .*drives pan"),
    ],
    ids=["empty", "srdf", "other-joints"],
)  # fmt: skip
def test_what_cannot_be_the_robots_is_refused_and_leaves_nothing(
    tmp_path: Path, text: str, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        write_fetched(text, "here", tmp_path, "mine", "timar_head")
    assert not list(tmp_path.iterdir())


def test_two_heads_in_one_urdf_are_not_guessed_between() -> None:
    with pytest.raises(ValueError, match="the prefixes 'a_', 'b_' fit"):
        common_prefix(["pan", "tilt"], ["a_pan", "a_tilt", "b_pan", "b_tilt"])


def test_a_file_that_is_there_is_kept(tmp_path: Path) -> None:
    (tmp_path / "mine.urdf").write_text("mine")
    with pytest.raises(FileExistsError, match=r"mine.urdf is there already"):
        write_fetched(HEAD, "here", tmp_path, "mine", "")
    assert (tmp_path / "mine.urdf").read_text() == "mine"
