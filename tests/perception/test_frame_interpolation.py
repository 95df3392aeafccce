"""Images at their own times become frames at 25 a second: causally, once each, masked if unknown."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from timar_common.user_motion import PARTS
from timar_perception.frame_interpolation import UNSEEN, FrameInterpolator, FrameRun, HeadObservation

RATE = 16_000
NECK_RATE = np.array([0.4, -0.3, 0.2])


def neck_at(sample: float) -> np.ndarray:
    return NECK_RATE * sample / RATE


def seen_at(sample: float) -> HeadObservation:
    return HeadObservation(neck_at(sample), 0.1 + 0.05 * sample / RATE)


def published(interpolator: FrameInterpolator, samples: np.ndarray) -> list[tuple[float, FrameRun]]:
    return [
        (sample, run) for sample in samples for run in interpolator.append(float(sample), seen_at(sample))
    ]


@pytest.mark.parametrize("rate_hz", [15.0, 25.0, 29.97, 60.0])
def test_frames_stand_at_their_own_instants_whatever_the_cameras_rate(rate_hz: float):
    rng = np.random.default_rng(0)
    samples = 3000 + np.arange(0, 3 * RATE, RATE / rate_hz)
    samples += rng.uniform(-0.2, 0.2, len(samples)) * RATE / rate_hz
    runs = published(FrameInterpolator(110, 300), samples)
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
    for sample, run in published(FrameInterpolator(110, 300), samples):
        last = 640 * (run.first_frame + len(run.motion) - 1)
        assert last <= sample + 16
        assert sample - 640 * run.first_frame < RATE / 30 + 16


def test_half_way_between_two_poses_lies_half_the_turn():
    interpolator = FrameInterpolator(110, 300)
    one, two = Rotation.from_euler("YXZ", [60, 0, 0], True), Rotation.from_euler("YXZ", [-60, 30, 10], True)
    interpolator.append(320.0, HeadObservation(one.as_rotvec()))
    (run,) = interpolator.append(960.0, HeadObservation(two.as_rotvec()))
    middle = Rotation.from_rotvec(run.motion[0, PARTS["neck"]])
    assert (middle.inv() * one).magnitude() == pytest.approx((middle.inv() * two).magnitude(), abs=1e-6)
    assert (middle.inv() * one).magnitude() * 2 == pytest.approx((one.inv() * two).magnitude(), abs=1e-6)


def test_parts_are_masked_each_by_itself():
    interpolator = FrameInterpolator(110, 300)
    interpolator.append(320.0, HeadObservation(np.zeros(3), 0.1, np.ones(50)))
    (run,) = interpolator.append(960.0, HeadObservation(np.zeros(3), None, np.ones(50)))
    assert run.valid.tolist() == [[True, False, True]]
    np.testing.assert_allclose(run.motion[0, PARTS["expression"]], 1.0)


def test_five_pictures_a_second_are_too_few_and_give_masks():
    interpolator = FrameInterpolator(110, 300)
    runs = published(interpolator, 100 + np.arange(0, 4 * RATE, RATE / 5))
    assert sum(len(run.valid) for _, run in runs) > 90
    assert not np.concatenate([run.valid for _, run in runs]).any()


def test_a_lost_face_masks_at_once_and_a_found_one_shows_again():
    interpolator = FrameInterpolator(110, 300)
    samples = np.arange(0, 2 * RATE, 640.0)
    runs = []
    for number, sample in enumerate(samples):
        runs += interpolator.append(sample, UNSEEN if 20 <= number < 30 else seen_at(sample))
    seen = np.concatenate([run.valid[:, 2] for run in runs])
    assert seen.tolist() == [not 20 <= number < 30 for number in range(len(samples))]


def test_frames_no_picture_tells_of_are_told_as_unseen_after_a_while_and_never_again():
    interpolator = FrameInterpolator(110, 300)
    interpolator.append(0.0, seen_at(0))
    assert interpolator.expire(4000.0) == []
    (run,) = interpolator.expire(2 * RATE)
    assert run.first_frame == 1
    assert not run.valid.any()
    late = 640.0 * (run.first_frame + len(run.valid) - 3)
    assert interpolator.append(late, seen_at(late)) == []
    (after,) = interpolator.append(late + 2000, seen_at(late + 2000))
    assert after.first_frame == run.first_frame + len(run.valid)


def test_a_pause_of_minutes_comes_in_messages_that_can_be_sent():
    interpolator = FrameInterpolator(110, 300)
    interpolator.expire(0.0)
    runs = interpolator.expire(60.0 * RATE)
    assert max(len(run.valid) for run in runs) <= 250
    assert sum(len(run.valid) for run in runs) == 25 * 60 - 7


def test_after_losing_sight_no_frame_is_told_twice_and_none_bridged():
    interpolator = FrameInterpolator(110, 300)
    first = published(interpolator, np.array([0.0, 640.0, 1280.0]))
    interpolator.interrupt()
    again = published(interpolator, np.array([700.0, 1300.0, 1950.0]))
    frames = [run.first_frame for _, run in first + again]
    assert frames == [0, 1, 2, 3]


def test_a_time_that_runs_backwards_is_refused_and_changes_nothing():
    interpolator = FrameInterpolator(110, 300)
    interpolator.append(1000.0, seen_at(1000))
    with pytest.raises(ValueError, match="sample 900, the last one at 1000; expected growing times"):
        interpolator.append(900.0, seen_at(900))
    with pytest.raises(ValueError, match="finite"):
        interpolator.append(float("nan"), UNSEEN)
    assert interpolator.append(1500.0, seen_at(1500))[0].valid[:, 2].all()
