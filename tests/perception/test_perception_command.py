"""`timar perception` says what a camera shows of the user, or why it cannot."""

from __future__ import annotations

import numpy as np
import pytest
from projected_face import CAMERA, project
from timar_perception.face_tracker import TrackingResult
from timar_perception.frame_interpolation import UNSEEN, HeadObservation
from timar_perception.head_pose import find_head_pose
from timar_perception.perception_command import describe_check, main


def test_a_check_proposes_the_cameras_pitch_and_names_the_commonest_reason():
    neck = np.radians([12.0, -3.0, 0.0])
    pose = find_head_pose(project(neck).landmarks_px, CAMERA)
    seen = TrackingResult(HeadObservation(neck, 0.1), "", 1, 90.0, pose)
    dark = TrackingResult(UNSEEN, "too dark: brightness 3 of 255", brightness=3.0)
    lost = TrackingResult(UNSEEN, "no face in the image", brightness=90.0)
    text = describe_check([seen, seen, dark, lost, lost], [20.0, 22.0, 1.0, 9.0, 9.5], 29.7, 5.0)
    assert "29.7 a second" in text
    assert "9.5 ms an image" in text
    assert "in 2 of 5 images" in text
    assert "otherwise: no face in the image" in text
    assert "pitch +12.0" in text
    assert "0.100 to 0.100 rad" in text
    assert "camera_pitch_deg:=17" in text


def test_a_check_that_saw_nobody_says_so():
    text = describe_check([TrackingResult(UNSEEN, "no face in the image")], [8.0], 30.0, 0.0)
    assert "in 0 of 1 images" in text
    assert "head" not in text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--seconds", "0"], "--seconds is 0, expected 1 to 3600"),
        (["--file", "nobody.mp4"], "there is no video nobody.mp4"),
        (["--width", "1"], "width is 1, expected a number from 64 to 4096"),
        (["--camera", "99"], "the camera 99 cannot be opened"),
    ],
)
def test_a_check_that_cannot_run_names_what_is_wrong(
    arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
):
    assert main(["check", *arguments]) == 1
    assert text in capsys.readouterr().err


def test_cameras_are_listed(capsys: pytest.CaptureFixture[str]):
    assert main(["cameras"]) == 0
    assert "/dev/video" in capsys.readouterr().out
