"""The follower: samples trajectories exactly, replaces them without a seam, refuses bad ones whole."""

import dataclasses

import numpy as np
import pytest
from timar_common.joint_trajectory import (
    Trajectory,
    TrajectoryCode,
    TrajectoryConfig,
    TrajectoryRefusedError,
    trajectory_of,
)
from timar_common.messages import Header, duration, new
from timar_common.trajectory_follower import TrajectoryFollower

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
    positions, velocities, _ = follower.sample(5 * S)
    assert positions.tolist() == [0.3, -0.2]
    assert velocities.tolist() == [0.0, 0.0]


def test_between_points_the_cubic_of_positions_and_velocities_is_followed(follower):
    times = 0.02 * np.arange(6)
    cubic = np.polynomial.Polynomial([0.1, 0.4, -3.0, 8.0])
    positions = np.repeat(cubic(times)[:, None], 2, axis=1)
    velocities = np.repeat(cubic.deriv()(times)[:, None], 2, axis=1)
    follower.accept(Trajectory(NAMES, 10 * S, times, positions, velocities), 10 * S)
    for t in np.linspace(0.0, 0.0999, 37):
        got, speed, _ = follower.sample(10 * S + round(t * 1e9))
        np.testing.assert_allclose(got, cubic(t), atol=1e-9)
        np.testing.assert_allclose(speed, cubic.deriv()(t), atol=1e-7)


def test_after_the_last_point_it_is_held(follower):
    follower.accept(ramp(), 10 * S)
    positions, velocities, _ = follower.sample(20 * S)
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

LIMITS = TrajectoryConfig(np.full(2, -1.0), np.full(2, 1.0), np.full(2, 2.0))


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


def test_joints_that_a_new_trajectory_leaves_out_go_on_with_the_old_one(limited):
    limited.accept(to((2.0, 0.6)), 10 * S)
    limited.accept(to((1.0, 0.3), start_ns=11 * S, names=("tilt",)), 11 * S)
    at_end = [limited.sample(round(t * 1e9))[0] for t in np.arange(11.0, 13.0, 0.01)][-1]
    np.testing.assert_allclose(at_end, [0.6, 0.3], atol=1e-3)
    limited.accept(to((1.0, 0.0), start_ns=13 * S), 13 * S)
    np.testing.assert_allclose(limited.sample(14 * S)[0], [0.0, 0.3], atol=1e-9)
    assert len(limited._running) == 2, "one that nothing follows any more is forgotten"


def test_accelerations_are_met_by_a_quintic(limited):
    times = np.array([0.0, 1.0, 2.5])
    quintic = np.polynomial.Polynomial([0.0, 0.0, 0.1, 0.05, -0.02, 0.001])
    columns = [
        quintic.deriv(order)(times)[:, None] if order else quintic(times)[:, None] for order in range(3)
    ]
    limited.accept(Trajectory(("pan",), 10 * S, times, *columns), 10 * S)
    for t in np.linspace(0.0, 2.49, 31):
        got = limited.sample(10 * S + round(t * 1e9))[:, 0]
        expected = [quintic(t), quintic.deriv()(t), quintic.deriv(2)(t)]
        np.testing.assert_allclose(got, expected, atol=1e-7)


def test_a_look_ahead_changes_nothing(limited):
    limited.accept(to((1.0, 0.5)), 10 * S)
    ahead = limited.copy()
    assert ahead.sample(11 * S)[0][0] == pytest.approx(0.5)
    assert limited.sample(10 * S)[0][0] == pytest.approx(0.0)


STRICT = dataclasses.replace(LIMITS, acceleration=np.full(2, 4.0), must_end_at_rest=True)


@pytest.mark.parametrize(
    ("trajectory", "sentence", "code"),
    [
        (to((1.0, 0.1), names=("tail",)), "there is no joint 'tail'", "INVALID_JOINTS"),
        (to((1.0, 0.1), start_ns=5 * S), "ended 4000 ms ago", "OLD_HEADER_TIMESTAMP"),
        (
            to((1.0, 0.1), velocities=np.full((1, 1), 0.5)),
            "pan moves at 0.5 rad/s at the last",
            "INVALID_GOAL",
        ),
        (to((1.0, 0.9)), r"pan is to accelerate at 5.18 rad/s\^2, expected at most 4", "INVALID_GOAL"),
        (
            to((1.0, 0.9), (1.6, 0.9), velocities=np.array([[1.5], [0.0]])),
            "pan is to swing to 1.03",
            "INVALID_GOAL",
        ),
    ],
)
def test_each_rule_names_joint_value_and_the_actions_code(trajectory, sentence, code):
    rules = dataclasses.replace(STRICT, acceleration=None) if "swing" in sentence else STRICT
    follower = TrajectoryFollower(NAMES, np.zeros(2), rules)
    with pytest.raises(TrajectoryRefusedError, match=sentence) as refused:
        follower.accept(trajectory, 10 * S)
    assert refused.value.code.name == code
    assert follower.sample(20 * S)[0].tolist() == [0.0, 0.0]


def test_joints_may_only_be_left_out_where_that_is_allowed():
    follower = TrajectoryFollower(NAMES, np.zeros(2), dataclasses.replace(LIMITS, allow_partial=False))
    with pytest.raises(TrajectoryRefusedError, match="lacks tilt; name every joint") as refused:
        follower.accept(to((1.0, 0.1)), 10 * S)
    assert refused.value.code is TrajectoryCode.INVALID_JOINTS
    both = np.array([[0.1, 0.2]])
    follower.accept(Trajectory(("tilt", "pan"), 10 * S, np.ones(1), both, None), 10 * S)
    np.testing.assert_allclose(follower.sample(12 * S)[0], [0.2, 0.1])


# The message itself.


def message(points, names=("pan", "tilt")):
    """Return a JointTrajectory of (seconds, {field: values}) points."""
    kind = "trajectory_msgs/msg/JointTrajectoryPoint"
    rows = [
        new(
            kind,
            time_from_start=duration(round(seconds * 1e9)),
            **{k: np.array(v) for k, v in fields.items()},
        )
        for seconds, fields in points
    ]
    return new("trajectory_msgs/msg/JointTrajectory", header=Header(), joint_names=list(names), points=rows)


@pytest.mark.parametrize(
    ("points", "sentence"),
    [
        ([(1.0, {"positions": [0.1]})], "point 0 has 1 positions, expected one of each of 2 joints"),
        ([(1.0, {"velocities": [0.1, 0.0]})], "point 0 has 0 positions"),
        (
            [(1.0, {"positions": [0.1, 0.1], "velocities": [0.0, 0.0]}), (2.0, {"positions": [0.1, 0.1]})],
            "point 1 has 0 velocities, expected one of each of 2 joints, or no velocities at any point",
        ),
        (
            [(1.0, {"positions": [0.1, 0.1], "accelerations": [0.0, 0.0]})],
            "accelerations come without velocit",
        ),
        ([(1.0, {"positions": [0.1, 0.1], "effort": [0.0, 0.0]})], "the trajectory has efforts"),
        ([(1.0, {"positions": [0.1, np.nan]})], "the position of tilt at point 0 is not finite"),
        ([(-1.0, {"positions": [0.1, 0.1]})], "from 0 on, and rise .* and are -1 s"),
        ([(1.0, {"positions": [0.1, 0.1]}), (1.0, {"positions": [0.1, 0.1]})], "and are 1, 1 s"),
    ],
)
def test_a_message_that_is_no_trajectory_is_refused_by_what_is_wrong(points, sentence):
    with pytest.raises(TrajectoryRefusedError, match=sentence):
        trajectory_of(message(points), 10 * S)


def test_an_empty_stamp_means_now():
    assert trajectory_of(message([(1.0, {"positions": [0.1, 0.1]})]), 7).start_ns == 7
