"""Servos on a bus: set up as they should be, commanded within limits, every fault survived as documented."""

import numpy as np
import pytest
from servo_bench import DYNAMIXEL, FEETECH, LIMITS, MS, NAMES, Bench, write_hardware
from timar_driver.bus_driver import BusDriver
from timar_driver.driver import HardwareGoneError, JointLimits
from timar_driver.simulated_bus import Faults
from timar_driver.simulated_servo import MotorConfig

REST = [0.0, 0.0, 0.1]


@pytest.fixture(params=[DYNAMIXEL, FEETECH], ids=["dynamixel", "feetech"])
def bench(request, tmp_path):
    return Bench(write_hardware(tmp_path, request.param))


@pytest.fixture
def dynamixel(tmp_path):
    return Bench(write_hardware(tmp_path, DYNAMIXEL))


def states(bench, name):
    return [bench.servo(joint).get(name) for joint in NAMES]


def test_activation_leaves_every_joint_where_it_stands_and_gives_it_torque(bench):
    bench.place(pan=0.3, tilt=-0.2, jaw=0.15)
    measured = bench.activate()
    np.testing.assert_allclose(measured.positions, [0.3, -0.2, 0.15], atol=2e-3)
    assert all(bench.servo(joint).has_torque for joint in NAMES)
    bench.run(measured.positions, 200)
    np.testing.assert_allclose([bench.rad(joint) for joint in NAMES], [0.3, -0.2, 0.15], atol=2e-3)


def test_activation_writes_limits_mode_and_watchdog(dynamixel):
    dynamixel.activate()
    for joint, spec in zip(NAMES, dynamixel.description.servos, strict=True):
        servo, (low, high) = dynamixel.servo(joint), spec.tick_range
        assert (servo.get("min_position"), servo.get("max_position")) == (low, high)
        assert servo.get("operating_mode") == 3
        assert servo.get("return_delay") == 0
        assert servo.get("watchdog") == 4, "80 ms in units of 20 ms"
        units = spec.velocity_rad_s * spec.ratio / (0.229 * 2 * np.pi / 60)
        assert servo.get("velocity_limit") == servo.get("profile_velocity") == round(units)


def test_what_a_servo_keeps_is_written_once_only(dynamixel):
    dynamixel.activate()
    dynamixel.driver.deactivate(dynamixel.now_ns)
    before = dynamixel.line.counters.requests
    dynamixel.activate()
    second = dynamixel.line.counters.requests - before
    # Ping, eight reads and five writes of volatile registers, three alarm limits: nothing kept is written.
    assert second <= 3 * 20 + 1


def test_commands_are_followed_in_radians_with_sign_zero_and_ratio(bench):
    bench.activate()
    wanted = np.array([0.5, 0.3, 0.2])
    measured = bench.run(wanted, 600)[-1]
    np.testing.assert_allclose(measured.positions, wanted, atol=2e-3)
    np.testing.assert_allclose([bench.rad(joint) for joint in NAMES], wanted, atol=2e-3)
    tilt = bench.description.servos[1]
    assert bench.servo("tilt").get("goal_position") == round(2000 - 0.3 * 4096 / (2 * np.pi))
    assert bench.servo("jaw").get("goal_position") == round(2048 + 2 * 0.2 * 4096 / (2 * np.pi))
    assert tilt.sign == -1


def test_measured_velocity_has_the_joints_sign_and_scale(bench):
    bench.activate()
    seen = [bench.cycle([0.02 * k, -0.01 * k, 0.01 * k]).velocities for k in range(25)][-1]
    np.testing.assert_allclose(seen, [2.0, -1.0, 1.0], rtol=0.1)


def test_nothing_beyond_position_or_velocity_limits_reaches_a_servo(bench):
    bench.activate()
    rng, ticks = np.random.default_rng(3), []
    for _ in range(300):
        bench.cycle(rng.normal(0.0, 3.0, 3))
        ticks.append(states(bench, "goal_position"))
    per_rad = np.array([spec.ticks_per_rad for spec in bench.description.servos])
    zero = np.array([spec.zero_tick for spec in bench.description.servos])
    goals = (np.array(ticks) - zero) / per_rad
    assert (goals >= LIMITS.lower - 1e-3).all()
    assert (goals <= LIMITS.upper + 1e-3).all()
    assert (np.abs(np.diff(goals, axis=0)) <= LIMITS.velocity * 0.0101 + 2e-3).all()
    assert bench.driver.values()["held_back"] > 0


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_never_reaches_the_bus(bench, poison):
    bench.activate()
    bench.cycle(REST)
    before, goals = bench.line.counters.requests, states(bench, "goal_position")
    with pytest.raises(ValueError, match="command for tilt is not finite"):
        bench.driver.send(np.array([0.0, poison, 0.0]), bench.now_ns)
    assert bench.line.counters.requests == before
    assert states(bench, "goal_position") == goals


def test_noise_lost_and_corrupt_replies_are_ridden_out_and_counted(bench):
    bench.activate()
    bench.bus.faults = Faults(noise=0.1, corrupt=0.05, lost=0.05, deaf=0.02)
    positions = [bench.cycle([0.4 * np.sin(0.05 * k), 0.0, 0.1]).positions for k in range(300)]
    assert np.isfinite(positions).all()
    assert np.abs(np.diff(positions, axis=0)).max() < 0.25, "a broken reply is left out, not believed"
    counters = bench.line.counters
    assert counters.missing > 0
    assert counters.corrupt > 0
    assert "do not arrive whole" in " ".join(bench.driver.faults())
    bench.bus.faults = Faults()
    measured = bench.run(REST, 500)[-1]
    np.testing.assert_allclose(measured.positions, REST, atol=2e-3)


def test_a_moment_of_silence_is_not_a_loss(bench):
    bench.activate()
    bench.bus.faults = Faults(lost=1.0)
    bench.run(REST, 300)
    bench.bus.faults = Faults()
    assert np.isfinite(bench.run(REST, 200)[-1].positions).all()


def test_a_lost_servo_is_named_once_and_the_others_go_on(bench):
    bench.activate()
    bench.run(REST, 100)
    bench.bus.silent.add(bench.servo("tilt").servo_id)
    began_ns = bench.now_ns
    with pytest.raises(RuntimeError, match=r"tilt \(servo 2\) has been silent for 5\d\d ms; check its cable"):
        bench.run(REST, 2000)
    assert 500 <= (bench.now_ns - began_ns) / MS <= 550
    measured = bench.run([0.3, 0.0, 0.2], 500)[-1]
    assert measured.positions[0] == pytest.approx(0.3, abs=2e-3)
    assert "tilt is given up" in bench.driver.faults()


def test_servos_are_not_lost_because_the_loop_was_held_up(bench):
    # On a crowded machine a loop that stood still for two seconds once gave every servo up.
    bench.activate()
    bench.run(REST, 100)
    bench.wait(3000)
    bench.bus.faults = Faults(lost=1.0)
    bench.run(REST, 100)
    bench.bus.faults = Faults()
    bench.run(REST, 600)
    assert not [fault for fault in bench.driver.faults() if "given up" in fault]


def test_a_cycle_with_a_lost_servo_still_fits_its_period(bench):
    bench.activate()
    bench.bus.silent.add(bench.servo("tilt").servo_id)
    began_ns = bench.now_ns
    bench.run(REST, 300)
    assert (bench.now_ns - began_ns) / MS < 310


@pytest.mark.parametrize(("protocol", "model"), [("dynamixel", "XL330-M288"), ("feetech", "STS3215")])
def test_cycles_of_twelve_servos_fit_their_period_whatever_is_read_of_how_they_are(protocol, model, tmp_path):
    # Health and state of all servos at once made every tenth cycle longer than its period, by 1.2 ms.
    names = tuple(f"joint_{k}" for k in range(12))
    servos = "".join(f"  {name}: {{id: {k + 1}, model: {model}}}\n" for k, name in enumerate(names))
    text = f"bus: {{protocol: {protocol}, port: /dev/null}}\nservos:\n{servos}"
    limits = JointLimits(np.full(12, -1.0), np.full(12, 1.0), np.full(12, 4.0))
    bench = Bench(write_hardware(tmp_path, text, names, limits))
    bench.activate()
    busy_ms = []
    for _ in range(40):
        began_ns = bench.now_ns
        bench.driver.send(np.zeros(12), began_ns)
        bench.driver.read(began_ns)
        busy_ms.append((bench.now_ns - began_ns) / MS)
        bench.wait(10 - busy_ms[-1])
    assert max(busy_ms) < 7.0
    assert sum(key.endswith(".temperature_c") for key in bench.driver.values()) == 12


def test_how_servos_are_is_read_in_some_cycle_even_when_every_cycle_is_short_of_time(bench):
    bench.driver = BusDriver(bench.description, bench.line, period_s=0.002)
    bench.activate()
    bench.servo("jaw").set("temperature", 66)
    bench.run(REST, 400)
    assert "jaw is 66 C warm, its limit is 70 C; let it rest" in bench.driver.faults()
    per_cycle = bench.line.counters.requests / 40
    assert 2.0 < per_cycle < 2.4, "a command and a reading each, and the slow one in every fifth at most"


def test_a_servo_that_browned_out_is_set_up_again_and_led_back_gently(bench):
    bench.activate()
    bench.run([0.6, 0.0, 0.1], 600)
    bench.servo("pan").config = MotorConfig(sag_rad_s=0.4)
    bench.bus.brown_out([bench.servo("pan").servo_id], bench.now_ns)
    track = [bench.rad("pan")]
    for _ in range(250):
        bench.cycle([0.6, 0.0, 0.1])
        track.append(bench.rad("pan"))
    servo = bench.servo("pan")
    assert servo.has_torque
    assert bench.driver.values()["servo_restarts"] == 1
    assert min(track) < 0.55, "without torque it sank"
    assert track[-1] == pytest.approx(0.6, abs=3e-3)
    # It comes back at 15 % of its speed, not with a jerk.
    assert np.diff(track).max() / 0.01 < 0.25 * LIMITS.velocity[0]
    assert servo.get("profile_velocity") > 0
    if "watchdog" in servo.family.registers:
        assert servo.get("watchdog") == 4


def starve(bench, joint, times):
    for _ in range(times):
        bench.bus.brown_out([bench.servo(joint).servo_id], bench.now_ns)
        bench.run(REST, 800)


def test_a_servo_that_keeps_starting_anew_is_given_up(bench):
    bench.activate()
    with pytest.raises(RuntimeError, match=r"pan .* has restarted 4 times in a minute; check the power"):
        starve(bench, "pan", times=6)


def test_an_overloaded_servo_is_named_and_given_up(bench):
    bench.activate()
    bench.run(REST, 100)
    bench.servo("jaw").inject_fault("overload")
    with pytest.raises(RuntimeError, match=r"jaw \(servo 7\) has shut down: overload; let it cool"):
        bench.run(REST, 300)
    assert not bench.servo("jaw").has_torque
    assert bench.servo("pan").has_torque


def test_a_servo_that_had_shut_down_is_started_anew_by_the_next_activation(dynamixel):
    dynamixel.servo("jaw").inject_fault("overload")
    with pytest.raises(RuntimeError, match=r"jaw .* had shut down: overload; it was restarted"):
        dynamixel.activate()
    dynamixel.wait(300)
    dynamixel.activate()
    assert dynamixel.servo("jaw").has_torque


def test_warm_and_underfed_servos_are_told_before_they_fail(bench):
    bench.activate()
    bench.servo("tilt").set("temperature", 66)
    bench.servo("jaw").set("voltage", 20)
    bench.run(REST, 200)
    said = " ".join(bench.driver.faults())
    assert "tilt is 66 C warm, its limit is 70 C" in said
    assert "jaw has 2.0 V" in said
    values = bench.driver.values()
    assert values["tilt.temperature_c"] == 66
    assert values["jaw.voltage_v"] == 2.0


def test_without_a_word_the_servos_stop_by_their_own_watchdog(dynamixel):
    dynamixel.activate()
    for k in range(30):
        dynamixel.cycle([0.02 * k, 0.0, 0.1])
    dynamixel.wait(100)
    assert all(dynamixel.servo(joint).is_tripped for joint in NAMES)
    here = dynamixel.rad("pan")
    dynamixel.wait(1000)
    assert dynamixel.rad("pan") == pytest.approx(here, abs=1e-3)
    assert dynamixel.servo("pan").has_torque, "it stops and holds"


def test_a_tripped_watchdog_refuses_goals_until_it_is_cleared(dynamixel):
    dynamixel.activate()
    dynamixel.cycle(REST)
    dynamixel.wait(200)
    with pytest.raises(RuntimeError, match="out of range"):
        dynamixel.line.write(1, "goal_position", 2100)
    dynamixel.line.write(1, "watchdog", 0)
    dynamixel.line.write(1, "goal_position", 2100)


def test_after_the_loop_was_held_up_watchdogs_are_cleared_and_joints_led_back(dynamixel):
    dynamixel.activate()
    dynamixel.run([0.0, 0.0, 0.1], 200)
    dynamixel.wait(400)
    assert dynamixel.servo("pan").is_tripped
    track = []
    for _ in range(400):
        dynamixel.cycle([0.8, 0.0, 0.1])
        track.append(dynamixel.rad("pan"))
    assert dynamixel.driver.values()["watchdog_stops"] == 3
    assert [dynamixel.servo(joint).get("watchdog") for joint in NAMES] == [4, 4, 4]
    assert np.diff(track).max() / 0.01 < 0.25 * LIMITS.velocity[0]
    assert track[-1] == pytest.approx(0.8, abs=3e-3)


def test_a_pulled_plug_is_said_and_ends_everything(bench):
    bench.activate()
    bench.wire.is_unplugged = True
    with pytest.raises(HardwareGoneError, match=r"the servo bus is gone: .*pulled out"):
        bench.run(REST, 100)
    bench.driver.deactivate(bench.now_ns)


def test_missing_servos_are_all_named_before_anything_moves(bench):
    bench.bus.silent |= {1, 7}
    with pytest.raises(RuntimeError, match=r"no answer from pan \(servo 1\), jaw \(servo 7\); check power"):
        bench.activate()
    assert not bench.servo("tilt").has_torque


def test_a_servo_of_another_model_is_named(dynamixel):
    dynamixel.servo("pan").set("model_number", 1060)
    with pytest.raises(RuntimeError, match=r"pan \(servo 1\) is a XL430-W250, not the model"):
        dynamixel.activate()


def test_a_holding_head_is_taken_over_without_losing_torque(dynamixel):
    dynamixel.activate()
    dynamixel.run([0.5, 0.2, 0.1], 500)
    dynamixel.wait(500)
    assert dynamixel.servo("pan").is_tripped, "the last driver was killed"
    switched_off = []
    store = dynamixel.servo("pan")._store
    dynamixel.servo("pan")._store = lambda register, value: (
        switched_off.append(register.name == "torque_enable" and not value),
        store(register, value),
    )
    measured = dynamixel.activate()
    assert not any(switched_off)
    assert measured.positions[0] == pytest.approx(0.5, abs=3e-3)
    np.testing.assert_allclose(
        dynamixel.run(measured.positions, 300)[-1].positions, measured.positions, atol=3e-3
    )


def test_a_holding_head_with_other_limits_is_not_dropped_to_write_them(dynamixel):
    dynamixel.activate()
    dynamixel.servo("pan").set("max_position", 4000)
    with pytest.raises(RuntimeError, match=r"pan .* holds with torque and has another max_position; support"):
        dynamixel.activate()
    assert dynamixel.servo("pan").has_torque


def test_a_joint_found_outside_its_limits_is_led_in_and_not_thrown(bench):
    bench.place(pan=1.2)
    bench.activate()
    track = []
    for _ in range(250):
        bench.cycle(REST)
        track.append(bench.rad("pan"))
    # The limits are the servo's own as well, so it goes to the nearest one at its profile speed.
    assert track[-1] == pytest.approx(0.0, abs=3e-3)
    assert np.abs(np.diff(track)).max() / 0.01 <= LIMITS.velocity[0] * 1.02


def test_effort_fades_and_zero_is_torque_off(bench):
    bench.activate()
    full = bench.description.family.full_effort
    bench.driver.set_effort(0.5, bench.now_ns)
    assert states(bench, "effort_limit") == [round(0.5 * full)] * 3
    bench.bus.faults = Faults(deaf=0.2)
    bench.driver.set_effort(0.0, bench.now_ns)
    assert states(bench, "torque_enable") == [0, 0, 0], "confirmed one by one, on a bad line too"


def test_after_deactivation_the_servos_hold_without_being_spoken_to(bench):
    bench.activate()
    bench.run([0.4, 0.1, 0.1], 500)
    bench.driver.deactivate(bench.now_ns)
    bench.driver.deactivate(bench.now_ns)
    bench.wait(5000)
    assert not any(bench.servo(joint).is_tripped for joint in NAMES)
    assert bench.rad("pan") == pytest.approx(0.4, abs=3e-3)
