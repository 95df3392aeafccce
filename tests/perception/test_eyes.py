"""One picture after the other: seen, or unseen with the reason; never a guess, and back again."""

from __future__ import annotations

import numpy as np
import pytest
from projected_face import MS, ScriptedLandmarker, project
from timar_common.diagnostics import Level
from timar_perception.config import PerceptionConfig
from timar_perception.eyes import Eyes, Look
from timar_perception.landmarks import Face
from timar_perception.pictures import Picture

STEP_NS = 33 * MS
LIT = np.full((480, 640, 3), 100, np.uint8)
BLACK = np.zeros((480, 640, 3), np.uint8)


class Watch:
    """Eyes, and a camera that gives them one picture after the other."""

    def __init__(self, landmarker: ScriptedLandmarker, **config: object) -> None:
        self.landmarker = landmarker
        self.eyes = Eyes(PerceptionConfig(**{"settle_ms": 0, **config}), landmarker)
        self.now_ns = 0

    def see(self, *faces: Face, pixels: np.ndarray = LIT, step_ns: int = STEP_NS) -> Look | None:
        self.landmarker.faces = faces
        self.now_ns += step_ns
        return self.eyes.look(Picture(pixels, self.now_ns))


@pytest.fixture
def watch(landmarker: ScriptedLandmarker) -> Watch:
    return Watch(landmarker)


def test_a_face_is_seen_with_neck_and_jaw_and_without_expression(watch: Watch):
    look = watch.see(project((0.1, -0.2, 0.0), 0.1))
    np.testing.assert_allclose(look.sighting.neck, (0.1, -0.2, 0.0), atol=1e-3)
    assert look.sighting.jaw_rad == pytest.approx(0.1, abs=1e-3)
    assert look.sighting.expression is None
    assert look.why_unseen == ""


def test_an_empty_room_is_unseen_for_minutes_and_then_somebody_comes(watch: Watch):
    for _ in range(30 * 60 * 2):
        assert watch.see().sighting.neck is None
    assert watch.eyes.report().message == "the user is unseen: no face in the picture"
    assert watch.see(project()).sighting.neck is not None
    assert watch.eyes.report().message == "running"


def test_black_pictures_are_too_dark_and_light_brings_the_user_back(watch: Watch):
    watch.see(project())
    look = watch.see(project(), pixels=BLACK)
    assert look.sighting.neck is None
    assert look.why_unseen == "too dark: brightness 0 of 255"
    report = watch.eyes.report()
    assert (report.level, report.message) == (Level.WARN, "too dark: brightness 0 of 255")
    assert watch.see(project()).sighting.neck is not None


@pytest.mark.parametrize("neck", [(0.0, 1.2, 0.0), (-1.2, 0.0, 0.0)])
def test_a_head_turned_away_is_unseen(watch: Watch, neck: tuple[float, float, float]):
    look = watch.see(project(neck))
    assert look.sighting.neck is None
    assert "turned away" in look.why_unseen


def test_landmarks_that_fit_no_head_are_unseen(watch: Watch):
    crushed = project()
    rng = np.random.default_rng(0)
    crushed = Face(crushed.landmarks_px + rng.normal(0, 30, crushed.landmarks_px.shape), {})
    assert watch.see(crushed).sighting.neck is None


def test_another_person_is_masked_for_a_moment_and_not_mixed_with_the_first(landmarker: ScriptedLandmarker):
    watch = Watch(landmarker, settle_ms=200, forget_ms=300)
    for _ in range(20):
        watch.see(project((0.0, 0.4, 0.0), place_m=(-0.3, 0.0, 0.7)))
    looks = [watch.see(project((0.0, -0.4, 0.0), place_m=(0.3, 0.0, 0.7))) for _ in range(40)]
    necks = [look.sighting.neck for look in looks]
    first = next(number for number, neck in enumerate(necks) if neck is not None)
    assert first * 33 >= 200
    assert all(look.why_unseen for look in looks[:first])
    np.testing.assert_allclose(necks[first], (0.0, -0.4, 0.0), atol=1e-3)
    assert watch.eyes.switches == 1


def test_pictures_that_run_backwards_are_left_out_until_they_do_so_for_good(watch: Watch):
    watch.see(project(), step_ns=10_000 * MS)
    assert watch.see(project(), step_ns=-100 * MS) is None
    assert watch.see(project(), step_ns=400 * MS) is not None
    watch.now_ns -= 8_000 * MS
    looks = [watch.see(project()) for _ in range(8)]
    assert [look is None for look in looks] == [True] * 4 + [False] * 4
    assert watch.eyes.pictures_backwards == 6
    report = watch.eyes.report()
    assert report.level is Level.WARN
    assert "older than the one before" in report.message


def test_five_pictures_a_second_are_told_with_what_helps(watch: Watch):
    for _ in range(12):
        watch.see(project(), step_ns=200 * MS)
    report = watch.eyes.report()
    assert report.level is Level.WARN
    assert report.message.startswith("5.0 pictures a second, expected 15 or more: more light")


@pytest.mark.parametrize("shape", [(1, 1, 3), (31, 640, 3), (9000, 40, 3)])
def test_hostile_sizes_are_refused_and_the_next_picture_is_looked_at(watch: Watch, shape: tuple[int, ...]):
    with pytest.raises(ValueError, match="expected each side from 32 to 8192"):
        watch.see(project(), pixels=np.full(shape, 90, np.uint8))
    assert watch.eyes.pictures_refused == 1
    assert watch.see(project()).sighting.neck is not None


def test_a_picture_of_another_size_is_the_same_head(watch: Watch):
    small = watch.see(project((0.1, 0.2, 0.0)))
    large = watch.see(project((0.1, 0.2, 0.0)), pixels=np.full((960, 1280, 3), 100, np.uint8))
    np.testing.assert_allclose(large.sighting.neck, small.sighting.neck, atol=1e-3)


def test_a_camera_mounted_high_takes_its_tilt_off(landmarker: ScriptedLandmarker):
    watch = Watch(landmarker, camera_pitch_deg=15.0)
    seen_from_above = project((np.radians(15.0), 0.0, 0.0))
    np.testing.assert_allclose(watch.see(seen_from_above).sighting.neck, 0.0, atol=1e-3)
