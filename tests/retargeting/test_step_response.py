"""Servo delay by step response: known delays are found, broken joints are told."""

import numpy as np
import pytest
from timar_retargeting.step_response import CommandTrack, measure_step


@pytest.fixture
def step():
    """A minimum-jerk step up at 1 s and back at 2 s, as two trajectories."""
    command, s = CommandTrack(), np.linspace(0.0, 1.0, 31)
    shape, slope = s**3 * (10 - 15 * s + 6 * s**2), 30 * s**2 * (1 - s) ** 2 / 0.6
    command.add(1.0, 0.6 * s, 0.2 * shape, 0.2 * slope)
    command.add(2.0, 0.6 * s, 0.2 - 0.2 * shape, -0.2 * slope)
    return command


TIMES = np.arange(0.8, 3.2, 0.02)


@pytest.mark.parametrize("delay_s", [0.0, 0.017, 0.062, 0.21])
def test_a_pure_delay_is_found_to_a_millisecond_through_noise(step, delay_s):
    noise = np.random.default_rng(0).normal(0, 0.001, len(TIMES))
    response = measure_step(step, TIMES, step.at(TIMES - delay_s) + noise)
    assert response.delay_s == pytest.approx(delay_s, abs=0.0015)
    assert response.gain == pytest.approx(1.0, abs=0.01)


def test_a_servo_that_lags_like_a_spring_stays_behind_by_its_lag(step):
    """Critically damped, 2 / w behind a ramp, as a position loop does."""
    h, w, position, velocity, track = 0.001, 2.0 / 0.04, 0.0, 0.0, []
    fine = np.arange(0.8, 3.2, h)
    for goal in step.at(fine):
        velocity += h * (w * w * (goal - position) - 2.0 * w * velocity)
        position += h * velocity
        track.append(position)
    response = measure_step(step, TIMES, np.interp(TIMES, fine, track))
    assert response.delay_s == pytest.approx(0.04, abs=0.003)
    assert response.overshoot < 0.01


def test_offset_gain_and_overshoot_are_told(step):
    told = step.at(TIMES - 0.03)
    response = measure_step(step, TIMES, 0.05 + 0.9 * told)
    assert (response.gain, response.offset_rad) == pytest.approx((0.9, 0.05), abs=2e-3)
    ringing = told + 0.03 * (np.abs(TIMES - 1.7) < 0.05)
    assert measure_step(step, TIMES, ringing).overshoot == pytest.approx(0.15, abs=0.02)


@pytest.mark.parametrize(
    ("measure", "words"),
    [
        (lambda told: np.zeros_like(told), "does not follow"),
        (lambda told: -told, "does not follow"),
        (lambda told: told[:5], "expected 10 or more"),
    ],
)
def test_a_joint_that_does_not_follow_is_told(step, measure, words):
    positions = measure(step.at(TIMES))
    with pytest.raises(ValueError, match=words):
        measure_step(step, TIMES[: len(positions)], positions)


def test_a_command_that_hardly_moves_or_never_came_is_told(step):
    with pytest.raises(ValueError, match="moves by"):
        measure_step(step, np.arange(3.0, 4.0, 0.02), np.zeros(50))
    with pytest.raises(ValueError, match="no trajectory came"):
        CommandTrack().at(TIMES)
