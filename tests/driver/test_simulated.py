"""Simulated servos keep the driver's contract: command = measured on activation, limits, delay, watchdog."""

import dataclasses

import numpy as np
import pytest
from timar_driver.command_limiter import CommandLimiter
from timar_driver.config import DriverConfig
from timar_driver.driver import JointLimits, read_driven_joints
from timar_driver.fixed_rate_loop import FixedRateLoop
from timar_driver.hardware_file import BusTiming
from timar_driver.simulated_bus import Faults
from timar_driver.simulated_driver import SimulatedDriver
from timar_driver.simulated_servo import MotorConfig
from timar_driver.stop_sequence import StopConfig

MS = 1_000_000
LIMITS = JointLimits(np.array([-1.0, -0.5]), np.array([1.0, 0.5]), np.array([2.0, 2.0]))


def servos(start=(0.2, -0.1), **config):
    driver = SimulatedDriver(("pan", "tilt"), LIMITS, DriverConfig(**config), np.array(start))
    driver.activate(0)
    return driver


def run(driver, command, seconds, start_ms=0):
    """Command at 100 Hz; return (times, positions)."""
    rows = []
    for ms in range(start_ms, start_ms + int(seconds * 1e3), 10):
        driver.send(np.asarray(command(ms * 1e-3)), ms * MS)
        rows.append(driver.read(ms * MS).positions)
    return start_ms * 1e-3 + 0.01 * np.arange(len(rows)), np.array(rows)


def test_activation_leaves_every_joint_where_it_stands():
    driver = SimulatedDriver(("pan", "tilt"), LIMITS, start_positions=np.array([0.4, 0.1]))
    np.testing.assert_array_equal(driver.activate(0).positions, [0.4, 0.1])
    np.testing.assert_array_equal(driver.read(50 * MS).positions, [0.4, 0.1])


def test_a_servo_stays_its_delay_behind_a_ramp():
    driver = servos((0.0, 0.0), servo_delay_ms=30.0)
    t, positions = run(driver, lambda t: [0.5 * t, 0.0], 1.0)
    # A command held for 10 ms is on average 5 ms old.
    np.testing.assert_allclose(positions[-10:, 0], 0.5 * (t[-10:] - 0.03 - 0.005), atol=1e-4)


def test_position_and_velocity_limits_hold_under_any_command():
    rng = np.random.default_rng(0)
    driver = servos()
    _, positions = run(driver, lambda t: rng.uniform(-50, 50, 2), 5.0)
    assert (positions >= LIMITS.lower).all()
    assert (positions <= LIMITS.upper).all()
    assert (np.abs(np.diff(positions, axis=0)) <= LIMITS.velocity * 0.01 + 1e-9).all()


def test_send_tells_what_was_really_sent():
    np.testing.assert_array_equal(servos().send(np.array([3.0, -3.0]), 0), [1.0, -0.5])


def test_a_command_that_is_not_finite_is_refused_by_joint():
    with pytest.raises(ValueError, match="tilt"):
        servos().send(np.array([0.0, np.nan]), 0)


def test_without_commands_the_servos_stop_by_their_own_watchdog():
    driver = servos((0.0, 0.0), watchdog_ms=100.0)
    driver.send(np.array([1.0, 0.0]), 0)
    at_watchdog = driver.read(100 * MS).positions[0]
    assert 0.1 < at_watchdog < 0.25
    assert driver.read(5000 * MS).positions[0] == at_watchdog
    assert "watchdog" in driver.faults()[0]


def test_an_inactive_driver_takes_no_command():
    driver = servos()
    driver.deactivate(0)
    driver.deactivate(0)
    with pytest.raises(RuntimeError, match="activate"):
        driver.send(np.zeros(2), 0)


def test_noise_is_seeded_and_never_moves_a_joint():
    first, second = servos(servo_noise_rad=0.01), servos(servo_noise_rad=0.01)
    np.testing.assert_array_equal(first.read(0).positions, second.read(0).positions)
    assert first.read(0).positions[0] != 0.2
    assert abs(np.mean([first.read(0).positions[0] for _ in range(400)]) - 0.2) < 0.003


def test_only_joints_with_a_motor_are_driven(tmp_path):
    path = tmp_path / "one.urdf"
    limit = '<limit lower="-1" upper="1" velocity="3" effort="1"/>'
    joints = f'<joint name="pan" type="revolute">{limit}</joint><joint name="mount" type="fixed"/>'
    follower = f'<joint name="slave" type="revolute">{limit}<mimic joint="pan"/></joint>'
    path.write_text(f"<robot name='one'>{joints}{follower}</robot>")
    names, limits = read_driven_joints(path)
    assert names == ("pan",)
    assert limits.velocity.tolist() == [3.0]
    for text, message in (
        ("<robot", "is not a URDF"),
        ("<robot/>", "is not a URDF"),
        ('<robot><joint name="pan" type="revolute"/></robot>', "'pan' has no <limit>"),
        (
            '<robot><joint name="pan" type="revolute"><limit lower="x"/></joint></robot>',
            "<limit> of joint 'pan'",
        ),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_driven_joints(path)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rate_hz": 5}, r"DriverConfig\.rate_hz is 5"),
        ({"rate_hz": np.nan}, r"DriverConfig\.rate_hz is nan"),
        ({"states_every": 0}, r"DriverConfig\.states_every is 0"),
        ({"states_every": 1.5}, r"DriverConfig\.states_every is 1\.5, expected int"),
        ({"realtime_priority": -1}, r"DriverConfig\.realtime_priority is -1"),
        ({"servo_delay_ms": 0.0}, r"DriverConfig\.servo_delay_ms is 0"),
        ({"servo_noise_rad": -0.1}, r"DriverConfig\.servo_noise_rad is -0\.1"),
        ({"watchdog_ms": np.inf}, r"DriverConfig\.watchdog_ms is inf"),
        ({"watchdog_ms": 50.0, "rate_hz": 20.0}, r"watchdog_ms is 50 at 20 commands a second, .* 100 ms"),
        ({"seed": -1}, r"DriverConfig\.seed is -1"),
        ({"driver": "real"}, r"DriverConfig\.driver is 'real', expected one of simulated, hardware"),
        ({"stop_category": "drop"}, r"DriverConfig\.stop_category is 'drop'"),
    ],
)
def test_a_parameter_that_cannot_be_is_refused_by_name(wrong, message):
    with pytest.raises(ValueError, match=message):
        DriverConfig(**wrong)


@pytest.mark.parametrize(
    ("lower", "upper", "velocity"),
    [(1.0, -1.0, 2.0), (-1.0, 1.0, 0.0), (np.nan, 1.0, 2.0), (-1.0, np.inf, 2.0), (-1.0, 1.0, -3.0)],
)
def test_limits_that_cannot_be_are_refused(lower, upper, velocity):
    with pytest.raises(ValueError, match="joint number 1 may go from"):
        JointLimits(np.array([-1.0, lower]), np.array([1.0, upper]), np.array([2.0, velocity]))


@pytest.mark.parametrize(
    ("config", "field", "value"),
    [
        (config, field.name, value)
        for config in (StopConfig, MotorConfig, Faults, BusTiming)
        for field in dataclasses.fields(config)
        for value in (np.nan, -1.0, np.inf, 1e9, "x")
        if field.name != "category"
    ],
)
def test_no_number_of_any_configuration_may_be_what_it_cannot(config, field, value):
    with pytest.raises(ValueError, match=rf"{config.__name__}\.{field} is"):
        config(**{field: value})


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, np.nan])
def test_a_share_of_speed_that_cannot_be_is_refused(share):
    with pytest.raises(ValueError, match="rejoin_share is"):
        CommandLimiter(("pan", "tilt"), LIMITS, share)


@pytest.mark.parametrize(("period_ns", "priority"), [(0, 0), (-1, 0), (10 * MS, 100), (10 * MS, -1)])
def test_a_loop_that_cannot_be_is_refused(period_ns, priority):
    with pytest.raises(ValueError, match="expected"):
        FixedRateLoop(period_ns, lambda now_ns: None, priority)
