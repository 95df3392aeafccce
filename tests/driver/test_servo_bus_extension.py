"""A servo bus that another package brings: installed with pip, found by name, driven and simulated."""

import importlib
from pathlib import Path

import numpy as np
import pytest
from example_packages import install_example
from servo_bench import FEETECH, NAMES, Bench, write_hardware
from timar_driver.hardware_file import BUILT_IN as BUILT_IN_DRIVERS
from timar_driver.hardware_file import GROUP as DRIVER_GROUP
from timar_driver.servo_protocols import BUILT_IN, GROUP, find_protocol

HARDWARE = FEETECH.replace("feetech, port: /dev/null", "example, port: /dev/null, baud: 115200").replace(
    "STS3215", "EX-1"
)
HARDWARE = HARDWARE.replace("zero_tick: 2000", "zero_tick: 8000")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    return install_example("timar_example_servo_bus", tmp_path_factory.mktemp("servo_bus"))


@pytest.fixture
def hardware_file(installed, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(installed))
    importlib.invalidate_caches()
    return tmp_path


def test_without_the_package_the_protocol_is_unknown_and_those_known_are_named(tmp_path):
    with pytest.raises(
        ValueError, match=r"line 1, bus: protocol is 'example', expected one of dynamixel, feetech"
    ):
        write_hardware(tmp_path, HARDWARE)


@pytest.mark.slow
def test_the_servos_are_set_up_moved_and_watched_like_our_own(hardware_file):
    bench = Bench(write_hardware(hardware_file, HARDWARE))
    assert bench.description.family.name == "example"
    bench.activate()
    wanted = np.array([0.5, 0.3, 0.2])
    measured = bench.run(wanted, 800)[-1]
    np.testing.assert_allclose(measured.positions, wanted, atol=2e-3)
    np.testing.assert_allclose([bench.rad(joint) for joint in NAMES], wanted, atol=2e-3)
    bench.servo("tilt").set("temperature", 79)
    bench.run(wanted, 200)
    assert "tilt is 79 C warm, its limit is 80 C; let it rest" in bench.driver.faults()
    bench.bus.brown_out([1], bench.now_ns)
    bench.run(wanted, 1500)
    assert bench.driver.values()["servo_restarts"] == 1
    assert bench.rad("pan") == pytest.approx(0.5, abs=3e-3)


def test_noise_on_its_line_is_ridden_out(hardware_file):
    bench = Bench(write_hardware(hardware_file, HARDWARE))
    bench.activate()
    for words in (["set", "noise", "0.1"], ["set", "corrupt", "0.05"]):
        bench.bus.obey(words, bench.now_ns)
    measured = bench.run([0.2, 0.1, 0.1], 1000)[-1]
    np.testing.assert_allclose(measured.positions, [0.2, 0.1, 0.1], atol=2e-3)


JOINT_DRIVER = """
from timar_driver.simulated_driver import SimulatedDriver


class Lamp(SimulatedDriver):
    brightness = 0.0


def make(settings, joint_names, limits):
    lamp = Lamp(joint_names, limits)
    lamp.brightness = settings.number("brightness", minimum=0.0, maximum=1.0)
    return lamp
"""


def test_a_joint_driver_of_another_package_is_found_by_name_and_reads_its_own_keys(tmp_path, monkeypatch):
    site = tmp_path / "site"
    metadata = site / "lamp-1.0.dist-info"
    metadata.mkdir(parents=True)
    (site / "lamp_driver.py").write_text(JOINT_DRIVER)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: lamp\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[{DRIVER_GROUP}]\nlamp = lamp_driver:make\n")
    monkeypatch.syspath_prepend(str(site))
    importlib.invalidate_caches()
    hardware = write_hardware(tmp_path, "driver: {kind: lamp, brightness: 0.5}\n")
    assert type(hardware.driver).__name__ == "Lamp"
    assert hardware.driver.brightness == 0.5
    for wrong, message in (
        ("driver: {kind: lamp, brightness: 2}", "line 1, driver: 'brightness' is 2, expected 0 to 1"),
        ("driver: {kind: lamp, brightness: 0.5, colour: red}", "line 1, driver: unknown key 'colour'"),
        ("driver: {kind: lmap}", "line 1, driver: kind is 'lmap', expected one of lamp, reachy_mini"),
    ):
        with pytest.raises(ValueError, match=message):
            write_hardware(tmp_path, wrong)


def test_what_an_entry_point_names_must_be_a_protocol():
    with pytest.raises(ValueError, match="whose entry point is no ServoProtocol"):
        find_protocol("math:pi")


def test_our_own_are_registered_in_the_same_way():
    setup = (Path(__file__).resolve().parents[2] / "ros2_ws/src/timar_driver/setup.py").read_text("utf-8")
    for group, built_in in ((GROUP, BUILT_IN), (DRIVER_GROUP, BUILT_IN_DRIVERS)):
        block = setup.split(f'"{group}": [')[1].split("]")[0]
        entries = dict(
            line.strip().strip('",').split(" = ")
            for line in block.replace('["', '"').split(",")
            if "=" in line
        )
        assert set(entries) == set(built_in)
        for name, place in entries.items():
            module, attribute = place.split(":")
            assert getattr(importlib.import_module(module), attribute) is built_in[name]
