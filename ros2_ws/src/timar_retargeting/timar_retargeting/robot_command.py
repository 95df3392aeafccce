"""The command `timar robot`: describe, check, tune and measure a head of your own."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from timar_common.suggest import refuse_unknown
from timar_common.yaml_map import YamlMap, read_yaml_map
from timar_description.find import find_joint_map

from timar_retargeting import expressions, face_poses, ros2_control
from timar_retargeting.fetched_robot import write_fetched
from timar_retargeting.range_picture import draw, text_of
from timar_retargeting.range_use import example_motion, range_use, read_motion
from timar_retargeting.robot import RobotDescription, load_robot
from timar_retargeting.step_response import StepResponse


def main(argv: list[str]) -> int:
    """Describe a robot: check its YAML, fetch a URDF, tune, measure delays, fit a face, ros2_control."""
    parser = argparse.ArgumentParser("timar robot", description=main.__doc__)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_check(commands)
    _add_fetch(commands)
    _add_tune(commands)
    _add_delay(commands)
    _add_fit(commands)
    _add_control(commands)
    arguments = parser.parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except (ValueError, OSError, RuntimeError) as error:
        sys.stderr.write(f"timar robot: {error}\n")
        return 1


def _robot_of(arguments: argparse.Namespace) -> RobotDescription:
    return load_robot(find_joint_map(str(arguments.robot)), getattr(arguments, "expression_map", ""))


def _add_robot(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "robot", nargs="?", default="timar_head", help="a robot YAML, or a shipped robot's name"
    )


def _add_map(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--expression-map",
        default="",
        metavar="FILE",
        help="your matrix between FLAME and ARKit's blendshapes (default: the one that the YAML names)",
    )


def _add_check(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    doc = "Check a robot's YAML against its URDF, and show how much of each joint's range motion uses."
    parser = commands.add_parser("check", help=doc, description=doc)
    _add_robot(parser)
    _add_map(parser)
    parser.add_argument("--motion", type=Path, help="a bag, or an .npz (default: a synthetic lively speaker)")
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="of synthetic motion (default: %(default)s)"
    )
    parser.add_argument("--png", type=Path, help="write a picture too")
    parser.set_defaults(run=_check)


def _check(arguments: argparse.Namespace) -> int:
    robot = _robot_of(arguments)
    sys.stdout.write(f"{robot.name}: {len(robot.joints)} joints agree with {robot.urdf.name}\n")
    for key, value in robot.face_report().items():
        sys.stdout.write(f"  {key.replace('_', ' ')}: {value}\n")
    motion = read_motion(arguments.motion) if arguments.motion else example_motion(arguments.seconds)
    uses = range_use(robot, motion)
    sys.stdout.write(text_of(uses))
    if arguments.png:
        source = arguments.motion.name if arguments.motion else "synthetic motion"
        draw(uses, arguments.png, f"{robot.name}: range used by {len(motion) / 25.0:.0f} s of {source}")
        sys.stdout.write(f"written to {arguments.png}\n")
    return 0


def _add_fetch(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    doc = "Write the URDF that a running graph publishes, and a joint map for it, to files."
    parser = commands.add_parser("fetch", help=doc, description=doc)
    parser.add_argument("--namespace", default="", help="of the topic robot_description")
    parser.add_argument("--node", default="", help="read this node's parameter robot_description instead")
    parser.add_argument(
        "--joint-map", default="", metavar="ROBOT", help="whose joints these are; a prefix is found"
    )
    parser.add_argument("--out", type=Path, default=Path(), help="folder (default: this one)")
    parser.add_argument("--name", default="fetched", help="of the files (default: %(default)s)")
    parser.add_argument("--timeout", type=float, default=10.0, help="[s] (default: %(default)s)")
    parser.set_defaults(run=_fetch)


def _fetch(arguments: argparse.Namespace) -> int:
    from timar_retargeting.description_node import TOPIC, fetch_description

    text, notes = fetch_description(arguments.namespace, arguments.node, arguments.timeout)
    source = f"{TOPIC} of {arguments.node or arguments.namespace or '/'}"
    prefix = write_fetched(text, source, arguments.out, arguments.name, arguments.joint_map)
    for note in notes:
        sys.stdout.write(f"{note}\n")
    if prefix:
        sys.stdout.write(f"every joint's name begins with {prefix!r}\n")
    suffix = ".yaml" if arguments.joint_map else ".urdf"
    sys.stdout.write(f"written: {arguments.out / (arguments.name + suffix)}\n")
    return 0


def _add_tune(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    doc = "Move one joint at a time of the running head, and keep limits and offsets (sliders: timar_view)."
    parser = commands.add_parser("tune", help=doc, description=doc)
    _add_robot(parser)
    parser.add_argument("--namespace", default="", help="of the robot's topics")
    parser.set_defaults(run=_tune)


def _tune(arguments: argparse.Namespace) -> int:
    from timar_retargeting.robot_tools_node import tune

    kept = tune(_robot_of(arguments), arguments.namespace, sys.stdin, sys.stderr)
    sys.stdout.write(kept)
    return 0


def _add_delay(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    doc = "Measure each servo's delay on the running head by a small step, up and back."
    parser = commands.add_parser("measure-delay", help=doc, description=doc)
    _add_robot(parser)
    parser.add_argument("--namespace", default="", help="of the robot's topics")
    parser.add_argument("--joint", action="append", default=[], help="only this one; may be given again")
    parser.add_argument(
        "--step", type=float, default=0.2, help="size of the step [rad] (default: %(default)s)"
    )
    parser.set_defaults(run=_delay)


def _delay(arguments: argparse.Namespace) -> int:
    from timar_retargeting.robot_tools_node import measure_delays

    robot = _robot_of(arguments)
    refuse_unknown("joint", arguments.joint, robot.joint_names)
    if not 0.02 <= arguments.step <= 1.0:
        raise ValueError(f"--step is {arguments.step:g}, expected 0.02 to 1 rad")
    results = measure_delays(robot, arguments.namespace, tuple(arguments.joint), arguments.step)
    is_whole = True
    for name, result in results.items():
        if isinstance(result, StepResponse):
            sys.stdout.write(
                f"{name}: {{servo_delay_s: {result.delay_s:.3f}}}  # gain {result.gain:.2f}, "
                f"overshoot {result.overshoot:.0%}, offset {result.offset_rad:+.3f} rad, "
                f"mismatch {result.mismatch:.1%}\n"
            )
        else:
            is_whole = False
            sys.stdout.write(f"# {name}: {result}\n")
    return 0 if is_whole else 1


def _add_fit(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    doc = "Make channels of the face from paired data or your face model's mesh, or fit joints to poses."
    parser = commands.add_parser("fit-expressions", help=doc, description=doc)
    _add_robot(parser)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--expression", type=Path, help=".npz with exp (frames, 50) or motion (frames, 56)")
    source.add_argument("--mesh", type=Path, help=".npz with shapedirs of your own licensed face model")
    source.add_argument(
        "--poses",
        action="store_true",
        help="of the running head: set its joints, make that face to the camera, at most 12 times",
    )
    _add_map(parser)
    parser.add_argument("--namespace", default="", help="with --poses: of the robot's topics")
    parser.add_argument(
        "--png", type=Path, default=Path("fit_poses.png"), help="with --poses: picture (default: %(default)s)"
    )
    parser.add_argument("--channels", type=Path, help=_CHANNELS_HELP)
    parser.add_argument("--name", action="append", default=[], help="only this channel; may be given again")
    parser.add_argument(
        "--least", type=float, default=0.3, help="least share explained (default: %(default)s)"
    )
    parser.add_argument("--shape-numbers", type=int, default=300, help="of the mesh (default: %(default)s)")
    parser.set_defaults(run=_fit)


_CHANNELS_HELP = (
    "with --expression: CSV or .npz of the channels at the same frames (for example ARKit's); with --mesh: "
    "YAML of channel: {vertices: [..], against: [..], direction: [x, y, z], full_m: 0.01}"
)


def _fit(arguments: argparse.Namespace) -> int:
    if arguments.poses:
        return _fit_poses(arguments)
    if arguments.channels is None:
        raise ValueError(f"--channels is missing, expected a file: {_CHANNELS_HELP}")
    if arguments.mesh:
        wanted = _mesh_channels(arguments.channels)
        found = expressions.mesh_channels(arguments.mesh, wanted, arguments.shape_numbers)
        sys.stdout.write(expressions.yaml_of(found))
        return 0
    if not 0.0 <= arguments.least <= 1.0:
        raise ValueError(f"--least is {arguments.least:g}, expected a share from 0 to 1")
    numbers = expressions.read_expression(arguments.expression)
    channels = expressions.read_channels(arguments.channels, arguments.name)
    fitted = expressions.fit_channels(numbers, channels)
    for one in fitted:
        verdict = "" if one.explained >= arguments.least else "  left out: the numbers do not tell it"
        sys.stderr.write(f"{one.name}: {max(0.0, one.explained):.0%} explained{verdict}\n")
    good = {one.name: one.channel for one in fitted if one.explained >= arguments.least}
    if not good:
        raise ValueError("no channel can be told from the expression numbers; are both from the same frames?")
    sys.stdout.write(expressions.yaml_of(good))
    return 0


def _fit_poses(arguments: argparse.Namespace) -> int:
    from timar_retargeting.robot_tools_node import record_poses

    robot = _robot_of(arguments)
    positions, shapes = record_poses(robot, arguments.namespace, sys.stdin, sys.stderr)
    fits = face_poses.fit_poses(robot.joint_names, positions, shapes)
    sys.stderr.write("\n" + face_poses.poses_text(fits))
    face_poses.draw_poses(fits, arguments.png, f"{robot.name}: residuals of {len(positions)} poses")
    sys.stderr.write(f"drawn to {arguments.png}\n")
    sys.stdout.write(face_poses.poses_yaml(fits))
    return 0


def _mesh_channels(path: Path) -> dict[str, expressions.MeshChannel]:
    document = read_yaml_map(path)
    found = {}
    for name in document.keys():  # noqa: SIM118 - a YamlMap is no mapping
        entry = document.child(name)
        x, y, z = entry.numbers("direction", 3)
        against = _vertices(entry, "against") if entry.has("against") else ()
        full_m = entry.number("full_m", expressions.MeshChannel.full_m, minimum=1e-6)
        found[name] = expressions.MeshChannel(_vertices(entry, "vertices"), (x, y, z), against, full_m)
        entry.refuse_rest()
    return found


def _vertices(entry: YamlMap, key: str) -> tuple[int, ...]:
    words = entry.words(key)
    if not words or not all(word.isdecimal() for word in words):
        raise entry.error(f"{key} is [{', '.join(words)}], expected vertex numbers of the mesh", key)
    return tuple(map(int, words))


def _add_control(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    doc = "Write the robot's URDF with ros2_control tags, and the controllers' parameters."
    parser = commands.add_parser("ros2-control", help=doc, description=doc)
    _add_robot(parser)
    parser.add_argument("--hardware", choices=("mock", "dynamixel"), default="mock")
    parser.add_argument("--port", default="/dev/ttyUSB0", help="of the Dynamixel bus (default: %(default)s)")
    parser.add_argument("--baud", type=int, default=1_000_000, help="of the bus (default: %(default)s)")
    parser.add_argument("--id", action="append", default=[], metavar="JOINT=ID", help="of a servo")
    parser.add_argument("--urdf", type=Path, required=True, help="where the URDF goes")
    parser.add_argument("--controllers", type=Path, help="where the controllers' YAML goes")
    parser.set_defaults(run=_control)


def _control(arguments: argparse.Namespace) -> int:
    robot = _robot_of(arguments)
    if arguments.hardware == "mock":
        tag = ros2_control.mock_tag(robot)
    else:
        ids = {}
        for word in arguments.id:
            joint, _, number = word.partition("=")
            if not number.isdigit():
                raise ValueError(f"--id is {word!r}, expected JOINT=NUMBER")
            ids[joint] = int(number)
        tag = ros2_control.dynamixel_tag(robot, arguments.port, arguments.baud, ids)
    arguments.urdf.write_text(ros2_control.with_tag(robot.urdf, tag), "utf-8")
    if arguments.controllers:
        arguments.controllers.write_text(ros2_control.controllers_yaml(robot), "utf-8")
    return 0
