"""The running neutral pose: a resting offset disappears, motion keeps its size, gestures do not bias."""

import numpy as np
import pytest
from timar_retargeting.neutral_pose import NeutralConfig, NeutralPoseEstimator
from timar_retargeting.signals import Neutral, signal_columns

RESTING = np.array([0.12, -0.2, 0.05, 0.08])


def talk(seconds, rest=RESTING, seed=0):
    """Head and jaw of somebody who talks and gestures around a resting pose of their own."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * 25)) / 25.0
    motion = np.zeros((len(t), 56))
    for column, place in enumerate((53, 54, 55)):
        wave = sum(np.sin(2 * np.pi * f * t + rng.uniform(0, 6)) for f in (0.23, 0.61, 1.7)) / 3
        motion[:, place] = rest[column] + 0.1 * wave
    talks = np.sin(2 * np.pi * 0.1 * t) > 0
    motion[:, 50] = rest[3] + 0.15 * talks * np.abs(np.sin(2 * np.pi * 2.3 * t))
    return motion


def run(motion, config=None, turn=5, given=None):
    neutral = NeutralPoseEstimator(given or Neutral(), config or NeutralConfig())
    rows = [neutral.update(motion[k : k + turn]) for k in range(0, len(motion), turn)]
    return np.concatenate(rows), neutral


def test_a_resting_offset_disappears_and_motion_keeps_its_size():
    motion = talk(180)
    rest, _ = run(motion)
    late = slice(120 * 25, None)
    seen = signal_columns(motion, rest)[late]
    around_zero = talk(180, np.zeros(4))
    wanted = signal_columns(around_zero, np.zeros(4))[late]
    assert np.abs(seen[:, :3].mean(0)).max() < 0.02, "0.2 rad before"
    np.testing.assert_allclose(seen[:, :3].std(0), wanted[:, :3].std(0), rtol=0.08)
    assert np.percentile(seen[:, 3], 10) == pytest.approx(0.0, abs=0.02), "a closed mouth is closed"
    assert np.ptp(seen[:, 3]) == pytest.approx(np.ptp(wanted[:, 3]), rel=0.05)


def test_half_of_the_offset_is_gone_within_fifteen_seconds():
    rest, _ = run(talk(15))
    assert abs(rest[-1, 1] - RESTING[1]) < 0.5 * abs(RESTING[1])


def test_a_look_aside_for_two_seconds_hardly_moves_the_estimate():
    motion = talk(120)
    _, before = run(motion)
    aside = motion.copy()
    aside[-50:, 54] += 0.9
    _, after = run(aside)
    assert np.abs(after.rest - before.rest).max() < 0.012


def test_the_estimate_never_jumps():
    rest, _ = run(talk(60), turn=25)
    assert np.abs(np.diff(rest, axis=0)).max() < 0.002


def test_turns_of_any_length_agree():
    motion = talk(90)
    (short, _), (long, _) = run(motion, turn=5), run(motion, turn=25)
    assert np.abs(short[-1] - long[-1]).max() < 0.015


def test_frames_that_are_not_finite_are_left_out():
    motion = talk(20)
    motion[::7, 54] = np.nan
    rest, neutral = run(motion)
    assert np.isfinite(rest).all()
    np.testing.assert_array_equal(neutral.update(np.full((5, 56), np.nan)), np.tile(neutral.rest, (5, 1)))


def test_the_estimate_stays_within_its_range_of_the_given_pose():
    config = NeutralConfig(neutral_range_rad=0.1)
    _, neutral = run(talk(200, np.array([0.0, 0.6, 0.0, 0.0])), config, given=Neutral((0.0, 0.2, 0.0)))
    assert neutral.rest[1] == pytest.approx(0.3)
