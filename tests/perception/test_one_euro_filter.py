"""The filter's delay is the stated one, and a turning head is followed as a rotation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from timar_perception.one_euro_filter import OneEuroFilter

STEP_NS = 33_333_333


def delay_s(smoother: OneEuroFilter, speed: float) -> float:
    return 1.0 / (2.0 * np.pi * smoother.cutoff_hz(speed))


def test_slow_motion_is_late_by_the_stated_delay():
    smoother = OneEuroFilter(6.0, 6.0, is_rotation=True)
    speed = 0.2
    for number in range(60):
        smoothed = smoother.filter([speed * number / 30, 0, 0], number * STEP_NS)
    late_s = (speed * 59 / 30 - smoothed[0]) / speed
    # An exponential filter of sampled motion is half an image interval quicker than its continuous kin.
    assert late_s == pytest.approx(delay_s(smoother, speed), abs=0.5 / 30)
    assert delay_s(smoother, 0.0) == pytest.approx(0.0265, abs=1e-3)


def test_quick_motion_is_hardly_late():
    assert delay_s(OneEuroFilter(6.0, 6.0, is_rotation=True), 2.0) < 0.01


def test_jitter_of_a_resting_head_is_smaller_afterwards():
    rng = np.random.default_rng(0)
    smoother = OneEuroFilter(2.0, 2.0, is_rotation=True)
    raw = rng.normal(0.0, 0.005, (300, 3))
    smoothed = np.array([smoother.filter(row, number * STEP_NS) for number, row in enumerate(raw)])
    assert smoothed[30:].std() < 0.65 * raw[30:].std()


def test_rotations_stay_rotations_across_half_a_revolution():
    smoother = OneEuroFilter(6.0, 6.0, is_rotation=True)
    for number, angle in enumerate(np.linspace(2.5, 3.8, 40)):
        value = smoother.filter(Rotation.from_euler("y", angle).as_rotvec(), number * STEP_NS)
    assert Rotation.from_rotvec(value).inv().magnitude() > 2.3
    assert np.abs(Rotation.from_rotvec(value).as_rotvec()[[0, 2]]).max() < 1e-9


def test_after_a_reset_the_next_value_passes_unchanged():
    smoother = OneEuroFilter(1.0, 0.0, is_rotation=False)
    smoother.filter([1.0], 0)
    smoother.reset()
    assert smoother.filter([5.0], STEP_NS) == [5.0]
