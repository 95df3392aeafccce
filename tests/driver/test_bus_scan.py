"""`timar bus scan`: whatever is wrong on a bus is told apart and named."""

import contextlib
import dataclasses
import errno
import os

import pytest
import serial
from servo_bench import DYNAMIXEL, FEETECH, Bench, SimulatedTransport, write_hardware
from timar_driver.bus_command import main
from timar_driver.bus_driver import make_bus
from timar_driver.bus_scan import scan_bus
from timar_driver.servo_models import BAUDS


@pytest.fixture(params=[DYNAMIXEL, FEETECH], ids=["dynamixel", "feetech"])
def bench(request, tmp_path):
    return Bench(write_hardware(tmp_path, request.param))


def scanned(bench, *, servos_baud=1_000_000, last=12):
    """Scan the bench's bus; at another rate than the servos' every reply is a mess."""

    class Line(SimulatedTransport):
        def write(self, data):
            super().write(data if self.baud == servos_baud else bytes(len(data)))

    @contextlib.contextmanager
    def opened(description):
        line = Line(bench.bus, description.baud)
        line.baud, line.now_ns = description.baud, bench.wire.now_ns
        bus = make_bus(description, lambda: line)
        bus.open()
        yield bus
        bus.close()
        bench.wire.now_ns = line.now_ns

    return scan_bus(bench.description, last, opened)


def test_whole_servos_are_listed_and_nothing_is_complained_of(bench):
    result = scanned(bench)
    assert list(result.servos) == [1, 2, 7]
    assert result.complaints == []


def test_two_servos_with_one_id_are_named(bench):
    bench.bus.twins.add(2)
    result = scanned(bench)
    assert 1 in result.servos
    assert 7 in result.servos
    assert "the answers of id 2 come broken: two servos with this id" in " ".join(result.complaints)


def test_two_servos_that_answer_a_ping_alike_are_found_by_what_they_measure(bench):
    answer = bench.bus._reply

    def reply(servo, refusal="", data=b""):
        found = answer(servo, refusal, data)
        is_measured = servo.servo_id == 2 and len(data) > 6
        return (
            bytes(a & b for a, b in zip(found, b"\x5a" * len(found), strict=True)) if is_measured else found
        )

    bench.bus._reply = reply
    result = scanned(bench)
    assert 2 in result.servos
    assert "the answers of id 2 come broken" in " ".join(result.complaints)


def test_a_servo_that_answers_for_another_is_named(bench):
    bench.bus.impostors[2] = 9
    result = scanned(bench)
    assert "servo 9 answers in place of another that was asked" in " ".join(result.complaints)


def test_a_servo_that_answers_late_is_named(bench):
    bench.bus.late_ms[7] = 12.0
    result = scanned(bench)
    assert "servo 7 answers later than reply_margin_ms 4" in " ".join(result.complaints)


@pytest.mark.parametrize("fault", ["overload", "overheated", "input voltage out of range"])
def test_error_bits_are_named_with_their_servo(bench, fault):
    bench.servo("tilt").inject_fault(fault)
    assert scanned(bench).complaints == [f"servo 2 (tilt) reports: {fault}"]


def test_a_frozen_bus_is_told_apart_from_a_garbled_one(bench):
    bench.bus.silent |= {1, 2, 7}
    (frozen,) = scanned(bench).complaints
    assert "nothing came back: look at the servos' power" in frozen
    bench.bus.silent.clear()
    bench.bus.receive = lambda data, now_ns: b"\x00\xf0\x13\x80"
    (garbled,) = scanned(bench).complaints
    assert "answers came broken: another baud, or a bad line" in garbled


def test_the_rate_at_which_servos_do_answer_is_named(bench):
    other = next(baud for baud in BAUDS if baud != bench.description.baud)
    (said,) = scanned(bench, servos_baud=other).complaints
    assert f"at {bench.description.baud} baud, but at {other}: set bus.baud" in said


def test_a_port_that_is_not_there_is_said_with_those_that_are(capsys, tmp_path):
    assert main(["scan", "--port", str(tmp_path / "ttyUSB7")]) == 1
    said = capsys.readouterr().err
    assert "there is no such port" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EACCES, "this user may not open it: join the port's group"),
        (errno.EBUSY, "another program has it"),
    ],
)
def test_a_port_that_cannot_be_opened_is_said_with_the_remedy(monkeypatch, capsys, number, said):
    def refuse(*_, **__):
        raise serial.SerialException(number, os.strerror(number))

    monkeypatch.setattr(serial, "Serial", refuse)
    assert main(["scan", "--port", "/dev/ttyUSB0"]) == 1
    err = capsys.readouterr().err
    assert "the servo bus /dev/ttyUSB0 cannot be opened" in err
    assert said in err


def test_a_bus_of_twins_alone_is_no_wrong_rate(bench):
    bench.description = dataclasses.replace(bench.description)
    bench.bus.silent |= {1, 2}
    bench.bus.twins.add(7)
    said = " ".join(scanned(bench).complaints)
    assert "the answers of id 7 come broken" in said
