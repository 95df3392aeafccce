"""Pose and jaw of the projected canonical face, and their signs, which are the agent's own."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from motion_signals import motion_signals
from projected_face import CAMERA, project
from scipy.spatial.transform import Rotation
from timar_perception.config import PerceptionConfig
from timar_perception.frame_interpolation import FrameInterpolator, HeadObservation
from timar_perception.head_pose import (
    CAMERA_FROM_FACING,
    CameraModel,
    angles_deg,
    camera_mounting,
    find_head_pose,
    find_jaw_opening,
)

DOWN, LEFT, RIGHT_SHOULDER = (0.3, 0.0, 0.0), (0.0, 0.3, 0.0), (0.0, 0.0, 0.3)


def signals_of(neck: tuple[float, float, float], jaw_rad: float = 0.0) -> dict[str, float]:
    """What retargeting reads from the published motion of a head, as it reads the agent's own motion."""
    face = project(neck, jaw_rad)
    pose = find_head_pose(face.landmarks_px, CAMERA)
    observation = HeadObservation(pose.neck, find_jaw_opening(face.landmarks_px, pose, CAMERA))
    (run,) = FrameInterpolator(100, 300).append(0.0, observation)
    return {name: float(values[0]) for name, values in motion_signals(run.motion).items()}


@pytest.mark.parametrize("seed", range(20))
def test_pose_of_a_projected_head_is_found_wherever_it_is(seed: int):
    rng = np.random.default_rng(seed)
    neck = rng.uniform(-0.6, 0.6, 3)
    place_m = np.array([*rng.uniform(-0.2, 0.2, 2), rng.uniform(0.4, 2.0)])
    pose = find_head_pose(project(neck, place_m=place_m).landmarks_px, CAMERA)
    np.testing.assert_allclose(pose.neck, neck, atol=1e-4)
    np.testing.assert_allclose(pose.position_m, place_m, atol=1e-4)
    assert pose.reprojection_error < 1e-4


@pytest.mark.parametrize(
    ("neck", "signal"), [(DOWN, "neck_pitch"), (LEFT, "neck_yaw"), (RIGHT_SHOULDER, "neck_roll")]
)
def test_the_user_nods_turns_and_leans_with_the_agents_signs(neck: tuple[float, float, float], signal: str):
    signals = signals_of(neck)
    assert signals.pop(signal) == pytest.approx(0.3, abs=1e-3)
    assert all(abs(value) < 1e-3 for value in signals.values()), signals


def test_in_the_picture_a_nod_lowers_the_nose_and_a_turn_to_the_left_moves_it_right():
    """The convention, seen in pixels: nothing here is computed by the code under test."""
    nose = 4
    rest, down, left = (project(neck).landmarks_px[nose] for neck in ((0, 0, 0), DOWN, LEFT))
    assert down[1] > rest[1] + 5
    assert left[0] > rest[0] + 5
    right_eye, left_eye = (project(RIGHT_SHOULDER).landmarks_px[eye] for eye in (33, 263))
    assert right_eye[0] < left_eye[0], "whom one faces has the right eye on one's left"
    assert right_eye[1] > left_eye[1] + 5, "leaning to the right shoulder lowers the right eye"


@pytest.mark.parametrize("neck", [(0, 0, 0), DOWN, LEFT, RIGHT_SHOULDER, (-0.4, 0.4, 0.2)])
@pytest.mark.parametrize("jaw_rad", [0.0, 0.02, 0.1, 0.25, 0.5])
def test_jaw_opening_is_found_however_the_head_is_turned(neck: tuple[float, float, float], jaw_rad: float):
    face = project(neck, jaw_rad)
    pose = find_head_pose(face.landmarks_px, CAMERA)
    assert find_jaw_opening(face.landmarks_px, pose, CAMERA) == pytest.approx(jaw_rad, abs=1e-3)
    assert signals_of(neck, jaw_rad)["jaw_opening"] == pytest.approx(jaw_rad, abs=1e-3)


def test_a_face_half_as_large_is_twice_as_far():
    near, far = (
        find_head_pose(project(place_m=(0, 0, far)).landmarks_px, CAMERA).distance_m for far in (0.5, 1.0)
    )
    assert (near, far) == (pytest.approx(0.5, abs=1e-3), pytest.approx(1.0, abs=1e-3))


def test_a_wrong_field_of_view_changes_the_distance_and_hardly_the_angles():
    """Somebody who does not know the camera's angle still gets a usable neck."""
    believed = CameraModel.from_field_of_view(640, 480, 75.0)
    pose = find_head_pose(project((0.2, 0.2, 0.0)).landmarks_px, believed)
    assert np.degrees(np.abs(pose.neck - [0.2, 0.2, 0.0])).max() < 3.0
    assert pose.distance_m < 0.5


@pytest.mark.parametrize(
    ("key", "rotation_of_camera"),
    [
        # About the camera's own axes, right, down and away: how it would be turned by hand.
        ("pitch_deg", (-1.0, 0.0, 0.0)),
        ("yaw_deg", (0.0, -1.0, 0.0)),
        ("roll_deg", (0.0, 0.0, 1.0)),
    ],
)
def test_a_level_head_is_level_however_the_camera_is_turned(
    key: str, rotation_of_camera: tuple[float, float, float]
):
    turned = Rotation.from_rotvec(np.radians(20.0) * np.array(rotation_of_camera))
    # The camera turns; in its own axes the head that stood before it turns the other way.
    neck = Rotation.from_matrix(
        CAMERA_FROM_FACING.T @ turned.inv().as_matrix() @ CAMERA_FROM_FACING
    ).as_rotvec()
    pose = find_head_pose(project(neck).landmarks_px, CAMERA)
    level = camera_mounting(
        **{"yaw_deg": 0.0, "pitch_deg": 0.0, "roll_deg": 0.0, key: 20.0}
    ) * Rotation.from_rotvec(pose.neck)
    assert np.abs(angles_deg(level.as_rotvec())).max() < 0.1
    assert np.abs(angles_deg(pose.neck)).max() == pytest.approx(20.0, abs=0.1)


def test_landmarks_that_are_no_face_fit_badly_or_are_refused():
    nonsense = np.random.default_rng(3).uniform(0, 480, (478, 2))
    error = np.inf
    with contextlib.suppress(ValueError):
        error = find_head_pose(nonsense, CAMERA).reprojection_error
    assert error > PerceptionConfig().max_reprojection_error
