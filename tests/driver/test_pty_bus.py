"""The simulated bus as a real serial port, and `timar bus` on it: real packets, real time, short."""

import errno
import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import serial
from servo_bench import DYNAMIXEL, FEETECH, write_hardware
from timar_description.find import find_urdf
from timar_driver.bus_command import main
from timar_driver.bus_driver import make_bus
from timar_driver.driver import HardwareGoneError
from timar_driver.fixed_rate_loop import FixedRateLoop
from timar_driver.packets import PING, DynamixelFormat, FeetechFormat, Packet
from timar_driver.pty_bus import PtyBus
from timar_driver.servo_protocols import DYNAMIXEL as DYNAMIXEL_PROTOCOL
from timar_driver.servo_protocols import FEETECH as FEETECH_PROTOCOL
from timar_driver.simulated_bus import SimulatedBus, simulated_bus
from timar_driver.simulated_servo import SimulatedServo
from timar_driver.transport import SerialTransport


@pytest.fixture(params=[DYNAMIXEL, FEETECH], ids=["dynamixel", "feetech"])
def served(request, tmp_path):
    hardware = write_hardware(tmp_path, request.param)
    with PtyBus(simulated_bus(hardware.bus), hardware.bus.baud) as pty:
        line = make_bus(hardware.bus, lambda: SerialTransport(pty.path, hardware.bus.baud))
        line.open()
        yield pty, line, hardware.bus
        line.close()


def test_servos_answer_on_a_real_port(served):
    _, line, bus = served
    assert [line.ping(spec.servo_id) for spec in bus.servos] == [spec.model.number for spec in bus.servos]
    line.write(1, "goal_position", 2345)
    assert line.read(1, "goal_position") == 2345
    found = line.sync_read(bus.family.block(bus.family.motion), [1, 2, 7])
    assert found[2]["position"] == 2000
    assert line.ping(9) is None


@pytest.mark.parametrize(
    ("model", "packets", "reply"),
    [
        (DYNAMIXEL_PROTOCOL.model("XL330-M077"), DynamixelFormat(), "fffffd000107005500a604 01"),
        (FEETECH_PROTOCOL.model("STS3215"), FeetechFormat(), "ffff010200fc"),
    ],
)
def test_bytes_arrive_however_they_are_cut(model, packets, reply):
    with PtyBus(SimulatedBus([SimulatedServo(1, model)])) as pty:
        wire = SerialTransport(pty.path, 1_000_000)
        for byte in packets.encode(Packet(1, PING)):
            wire.write(bytes([byte]))
            time.sleep(0.002)
        got, wanted = b"", bytes.fromhex(reply)
        while len(got) < len(wanted) and (piece := wire.read(5, 1.0)):
            got += piece
        assert got[: len(wanted)] == wanted
        wire.close()


def test_a_closed_bus_is_a_vanished_port(served):
    pty, line, bus = served
    pty.stop()
    with pytest.raises(HardwareGoneError, match="the servo bus is gone"):
        line.sync_write(bus.family.registers["goal_position"], {1: 2048})


def test_the_loop_keeps_to_its_grid_and_counts_what_it_missed():
    calls = []

    def call(now_ns):
        calls.append(now_ns)
        if len(calls) == 10:
            time.sleep(0.035)

    loop = FixedRateLoop(10_000_000, call)
    loop.start()
    time.sleep(0.3)
    loop.end()
    assert not loop.is_running
    assert loop.missed >= 2
    assert len(calls) + loop.missed == pytest.approx((calls[-1] - calls[0]) / 10_000_000 + 1, abs=1.5)
    grid = (np.array(calls) - calls[0]) % 10_000_000
    assert np.median(np.minimum(grid, 10_000_000 - grid)) < 2_000_000


def start_simulation(*arguments):
    process = subprocess.Popen(
        [sys.executable, "-m", "timar_driver.bus_command", "simulate", *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    return process, process.stdout.readline().split()[-1]


def test_timar_bus_simulates_scans_hurts_and_releases(capsys, tmp_path):
    log = tmp_path / "seen.json"
    process, port = start_simulation("--log", str(log))
    try:
        for word in ("lose 3", "overload 4", "set noise 0.0", "dance"):
            process.stdin.write(word + "\n")
        process.stdin.flush()
        answers = [process.stdout.readline() for _ in range(4)]
        assert answers[:3] == ["done\n"] * 3
        assert "not understood: dance; the commands are: lose ID" in answers[3]
        assert main(["scan", "--port", port, "--last", "14"]) == 0
        said, complained = capsys.readouterr()
        assert "neck_yaw" in said
        assert "neck_roll" not in said
        assert "servo 4 (jaw) reports: overload" in complained
        assert main(["release", "--port", port]) == 1
        assert "no answer from neck_roll" in capsys.readouterr().err
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
    seen = json.loads(log.read_text())
    assert len(seen["servos"]) == 12
    assert seen["goals_ns"] == []


def test_a_simulated_bus_ends_with_its_standard_input():
    process, _ = start_simulation()
    process.stdin.close()
    assert process.wait(5) == 0


def test_timar_bus_check_says_what_the_file_holds(capsys):
    assert main(["check"]) == 0
    assert "neck_yaw             1  XC330-M288      1592..2504" in capsys.readouterr().out


def test_timar_bus_names_a_mistake_and_fails(capsys, tmp_path):
    path = tmp_path / "wrong.hardware.yaml"
    path.write_text("bus: {protocol: none}\n", encoding="utf-8")
    assert main(["check", str(find_urdf()), "--hardware", str(path)]) == 1
    assert "timar bus check: " in (said := capsys.readouterr().err)
    assert "protocol is 'none'" in said


def test_every_word_hurts_as_it_says():
    model = DYNAMIXEL_PROTOCOL.model("XL330-M077")
    bus = SimulatedBus([SimulatedServo(1, model), SimulatedServo(2, model)])
    bus.obey(["lose", "1"], 1)
    assert bus.silent == {1}
    bus.obey(["find", "1"], 1)
    assert bus.silent == set()
    bus.obey(["set", "corrupt", "0.25"], 1)
    assert bus.faults.corrupt == 0.25
    bus.obey(["overload", "2"], 1)
    assert bus.servos[2].get("error") == 32
    bus.obey(["brownout", "1", "2"], 1)
    assert [servo.reboots for servo in bus.servos.values()] == [1, 1]
    assert json.loads(bus.obey(["state"], 2))["1"]["has_torque"] is False
    bus.obey(["heal"], 3)
    assert bus.faults.corrupt == 0.0
    for wrong in (["lose", "9"], ["set", "noise", "2"], ["lose"], ["overload", "x"]):
        with pytest.raises((ValueError, KeyError)):
            bus.obey(wrong, 4)


def test_help_lists_every_verb(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    for verb in ("check", "scan", "release", "simulate"):
        assert verb in said


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOENT, "there is no such port: check the adapter's plug and the path; serial ports here:"),
        (errno.EACCES, "this user may not open it: join the port's group"),
        (errno.EAGAIN, "another program has it open"),
    ],
)
def test_why_a_port_cannot_be_opened_is_told_apart(monkeypatch, number, said):
    def refuse(*_: object, **__: object) -> None:
        raise serial.SerialException(number, "no")

    monkeypatch.setattr(serial, "Serial", refuse)
    with pytest.raises(OSError, match="the servo bus /dev/x cannot be opened at 57600 baud") as caught:
        SerialTransport("/dev/x", 57_600)
    assert said in str(caught.value)
