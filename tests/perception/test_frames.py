"""Pictures at their own times become frames at 25 a second: causally, once each, masked if unknown."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from timar_common.user_motion import PARTS, SeenFrames
from timar_perception.timing import UNSEEN, FrameMaker, Sighting

RATE = 16_000
NECK_RATE = np.array([0.4, -0.3, 0.2])


def neck_at(sample: float) -> np.ndarray:
    return NECK_RATE * sample / RATE


def seen_at(sample: float) -> Sighting:
    return Sighting(neck_at(sample), 0.1 + 0.05 * sample / RATE)


def told(maker: FrameMaker, samples: np.ndarray) -> list[tuple[float, SeenFrames]]:
    return [(sample, run) for sample in samples for run in maker.push(float(sample), seen_at(sample))]


@pytest.mark.parametrize("rate_hz", [15.0, 25.0, 29.97, 60.0])
def test_frames_stand_at_their_own_instants_whatever_the_cameras_rate(rate_hz: float):
    rng = np.random.default_rng(0)
    samples = 3000 + np.arange(0, 3 * RATE, RATE / rate_hz)
    samples += rng.uniform(-0.2, 0.2, len(samples)) * RATE / rate_hz
    runs = told(FrameMaker(110, 300), samples)
    frames = np.concatenate(
        [np.arange(run.first_frame, run.first_frame + len(run.motion)) for _, run in runs]
    )
    assert (np.diff(frames) == 1).all()
    motion = np.concatenate([run.motion for _, run in runs])
    assert np.concatenate([run.valid for _, run in runs])[1:, 1:].all()
    wanted = np.stack([neck_at(640 * frame) for frame in frames])
    np.testing.assert_allclose(motion[1:, PARTS["neck"]], wanted[1:], atol=6e-4)


def test_no_frame_is_told_before_its_instant_and_none_later_than_the_next_picture():
    samples = np.arange(0, 2 * RATE, RATE / 30)
    for sample, run in told(FrameMaker(110, 300), samples):
        last = 640 * (run.first_frame + len(run.motion) - 1)
        assert last <= sample + 16
        assert sample - 640 * run.first_frame < RATE / 30 + 16


def test_half_way_between_two_poses_lies_half_the_turn():
    maker = FrameMaker(110, 300)
    one, two = Rotation.from_euler("YXZ", [60, 0, 0], True), Rotation.from_euler("YXZ", [-60, 30, 10], True)
    maker.push(320.0, Sighting(one.as_rotvec()))
    (run,) = maker.push(960.0, Sighting(two.as_rotvec()))
    middle = Rotation.from_rotvec(run.motion[0, PARTS["neck"]])
    assert (middle.inv() * one).magnitude() == pytest.approx((middle.inv() * two).magnitude(), abs=1e-6)
    assert (middle.inv() * one).magnitude() * 2 == pytest.approx((one.inv() * two).magnitude(), abs=1e-6)


def test_parts_are_masked_each_by_itself():
    maker = FrameMaker(110, 300)
    maker.push(320.0, Sighting(np.zeros(3), 0.1, np.ones(50)))
    (run,) = maker.push(960.0, Sighting(np.zeros(3), None, np.ones(50)))
    assert run.valid.tolist() == [[True, False, True]]
    np.testing.assert_allclose(run.motion[0, PARTS["expression"]], 1.0)


def test_five_pictures_a_second_are_too_few_and_give_masks():
    maker = FrameMaker(110, 300)
    runs = told(maker, 100 + np.arange(0, 4 * RATE, RATE / 5))
    assert sum(len(run.valid) for _, run in runs) > 90
    assert not np.concatenate([run.valid for _, run in runs]).any()


def test_a_lost_face_masks_at_once_and_a_found_one_shows_again():
    maker = FrameMaker(110, 300)
    samples = np.arange(0, 2 * RATE, 640.0)
    runs = []
    for number, sample in enumerate(samples):
        runs += maker.push(sample, UNSEEN if 20 <= number < 30 else seen_at(sample))
    seen = np.concatenate([run.valid[:, 2] for run in runs])
    assert seen.tolist() == [not 20 <= number < 30 for number in range(len(samples))]


def test_frames_no_picture_tells_of_are_told_as_unseen_after_a_while_and_never_again():
    maker = FrameMaker(110, 300)
    maker.push(0.0, seen_at(0))
    assert maker.give_up(4000.0) == []
    (run,) = maker.give_up(2 * RATE)
    assert run.first_frame == 1
    assert not run.valid.any()
    late = 640.0 * (run.first_frame + len(run.valid) - 3)
    assert maker.push(late, seen_at(late)) == []
    (after,) = maker.push(late + 2000, seen_at(late + 2000))
    assert after.first_frame == run.first_frame + len(run.valid)


def test_a_pause_of_minutes_comes_in_messages_that_can_be_sent():
    maker = FrameMaker(110, 300)
    maker.give_up(0.0)
    runs = maker.give_up(60.0 * RATE)
    assert max(len(run.valid) for run in runs) <= 250
    assert sum(len(run.valid) for run in runs) == 25 * 60 - 7


def test_after_losing_sight_no_frame_is_told_twice_and_none_bridged():
    maker = FrameMaker(110, 300)
    first = told(maker, np.array([0.0, 640.0, 1280.0]))
    maker.lose_sight()
    again = told(maker, np.array([700.0, 1300.0, 1950.0]))
    frames = [run.first_frame for _, run in first + again]
    assert frames == [0, 1, 2, 3]


def test_a_time_that_runs_backwards_is_refused_and_changes_nothing():
    maker = FrameMaker(110, 300)
    maker.push(1000.0, seen_at(1000))
    with pytest.raises(ValueError, match="sample 900, the last one at 1000; expected growing times"):
        maker.push(900.0, seen_at(900))
    with pytest.raises(ValueError, match="finite"):
        maker.push(float("nan"), UNSEEN)
    assert maker.push(1500.0, seen_at(1500))[0].valid[:, 2].all()
