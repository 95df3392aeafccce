"""A real face, turned by known angles: MediaPipe, the pose and the jaw together find them again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import pytest
from portrait import portrait
from projected_face import CAMERA
from timar_perception.config import PerceptionConfig
from timar_perception.face_tracker import FaceTracker
from timar_perception.head_pose import angles_deg, find_head_pose, find_jaw_opening
from timar_perception.images import CameraImage
from timar_perception.landmarks import FaceLandmarks, MediaPipeLandmarker, find_model

ANGLES_DEG = (-25.0, -12.0, 12.0, 25.0)
AXES = {"yaw": 1, "pitch": 0, "roll": 2}


@pytest.fixture(scope="module")
def landmarker() -> Iterator[MediaPipeLandmarker]:
    landmarker = MediaPipeLandmarker(find_model(""), max_faces=1)
    yield landmarker
    landmarker.close()


class Clock:
    """Times that grow, over all tests of one landmarker."""

    now_ms = 0


def find(landmarker: MediaPipeLandmarker, pixels: np.ndarray) -> FaceLandmarks:
    # Each picture is shown twice: the first finds the face, the second follows it, as in a video.
    for _ in range(2):
        Clock.now_ms += 1000
        faces = landmarker.find(pixels, Clock.now_ms)
    assert len(faces) == 1
    return faces[0]


@pytest.mark.parametrize(("axis", "median_deg"), [("yaw", 4.0), ("pitch", 4.0), ("roll", 1.5)])
def test_known_angles_are_found_again(landmarker: MediaPipeLandmarker, axis: str, median_deg: float):
    errors = []
    for angle in ANGLES_DEG:
        neck = np.zeros(3)
        neck[AXES[axis]] = np.radians(angle)
        pose = find_head_pose(find(landmarker, portrait("astronaut").draw(CAMERA, neck)).landmarks_px, CAMERA)
        errors.append(dict(zip(("yaw", "pitch", "roll"), angles_deg(pose.neck), strict=True))[axis] - angle)
    assert np.median(np.abs(errors)) <= median_deg, errors


def test_a_jaw_that_is_open_further_is_seen_as_open_further(landmarker: MediaPipeLandmarker):
    seen = []
    for jaw_rad in (0.0, 0.06, 0.12, 0.2, 0.3):
        face = find(landmarker, portrait("astronaut").draw(CAMERA, jaw_rad=jaw_rad))
        seen.append(find_jaw_opening(face.landmarks_px, find_head_pose(face.landmarks_px, CAMERA), CAMERA))
    assert (np.diff(seen) > 0.01).all(), seen


def test_an_empty_picture_holds_no_face(landmarker: MediaPipeLandmarker):
    Clock.now_ms += 1000
    assert landmarker.find(np.full((480, 640, 3), 90, np.uint8), Clock.now_ms) == ()


@pytest.mark.parametrize(("rotation_deg", "is_mirrored"), [(90, False), (180, False), (270, True), (0, True)])
def test_a_face_in_a_turned_or_mirrored_image_is_found_with_the_right_sign(rotation_deg, is_mirrored):
    pixels = portrait("astronaut").draw(CAMERA, (0.0, 0.3, 0.0))
    pixels = np.rot90(
        pixels, rotation_deg // 90
    )  # Counterclockwise: as a camera sees that is turned clockwise.
    pixels = np.ascontiguousarray(pixels[:, ::-1] if is_mirrored else pixels)
    # Across the image as the camera gives it, which is narrower where the camera lies on its side.
    across_deg = 2.0 * np.degrees(np.arctan(0.5 * pixels.shape[1] / CAMERA.focal_px))
    config = PerceptionConfig(
        image_rotation_deg=rotation_deg,
        image_mirrored=is_mirrored,
        settle_ms=0,
        field_of_view_deg=float(across_deg),
    )
    with contextlib.closing(FaceTracker(config)) as tracker:
        results = [tracker.track(CameraImage(pixels, 33_000_000 * number)) for number in range(1, 5)]
    yaw_deg = angles_deg(results[-1].observation.neck)[0]
    assert yaw_deg == pytest.approx(np.degrees(0.3), abs=5.0)
