from __future__ import annotations

from pathlib import Path

import yaml
from timar_description import find_urdf
from timar_description.urdf import read_drawable_urdf

BRINGUP = Path(__file__).resolve().parents[2] / "ros2_ws" / "src" / "timar_bringup"
LAYOUT = yaml.safe_load((BRINGUP / "rviz" / "head.rviz").read_text(encoding="utf-8"))
DISPLAYS = {display["Name"]: display for display in LAYOUT["Visualization Manager"]["Displays"]}


def test_rviz_draws_the_robot_description_it_is_given_late() -> None:
    robot = DISPLAYS["RobotModel"]
    assert robot["Class"] == "rviz_default_plugins/RobotModel"
    assert robot["Enabled"]
    assert robot["Description Source"] == "Topic"
    # Relative, so that it lives in the robot's namespace; latched, as robot_state_publisher publishes once.
    assert robot["Description Topic"]["Value"] == "robot_description"
    assert robot["Description Topic"]["Durability Policy"] == "Transient Local"


def test_rviz_has_frames_at_hand_and_no_grid() -> None:
    assert DISPLAYS["TF"]["Class"] == "rviz_default_plugins/TF"
    assert not DISPLAYS["Grid"]["Enabled"]


def test_rviz_looks_at_the_face_of_a_robot_whose_frames_exist() -> None:
    body = read_drawable_urdf(find_urdf())
    view = LAYOUT["Visualization Manager"]["Views"]["Current"]
    assert LAYOUT["Visualization Manager"]["Global Options"]["Fixed Frame"] == body.root
    assert view["Target Frame"] == body.root
    # Yaw and pitch of an orbit place the eye: along +x, where the head looks.
    assert abs(view["Yaw"]) < 0.5
    face_m = body.base_from_link({})["gaze"][2, 3]
    assert abs(view["Focal Point"]["Z"] - face_m) < 0.1
