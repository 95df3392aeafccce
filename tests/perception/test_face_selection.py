"""Of several faces the nearest is followed, or the one whose lips go with the user's voice; not in turns."""

from __future__ import annotations

import numpy as np
import pytest
from projected_face import CAMERA, MS, project
from timar_perception.face_selection import FaceSelector, MeasuredFace
from timar_perception.head_pose import find_head_pose

STEP_NS = 33 * MS


def face(x_m: float, distance_m: float, jaw_rad: float = 0.0) -> MeasuredFace:
    projected = project(jaw_rad=jaw_rad, place_m=(x_m, 0.0, distance_m))
    return MeasuredFace(projected, find_head_pose(projected.landmarks_px, CAMERA), jaw_rad)


def where(choice: tuple[MeasuredFace, bool] | None) -> float | None:
    return None if choice is None else round(float(choice[0].pose.position_m[0]), 1)


def test_the_nearest_face_is_followed_and_counts_as_new_once():
    selector = FaceSelector("nearest", 1000)
    choices = [selector.select([face(-0.3, 1.2), face(0.2, 0.7)], number * STEP_NS) for number in range(5)]
    assert [where(choice) for choice in choices] == [0.2] * 5
    assert [choice[1] for choice in choices if choice] == [True, False, False, False, False]


def test_another_face_takes_over_only_when_it_is_clearly_nearer_for_a_second():
    selector = FaceSelector("nearest", 1000)
    for number in range(10):
        selector.select([face(-0.3, 0.8), face(0.3, 1.2)], number * STEP_NS)
    switched = []
    for number in range(10, 60):
        choice = selector.select([face(-0.3, 0.8), face(0.3, 0.5)], number * STEP_NS)
        switched.append(where(choice))
    assert switched[0] == -0.3
    assert switched[-1] == 0.3
    assert switched.index(0.3) * 33 == pytest.approx(1000, abs=70)
    assert selector.switches == 1


def test_a_face_hidden_for_a_moment_is_waited_for_and_nobody_takes_its_place():
    selector = FaceSelector("nearest", 1000)
    selector.select([face(-0.3, 0.7), face(0.3, 0.9)], 0)
    assert selector.select([face(0.3, 0.9)], STEP_NS) is None
    back = selector.select([face(-0.3, 0.7), face(0.3, 0.9)], 2 * STEP_NS)
    assert (where(back), back[1]) == (-0.3, False)
    later = [selector.select([face(0.3, 0.9)], number * STEP_NS) for number in range(3, 40)]
    assert where(later[-1]) == 0.3
    assert sum(choice[1] for choice in later if choice) == 1


def test_a_face_found_again_after_long_counts_as_new():
    selector = FaceSelector("nearest", 1000)
    selector.select([face(0.0, 0.7)], 0)
    assert not selector.select([face(0.0, 0.7)], 900 * MS)[1]
    assert selector.select([face(0.0, 0.7)], 2500 * MS)[1]


def test_somebody_else_at_another_place_counts_as_new():
    selector = FaceSelector("nearest", 1000)
    selector.select([face(-0.3, 0.7)], 0)
    choice = None
    for number in range(1, 50):
        choice = selector.select([face(0.3, 0.7)], number * STEP_NS) or choice
    assert where(choice) == 0.3
    assert selector.switches == 1


def test_who_talks_is_followed_though_another_is_nearer_and_chews():
    rng = np.random.default_rng(1)
    selector = FaceSelector("talking", 1000)
    followed = []
    for number in range(300):
        now_ns = number * STEP_NS
        speaks = (number // 20) % 2 == 0
        selector.add_voice_activity(now_ns, float(speaks))
        talker = 0.15 * abs(np.sin(0.9 * number)) * speaks
        chewer = 0.08 * abs(np.sin(0.4 * number + rng.normal(0, 0.1)))
        followed.append(where(selector.select([face(-0.3, 0.6, chewer), face(0.3, 0.9, talker)], now_ns)))
    assert followed[0] == -0.3, "before anybody spoke the nearest is as good as any"
    assert followed[-100:] == [0.3] * 100


def test_nobody_is_followed_in_an_empty_room():
    assert FaceSelector("nearest", 1000).select([], 0) is None
