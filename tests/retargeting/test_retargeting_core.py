"""The retargeting core: follows without lag, joins every plan to the last, never leaves its limits."""

import contextlib
import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from timar_common.joint_trajectory import Trajectory, TrajectoryRefusedError
from timar_retargeting.arbitration import Mode
from timar_retargeting.idle_behavior import IdleBehavior, IdleConfig
from timar_retargeting.retargeting_core import RetargetingCore

FRAME_NS = 40_000_000


def stream(puppet, sine, frequency_hz, seconds, turn, early_ms, **amplitudes):
    """Send turns as a model does, each a while before it is due; return when frame 0 is due."""
    zero_ns = puppet.now_ns + 500_000_000
    for first in range(0, int(seconds * 25), turn):
        puppet.now_ns = zero_ns + first * FRAME_NS - int(early_ms * 1e6)
        puppet.motion(
            first, zero_ns + first * FRAME_NS, sine(first + np.arange(turn), frequency_hz, **amplitudes)
        )
    return zero_ns


def shown(puppet, zero_ns, first_s, last_s, joint):
    """Time since frame 0 at which a commanded position is seen, and the position."""
    place = puppet.robot.joint_names.index(joint)
    times_ns = np.arange(int(first_s * 1e3), int(last_s * 1e3), 4) * 1_000_000 + zero_ns
    delay_ns = int(puppet.robot.joints[place].servo_delay_s * 1e9)
    return (times_ns - zero_ns) * 1e-9, puppet.commanded(times_ns - delay_ns)[:, place]


@pytest.mark.parametrize(("frequency_hz", "yaw_rad", "allowed"), [(1.0, 0.3, 0.02), (4.0, 0.04, 0.10)])
@pytest.mark.parametrize(("turn", "early_ms"), [(25, 500), (5, 300)])
def test_motion_within_the_limits_is_tracked_without_lag(
    make_puppet, sine, frequency_hz, yaw_rad, allowed, turn, early_ms
):
    puppet = make_puppet().start()
    zero_ns = stream(puppet, sine, frequency_hz, 8.0, turn, early_ms, yaw_rad=yaw_rad, jaw_rad=0.04)
    for joint, amplitude, middle in (("neck_yaw", yaw_rad, 0.0), ("jaw", 0.08, 0.03 + 0.16)):
        t, positions = shown(puppet, zero_ns, 1.5, 7.0, joint)
        wanted = middle + amplitude * np.sin(2 * np.pi * frequency_hz * t)
        assert np.sqrt(np.mean((positions - wanted) ** 2)) <= allowed * amplitude, joint
    assert not puppet.core.planner.report.scaled.any()


def test_fast_motion_beyond_the_limits_loses_size_and_not_time(make_puppet, sine):
    puppet = make_puppet().start()
    zero_ns = stream(puppet, sine, 4.0, 8.0, 25, 600, yaw_rad=0.25)
    t, positions = shown(puppet, zero_ns, 2.0, 6.5, "neck_yaw")
    carrier = np.exp(2j * np.pi * 4.0 * t)
    component = 2 * np.mean(positions * np.conj(carrier)) * 1j
    lag_s = -np.angle(component) / (2 * np.pi * 4.0)
    largest = puppet.robot.limits.acceleration[0] / (2 * np.pi * 4.0) ** 2
    assert abs(lag_s) < 0.005
    assert 0.6 * largest < abs(component) <= 1.05 * largest
    assert puppet.core.planner.report.smoothed[0] > 0


def test_a_short_preview_still_keeps_most_of_the_motion(make_puppet, sine):
    puppet = make_puppet().start()
    zero_ns = stream(puppet, sine, 1.0, 8.0, 5, 60, yaw_rad=0.2)
    t, positions = shown(puppet, zero_ns, 1.5, 7.0, "neck_yaw")
    assert np.sqrt(np.mean((positions - 0.2 * np.sin(2 * np.pi * t)) ** 2)) < 0.05 * 0.2


def test_a_revision_in_mid_horizon_is_joined_and_followed(make_puppet, sine):
    puppet = make_puppet().start()
    zero_ns = puppet.now_ns + 500_000_000
    puppet.motion(0, zero_ns, sine(np.arange(50), 0.5, yaw_rad=0.3))
    puppet.now_ns = zero_ns + 900_000_000
    puppet.motion(25, zero_ns + 25 * FRAME_NS, sine(np.arange(25), 0.0), revision=1)
    assert puppet.core.timeline.counters.withdrawn_frames == 25
    _, positions = shown(puppet, zero_ns, 1.5, 1.9, "neck_yaw")
    np.testing.assert_allclose(positions, 0.0, atol=5e-3)
    puppet.now_ns += 100_000_000
    assert (
        puppet.motion(30, zero_ns + 30 * FRAME_NS, sine(np.arange(5), 0.5, yaw_rad=0.3), revision=0) is None
    )
    assert puppet.core.timeline.counters.stale_messages == 1


def test_every_horizon_is_safe_alone_and_rests_near_its_last_frame(make_puppet, sine):
    puppet = make_puppet().start()
    zero_ns = puppet.now_ns + 300_000_000
    plan = puppet.motion(0, zero_ns, sine(np.arange(6), 1.0, yaw_rad=0.3))
    last_due_ns = zero_ns + 5 * FRAME_NS
    wanted = 0.3 * np.sin(2 * np.pi * 0.2)
    assert 0 < plan.last_index * 20_000_000 - last_due_ns < 600_000_000
    assert plan.positions[-1, 0] == pytest.approx(wanted, abs=0.08)


def test_without_motion_the_head_is_at_neutral_within_a_second_and_then_lives(make_puppet, sine):
    puppet = make_puppet(idles=True, seed=4).start()
    # It ends at the far end of the swing.
    zero_ns = stream(puppet, sine, 0.5, 2.6, 5, 100, yaw_rad=0.4)
    end_ns = zero_ns + 65 * FRAME_NS
    puppet.wait(1.5)
    assert puppet.core.mode in (Mode.EASING, Mode.IDLE)
    neck = puppet.commanded(np.arange(end_ns + 1_000_000_000, end_ns + 1_400_000_000, 10_000_000))[:, :3]
    assert np.abs(neck - puppet.robot.offsets_rad[:3]).max() < 0.04
    puppet.wait(15.0)
    assert puppet.core.mode is Mode.IDLE
    lid = puppet.robot.joint_names.index("left_upper_lid")
    after = puppet.commanded(np.arange(end_ns + 2_000_000_000, end_ns + 15_000_000_000, 10_000_000))
    assert after[:, lid].max() > 0.8, "eyes close in a blink"
    assert np.median(after[:, lid]) < 0.3, "and are open otherwise"


@pytest.mark.parametrize("turns", range(8, 16))
def test_wherever_inference_is_killed_the_head_is_at_neutral_within_a_second(make_puppet, sine, turns):
    # The worst instant: a turn and the guess after it have just been told. Puppet checks that nothing jumps.
    puppet = make_puppet().start()
    zero_ns = puppet.now_ns + 500_000_000
    for first in range(0, 5 * turns, 5):
        due_ns = zero_ns + first * FRAME_NS
        puppet.now_ns = due_ns - 80_000_000
        known, guessed = (sine(start + np.arange(5), 1.0, yaw_rad=0.3) for start in (first, first + 5))
        puppet.motion(first, due_ns, known)
        puppet.now_ns += 5_000_000
        puppet.motion(first + 5, due_ns + 5 * FRAME_NS, guessed, is_preview=True)
    killed_ns = puppet.now_ns
    before = np.arange(killed_ns - 1_000_000_000, killed_ns, 20_000_000)
    neutral = puppet.robot.offsets_rad
    assert np.abs(puppet.commanded(before) - neutral).max() > 0.25
    puppet.wait(1.5)
    later = np.arange(killed_ns + 1_000_000_000, killed_ns + 1_400_000_000, 20_000_000)
    np.testing.assert_allclose(puppet.commanded(later), np.tile(neutral, (len(later), 1)), atol=0.01)


def test_a_mouth_that_closes_to_its_stop_is_no_limit_hit_but_the_same_joint_too_fast_is(puppet_of, robot):
    """Every closed mouth was counted as clipped, and its rounding at the stop as smoothed or scaled."""
    jaw = robot.joint_names.index("jaw")
    without = dataclasses.replace(
        robot, joints=tuple(dataclasses.replace(joint, stops=()) for joint in robot.joints)
    )
    counts = {}
    for name, described, hz in (("stop", robot, 1.5), ("limit", without, 1.5), ("fast", robot, 12.0)):
        puppet = puppet_of(RetargetingCore(described, idle=IdleBehavior(IdleConfig(enabled=False)))).start()
        puppet.wait(1.5)
        frames = np.zeros((75, 56))
        # Closes well beyond its stop, again and again.
        frames[:, 50] = 0.06 * np.sin(2 * np.pi * hz * np.arange(75) / 25.0 + 0.4) - 0.02
        for first in range(0, 75, 5):
            due_ns = puppet.now_ns + 100_000_000
            puppet.motion(first, due_ns, frames[first : first + 5] * (5.0 if name == "fast" else 1.0))
            puppet.wait(0.2)
        report = puppet.core.planner.report
        closed = np.concatenate([plan.positions[:, jaw] for plan in puppet.plans]).min()
        assert closed < 0.01, "it does close"
        counts[name] = (report.clipped[jaw], report.smoothed[jaw] + report.scaled[jaw])
    assert counts["stop"] == (0, 0)
    assert counts["limit"][0] > 5
    assert counts["fast"][1] > 0, "velocity and acceleration count at a stop too"


def test_the_head_blinks_while_it_talks(make_puppet, sine):
    puppet = make_puppet(idles=True, seed=1).start()
    zero_ns = stream(puppet, sine, 0.5, 31.0, 5, 60, yaw_rad=0.2)
    lid = puppet.robot.joint_names.index("left_upper_lid")
    t = np.arange(zero_ns, zero_ns + 30_000_000_000, 10_000_000)
    closed = puppet.commanded(t)[:, lid] > 1.05
    blinks = np.sum(np.diff(closed.astype(int)) == 1)
    assert 4 <= blinks <= 14
    wanted = puppet.core.idle.signals(t * 1e-9)["blink"] > 0.5
    assert blinks == np.sum(np.diff(wanted.astype(int)) == 1), "each one closes the eye, wherever a turn ends"


def test_a_head_switched_on_beyond_its_limits_comes_in_and_never_goes_further_out(make_puppet):
    puppet = make_puppet()
    beyond = puppet.robot.limits.upper + 0.1
    plans = [puppet.core.start(beyond, puppet.now_ns)]
    for _ in range(80):
        puppet.now_ns += 50_000_000
        plans.append(puppet.core.tick(puppet.now_ns))
    for plan in filter(None, plans):
        assert (plan.positions <= beyond + 1e-9).all()
        assert (np.abs(plan.curve[1]) <= puppet.robot.limits.velocity + 1e-9).all()
    np.testing.assert_allclose(plan_end(plans), puppet.robot.offsets_rad, atol=1e-6)


def plan_end(plans):
    return [plan for plan in plans if plan is not None][-1].positions[-1]


def test_stop_brings_everything_to_rest_and_leaves_motion_out_until_resumed(make_puppet, sine):
    puppet = make_puppet().start()
    zero_ns = stream(puppet, sine, 1.0, 2.0, 5, 60, yaw_rad=0.4)
    plan = puppet.take(puppet.core.stop(puppet.now_ns))
    first_rest = np.flatnonzero((np.abs(plan.curve[1]) < 1e-3).all(1))[0]
    assert first_rest * 0.02 <= 0.4
    assert puppet.motion(50, zero_ns + 50 * FRAME_NS, sine(np.arange(5), 1.0, yaw_rad=0.4)) is None
    puppet.wait(2.0)
    assert puppet.core.mode is Mode.STOPPED
    assert puppet.plans[-1] is plan
    puppet.take(puppet.core.resume(puppet.now_ns))
    puppet.wait(2.0)
    np.testing.assert_allclose(puppet.plans[-1].positions[-1], puppet.robot.offsets_rad, atol=1e-6)


def test_frames_that_are_not_finite_are_refused_one_by_one_and_the_rest_goes_on(make_puppet, sine):
    puppet = make_puppet().start()
    zero_ns = puppet.now_ns + 300_000_000
    frames = sine(np.arange(25), 1.0, yaw_rad=0.2)
    whole = frames.copy()
    frames[3, 54], frames[4, 0], frames[9] = np.nan, np.inf, -np.inf
    puppet.motion(0, zero_ns, frames)
    assert puppet.core.timeline.counters.refused_frames == 3
    t, positions = shown(puppet, zero_ns, 0.1, 0.9, "neck_yaw")
    wanted = np.interp(t, np.arange(25) / 25, whole[:, 54])
    assert np.abs(positions - wanted).max() < 0.03
    assert puppet.motion(25, zero_ns + 25 * FRAME_NS, np.full((5, 56), np.nan)) is None


def test_motion_too_late_to_be_shown_changes_nothing(make_puppet, sine):
    puppet = make_puppet().start()
    assert puppet.motion(0, puppet.now_ns - 1_000_000_000, sine(np.arange(5), 1.0, yaw_rad=0.3)) is None
    assert puppet.core.late_runs == 1


def test_motion_due_at_another_hour_is_refused(make_puppet, sine):
    puppet = make_puppet().start()
    with pytest.raises(ValueError, match="one ROS clock"):
        puppet.motion(0, puppet.now_ns + 3_600_000_000_000, sine(np.arange(5), 1.0))


def test_a_measured_position_that_is_not_finite_is_refused_by_name(make_puppet, robot):
    positions = robot.offsets_rad
    positions[3] = np.nan
    with pytest.raises(ValueError, match=robot.joint_names[3]):
        make_puppet().start(positions)


def test_joints_moved_by_hand_go_there_within_the_limits_and_leave_motion_out(make_puppet, sine):
    puppet = make_puppet(by_hand_s=2.0).start()
    stream(puppet, sine, 1.0, 2.0, 5, 60, yaw_rad=0.4)
    resting = puppet.plans[-1].positions[-1]
    puppet.take(puppet.core.move_by_hand({"jaw": 0.2, "neck_yaw": 9.0}, puppet.now_ns))
    target = puppet.plans[-1].positions[-1]
    names = puppet.robot.joint_names
    assert target[names.index("jaw")] == pytest.approx(0.2, abs=1e-6)
    assert target[names.index("neck_yaw")] == pytest.approx(puppet.robot.limits.upper[0], abs=2e-3)
    np.testing.assert_allclose(target[4:], resting[4:], atol=1e-3, err_msg="the others stay")
    assert puppet.motion(80, puppet.now_ns + 100_000_000, sine(np.arange(5), 1.0, yaw_rad=0.4)) is None
    puppet.wait(1.5)
    assert puppet.core.mode is Mode.BY_HAND
    puppet.wait(2.5)
    np.testing.assert_allclose(puppet.plans[-1].positions[-1], puppet.robot.offsets_rad, atol=1e-6)


@pytest.mark.parametrize(("positions", "word"), [({"tail": 0.1}, "tail"), ({"jaw": np.nan}, "jaw")])
def test_a_joint_that_cannot_be_moved_so_is_refused_by_name(make_puppet, positions, word):
    puppet = make_puppet().start()
    with pytest.raises(ValueError, match=word):
        puppet.core.move_by_hand(positions, puppet.now_ns)


def test_an_idle_head_looks_at_a_point_at_once_and_ahead_again_in_time(make_puppet):
    puppet = make_puppet(idles=True, look_timeout_s=2.0).start()
    puppet.wait(3.0)
    asked_ns = puppet.now_ns
    puppet.take(puppet.core.look_at((1.0, 0.5, 0.3), "base_link", puppet.now_ns))
    puppet.wait(5.0)
    names = list(puppet.robot.joint_names)
    gaze = puppet.commanded(asked_ns + np.arange(0, 5_000, 10) * 1_000_000)
    line = gaze[:, names.index("neck_yaw")] + gaze[:, names.index("eyes_yaw")]
    wanted = np.arctan2(0.5, 1.0 - 0.062)
    assert line[30] > 0.6 * wanted, "within 0.3 s"
    assert line[150] == pytest.approx(wanted, abs=0.15)
    assert line[-1] == pytest.approx(0.0, abs=0.15)
    with pytest.raises(ValueError, match="'camera', expected 'base_link'"):
        puppet.core.look_at((1.0, 0.5, 0.3), "camera", puppet.now_ns)


def test_a_body_with_joints_of_different_delay_commands_each_so_much_earlier(puppet_of, robot, sine):
    slow = dataclasses.replace(robot.joints[0], servo_delay_s=0.08)
    mixed = dataclasses.replace(robot, joints=(slow, *robot.joints[1:]))
    puppet = puppet_of(RetargetingCore(mixed, idle=IdleBehavior(IdleConfig(enabled=False)))).start()
    zero_ns = stream(puppet, sine, 1.0, 6.0, 5, 300, yaw_rad=0.2, jaw_rad=0.04)
    for joint, amplitude, middle in (("neck_yaw", 0.2, 0.0), ("jaw", 0.08, 0.19)):
        t, positions = shown(puppet, zero_ns, 1.5, 5.0, joint)
        assert np.abs(positions - middle - amplitude * np.sin(2 * np.pi * t)).max() < 0.05 * amplitude, joint


def test_a_two_rod_neck_follows_and_keeps_every_limit(puppet_of, two_rod_robot, sine):
    puppet = puppet_of(RetargetingCore(two_rod_robot, idle=IdleBehavior(IdleConfig(), 1))).start()
    zero_ns = puppet.now_ns + 500_000_000
    rng = np.random.default_rng(0)
    for first in range(0, 400, 5):
        puppet.now_ns = zero_ns + first * FRAME_NS - 100_000_000
        frames = np.zeros((5, 56))
        frames[:, 53] = 0.12 * np.sin(2 * np.pi * 0.8 * (first + np.arange(5)) / 25.0)
        if first > 200:
            frames = rng.normal(0, 1, (5, 56))
        puppet.motion(first, zero_ns + first * FRAME_NS, frames)
    times_ns = zero_ns + np.arange(1_000, 7_000, 20) * 1_000_000
    pose = two_rod_robot.platforms[0].kinematics.forward(puppet.commanded(times_ns))
    wanted = 0.12 * np.sin(2 * np.pi * 0.8 * (times_ns - zero_ns) * 1e-9)
    assert np.sqrt(np.mean((pose[:, 0] - wanted) ** 2)) < 0.06 * 0.12


def poisoned(rng, frames):
    """Ordinary noise with one number in five hundred not finite."""
    bad = rng.random((frames, 56)) < 0.002
    return np.where(bad, rng.choice([np.nan, np.inf, -np.inf]), rng.normal(0, 0.3, (frames, 56)))


def oscillating(rng, frames, shape):
    """All numbers in phase, at any frequency that frames can carry."""
    wave = np.sin(np.arange(frames) * rng.uniform(0.01, 3.1))
    return shape(wave)[:, None] * rng.uniform(0, 1, 56)


WILD = {
    "noise": lambda rng, n: rng.normal(0, 0.5, (n, 56)),
    "jumps": lambda rng, n: rng.choice([-2.0, 2.0], (n, 56)),
    "tiny and huge": lambda rng, n: rng.normal(0, 1, (n, 56)) * 10.0 ** rng.uniform(-12, 37, (n, 56)),
    "not finite": poisoned,
    "square waves": lambda rng, n: oscillating(rng, n, np.sign),
    "sines": lambda rng, n: oscillating(rng, n, np.asarray),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", WILD)
def test_no_motion_breaks_a_limit(make_puppet, kind):
    """The puppet checks every instant of every plan; twenty thousand frames of each kind."""
    rng = np.random.default_rng(len(kind))
    puppet = make_puppet(idles=True, seed=2).start()
    frame, revision, sent, zero_ns = 0, 0, 0, puppet.now_ns
    while sent < 20_000:
        count = int(rng.choice([1, 5, 25, 50]))
        puppet.now_ns = max(
            puppet.now_ns + 1_000_000, zero_ns + frame * FRAME_NS - int(rng.uniform(-50, 400) * 1e6)
        )
        if rng.random() < 0.2:
            revision, frame = revision + 1, max(0, frame - int(rng.integers(0, 20)))
        if rng.random() < 0.05:
            puppet.take(puppet.core.tick(puppet.now_ns))
        puppet.motion(
            frame, zero_ns + frame * FRAME_NS + int(rng.normal(0, 2e6)), WILD[kind](rng, count), revision
        )
        frame += count
        sent += count
    del puppet.plans[:-1]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.lists(
        st.tuples(
            st.integers(0, 30),
            st.integers(-400, 900),
            st.integers(0, 3),
            st.lists(st.floats(width=32, allow_nan=True, allow_infinity=True), min_size=1, max_size=6),
            st.integers(0, 700),
            st.sampled_from(["motion", "tick", "stop", "resume", "trajectory", "hold", "hand"]),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_no_order_of_calls_breaks_a_limit(make_puppet, data):
    puppet = make_puppet(idles=True).start()
    for first, due_ms, revision, values, pause_ms, call in data:
        puppet.now_ns += pause_ms * 1_000_000
        if call == "motion":
            frames = np.repeat(np.array(values)[:, None], 56, axis=1)
            puppet.motion(first, puppet.now_ns + due_ms * 1_000_000, frames, revision)
        elif call == "tick":
            puppet.take(puppet.core.tick(puppet.now_ns))
        elif call == "stop":
            puppet.take(puppet.core.stop(puppet.now_ns))
        elif call == "trajectory":
            times_s = (0.1 + pause_ms * 1e-3) * np.arange(1, len(values) + 1)
            positions, start_ns = 0.5 * np.tanh(values)[:, None], puppet.now_ns + due_ms * 1_000_000
            with contextlib.suppress(TrajectoryRefusedError):
                trajectory = Trajectory(("neck_yaw",), start_ns, times_s, positions, None)
                puppet.take(puppet.core.on_trajectory(trajectory, puppet.now_ns))
        elif call == "hold":
            puppet.take(puppet.core.hold_trajectory(puppet.now_ns))
        elif call == "hand":
            with contextlib.suppress(ValueError):
                puppet.take(puppet.core.move_by_hand({"neck_yaw": values[0]}, puppet.now_ns))
        else:
            puppet.take(puppet.core.resume(puppet.now_ns))
