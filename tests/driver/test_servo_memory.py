"""What a servo's memory holds: told +0.30 rad it goes to +0.30, or is refused by name."""

import dataclasses

import numpy as np
import pytest
from servo_bench import DYNAMIXEL, FEETECH, NAMES, Bench, write_hardware
from timar_driver.bus_command import main
from timar_driver.hardware_file import ServoSpec
from timar_driver.pty_bus import PtyBus
from timar_driver.servo_bus import ServoBus
from timar_driver.servo_models import MODELS
from timar_driver.simulated_bus import simulated_bus

WRITTEN = [
    (DYNAMIXEL, "drive_mode", 1, 0),
    (DYNAMIXEL, "drive_mode", 4, 0),
    (DYNAMIXEL, "drive_mode", 8, 0),
    (DYNAMIXEL, "drive_mode", 13, 0),
    (DYNAMIXEL, "homing_offset", 512, 0),
    (DYNAMIXEL, "homing_offset", -700, 0),
    (DYNAMIXEL, "operating_mode", 1, 3),
    (DYNAMIXEL, "operating_mode", 4, 3),
    (DYNAMIXEL, "secondary_id", 7, 255),
    (DYNAMIXEL, "startup_configuration", 3, 0),
    (DYNAMIXEL, "protocol_type", 20, 2),
    (DYNAMIXEL, "reply_level", 0, 2),
    (DYNAMIXEL, "reply_level", 1, 2),
    (DYNAMIXEL, "min_position", 2040, None),
    (DYNAMIXEL, "return_delay", 254, 0),
    (DYNAMIXEL, "pwm_limit", 400, 400),
    (FEETECH, "homing_offset", 300, 0),
    (FEETECH, "homing_offset", -2000, 0),
    (FEETECH, "phase", 0x1C, 0x0C),
    (FEETECH, "phase", 0x08, 0x08),
    (FEETECH, "angle_resolution", 4, 1),
    (FEETECH, "operating_mode", 3, 0),
    (FEETECH, "reply_level", 0, 1),
    (FEETECH, "max_position", 0, None),
]


@pytest.mark.parametrize(("text", "register", "held", "then"), WRITTEN)
def test_a_register_that_changes_what_others_mean_is_set_or_used(tmp_path, text, register, held, then):
    bench = Bench(write_hardware(tmp_path, text))
    bench.servo("pan").set(register, held)
    bench.activate()
    if then is not None:
        assert bench.servo("pan").get(register) == then
    measured = bench.run([0.3, 0.0, 0.1], 800)[-1]
    np.testing.assert_allclose(measured.positions, [0.3, 0.0, 0.1], atol=3e-3)
    np.testing.assert_allclose([bench.rad(joint) for joint in NAMES], [0.3, 0.0, 0.1], atol=3e-3)


@pytest.mark.parametrize(
    ("text", "register", "held", "match"),
    [
        (DYNAMIXEL, "drive_mode", 2, r"pan \(servo 1\) holds drive_mode 2: it is the slave of another servo"),
        (DYNAMIXEL, "firmware", 30, r"pan \(servo 1\) has firmware 30, expected 38 or newer"),
        (FEETECH, "phase", 0x0D, r"pan \(servo 1\) holds phase 13: its motor or encoder runs the other way"),
        (FEETECH, "phase", 0x8C, r"pan \(servo 1\) holds phase 140: its motor or encoder runs the other way"),
    ],
)
def test_what_the_driver_may_not_write_is_refused_before_anything_moves(
    tmp_path, text, register, held, match
):
    bench = Bench(write_hardware(tmp_path, text))
    bench.servo("pan").set(register, held)
    with pytest.raises(RuntimeError, match=match):
        bench.activate()
    assert not any(bench.servo(joint).has_torque for joint in NAMES)


def test_a_servo_that_does_not_keep_what_it_is_told_is_refused(tmp_path):
    bench = Bench(write_hardware(tmp_path, DYNAMIXEL))
    pan = bench.servo("pan")
    pan.set("homing_offset", 512)
    store = pan._store
    pan._store = lambda register, value: None if register.name == "homing_offset" else store(register, value)
    with pytest.raises(RuntimeError, match=r"pan .* was told homing_offset 0 and holds 512"):
        bench.activate()
    assert not any(bench.servo(joint).has_torque for joint in NAMES)


def test_a_zero_that_was_moved_is_said(tmp_path):
    bench = Bench(write_hardware(tmp_path, DYNAMIXEL))
    bench.servo("tilt").set("homing_offset", 100)
    bench.activate()
    assert "tilt (servo 2) held homing_offset 100" in " ".join(bench.driver.faults())


@pytest.mark.parametrize(("extra", "sign"), [("homing_offset: 200", 1), ("reverse: true", -1)])
def test_a_hardware_file_may_say_what_the_memory_is_to_hold(tmp_path, extra, sign):
    text = DYNAMIXEL.replace("model: XM430-W350}", f"model: XM430-W350, {extra}}}")
    bench = Bench(write_hardware(tmp_path, text))
    bench.activate()
    bench.run([0.3, 0.0, 0.1], 800)
    spec, pan = bench.description.servos[0], bench.servo("pan")
    assert isinstance(spec, ServoSpec)
    assert (spec.homing_offset, spec.is_reversed) == ((200, False) if sign > 0 else (0, True))
    wanted = 2048 + sign * round(0.3 * 4096 / (2 * np.pi)) - spec.homing_offset
    assert pan.position == pytest.approx(wanted, abs=3)


def test_a_secondary_id_never_moves_another_servo(tmp_path):
    bench = Bench(write_hardware(tmp_path, DYNAMIXEL))
    bench.servo("jaw").set("secondary_id", 1)
    bench.activate()
    bench.run([0.5, 0.0, 0.1], 600)
    assert bench.rad("jaw") == pytest.approx(0.1, abs=3e-3)


def test_simulated_servos_hold_the_whole_table_of_their_model():
    for model in MODELS:
        registers = sorted(model.registers.values(), key=lambda register: register.address)
        ends = [register.end for register in registers[:-1]]
        assert all(end <= register.address for end, register in zip(ends, registers[1:], strict=True))
        values = {**model.family.factory_values, **model.factory_values}
        assert set(values) <= set(model.registers)
        for name, value in values.items():
            model.registers[name].to_bytes(value)
    by_name = {model.name: model.registers for model in MODELS}
    assert by_name["XL330-M288"]["indirect_data_1"].address == 208
    assert by_name["XM430-W350"]["indirect_data_56"].address == 661
    assert "current_limit" not in by_name["XL430-W250"]


def test_a_scan_that_finds_nobody_fails_and_says_what_was_tried(tmp_path, capsys):
    hardware = write_hardware(tmp_path, DYNAMIXEL)
    bus = simulated_bus(dataclasses.replace(hardware.bus))
    bus.silent |= {1, 2, 7}
    with PtyBus(bus, hardware.bus.baud) as pty:
        assert main(["scan", "--port", pty.path, "--last", "3"]) == 1
    said = capsys.readouterr().err
    assert (
        f"nobody answered on {pty.path} at 1000000 baud to ids 0 to 3, nor the file's ids at other rates"
        in said
    )
    assert "nothing came back" in said
    assert "half-duplex" in said


def test_a_scan_at_the_wrong_rate_names_the_right_one(tmp_path, capsys, monkeypatch):
    hardware = write_hardware(tmp_path, DYNAMIXEL)
    ping = ServoBus.ping
    monkeypatch.setattr(
        ServoBus, "ping", lambda self, key: ping(self, key) if self._s_per_byte == 10 / 57_600 else None
    )
    with PtyBus(simulated_bus(hardware.bus), hardware.bus.baud) as pty:
        assert main(["scan", "--port", pty.path, "--last", "1"]) == 1
    assert "at 1000000 baud, but at 57600: set bus.baud" in capsys.readouterr().err
