"""The stop chain: every way to stop ends in its posture and torque state, in the time that the docs state."""

import dataclasses
import math

import numpy as np
import pytest
from servo_bench import DYNAMIXEL, FEETECH, LIMITS, MS, NAMES, PERIOD_NS, Bench, write_hardware
from timar_common.joint_trajectory import Trajectory
from timar_driver.driver_setup import DriverSetup
from timar_driver.stop_sequence import CATEGORIES, StopConfig, StopSequence, StopStage, check_parking
from timar_driver.trajectory_controller import Phase, TrajectoryController

AMPLITUDE = np.array([0.8, 0.3, 0.15])
MIDDLE = np.array([0.0, 0.0, 0.2])
PARK = np.array([0.0, 0.4, 0.0])


def swing(start_ns, seconds=20.0, hz=0.7):
    t = np.arange(0.0, seconds, 0.02)
    phase = 2 * np.pi * hz * t
    positions = MIDDLE + AMPLITUDE * np.sin(phase)[:, None]
    velocities = AMPLITUDE * 2 * np.pi * hz * np.cos(phase)[:, None]
    return Trajectory(NAMES, start_ns, t, positions, velocities)


class OnBench:
    """A drive on a bench, stepped in simulated time."""

    def __init__(self, bench, stop):
        self.bench = bench
        self.drive = TrajectoryController(DriverSetup(bench.driver, LIMITS, stop, PARK), PERIOD_NS)
        self.track = []

    def start(self):
        self.bench.place(jaw=0.2)
        self.bench.wait(1)
        self.drive.start(self.bench.now_ns)

    def run(self, ms):
        for _ in range(round(ms / 10)):
            began_ns = self.bench.now_ns
            self.drive.step(began_ns)
            self.bench.wait(max(0, began_ns + PERIOD_NS - self.bench.now_ns) / MS)
            self.track.append([self.bench.rad(joint) for joint in NAMES])

    def run_until_stopped(self, within_s):
        began_ns = self.bench.now_ns
        while not self.drive.is_stopped:
            assert (self.bench.now_ns - began_ns) * 1e-9 < within_s + 0.02, (
                "the stop takes longer than stated"
            )
            self.run(10)
        return (self.bench.now_ns - began_ns) * 1e-9

    @property
    def torques(self):
        return [self.bench.servo(joint).has_torque for joint in NAMES]


@pytest.fixture(params=[DYNAMIXEL, FEETECH], ids=["dynamixel", "feetech"])
def moving(request, tmp_path):
    def make(category):
        hardware = write_hardware(tmp_path, request.param)
        stage = OnBench(Bench(hardware), dataclasses.replace(hardware.stop, category=category))
        stage.start()
        stage.drive.accept(swing(stage.bench.now_ns), stage.bench.now_ns)
        # In the middle of the swing, at full speed.
        stage.run(1420)
        return stage

    return make


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_stop_ends_in_its_torque_state_within_its_time(moving, category):
    stage = moving(category)
    stage.drive.stop("asked")
    took_s = stage.run_until_stopped(stage.drive.setup.stop.within_s)
    assert took_s <= stage.drive.setup.stop.within_s + 0.02
    assert stage.torques == [category == "hold"] * 3
    assert stage.drive.phase is (Phase.HELD if category == "hold" else Phase.RELEASED)
    here = stage.track[-1]
    stage.run(300)
    np.testing.assert_allclose(stage.track[-1], here, atol=5e-3)


@pytest.mark.parametrize("category", CATEGORIES)
def test_no_stop_moves_a_joint_faster_than_its_limit_or_out_of_its_range(moving, category):
    stage = moving(category)
    stage.drive.stop("asked")
    stage.run_until_stopped(stage.drive.setup.stop.within_s)
    track = np.array(stage.track)
    assert (np.abs(np.diff(track, axis=0)) <= LIMITS.velocity * 0.0101 * 1.02 + 2e-3).all()
    assert (track >= LIMITS.lower - 2e-3).all()
    assert (track <= LIMITS.upper + 2e-3).all()


def test_a_braked_joint_is_at_rest_when_the_brake_time_is_over(moving):
    stage = moving("hold")
    stage.drive.stop("asked")
    stage.run(1e3 * stage.drive.setup.stop.brake_s + 150)
    still = np.array(stage.track[-5:])
    assert np.ptp(still, axis=0).max() < 3e-3


def test_a_heavy_head_parks_before_its_torque_goes(moving):
    stage = moving("park_then_release")
    stage.drive.stop("asked")
    while all(stage.torques):
        stage.run(10)
    np.testing.assert_allclose(stage.track[-2], PARK, atol=0.05)
    assert stage.drive.fault == ""


def test_the_torque_fades_and_does_not_drop(moving):
    stage = moving("ease_and_release")
    stage.drive.stop("asked")
    efforts = []
    while all(stage.torques):
        stage.run(10)
        efforts.append(stage.bench.servo("pan").get("effort_limit"))
    full = stage.bench.description.family.full_effort
    steps = -np.diff([full, *efforts[:-1]]) / full
    assert steps.max() <= 0.05
    assert efforts[-2] < 0.1 * full


def test_a_head_that_cannot_park_keeps_its_torque_and_says_which_joint(moving):
    stage = moving("park_then_release")
    pan = stage.bench.servo("pan")
    pan._top_speed = lambda: 0.0
    stage.drive.stop("asked")
    stage.run_until_stopped(stage.drive.setup.stop.within_s)
    assert stage.torques == [True] * 3
    assert stage.drive.phase is Phase.HELD
    assert "not parked: pan stands" in stage.drive.fault


@pytest.mark.slow
@pytest.mark.parametrize("category", CATEGORIES)
def test_a_lost_servo_makes_the_others_stop_by_the_category(moving, category):
    stage = moving(category)
    stage.bench.bus.silent.add(1)
    stage.run(500)
    stage.run_until_stopped(stage.drive.setup.stop.within_s)
    assert "pan (servo 1) has been silent" in stage.drive.fault
    # Where the lost joint stands is not known, so a heavy head is not let go.
    expected = category != "ease_and_release" if category != "park_then_release" else stage.torques[1]
    assert stage.torques[1:] == [expected] * 2


def test_an_overload_stops_the_others_as_well(moving):
    stage = moving("hold")
    stage.bench.servo("tilt").inject_fault("overload")
    stage.run(150)
    stage.run_until_stopped(stage.drive.setup.stop.within_s)
    assert "tilt (servo 2) has shut down: overload" in stage.drive.fault
    assert stage.torques == [True, False, True]


def test_resume_sets_everything_up_anew_and_follows_again(moving):
    stage = moving("ease_and_release")
    stage.drive.stop("asked")
    stage.run_until_stopped(stage.drive.setup.stop.within_s)
    assert not stage.drive.accept(swing(stage.bench.now_ns), stage.bench.now_ns)
    assert stage.drive.resume()
    stage.run(50)
    assert stage.drive.phase is Phase.FOLLOWING
    assert stage.torques == [True] * 3
    here = np.array(stage.track[-1])
    rise = Trajectory(
        NAMES, stage.bench.now_ns, np.array([0.0, 1.0]), np.array([here, MIDDLE]), np.zeros((2, 3))
    )
    assert stage.drive.accept(rise, stage.bench.now_ns)
    stage.run(1300)
    np.testing.assert_allclose(stage.track[-1], MIDDLE, atol=5e-3)


def test_resume_fails_in_words_while_the_servo_is_still_missing(moving):
    stage = moving("hold")
    stage.bench.bus.silent.add(7)
    stage.run(900)
    assert stage.drive.is_stopped
    stage.drive.resume()
    stage.run(50)
    assert "no answer from jaw (servo 7)" in stage.drive.fault
    assert stage.drive.phase is Phase.HELD
    assert stage.torques[:2] == [True, True]


def test_a_stop_that_comes_while_the_hardware_is_set_up_again_is_carried_out(moving):
    # Set-up takes some tenths of a second; a signal that came meanwhile left a heavy head with its torque on.
    stage = moving("park_then_release")
    stage.drive.stop("asked")
    stage.run_until_stopped(stage.drive.setup.stop.within_s)
    assert stage.drive.resume()
    activate = stage.bench.driver.activate

    def activate_while_a_signal_comes(now_ns):
        stage.drive.stop("a signal")
        assert not stage.drive.is_stopped
        return activate(now_ns)

    stage.bench.driver.activate = activate_while_a_signal_comes
    stage.run(10)
    stage.run_until_stopped(stage.drive.setup.stop.within_s)
    assert stage.torques == [False] * 3
    assert stage.drive.phase is Phase.RELEASED


def test_a_stop_before_a_resume_has_begun_takes_it_back(moving):
    stage = moving("hold")
    stage.drive.stop("asked")
    stage.run_until_stopped(1.0)
    assert stage.drive.resume()
    stage.drive.stop("asked again")
    stage.run(100)
    assert stage.drive.phase is Phase.HELD


def test_a_pulled_plug_leaves_the_servos_to_their_own_watchdog(tmp_path):
    hardware = write_hardware(tmp_path, DYNAMIXEL)
    stage = OnBench(Bench(hardware), hardware.stop)
    stage.start()
    stage.drive.accept(swing(stage.bench.now_ns), stage.bench.now_ns)
    stage.run(1420)
    stage.bench.wire.is_unplugged = True
    stage.run(10)
    assert stage.drive.phase is Phase.GONE
    assert "pulled out" in stage.drive.fault
    stage.bench.wait(90)
    assert all(stage.bench.servo(joint).is_tripped for joint in NAMES)


def test_a_dead_host_leaves_every_servo_at_rest_and_holding_within_100_ms(moving):
    stage = moving("park_then_release")
    stage.bench.wait(100)
    here = [stage.bench.rad(joint) for joint in NAMES]
    stage.bench.wait(1000)
    np.testing.assert_allclose([stage.bench.rad(joint) for joint in NAMES], here, atol=3e-3)
    assert stage.torques == [True] * 3


def test_finishing_after_a_hold_leaves_the_joints_holding(moving):
    stage = moving("hold")
    stage.drive.stop("asked")
    stage.run_until_stopped(1.0)
    stage.drive.finish(stage.bench.now_ns)
    stage.bench.wait(3000)
    assert stage.torques == [True] * 3
    assert not any(stage.bench.servo(joint).is_tripped for joint in NAMES)


def test_a_brake_near_a_limit_ends_before_it():
    start, velocity = np.array([0.99, 0.0, 0.4]), np.array([4.0, 0.0, 8.0])
    stop = StopSequence(StopConfig("hold"), LIMITS, PARK, start, velocity, 0)
    track = np.array([stop.step(start, k * MS)[0] for k in range(400)])
    assert (track <= LIMITS.upper + 1e-12).all()
    assert stop.stage is StopStage.HELD
    np.testing.assert_allclose(track[-1], [1.0, 0.0, 0.4], atol=1e-9)


@pytest.mark.parametrize("category", CATEGORIES)
def test_random_stops_keep_every_limit(category):
    rng = np.random.default_rng(4)
    config = StopConfig(category, park_within_s=5.0)
    for _ in range(60):
        start = rng.uniform(LIMITS.lower, LIMITS.upper)
        velocity = rng.uniform(-1.2, 1.2, 3) * LIMITS.velocity
        stop = StopSequence(config, LIMITS, PARK, start, velocity, 0)
        track, now_ns = [start], 0
        while not stop.is_over:
            now_ns += 5 * MS
            track.append(stop.step(track[-1], now_ns)[0])
        assert now_ns * 1e-9 <= config.within_s + 0.025
        moved = np.abs(np.diff(track, axis=0))
        assert (moved <= LIMITS.velocity * 0.005 * (1 + 1e-9)).all()
        assert (np.array(track) >= LIMITS.lower - 1e-9).all()
        assert (np.array(track) <= LIMITS.upper + 1e-9).all()


def test_a_parking_pose_out_of_reach_or_time_is_refused_by_joint():
    config = StopConfig("park_then_release", park_within_s=0.5)
    late = r"pan needs 1\.88 s to park from -1 rad, more than park_within_s 0\.5"
    with pytest.raises(ValueError, match=late):
        check_parking(NAMES, PARK, LIMITS, config)
    with pytest.raises(ValueError, match=r"tilt is 0\.6, expected -0\.5 to 0\.5"):
        check_parking(NAMES, np.array([0.0, 0.6, 0.0]), LIMITS, StopConfig("park_then_release"))


def test_the_stated_times_are_the_sum_of_their_parts():
    assert math.isclose(StopConfig("hold").within_s, 0.25)
    assert math.isclose(StopConfig("ease_and_release").within_s, 0.75)
    assert math.isclose(StopConfig("park_then_release").within_s, 4.25)


@pytest.mark.parametrize("lost", [{1}, {1, 2, 7}], ids=["one", "all"])
@pytest.mark.parametrize("category", ["hold", "ease_and_release"])
def test_a_stop_never_says_of_a_servo_that_it_did_not_reach_that_it_has_stopped(moving, category, lost):
    # Seen: servo 1 lost, then SIGINT; the last word was "stopped, torque off", and the servo held its torque.
    stage = moving(category)
    stage.bench.bus.silent |= lost
    stage.drive.stop("asked")
    stage.run_until_stopped(stage.drive.setup.stop.within_s + 1.0)
    stage.drive.finish(stage.bench.now_ns)
    assert stage.drive.phase is Phase.UNREACHED
    assert "torque off" not in stage.drive.phase.value
    missed = stage.bench.driver.unreached()
    names = {1: "pan (servo 1)", 2: "tilt (servo 2)", 7: "jaw (servo 7)"}
    assert [text.split(" did not")[0] for text in missed] == [names[key] for key in sorted(lost)]
    has_watchdog = bool(stage.bench.description.watchdog_ms)
    assert ("own watchdog (80 ms)" in missed[0]) == has_watchdog
    assert stage.torques[0], "the servo that was not reached still holds"


def test_a_servo_that_answers_again_by_the_end_is_stopped_like_the_others(moving):
    stage = moving("ease_and_release")
    stage.bench.bus.silent.add(1)
    stage.drive.stop("asked")
    stage.run_until_stopped(stage.drive.setup.stop.within_s + 1.0)
    assert stage.drive.phase is Phase.UNREACHED
    stage.bench.bus.silent.clear()
    stage.drive.finish(stage.bench.now_ns)
    assert stage.bench.driver.unreached() == ()
    assert stage.drive.phase is Phase.RELEASED
    assert stage.torques == [False] * 3


def test_a_pulled_plug_names_every_servo_at_the_end(moving):
    stage = moving("ease_and_release")
    stage.bench.wire.is_unplugged = True
    stage.run(10)
    stage.drive.finish(stage.bench.now_ns)
    assert stage.drive.phase is Phase.GONE
    assert len(stage.bench.driver.unreached()) == 3
