"""`timar robot check`: range use as numbers, text and picture; motion from npz and bag."""

from pathlib import Path

import numpy as np
import pytest
from timar_retargeting.range_picture import text_of
from timar_retargeting.range_use import example_motion, range_use, read_motion
from timar_retargeting.robot_command import main


def test_range_use_is_what_the_joints_were_commanded_to(robot):
    motion = np.zeros((500, 56))
    motion[:, 54] = 0.3 * np.sin(2 * np.pi * 0.5 * np.arange(500) / 25.0)
    uses = {use.joint: use for use in range_use(robot, motion)}
    assert uses["neck_yaw"].highest_rad == pytest.approx(0.31, abs=0.02)
    assert uses["neck_yaw"].velocity_share == pytest.approx(0.3 * np.pi / 3.5, rel=0.1)
    assert uses["neck_yaw"].advice() == ""
    assert uses["left_upper_lid"].highest_rad > 1.5, "life is in it"


def test_motion_too_large_or_too_fast_is_told_with_what_to_change(robot):
    wide, fast = np.zeros((500, 56)), np.zeros((500, 56))
    wide[:, 54] = 1.5 * np.sign(np.sin(np.arange(500) / 40.0))
    fast[:, 54] = 0.2 * np.sin(2 * np.pi * 4.0 * np.arange(500) / 25.0)
    for motion, words in ((wide, "lower its gains"), (fast, "too fast for its limits")):
        advice = {use.joint: use.advice() for use in range_use(robot, motion)}
        assert words in advice["neck_yaw"]


def test_the_text_has_a_line_per_joint_with_its_range(robot):
    text = text_of(range_use(robot, example_motion(5.0)))
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert [line.split()[0] for line in lines[1:]] == list(robot.joint_names)
    assert all(line.count("|") == 2 for line in lines[1:])


def test_check_draws_a_picture_and_reads_motion_of_the_data_sets_form(tmp_path, capsys):
    rng = np.random.default_rng(0)
    pose = np.cumsum(rng.normal(0, 0.01, (100, 6)), axis=0)
    path, png = tmp_path / "clip.npz", tmp_path / "use.png"
    np.savez(path, exp=rng.normal(0, 1, (100, 50)), pose=pose)
    motion = read_motion(path)
    np.testing.assert_array_equal(
        motion[:, 53:56], pose[:, :3].astype(np.float32), err_msg="neck comes first in pose"
    )
    assert main(["check", "timar_head", "--motion", str(path), "--png", str(png)]) == 0
    assert png.read_bytes()[:4] == b"\x89PNG"
    assert "12 joints agree" in capsys.readouterr().out


def test_a_mistake_in_the_yaml_ends_the_check_with_its_line(tmp_path, capsys):
    path = tmp_path / "odd.yaml"
    path.write_text("robot: odd\nurdf: odd.urdf\njoints:\n  pan: {sings: 1}\n")
    (tmp_path / "odd.urdf").write_text("<robot name='odd'><link name='a'/></robot>")
    assert main(["check", str(path)]) == 1
    assert "odd.yaml, line 4" in capsys.readouterr().err


@pytest.mark.parametrize("content", [{"other": np.zeros(3)}, {"motion": np.zeros((3, 7))}])
def test_motion_that_is_none_is_refused(tmp_path, capsys, content):
    path = tmp_path / "clip.npz"
    np.savez(path, **content)
    assert main(["check", "--motion", str(path)]) == 1
    assert "expected" in capsys.readouterr().err


def test_a_bag_that_is_none_is_refused(tmp_path, capsys):
    assert main(["check", "--motion", str(tmp_path)]) == 1
    assert "cannot be read as a bag" in capsys.readouterr().err


def test_motion_of_a_bag_of_an_earlier_release_is_read_without_its_previews():
    bag = Path(__file__).parents[1] / "data" / "v0_1" / "bag"
    motion = read_motion(bag)
    assert motion.shape == (80, 56)
    np.testing.assert_array_equal(motion, read_motion(bag / "bag.mcap"))
    assert np.isfinite(motion).all()
