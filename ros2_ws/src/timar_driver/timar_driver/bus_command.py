"""`timar bus`: look at a servo bus, let it go, or simulate one."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from timar_common.processes import stop_signals
from timar_description.find import find_urdf

from timar_driver.bus_driver import make_bus
from timar_driver.hardware_file import BusDescription, hardware_file_of, read_hardware
from timar_driver.pty_bus import PtyBus
from timar_driver.servo_bus import BusError
from timar_driver.servo_models import MODELS
from timar_driver.simulated_bus import Faults, SimulatedBus
from timar_driver.simulated_servo import MotorConfig, SimulatedServo
from timar_driver.urdf import read_driven_joints

_PRIORITY = 30
_WORDS = "lose ID | find ID | brownout ID... | overload ID | set noise|corrupt|lost|deaf SHARE | heal | state"


def main(argv: list[str]) -> int:
    """Look at a robot's servo bus, release its torque, or simulate it on a pseudo-terminal."""
    arguments = _parser().parse_args(argv)
    try:
        bus = _describe(arguments)
        return int(arguments.run(bus, arguments) or 0)
    except (ValueError, OSError, RuntimeError) as error:
        sys.stderr.write(f"timar bus {arguments.verb}: {error}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="timar bus", description=main.__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name, run, text in (
        ("check", _check, "read the robot's hardware file and say what it holds"),
        ("scan", _scan, "list the servos that answer"),
        ("release", _release, "switch every servo's torque off: support the head first"),
        ("simulate", _simulate, "serve simulated servos on a pseudo-terminal and print its path"),
    ):
        verb = verbs.add_parser(name, help=text, description=text)
        verb.set_defaults(run=run)
        verb.add_argument("robot", nargs="?", default="timar_head", help="name of a robot, or path of a URDF")
        verb.add_argument(
            "--hardware", help="its hardware file; default: ROBOT.hardware.yaml beside the URDF"
        )
        verb.add_argument("--port", help="in place of the hardware file's")
        if name == "scan":
            verb.add_argument("--last", type=int, default=252, help="highest id that is asked (%(default)s)")
        if name == "simulate":
            verb.add_argument(
                "--sag", type=float, default=0.0, help="without torque joints sink so fast [rad/s]"
            )
            verb.add_argument("--log", help="write what the servos saw to this JSON file at the end")
            verb.epilog = f"Lines on standard input hurt the bus: {_WORDS}. It ends when that closes."
    return parser


def _describe(arguments: argparse.Namespace) -> BusDescription:
    urdf = find_urdf(arguments.robot)
    path = Path(arguments.hardware).expanduser() if arguments.hardware else hardware_file_of(urdf)
    hardware = read_hardware(path, *read_driven_joints(urdf))
    if hardware.bus is None:
        raise ValueError(f"{path} names a daemon and no servo bus; there is nothing to look at here")
    return dataclasses.replace(hardware.bus, port=arguments.port) if arguments.port else hardware.bus


def _check(bus: BusDescription, arguments: argparse.Namespace) -> None:
    watchdog = f"{bus.watchdog_ms:g} ms" if bus.watchdog_ms else "none"
    sys.stdout.write(f"{bus.protocol} on {bus.port} at {bus.baud} baud, watchdog {watchdog}\n")
    sys.stdout.write(f"{'joint':<18}{'id':>4}  {'model':<12}{'ticks':>14}{'rad':>18}\n")
    for spec in bus.servos:
        ticks, rads = (
            f"{spec.tick_range[0]}..{spec.tick_range[1]}",
            f"{spec.lower_rad:.3f}..{spec.upper_rad:.3f}",
        )
        sys.stdout.write(f"{spec.joint:<18}{spec.servo_id:>4}  {spec.model.name:<12}{ticks:>14}{rads:>18}\n")


def _scan(bus: BusDescription, arguments: argparse.Namespace) -> None:
    names = {model.number: name for name, model in MODELS.items()}
    joints = {spec.servo_id: spec.joint for spec in bus.servos}
    line = make_bus(bus)
    line.open()
    try:
        for servo_id in range(min(arguments.last, 252) + 1):
            number = line.ping(servo_id)
            if number is not None:
                model, joint = (
                    names.get(number, f"model {number}"),
                    joints.get(servo_id, "in no hardware file"),
                )
                sys.stdout.write(f"{servo_id:>4}  {model:<12} {joint}\n")
    finally:
        line.close()


def _release(bus: BusDescription, arguments: argparse.Namespace) -> int:
    line = make_bus(bus)
    line.open()
    silent = []
    try:
        for spec in bus.servos:
            try:
                line.write(spec.servo_id, "torque_enable", 0)
            except BusError:
                silent.append(spec.joint)
    finally:
        line.close()
    sys.stdout.write(f"{len(bus.servos) - len(silent)} of {len(bus.servos)} servos released\n")
    if silent:
        sys.stderr.write(f"no answer from {', '.join(silent)}; check power and cables\n")
    return 1 if silent else 0


def _simulate(bus: BusDescription, arguments: argparse.Namespace) -> None:
    simulated = simulated_bus(bus, MotorConfig(sag_rad_s=arguments.sag))
    goals_ns: list[int] = []
    simulated.on_goal = lambda now_ns: goals_ns.append(now_ns) if len(goals_ns) < 200_000 else None
    wanted_end = threading.Event()
    with stop_signals(lambda _: wanted_end.set()), PtyBus(simulated, bus.baud, _PRIORITY) as pty:
        sys.stdout.write(f"{len(bus.servos)} simulated {bus.protocol} servos on {pty.path}\n")
        sys.stdout.flush()
        threading.Thread(target=_obey_lines, args=(pty, wanted_end), daemon=True).start()
        wanted_end.wait()
        with pty.lock:
            seen = {"goals_ns": goals_ns, "servos": _state(simulated)}
    if arguments.log:
        Path(arguments.log).write_text(json.dumps(seen), encoding="utf-8")


def simulated_bus(bus: BusDescription, motor: MotorConfig | None = None, seed: int = 0) -> SimulatedBus:
    """Return simulated servos as a bus describes them, each joint standing at 0 or its nearest limit."""
    servos = []
    for spec in bus.servos:
        tick = spec.tick(min(max(0.0, spec.lower_rad), spec.upper_rad))
        servos.append(SimulatedServo(spec.servo_id, spec.model, tick, motor))
    return SimulatedBus(servos, seed)


def _state(simulated: SimulatedBus) -> dict[int, dict[str, object]]:
    return {
        servo.servo_id: {
            "position": servo.position,
            "velocity": servo.velocity,
            "has_torque": servo.has_torque,
            "is_tripped": servo.is_tripped,
            "watchdog_trips": servo.watchdog_trips,
        }
        for servo in simulated.servos.values()
    }


def _obey_lines(pty: PtyBus, wanted_end: threading.Event) -> None:
    for line in sys.stdin:
        try:
            with pty.lock:
                answer = hurt(pty.bus, line.split(), time.monotonic_ns())
        except (ValueError, KeyError) as error:
            answer = f"not understood: {error}; the words are: {_WORDS}"
        if answer:
            sys.stdout.write(answer + "\n")
            sys.stdout.flush()
    wanted_end.set()


def hurt(simulated: SimulatedBus, words: Sequence[str], now_ns: int) -> str:
    """Do to a simulated bus what a line of words says; return what is to be answered.

    Raises:
        ValueError: The words mean nothing.
        KeyError: There is no such servo.
    """
    match list(words):
        case []:
            return ""
        case ["lose", servo_id]:
            simulated.silent.add(simulated.servos[int(servo_id)].servo_id)
        case ["find", servo_id]:
            simulated.silent.discard(int(servo_id))
        case ["brownout", *ids] if ids:
            simulated.brown_out([int(servo_id) for servo_id in ids], now_ns)
        case ["overload", servo_id]:
            simulated.servos[int(servo_id)].suffer("overload")
        case ["set", "noise" | "corrupt" | "lost" | "deaf" as name, share]:
            simulated.faults = dataclasses.replace(simulated.faults, **{name: float(share)})
        case ["heal"]:
            simulated.faults = Faults()
            simulated.silent.clear()
        case ["state"]:
            simulated.advance(now_ns)
            return json.dumps(_state(simulated))
        case _:
            raise ValueError(" ".join(words))
    return "done"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
