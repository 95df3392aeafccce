"""`timar bus calibrate`: zeros found by hand go into the hardware file, and into the servo only "
"when asked."""

import io

import pytest
import yaml
from servo_bench import DYNAMIXEL, FEETECH, LIMITS, NAMES, Bench, write_hardware
from timar_description.find import find_urdf
from timar_driver.bus_command import main
from timar_driver.calibration import find_zero, write_offset, write_values
from timar_driver.driver import read_driven_joints
from timar_driver.hardware_file import read_hardware
from timar_driver.pty_bus import PtyBus
from timar_driver.simulated_bus import simulated_bus

BLOCK_STYLE = """\
bus: {protocol: dynamixel, port: /dev/null}
servos:
  pan:
    id: 1          # the lowest one
    model: XM430-W350
  tilt: {id: 2, model: XC330-M288, sign: -1, zero_tick: 2000}  # a comment
  jaw: {id: 7, model: XL330-M077, ratio: 2.0}
"""


@pytest.fixture(params=[DYNAMIXEL, FEETECH, BLOCK_STYLE], ids=["dynamixel", "feetech", "block style"])
def bench(request, tmp_path):
    bench = Bench(write_hardware(tmp_path, request.param))
    bench.line.open()
    return bench


def spec_of(bench, joint):
    return bench.description.servos[NAMES.index(joint)]


@pytest.mark.parametrize("is_in_motor", [False, True], ids=["to the file", "to the motor"])
@pytest.mark.parametrize("held", [0, 150], ids=["no offset", "an offset in the motor"])
def test_after_calibration_told_0_a_joint_stands_where_it_was_held(bench, tmp_path, held, is_in_motor):
    for joint, tick in (("pan", 2300), ("tilt", 2150)):
        bench.servo(joint).position = float(tick)
        bench.servo(joint).set("homing_offset", held)
    found = [
        find_zero(bench.line, spec_of(bench, joint), is_in_motor=is_in_motor) for joint in ("pan", "tilt")
    ]
    write_values(tmp_path / "bench.hardware.yaml", {z.spec.joint: z.values() for z in found}, NAMES, LIMITS)
    assert bench.servo("pan").get("homing_offset") == held, "nothing is written into a servo unasked"
    if is_in_motor:
        for zero in found:
            write_offset(bench.line, zero)
        assert spec_of(bench, "pan").zero_tick == 2048
    after = Bench(read_hardware(tmp_path / "bench.hardware.yaml", NAMES, LIMITS))
    for joint in NAMES:
        after.bus.servos[spec_of(bench, joint).servo_id].__dict__.update(bench.servo(joint).__dict__)
    after.activate()
    after.run([0.0, 0.0, 0.0], 1500)
    assert after.servo("pan").position == pytest.approx(2300, abs=2)
    assert after.servo("tilt").position == pytest.approx(2150, abs=2)
    after.run([0.3, 0.0, 0.0], 1500)
    assert after.servo("pan").position == pytest.approx(2300 + 0.3 * 4096 / 6.2832, abs=3)


def test_everything_else_in_the_file_stays_as_it_was(bench, tmp_path):
    path = tmp_path / "bench.hardware.yaml"
    before = path.read_text()
    write_values(
        path, {"pan": {"zero_tick": 2050, "homing_offset": 7}, "tilt": {"zero_tick": 1999}}, NAMES, LIMITS
    )
    wanted = yaml.safe_load(before)
    wanted["servos"]["pan"] |= {"zero_tick": 2050, "homing_offset": 7}
    wanted["servos"]["tilt"]["zero_tick"] = 1999
    assert yaml.safe_load(path.read_text()) == wanted
    for comment in ("# the lowest one", "# a comment"):
        assert (comment in path.read_text()) == (comment in before)


def test_a_zero_that_leaves_no_room_for_the_joint_changes_nothing(bench, tmp_path):
    path = tmp_path / "bench.hardware.yaml"
    before = path.read_text()
    with pytest.raises(
        ValueError, match=r"nothing was written: .*bench.hardware.yaml, line .*mount the horn"
    ):
        write_values(path, {"pan": {"zero_tick": 100}}, NAMES, LIMITS)
    assert path.read_text() == before


def test_a_joint_that_holds_torque_moves_or_counts_otherwise_is_refused_by_name(bench):
    pan = bench.servo("pan")
    pan.set("torque_enable", 1)
    with pytest.raises(ValueError, match="pan holds torque; support the head"):
        find_zero(bench.line, spec_of(bench, "pan"))
    pan.set("torque_enable", 0)
    reverse = pan.family.reverse
    pan.set(reverse.register, pan.get(reverse.register) | reverse.mask)
    with pytest.raises(ValueError, match=r"pan holds .* and counts the other way round"):
        find_zero(bench.line, spec_of(bench, "pan"))
    pan.set(reverse.register, pan.get(reverse.register) & ~reverse.mask)
    get = pan.get
    pan.get = lambda name: get(name) + (bench.bus.requests % 20 if name == "position" else 0)
    with pytest.raises(ValueError, match=r"pan moved by \d+ ticks while it was read"):
        find_zero(bench.line, spec_of(bench, "pan"))


def test_an_offset_that_the_servo_cannot_hold_is_refused(bench):
    bench.servo("pan").position = 4095.0
    if bench.description.family.largest_offset < 2047:
        with pytest.raises(ValueError, match=r"its own offset would have to be -2047, expected at most 1024"):
            find_zero(bench.line, spec_of(bench, "pan"), is_in_motor=True)


def test_the_command_asks_for_each_joint_and_writes_the_file(tmp_path, capsys, monkeypatch):
    urdf = find_urdf("timar_head")
    path = tmp_path / "head.hardware.yaml"
    path.write_text(urdf.with_name("timar_head.hardware.yaml").read_text())
    bus = simulated_bus(read_hardware(path, *read_driven_joints(urdf)).bus)
    bus.servos[1].position = 2060.0
    monkeypatch.setattr("sys.stdin", io.StringIO("\ns\n"))
    with PtyBus(bus) as pty:
        arguments = ["calibrate", "--hardware", str(path), "--port", pty.path]
        assert main([*arguments, "--joint", "neck_yaw", "--joint", "jaw"]) == 0
    said = capsys.readouterr().out
    assert "neck_yaw: hold it at 0" in said
    assert "neck_yaw          zero_tick 2060  (+1.1 degrees of the servo)" in said
    assert "1 zeros written" in said
    assert "the servos' memory is as it was" in said
    assert yaml.safe_load(path.read_text())["servos"]["neck_yaw"]["zero_tick"] == 2060
    assert main([*arguments, "--joint", "neck_jaw"]) == 1
    assert "neck_jaw" in capsys.readouterr().err
