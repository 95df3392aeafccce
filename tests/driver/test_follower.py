"""The follower: samples trajectories exactly, replaces them without a seam, refuses bad ones whole."""

import dataclasses

import numpy as np
import pytest
from timar_driver.trajectory_follower import Trajectory, TrajectoryFollower

S = 1_000_000_000
NAMES = ("pan", "tilt")


def ramp(start_ns=10 * S, names=NAMES, points=11, slope=0.5, first=0.0):
    times = 0.02 * np.arange(points)
    positions = first + slope * times[:, None] * np.ones(len(names))
    velocities = np.full_like(positions, slope)
    return Trajectory(names, start_ns, times, positions, velocities)


@pytest.fixture
def follower():
    return TrajectoryFollower(NAMES, np.array([0.3, -0.2]))


def test_before_any_trajectory_the_joints_hold_where_they_stand(follower):
    positions, velocities = follower.sample(5 * S)
    assert positions.tolist() == [0.3, -0.2]
    assert velocities.tolist() == [0.0, 0.0]


def test_between_points_the_cubic_of_positions_and_velocities_is_followed(follower):
    times = 0.02 * np.arange(6)
    cubic = np.polynomial.Polynomial([0.1, 0.4, -3.0, 8.0])
    positions = np.repeat(cubic(times)[:, None], 2, axis=1)
    velocities = np.repeat(cubic.deriv()(times)[:, None], 2, axis=1)
    follower.accept(Trajectory(NAMES, 10 * S, times, positions, velocities), 10 * S)
    for t in np.linspace(0.0, 0.0999, 37):
        got, speed = follower.sample(10 * S + round(t * 1e9))
        np.testing.assert_allclose(got, cubic(t), atol=1e-9)
        np.testing.assert_allclose(speed, cubic.deriv()(t), atol=1e-7)


def test_after_the_last_point_it_is_held(follower):
    follower.accept(ramp(), 10 * S)
    positions, velocities = follower.sample(20 * S)
    np.testing.assert_allclose(positions, 0.1)
    assert velocities.tolist() == [0.0, 0.0]


def test_a_new_trajectory_takes_over_at_its_start_and_not_before(follower):
    follower.accept(ramp(), 10 * S)
    follower.accept(ramp(start_ns=10 * S + 100_000_000, slope=-0.5, first=0.05), 10 * S + 60_000_000)
    assert follower.sample(10 * S + 80_000_000)[0][0] == pytest.approx(0.04)
    assert follower.sample(10 * S + 100_000_000)[0][0] == pytest.approx(0.05)
    assert follower.sample(10 * S + 140_000_000)[0][0] == pytest.approx(0.03)


def test_a_later_word_replaces_what_was_to_begin_at_or_after_it(follower):
    follower.accept(ramp(start_ns=11 * S, first=1.0), 10 * S)
    follower.accept(ramp(start_ns=int(10.5 * S), first=2.0), 10 * S)
    np.testing.assert_allclose(follower.sample(12 * S)[0], 2.1)


def test_a_trajectory_already_under_way_is_joined_in_its_middle(follower):
    follower.accept(ramp(), 10 * S + 50_000_000)
    np.testing.assert_allclose(follower.sample(10 * S + 50_000_000)[0], 0.025)


def test_joints_that_are_not_named_stay_where_they_were(follower):
    follower.accept(ramp(names=("tilt",)), 10 * S)
    np.testing.assert_allclose(follower.sample(11 * S)[0], [0.3, 0.1])


def test_hold_forgets_the_future(follower):
    follower.accept(ramp(), 10 * S)
    follower.hold(10 * S + 40_000_000)
    np.testing.assert_allclose(follower.sample(20 * S)[0], 0.02)


BAD = {
    "there is no joint 'tail'": {"joint_names": ("pan", "tail")},
    "at most once": {"joint_names": ("pan", "pan")},
    "position of tilt at point 3 is not finite": {"positions": np.where(
        (np.arange(11)[:, None] == 3) & (np.arange(2) == 1), np.nan, 0.0)},
    "velocity of pan at point 0 is not finite": {"velocities": np.full((11, 2), np.inf)},
    "rise from each point": {"times_s": 0.2 - 0.02 * np.arange(11)},
    "from 0 on": {"times_s": 0.02 * np.arange(11) - 0.1},
    "must be finite": {"times_s": np.full(11, np.nan)},
    "expected (11, 2)": {"velocities": np.zeros((11, 1))},
    "expected (0, 2)": {"times_s": np.zeros(0)},
    "ended 9800 ms ago": {"start_ns": 0},
}  # fmt: skip


@pytest.mark.parametrize("message", BAD)
def test_a_bad_trajectory_is_refused_whole_and_the_old_one_goes_on(follower, message):
    follower.accept(ramp(), 10 * S)
    with pytest.raises(ValueError) as error:
        follower.accept(dataclasses.replace(ramp(), **BAD[message]), 10 * S)
    assert message in str(error.value)
    assert follower.accepted == 1
    np.testing.assert_allclose(follower.sample(10 * S + 40_000_000)[0], 0.02)


def test_what_waits_is_bounded(follower):
    for k in range(50):
        follower.accept(ramp(start_ns=(20 + k) * S), 10 * S)
    assert len(follower._pending) == TrajectoryFollower.MAX_PENDING
