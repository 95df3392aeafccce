"""A robot's hardware file: what is right is read, what is wrong is named by file, line and rule."""

import numpy as np
import pytest
from servo_bench import DYNAMIXEL, FEETECH, LIMITS, NAMES, write_hardware
from timar_description.find import find_urdf
from timar_driver.config import DriverConfig
from timar_driver.driver import JointLimits, read_driven_joints
from timar_driver.driver_setup import set_up_driver
from timar_driver.hardware_file import SUFFIX, hardware_file_of, read_hardware
from timar_driver.reachy_mini import JOINTS as REACHY_JOINTS
from timar_driver.stop_sequence import StopConfig


def test_a_hardware_file_is_read_whole(tmp_path):
    hardware = write_hardware(tmp_path, DYNAMIXEL)
    assert hardware.stop == StopConfig("park_then_release", park_within_s=2.5)
    np.testing.assert_array_equal(hardware.park_rad, [0.0, 0.4, 0.0])
    bus = hardware.bus
    assert bus is not None
    assert (bus.family.name, bus.port, bus.baud, bus.watchdog_ms) == (
        "dynamixel",
        "/dev/null",
        1_000_000,
        80.0,
    )
    assert bus.joint_names == NAMES
    pan, tilt, jaw = bus.servos
    assert (pan.servo_id, pan.model.name, pan.sign, pan.zero_tick) == (1, "XM430-W350", 1, 2048)
    assert tilt.tick(0.1) == round(2000 - 0.1 * 4096 / (2 * np.pi))
    assert jaw.tick_range == (2048, round(2048 + 2 * 0.4 * 4096 / (2 * np.pi)))


def test_a_feetech_bus_has_no_watchdog(tmp_path):
    hardware = write_hardware(tmp_path, FEETECH)
    assert hardware.bus is not None
    assert hardware.bus.watchdog_ms == 0.0


def test_joints_may_be_narrower_and_slower_than_the_urdf(tmp_path):
    text = DYNAMIXEL.replace(
        "model: XM430-W350", "model: XM430-W350, position_rad: [-0.5, 0.6], velocity_rad_s: 2"
    )
    limits = write_hardware(tmp_path, text).limits
    assert (limits.lower[0], limits.upper[0], limits.velocity[0]) == (-0.5, 0.6, 2.0)


WRONG = {
    "line 1, bus: protocol is 'dynamixal', expected one of": ("dynamixel,", "dynamixal,"),
    "line 1, bus: baud is 1000001, expected one of 57600": ("1000000", "1000001"),
    "line 1, bus: watchdog_ms is 90, expected a multiple of 20": ("watchdog_ms: 80", "watchdog_ms: 90"),
    "line 1, bus: 'watchdog_ms' is 20, expected 40 to 2540": ("watchdog_ms: 80", "watchdog_ms: 20"),
    "line 1, bus: 'port' is missing": ("port: /dev/null, ", ""),
    "line 1, bus: unknown key 'bawd'": ("baud", "bawd"),
    "line 2, stop: 'category' is 'drop', expected one of hold": ("park_then_release", "drop"),
    "line 2, stop: unknown key 'brakes'": ("park_within_s: 2.5", "brakes: 1"),
    "line 2, stop: 'park_within_s' is 99, expected 0.2 to 5": ("2.5", "99"),
    "park_rad: the URDF has no driven joint 'tail'": ("{tilt: 0.4}", "{tail: 0.4}"),
    "park_rad: park_rad of tilt is 0.7, expected -0.5 to 0.5": ("{tilt: 0.4}", "{tilt: 0.7}"),
    "park_rad: pan needs 1.88 s to park from -1 rad": ("2.5", "1.5"),
    "line 5, servos: the URDF has no driven joint 'pam'; did you mean 'pan'?": ("pan:", "pam:"),
    "line 4, servos: no servo is given for jaw": ("  jaw: {id: 7, model: XL330-M077, ratio: 2.0}\n", ""),
    "line 7, servos: 'jaw' has the id 2 of 'tilt'": ("id: 7", "id: 2"),
    "line 5, servos.pan: 'model' is 'STS3215', expected one of XL330-M077": ("XM430-W350", "STS3215"),
    "line 6, servos.tilt: sign is 2, expected 1 or -1": ("sign: -1", "sign: 2"),
    "line 7, servos.jaw: 'id' is 253, expected 0 to 252": ("id: 7", "id: 253"),
    "line 6, servos.tilt: the joint's range is [3674, 4326] ticks": ("zero_tick: 2000", "zero_tick: 4000"),
    "line 5, servos.pan: position_rad is [-2, 1], expected lower < upper within the URDF's [-1, 1]": (
        "XM430-W350", "XM430-W350, position_rad: [-2, 1]"),
    "line 5, servos.pan: velocity_rad_s is 9, above the URDF's 4": (
        "XM430-W350", "XM430-W350, velocity_rad_s: 9"),
}  # fmt: skip


WRONG |= {
    f"line 1, bus: '{key}' is {shown}, expected {bounds}": ("port:", f"{key}: {value}, port:")
    for key, bounds in (
        ("reply_margin_ms", "0.5 to 50"), ("lost_after_ms", "50 to 5000"), ("restarts_per_minute", "0 to 60"),
    )
    for value, shown in (("-1", "-1"), ("1e7", "1e+07"))
}  # fmt: skip
WRONG |= {
    f"{place}: {key!r} must be a finite number": (old, new)
    for place, key, old, new in (
        ("line 1, bus", "reply_margin_ms", "port:", "reply_margin_ms: .nan, port:"),
        ("line 1, bus", "watchdog_ms", "watchdog_ms: 80", "watchdog_ms: .inf"),
        ("line 2, stop", "park_within_s", "2.5", "fast"),
        ("line 3, park_rad", "tilt", "0.4", ".nan"),
        ("line 5, servos.pan", "id", "id: 1", "id: .nan"),
        ("line 7, servos.jaw", "ratio", "ratio: 2.0", "ratio: .inf"),
        ("line 5, servos.pan", "velocity_rad_s", "XM430-W350", "XM430-W350, velocity_rad_s: .nan"),
        ("line 5, servos.pan", "position_rad", "XM430-W350", "XM430-W350, position_rad: [.nan, 1]"),
    )
}
WRONG |= {
    "line 1, bus: 'restarts_per_minute' is 1.5, expected a whole number": (
        "port:",
        "restarts_per_minute: 1.5, port:",
    ),
    "line 7, servos.jaw: 'ratio' is 0, expected 0.05 to 20": ("ratio: 2.0", "ratio: 0"),
    "line 6, servos.tilt: 'zero_tick' is 4096, expected 0 to 4095": ("zero_tick: 2000", "zero_tick: 4096"),
    "line 5, servos.pan: 'velocity_rad_s' is 0, expected 0.01 to": (
        "XM430-W350",
        "XM430-W350, velocity_rad_s: 0",
    ),
}


@pytest.mark.parametrize("message", WRONG)
def test_a_mistake_is_named_by_line_and_rule(tmp_path, message):
    old, new = WRONG[message]
    assert old in DYNAMIXEL
    with pytest.raises(ValueError) as error:
        write_hardware(tmp_path, DYNAMIXEL.replace(old, new, 1))
    assert message in str(error.value)
    assert "bench.hardware.yaml" in str(error.value)


def test_a_watchdog_that_does_not_exist_is_not_asked_for(tmp_path):
    with pytest.raises(ValueError, match="feetech servos have no watchdog; leave it out"):
        write_hardware(tmp_path, FEETECH.replace("port: /dev/null", "port: /dev/null, watchdog_ms: 80"))


@pytest.mark.parametrize(
    ("key", "text"),
    [("watchdog_ms", DYNAMIXEL), ("lost_after_ms", FEETECH.replace("bus: {", "bus: {lost_after_ms: 50, "))],
)
def test_a_bus_that_would_hear_too_seldom_of_the_loop_is_refused(tmp_path, key, text):
    bus = write_hardware(tmp_path, text).servo_bus()
    bus.check_period(0.01)
    with pytest.raises(
        ValueError, match=rf"{key} is \d+ and a cycle lasts 50 ms, expected at least two cycles"
    ):
        bus.check_period(0.05)


DRIVER = "driver: {kind: reachy_mini, host: 127.0.0.1, port: 8000}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            DRIVER.replace("reachy_mini", "reachy_mino"),
            "line 1, driver: kind is 'reachy_mino', expected one of reachy_mini",
        ),
        (DRIVER.replace("8000", "99999"), "line 1, driver: 'port' is 99999, expected 1 to 65535"),
        (DRIVER.replace("host", "hots"), "line 1, driver: unknown key 'hots'; did you mean 'host'?"),
        (DRIVER, "line 1, driver: the URDF drives pan, tilt, jaw; Reachy Mini has body_yaw"),
        (DRIVER + DYNAMIXEL, "unknown key 'bus'"),
    ],
)
def test_a_driver_named_in_the_file_is_checked_like_a_bus(tmp_path, text, message):
    names = NAMES if "the URDF drives" in message else REACHY_JOINTS
    limits = JointLimits(-np.ones(len(names)), np.ones(len(names)), np.ones(len(names)))
    with pytest.raises(ValueError) as error:
        write_hardware(tmp_path, text.replace("park_rad: {tilt: 0.4}", ""), names, limits)
    assert message in str(error.value)


@pytest.mark.parametrize("key", ["driver", "daemon"])
def test_a_file_that_calls_its_driver_a_daemon_is_read_as_before(tmp_path, key):
    limits = JointLimits(
        -np.ones(len(REACHY_JOINTS)), np.ones(len(REACHY_JOINTS)), np.ones(len(REACHY_JOINTS))
    )
    hardware = write_hardware(tmp_path, DRIVER.replace("driver", key), REACHY_JOINTS, limits)
    assert type(hardware.driver).__name__ == "ReachyMiniDriver"
    assert hardware.bus is None


@pytest.mark.parametrize("path", sorted(find_urdf().parent.glob("*" + SUFFIX)), ids=lambda path: path.name)
def test_every_shipped_hardware_file_fits_its_urdf(path):
    urdf = path.with_name(path.name.removesuffix(SUFFIX) + ".urdf")
    names, limits = read_driven_joints(urdf)
    hardware = read_hardware(path, names, limits)
    assert isinstance(hardware.limits, JointLimits)
    assert hardware_file_of(urdf) == path


def test_parameters_choose_what_moves_the_joints(tmp_path):
    path = tmp_path / "bench.hardware.yaml"
    path.write_text(DYNAMIXEL, encoding="utf-8")
    urdf = tmp_path / "bench.urdf"
    rows = zip(NAMES, LIMITS.lower, LIMITS.upper, LIMITS.velocity, strict=True)
    joints = "".join(
        f'<joint name="{n}" type="revolute"><limit lower="{a}" upper="{b}" velocity="{v}"/></joint>'
        for n, a, b, v in rows
    )
    urdf.write_text(f"<robot name='bench'>{joints}</robot>", encoding="utf-8")
    simulated = set_up_driver(DriverConfig(), urdf)
    assert type(simulated.driver).__name__ == "SimulatedDriver"
    assert simulated.stop.category == "park_then_release", "a simulated robot stops as the real one does"
    real = set_up_driver(DriverConfig(driver="hardware", port="/dev/ttyS9", stop_category="hold"), urdf)
    assert type(real.driver).__name__ == "BusDriver"
    assert real.driver.description.port == "/dev/ttyS9"
    assert real.stop.category == "hold"
    with pytest.raises(ValueError, match=r"DriverConfig\.port is '/dev/ttyS9' and driver is 'simulated'"):
        DriverConfig(port="/dev/ttyS9")
    with pytest.raises(OSError, match=r"nowhere\.hardware\.yaml"):
        set_up_driver(DriverConfig(driver="hardware", hardware=str(tmp_path / "nowhere.hardware.yaml")), urdf)


def test_a_port_that_is_not_there_is_said(tmp_path):
    path = tmp_path / "bench.hardware.yaml"
    path.write_text(DYNAMIXEL.replace("/dev/null", str(tmp_path / "no-port")), encoding="utf-8")
    hardware = read_hardware(path, NAMES, LIMITS)
    from timar_driver.bus_driver import BusDriver

    assert hardware.bus is not None
    with pytest.raises(RuntimeError, match=r"the servo bus .*no-port cannot be opened at 1000000 baud"):
        BusDriver(hardware.bus).activate(1)
