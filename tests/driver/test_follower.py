"""The follower: samples trajectories exactly, replaces them without a seam, refuses bad ones whole."""

import dataclasses

import numpy as np
import pytest
from timar_driver.driver import JointLimits
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


# What people send to a joint_trajectory_controller.

LIMITS = JointLimits(np.full(2, -1.0), np.full(2, 1.0), np.full(2, 2.0))


def to(*points, velocities=None, start_ns=10 * S, names=("pan",)):
    """Return a trajectory of (time, position) points."""
    times, positions = np.array(points).T
    return Trajectory(names, start_ns, times, positions[:, None], velocities)


@pytest.fixture
def limited():
    return TrajectoryFollower(NAMES, np.array([0.0, -0.2]), LIMITS)


def course(follower, seconds, start_ns=10 * S):
    """Return times [s] and the way of pan, every 10 ms."""
    times = np.arange(0.0, seconds, 0.01)
    return times, np.array([follower.sample(start_ns + round(t * 1e9))[0][0] for t in times])


@pytest.mark.parametrize("velocities", [None, np.zeros((1, 1))])
def test_one_point_due_in_two_seconds_takes_two_seconds(limited, velocities):
    """It was reached in 0.32 s, and positions alone were refused."""
    limited.accept(to((2.0, 0.4), velocities=velocities), 10 * S)
    times, way = course(limited, 2.5)
    assert way[0] == pytest.approx(0.0)
    assert way[times >= 2.0] == pytest.approx(0.4)
    assert way[100] == pytest.approx(0.2, abs=0.01)
    assert (np.diff(way) >= -1e-12).all()
    assert np.abs(np.diff(way)).max() / 0.01 < 0.31


def test_points_of_positions_alone_are_met_in_time_and_nothing_turns_back_between_them(limited):
    points = [(0.5, 0.3), (1.0, 0.35), (1.5, -0.2), (3.0, -0.2), (3.5, 0.0)]
    limited.accept(to(*points), 10 * S)
    times, way = course(limited, 4.0)
    for due_s, position in points:
        assert way[np.argmin(abs(times - due_s))] == pytest.approx(position, abs=1e-6)
    for (begin_s, first), (end_s, last) in zip([(0.0, 0.0), *points], points, strict=False):
        span = way[(times >= begin_s) & (times <= end_s)]
        assert (np.diff(span) * np.sign(last - first + 1e-12) >= -1e-9).all()
    # No velocity jumps: the acceleration stays bounded between any two samples.
    assert np.abs(np.diff(way, 2)).max() / 1e-4 < 15.0


def test_a_trajectory_that_replaces_a_running_one_joins_it_without_a_step_in_velocity(limited):
    limited.accept(to((2.0, 0.8)), 10 * S)
    _, before = course(limited, 1.0)
    limited.accept(to((1.0, 0.0), start_ns=11 * S), 11 * S)
    _, after = course(limited, 1.5, 11 * S)
    way = np.concatenate([before, after])
    assert np.abs(np.diff(way, 2)).max() < 0.001
    assert after[-1] == pytest.approx(0.0)


def test_a_stamp_in_the_future_waits_and_then_starts_from_where_the_joints_are(limited):
    limited.accept(to((1.0, 0.4), start_ns=12 * S), 10 * S)
    times, way = course(limited, 4.0)
    assert (way[times <= 2.0] == 0.0).all()
    assert way[times >= 3.0] == pytest.approx(0.4)
    assert way[250] == pytest.approx(0.2, abs=0.01)


def test_a_stamp_in_the_past_skips_the_points_that_are_over(limited):
    limited.accept(to((1.0, 0.9), (3.0, 0.4)), 12 * S)
    times, way = course(limited, 2.0, 12 * S)
    assert way[0] == pytest.approx(0.0)
    assert way.max() <= 0.4 + 1e-9
    assert way[times >= 1.0] == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("trajectory", "sentence"),
    [
        (to((2.0, 1.2)), "pan is to be at 1.2 rad at point 0, expected -1 to 1"),
        (to((1.0, 0.2), (2.0, -1.5)), "pan is to be at -1.5 rad at point 1"),
        (to((0.1, 0.9)), r"pan is to move at 13.5 rad/s, expected at most 2; give it more time"),
        (to((1.0, 0.1), velocities=np.full((1, 1), 5.0)), r"pan is to move at 5 rad/s"),
    ],
)
def test_a_trajectory_beyond_a_joints_limits_is_refused_with_joint_and_value(limited, trajectory, sentence):
    with pytest.raises(ValueError, match=sentence):
        limited.accept(trajectory, 10 * S)
    assert course(limited, 1.0)[1].tolist() == [0.0] * 100


def test_a_lone_point_that_is_over_is_refused(limited):
    with pytest.raises(ValueError, match="ended 1000 ms ago"):
        limited.accept(to((1.0, 0.4)), 12 * S)
