"""Command `timar bus`: check, scan, calibrate, release or simulate a robot's servo bus."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from timar_common.processes import stop_signals
from timar_common.suggest import refuse_unknown
from timar_description.find import find_urdf

from timar_driver.bus_driver import make_bus
from timar_driver.bus_scan import scan_bus
from timar_driver.calibration import find_zero, write_offset, write_values
from timar_driver.driver import read_driven_joints
from timar_driver.hardware_file import BusDescription, hardware_file_of, read_hardware
from timar_driver.packets import LAST_ID
from timar_driver.pty_bus import PtyBus
from timar_driver.servo_bus import BusError, ServoBus
from timar_driver.simulated_bus import FAULT_COMMANDS, simulated_bus
from timar_driver.simulated_servo import MotorConfig

_PRIORITY = 30
_GOALS_KEPT = 200_000


def main(argv: list[str]) -> int:
    """Look at a robot's servo bus, find its zeros, release its torque, or simulate it."""
    parser = argparse.ArgumentParser(prog="timar bus", description=main.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for run, text in (
        (check, "read the robot's hardware file and print what it holds"),
        (scan, "list the servos that answer"),
        (calibrate, "find each joint's 0 by hand and write it into the hardware file"),
        (release, "switch every servo's torque off: support the head first"),
        (simulate, "serve simulated servos on a pseudo-terminal and print its path"),
    ):
        command = commands.add_parser(run.__name__, help=text, description=text)
        command.set_defaults(run=run)
        command.add_argument("robot", nargs="?", default="timar_head", help="name of a robot, or a URDF")
        command.add_argument("--hardware", help="hardware file; default: ROBOT.hardware.yaml beside the URDF")
        command.add_argument("--port", help="in place of the hardware file's")
        if run is scan:
            command.add_argument("--last", type=int, default=LAST_ID, help="highest id (%(default)s)")
        if run is calibrate:
            command.add_argument(
                "--joint", action="append", help="only this one; may be given more than once"
            )
            command.add_argument(
                "--to-motor", action="store_true", help="also write an offset into the servos' own memory"
            )
        if run is simulate:
            command.add_argument("--sag", type=float, default=0.0, help="sinking without torque [rad/s]")
            command.add_argument("--log", type=Path, help="at the end, write what the servos saw as JSON")
            command.epilog = f"Lines on standard input inject faults: {FAULT_COMMANDS}. Its end ends this."
    arguments = parser.parse_args(argv)
    try:
        return int(arguments.run(_read_bus(arguments), arguments) or 0)
    except (ValueError, OSError, RuntimeError) as error:
        sys.stderr.write(f"timar bus {arguments.command}: {error}\n")
        return 1


def _read_bus(arguments: argparse.Namespace) -> BusDescription:
    urdf = find_urdf(arguments.robot)
    arguments.path = Path(arguments.hardware).expanduser() if arguments.hardware else hardware_file_of(urdf)
    bus = read_hardware(arguments.path, *read_driven_joints(urdf)).servo_bus()
    return dataclasses.replace(bus, port=arguments.port) if arguments.port else bus


@contextlib.contextmanager
def _opened(description: BusDescription) -> Iterator[ServoBus]:
    bus = make_bus(description)
    bus.open()
    try:
        yield bus
    finally:
        bus.close()


def check(bus: BusDescription, arguments: argparse.Namespace) -> None:
    """Print the servos of a hardware file."""
    watchdog = f"{bus.watchdog_ms:g} ms" if bus.watchdog_ms else "none"
    sys.stdout.write(f"{bus.family.name} on {bus.port} at {bus.baud} baud, watchdog {watchdog}\n")
    sys.stdout.write(f"{'joint':<18}{'id':>4}  {'model':<12}{'ticks':>14}{'rad':>18}\n")
    for spec in bus.servos:
        ticks, rad = "{}..{}".format(*spec.tick_range), f"{spec.lower_rad:.3f}..{spec.upper_rad:.3f}"
        sys.stdout.write(f"{spec.joint:<18}{spec.servo_id:>4}  {spec.model.name:<12}{ticks:>14}{rad:>18}\n")


def scan(description: BusDescription, arguments: argparse.Namespace) -> int:
    """Ping every id and print who answers; fail when nobody does."""
    result = scan_bus(description, arguments.last, _opened)
    joints = {spec.servo_id: spec.joint for spec in description.servos}
    for servo_id, model in result.servos.items():
        sys.stdout.write(f"{servo_id:>4}  {model:<12} {joints.get(servo_id) or 'in no hardware file'}\n")
    sys.stderr.write("".join(f"{complaint}\n" for complaint in result.complaints))
    return 0 if result.servos else 1


def calibrate(description: BusDescription, arguments: argparse.Namespace) -> int:
    """Find each joint's 0 by hand and write it into the hardware file."""
    by_name = {spec.joint: spec for spec in description.servos}
    names = arguments.joint or list(by_name)
    refuse_unknown("joint", names, by_name, owner=f"the hardware file {arguments.path}")
    found = []
    with _opened(description) as bus:
        for name in names:
            while True:
                sys.stdout.write(
                    f"{name}: hold it at 0, as the URDF draws it, and press Enter (s: leave it out) "
                )
                sys.stdout.flush()
                answer = sys.stdin.readline()
                if not answer:
                    raise RuntimeError("standard input ended; nothing was written")
                if answer.strip().lower() == "s":
                    break
                try:
                    found.append(find_zero(bus, by_name[name], is_in_motor=arguments.to_motor))
                    break
                except ValueError as error:
                    sys.stderr.write(f"{error}\n")
        values = {zero.spec.joint: zero.values() for zero in found}
        write_values(arguments.path, values, *read_driven_joints(find_urdf(arguments.robot)))
        for zero in found if arguments.to_motor else ():
            write_offset(bus, zero)
    for zero in found:
        moved_deg = 360.0 * zero.moved_by / zero.spec.model.family.ticks_per_turn
        said = ", ".join(f"{key} {value}" for key, value in zero.values().items())
        sys.stdout.write(f"{zero.spec.joint:<18}{said}  ({moved_deg:+.1f} degrees of the servo)\n")
    where = " and into the servos" if arguments.to_motor else "; the servos' memory is as it was"
    sys.stdout.write(f"{len(found)} zeros written into {arguments.path}{where}\n")
    return 0


def release(description: BusDescription, arguments: argparse.Namespace) -> int:
    """Switch the torque of every servo off; fail when one does not confirm it."""
    silent = []
    with _opened(description) as bus:
        for spec in description.servos:
            try:
                bus.write(spec.servo_id, "torque_enable", 0)
            except BusError:
                silent.append(spec.joint)
    count = len(description.servos)
    sys.stdout.write(f"{count - len(silent)} of {count} servos released\n")
    if silent:
        sys.stderr.write(f"no answer from {', '.join(silent)}; check power and cables\n")
    return 1 if silent else 0


def simulate(description: BusDescription, arguments: argparse.Namespace) -> None:
    """Serve simulated servos until a signal, or until standard input ends."""
    bus = simulated_bus(description, MotorConfig(sag_rad_s=arguments.sag))
    goals_ns: list[int] = []
    bus.on_goal = lambda now_ns: goals_ns.append(now_ns) if len(goals_ns) < _GOALS_KEPT else None
    wanted_end = threading.Event()
    with stop_signals(lambda _: wanted_end.set()), PtyBus(bus, description.baud, _PRIORITY) as pty:
        sys.stdout.write(f"{len(bus.servos)} simulated {description.family.name} servos on {pty.path}\n")
        sys.stdout.flush()
        threading.Thread(target=_obey_lines, args=(pty, wanted_end), daemon=True).start()
        wanted_end.wait()
        with pty.lock:
            seen = {"goals_ns": goals_ns, "servos": bus.state()}
    if arguments.log:
        arguments.log.write_text(json.dumps(seen), encoding="utf-8")


def _obey_lines(pty: PtyBus, wanted_end: threading.Event) -> None:
    for line in sys.stdin:
        try:
            with pty.lock:
                answer = pty.bus.obey(line.split(), time.monotonic_ns())
        except (ValueError, KeyError) as error:
            answer = f"not understood: {error}; the commands are: {FAULT_COMMANDS}"
        if answer:
            sys.stdout.write(answer + "\n")
            sys.stdout.flush()
    wanted_end.set()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
