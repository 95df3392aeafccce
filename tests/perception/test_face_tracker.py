"""Image after image: seen, or unseen with the reason; never a guess, and back again."""

from __future__ import annotations

import numpy as np
import pytest
from projected_face import CAMERA, MS, ScriptedLandmarker, project
from timar_common.diagnostics import Level
from timar_perception.config import PerceptionConfig
from timar_perception.face_tracker import FaceTracker, TrackingResult
from timar_perception.head_pose import CameraModel
from timar_perception.images import CameraImage
from timar_perception.landmarks import FaceLandmarks

STEP_NS = 33 * MS
LIT = np.full((480, 640, 3), 100, np.uint8)
BLACK = np.zeros((480, 640, 3), np.uint8)


class Camera:
    """A tracker, and a camera that gives it one image after the other."""

    def __init__(self, landmarker: ScriptedLandmarker, **config: object) -> None:
        self.landmarker = landmarker
        self.tracker = FaceTracker(PerceptionConfig(**{"settle_ms": 0, **config}), landmarker)
        self.now_ns = 0

    def see(
        self, *faces: FaceLandmarks, pixels: np.ndarray = LIT, step_ns: int = STEP_NS
    ) -> TrackingResult | None:
        self.landmarker.faces = faces
        self.now_ns += step_ns
        return self.tracker.track(CameraImage(pixels, self.now_ns))


@pytest.fixture
def camera(landmarker: ScriptedLandmarker) -> Camera:
    return Camera(landmarker)


def test_a_face_is_seen_with_neck_and_jaw_and_without_expression(camera: Camera):
    result = camera.see(project((0.1, -0.2, 0.0), 0.1))
    np.testing.assert_allclose(result.observation.neck, (0.1, -0.2, 0.0), atol=1e-3)
    assert result.observation.jaw_rad == pytest.approx(0.1, abs=1e-3)
    assert result.observation.expression is None
    assert result.why_unseen == ""


def test_an_empty_room_is_unseen_for_minutes_and_then_somebody_comes(camera: Camera):
    for _ in range(30 * 60 * 2):
        assert camera.see().observation.neck is None
    assert camera.tracker.report().message == "the user is unseen: no face in the image"
    assert camera.see(project()).observation.neck is not None
    assert camera.tracker.report().message == "running"


def test_black_images_are_too_dark_and_light_brings_the_user_back(camera: Camera):
    camera.see(project())
    result = camera.see(project(), pixels=BLACK)
    assert result.observation.neck is None
    assert result.why_unseen == "too dark: brightness 0 of 255"
    report = camera.tracker.report()
    assert (report.level, report.message) == (Level.WARN, "too dark: brightness 0 of 255")
    assert camera.see(project()).observation.neck is not None


@pytest.mark.parametrize("neck", [(0.0, 1.2, 0.0), (-1.2, 0.0, 0.0)])
def test_a_head_turned_away_is_unseen(camera: Camera, neck: tuple[float, float, float]):
    result = camera.see(project(neck))
    assert result.observation.neck is None
    assert "turned away" in result.why_unseen


def test_landmarks_that_fit_no_head_are_unseen(camera: Camera):
    crushed = project()
    rng = np.random.default_rng(0)
    crushed = FaceLandmarks(crushed.landmarks_px + rng.normal(0, 30, crushed.landmarks_px.shape), {})
    assert camera.see(crushed).observation.neck is None


def test_another_person_is_masked_for_a_moment_and_not_mixed_with_the_first(landmarker: ScriptedLandmarker):
    camera = Camera(landmarker, settle_ms=200, face_timeout_ms=300)
    for _ in range(20):
        camera.see(project((0.0, 0.4, 0.0), place_m=(-0.3, 0.0, 0.7)))
    results = [camera.see(project((0.0, -0.4, 0.0), place_m=(0.3, 0.0, 0.7))) for _ in range(40)]
    necks = [result.observation.neck for result in results]
    first = next(number for number, neck in enumerate(necks) if neck is not None)
    assert first * 33 >= 200
    assert all(result.why_unseen for result in results[:first])
    np.testing.assert_allclose(necks[first], (0.0, -0.4, 0.0), atol=1e-3)
    assert camera.tracker.switches == 1


def test_images_that_run_backwards_are_left_out_until_they_do_so_for_good(camera: Camera):
    camera.see(project(), step_ns=10_000 * MS)
    assert camera.see(project(), step_ns=-100 * MS) is None
    assert camera.see(project(), step_ns=400 * MS) is not None
    camera.now_ns -= 8_000 * MS
    results = [camera.see(project()) for _ in range(8)]
    assert [result is None for result in results] == [True] * 4 + [False] * 4
    assert camera.tracker.images_backwards == 6
    report = camera.tracker.report()
    assert report.level is Level.WARN
    assert "older than the one before" in report.message


def test_five_images_a_second_are_reported_with_what_helps(camera: Camera):
    for _ in range(12):
        camera.see(project(), step_ns=200 * MS)
    report = camera.tracker.report()
    assert report.level is Level.WARN
    assert report.message.startswith("5.0 images a second, expected 15 or more: more light")


@pytest.mark.parametrize("shape", [(1, 1, 3), (31, 640, 3), (9000, 40, 3)])
def test_hostile_sizes_are_rejected_and_the_next_image_is_tracked(camera: Camera, shape: tuple[int, ...]):
    with pytest.raises(ValueError, match="expected each side from 32 to 8192"):
        camera.see(project(), pixels=np.full(shape, 90, np.uint8))
    assert camera.see(project()).observation.neck is not None


def test_an_image_of_another_size_is_the_same_head(camera: Camera):
    small = camera.see(project((0.1, 0.2, 0.0)))
    large = camera.see(project((0.1, 0.2, 0.0)), pixels=np.full((960, 1280, 3), 100, np.uint8))
    np.testing.assert_allclose(large.observation.neck, small.observation.neck, atol=1e-3)


def test_a_camera_mounted_high_takes_its_tilt_off(landmarker: ScriptedLandmarker):
    camera = Camera(landmarker, camera_pitch_deg=15.0)
    seen_from_above = project((np.radians(15.0), 0.0, 0.0))
    np.testing.assert_allclose(camera.see(seen_from_above).observation.neck, 0.0, atol=1e-3)


def test_another_stream_of_a_camera_may_begin_at_an_earlier_time(camera: Camera):
    camera.see(project(), step_ns=10_000 * MS)
    reopened = CameraImage(LIT, 5_000 * MS, stream=1)
    assert camera.tracker.track(reopened).observation.neck is not None
    assert camera.tracker.images_backwards == 0


@pytest.mark.parametrize("rotation_deg", [90, 180, 270])
def test_a_face_in_a_turned_image_is_measured_upright(rotation_deg: int):
    """Beyond 45 degrees no face is found at all, so pixels are turned before it is looked for."""
    is_on_its_side = rotation_deg % 180 == 90
    turned = CameraModel(480, 640, CAMERA.focal_px) if is_on_its_side else CAMERA
    seen: list[tuple[int, ...]] = []

    class Sized(ScriptedLandmarker):
        def find(self, pixels: np.ndarray, taken_ms: int) -> tuple[FaceLandmarks, ...]:
            seen.append(pixels.shape)
            return super().find(pixels, taken_ms)

    camera = Camera(Sized(), image_rotation_deg=rotation_deg)
    result = camera.see(project((0.1, -0.2, 0.0), 0.1, camera=turned))
    assert seen == [(640, 480, 3) if is_on_its_side else (480, 640, 3)]
    np.testing.assert_allclose(result.observation.neck, (0.1, -0.2, 0.0), atol=1e-3)


def test_a_lens_that_camera_info_tells_gives_the_true_distance(camera: Camera):
    lens = CameraModel.from_field_of_view(640, 480, 90.0)
    face = project(place_m=(0.0, 0.0, 0.8), camera=lens)
    assert camera.see(face).pose.distance_m != pytest.approx(0.8, abs=0.1)
    camera.tracker.set_camera_info(CameraModel(1280, 960, 2 * lens.focal_px))
    assert camera.see(face).pose.distance_m == pytest.approx(0.8, abs=0.02)
    assert camera.tracker.report().level is Level.OK


def test_camera_info_of_another_shape_is_said_and_left_out(camera: Camera):
    camera.tracker.set_camera_info(CameraModel(1920, 1080, 900.0))
    result = camera.see(project(place_m=(0.0, 0.0, 0.8)))
    assert result.pose.distance_m == pytest.approx(0.8, abs=0.02)
    assert "camera_info is of 1920 x 1080 and the images are of 640 x 480" in camera.tracker.report().message
    camera.tracker.set_camera_info(None)
    camera.see(project())
    assert camera.tracker.report().level is Level.OK
