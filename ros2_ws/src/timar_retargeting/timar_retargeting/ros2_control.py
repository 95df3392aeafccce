"""What ros2_control needs to know of a robot: tags for its URDF, and the parameters of its controllers."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path

from timar_common.suggest import refuse_unknown

from timar_retargeting.robot import RobotDescription

CONTROLLER = "head_controller"
RATE_HZ = 100


def mock_tag(robot: RobotDescription) -> str:
    """Return a ``<ros2_control>`` element whose joints are at once where they are told to be."""
    root = _system(robot, "mock_components/GenericSystem", {"calculate_dynamics": "true"})
    for name, joint in _joints(robot, root).items():
        for kind in ("position", "velocity"):
            state = ElementTree.SubElement(joint, "state_interface", name=kind)
            if kind == "position":
                initial = ElementTree.SubElement(state, "param", name="initial_value")
                initial.text = f"{robot.offsets_rad[robot.joint_names.index(name)]:.6g}"
    return _written(root)


def dynamixel_tag(robot: RobotDescription, port: str, baud: int, ids: Mapping[str, int]) -> str:
    """Return a ``<ros2_control>`` element for ROBOTIS's dynamixel_hardware_interface.

    Args:
        robot: Its joints, one servo each, in the order of its YAML.
        port: The adapter's device.
        baud: Of the bus.
        ids: By joint; a joint that is not named has its number in the YAML, from 1.

    Raises:
        ValueError: An unknown joint, or an id that is no id of a servo or is given twice.
    """
    names = robot.joint_names
    refuse_unknown("joint", ids, names)
    servos = {name: ids.get(name, number) for number, name in enumerate(names, 1)}
    for name, servo in servos.items():
        if not 0 <= servo <= 252:
            raise ValueError(f"the id of {name} is {servo}, expected 0 to 252")
    if len(set(servos.values())) < len(servos):
        raise ValueError(f"two joints have the same id: {servos}; name every id")
    count = len(names)
    identity = ", ".join("1" if row == column else "0" for row in range(count) for column in range(count))
    root = _system(
        robot,
        "dynamixel_hardware_interface/DynamixelHardware",
        {
            "port_name": port,
            "baud_rate": str(baud),
            "dynamixel_model_folder": "/param/dxl_model",
            "number_of_joints": str(count),
            "number_of_transmissions": str(count),
            "transmission_to_joint_matrix": identity,
            "joint_to_transmission_matrix": identity,
            "error_timeout_ms": "500",
        },
    )
    for joint in _joints(robot, root).values():
        for kind in ("position", "velocity"):
            ElementTree.SubElement(joint, "state_interface", name=kind)
    for number, servo in enumerate(servos.values(), 1):
        entry = ElementTree.SubElement(root, "gpio", name=f"dxl{number}")
        for key, value in (("type", "dxl"), ("ID", str(servo)), ("Operating Mode", "3")):
            ElementTree.SubElement(entry, "param", name=key).text = value
        ElementTree.SubElement(entry, "command_interface", name="Goal Position")
        for state in ("Present Position", "Present Velocity", "Hardware Error Status"):
            ElementTree.SubElement(entry, "state_interface", name=state)
    return _written(root)


def controllers_yaml(robot: RobotDescription) -> str:
    """Return the parameters of the controller manager and of the controllers, as YAML.

    The trajectories end at rest by themselves, so the controller need not be lenient about their end; and a
    new one begins where the running one would be, so it may be followed without looking at the joints.
    """
    joints = "".join(f"      - {name}\n" for name in robot.joint_names)
    return f"""# Controllers of ros2_control for {robot.name}; made by: timar robot ros2-control
# Remap /{CONTROLLER}/joint_trajectory to joint_trajectory.
controller_manager:
  ros__parameters:
    update_rate: {RATE_HZ}
    joint_state_broadcaster:
      type: joint_state_broadcaster/JointStateBroadcaster
    {CONTROLLER}:
      type: joint_trajectory_controller/JointTrajectoryController
    head_positions:
      type: forward_command_controller/ForwardCommandController

{CONTROLLER}:
  ros__parameters:
    command_interfaces: [position]
    state_interfaces: [position, velocity]
    action_monitor_rate: 20.0
    allow_partial_joints_goal: false
    interpolation_method: splines
    # A new trajectory goes on from the last command; from measured joints it would begin with a step back.
    interpolate_from_desired_state: true
    open_loop_control: true   # its name before ros2_controllers 4.22
    joints:
{joints}
# Instead of it, with retargeting's parameter output: positions. Remap ~/commands to position_commands.
head_positions:
  ros__parameters:
    interface_name: position
    joints:
{joints}"""


def with_tag(urdf: Path, tag: str) -> str:
    """Return a URDF's text with a ``<ros2_control>`` element in it.

    Raises:
        ValueError: The file is no URDF, or has such an element already.
        OSError: It cannot be read.
    """
    text = urdf.read_text("utf-8")
    if text.rstrip()[-8:] != "</robot>":
        raise ValueError(f"{urdf} does not end with </robot>; give a plain URDF, not a xacro")
    if "<ros2_control" in text:
        raise ValueError(f"{urdf} has a <ros2_control> element already; take it out first")
    return text.rstrip()[:-8] + tag + "</robot>\n"


def _system(robot: RobotDescription, plugin: str, parameters: Mapping[str, str]) -> ElementTree.Element:
    root = ElementTree.Element("ros2_control", name=robot.name, type="system")
    hardware = ElementTree.SubElement(root, "hardware")
    ElementTree.SubElement(hardware, "plugin").text = plugin
    for name, value in parameters.items():
        ElementTree.SubElement(hardware, "param", name=name).text = value
    return root


def _joints(robot: RobotDescription, root: ElementTree.Element) -> dict[str, ElementTree.Element]:
    """Add every joint with its position command and limits."""
    elements = {}
    for joint in robot.joints:
        element = ElementTree.SubElement(root, "joint", name=joint.name)
        command = ElementTree.SubElement(element, "command_interface", name="position")
        for key, value in (("min", joint.lower_rad), ("max", joint.upper_rad)):
            ElementTree.SubElement(command, "param", name=key).text = f"{value:.6g}"
        elements[joint.name] = element
    return elements


def _written(root: ElementTree.Element) -> str:
    ElementTree.indent(root, "  ", level=1)
    return "  " + ElementTree.tostring(root, encoding="unicode").strip() + "\n"
