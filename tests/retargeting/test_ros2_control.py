"""ros2_control: what is shipped is what the robot's YAML says, and it parses."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml
from timar_retargeting.robot_command import main
from timar_retargeting.ros2_control import controllers_yaml, dynamixel_tag, mock_tag, with_tag

# Names that the packages' sources read, looked up on 27 November 2026 (ros2_controllers of August 2026, with
# joint_trajectory_controller_parameters.yaml; dynamixel_hardware_interface of December 2025, with models).
# ROS leaves out a misspelt one without a word.
TRAJECTORY_CONTROLLER = {
    "joints", "command_joints", "command_interfaces", "state_interfaces", "allow_partial_joints_goal",
    "allow_trajectory_replacement", "interpolate_from_desired_state",
    "allow_integration_in_goal_trajectories",
    "set_last_command_interface_value_as_state_on_activation", "action_monitor_rate", "interpolation_method",
    "allow_nonzero_velocity_at_trajectory_end", "cmd_timeout",
    "open_loop_control",  # until 4.22
}  # fmt: skip
FORWARD_CONTROLLER = {"joints", "interface_name"}
DYNAMIXEL_NEEDS = {
    "port_name", "baud_rate", "dynamixel_model_folder", "number_of_joints", "number_of_transmissions",
    "transmission_to_joint_matrix", "joint_to_transmission_matrix",
}  # fmt: skip
DYNAMIXEL_KNOWS = DYNAMIXEL_NEEDS | {"error_timeout_ms", "disable_torque_at_init"}
DYNAMIXEL_ITEMS = {
    "Goal Position", "Present Position", "Present Velocity", "Hardware Error Status", "Operating Mode",
}  # fmt: skip

CONFIG = Path(__file__).resolve().parents[2] / "ros2_ws/src/timar_bringup/config"


def joints_of(tag):
    """Joint -> limits of its position command."""
    return {
        joint.get("name"): tuple(
            float(joint.find(f"command_interface/param[@name='{key}']").text) for key in ("min", "max")
        )
        for joint in ElementTree.fromstring(tag).findall("joint")
    }


@pytest.mark.parametrize("hardware", ["mock", "dynamixel"])
def test_tags_have_every_joint_with_its_limits(robot, hardware):
    tag = mock_tag(robot) if hardware == "mock" else dynamixel_tag(robot, "/dev/ttyUSB0", 1_000_000, {})
    limits = {joint.name: (joint.lower_rad, joint.upper_rad) for joint in robot.joints}
    assert joints_of(tag) == {name: pytest.approx(value, rel=1e-5) for name, value in limits.items()}


def test_the_mock_starts_where_the_head_rests(robot):
    root = ElementTree.fromstring(mock_tag(robot))
    path = "joint/state_interface[@name='position']/param[@name='initial_value']"
    starts = [float(element.text) for element in root.findall(path)]
    assert starts == pytest.approx(robot.offsets_rad.tolist(), abs=1e-5)


def test_every_servo_of_the_dynamixel_tag_has_an_id_of_its_own(robot):
    root = ElementTree.fromstring(dynamixel_tag(robot, "/dev/ttyACM0", 57600, {"jaw": 42}))
    ids = [int(gpio.find("param[@name='ID']").text) for gpio in root.findall("gpio")]
    assert ids == [1, 2, 3, 42, 5, 6, 7, 8, 9, 10, 11, 12]
    matrix = root.find("hardware/param[@name='joint_to_transmission_matrix']").text.split(",")
    assert len(matrix) == 144


@pytest.mark.parametrize(
    ("ids", "words"), [({"tail": 3}, "tail"), ({"jaw": 300}, "0 to 252"), ({"jaw": 1}, "same id")]
)
def test_ids_that_cannot_be_are_refused(robot, ids, words):
    with pytest.raises(ValueError, match=words):
        dynamixel_tag(robot, "/dev/ttyUSB0", 1_000_000, ids)


def test_controllers_name_the_joints_in_the_order_of_the_robot(robot):
    content = yaml.safe_load(controllers_yaml(robot))
    names = list(robot.joint_names)
    assert content["head_controller"]["ros__parameters"]["joints"] == names
    assert content["head_positions"]["ros__parameters"]["joints"] == names
    managed = content["controller_manager"]["ros__parameters"]
    assert {"joint_state_broadcaster", "head_controller", "head_positions"} <= set(managed)


def test_controllers_use_parameters_that_the_controllers_have(robot):
    content = yaml.safe_load(controllers_yaml(robot))
    assert set(content["head_controller"]["ros__parameters"]) <= TRAJECTORY_CONTROLLER
    assert set(content["head_positions"]["ros__parameters"]) == FORWARD_CONTROLLER


def test_a_new_trajectory_goes_on_from_the_last_command_and_not_from_the_measured_joints(robot):
    # Trajectories are replaced several times a second; from measured joints, which stand a servo delay
    # behind, each one would begin with a step back.
    parameters = yaml.safe_load(controllers_yaml(robot))["head_controller"]["ros__parameters"]
    assert parameters["interpolate_from_desired_state"] is True
    assert parameters["open_loop_control"] is True


def test_the_dynamixel_tag_uses_names_that_the_interface_reads(robot):
    root = ElementTree.fromstring(dynamixel_tag(robot, "/dev/ttyUSB0", 1_000_000, {}))
    given = {parameter.get("name") for parameter in root.findall("hardware/param")}
    assert DYNAMIXEL_NEEDS <= given <= DYNAMIXEL_KNOWS
    items = {
        item.get("name") for kind in ("command", "state") for item in root.findall(f"gpio/{kind}_interface")
    }
    items |= {parameter.get("name") for parameter in root.findall("gpio/param")} - {"ID", "type"}
    assert items <= DYNAMIXEL_ITEMS


def test_what_is_shipped_is_what_the_command_writes(robot):
    assert (CONFIG / "ros2_control_mock.xml").read_text("utf-8") == mock_tag(robot)
    shipped = (CONFIG / "ros2_control_dynamixel.xml").read_text("utf-8")
    assert shipped == dynamixel_tag(robot, "/dev/ttyUSB0", 1_000_000, {})
    assert (CONFIG / "ros2_control_controllers.yaml").read_text("utf-8") == controllers_yaml(robot)


def test_the_command_writes_a_urdf_that_is_the_head_with_the_tag(robot, tmp_path):
    out, controllers = tmp_path / "head.urdf", tmp_path / "controllers.yaml"
    assert main(["ros2-control", "--urdf", str(out), "--controllers", str(controllers)]) == 0
    root, plain = ElementTree.parse(out).getroot(), ElementTree.parse(robot.urdf).getroot()
    assert len(root.findall("joint")) == len(plain.findall("joint"))
    assert root.find("ros2_control/hardware/plugin").text == "mock_components/GenericSystem"
    with pytest.raises(ValueError, match="already"):
        with_tag(out, mock_tag(robot))
