"""Simulated servos keep the driver's contract: command = measured on activation, limits, delay, watchdog."""

import numpy as np
import pytest
from timar_driver.config import DriverConfig
from timar_driver.driver import JointLimits, read_driven_joints
from timar_driver.simulated_driver import ServoConfig, SimulatedDriver

MS = 1_000_000
LIMITS = JointLimits(np.array([-1.0, -0.5]), np.array([1.0, 0.5]), np.array([2.0, 2.0]))


def servos(start=(0.2, -0.1), **config):
    driver = SimulatedDriver(("pan", "tilt"), LIMITS, ServoConfig(**config), 0, np.array(start))
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
    driver = servos((0.0, 0.0), delay_ms=30.0)
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
    first, second = servos(noise_rad=0.01), servos(noise_rad=0.01)
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
        ("<robot/>", "no driven joint"),
        ('<robot><joint name="pan" type="revolute"/></robot>', "'pan' has no <limit>"),
        (
            '<robot><joint name="pan" type="revolute"><limit lower="x"/></joint></robot>',
            "<limit> of joint 'pan'",
        ),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_driven_joints(path)


def test_a_rate_out_of_range_is_refused_by_name():
    with pytest.raises(ValueError, match=r"DriverConfig\.rate_hz is 5"):
        DriverConfig(rate_hz=5)
