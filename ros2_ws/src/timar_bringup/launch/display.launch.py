"""Show the head in RViz, moved by sliders or by the robot that runs.

Needs a ROS 2 distribution with robot_state_publisher, rviz2 and, for sliders, joint_state_publisher_gui.
Where there is none, the browser view shows the same: `ros2 run timar_view view`.
"""

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare
from timar_description import find_urdf

from launch import LaunchContext, LaunchDescription


def generate_launch_description() -> LaunchDescription:
    layout = PathJoinSubstitution([FindPackageShare("timar_bringup"), "rviz", "head.rviz"])
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "robot", default_value="timar_head", description="The robot's name, or a path to a URDF file."
            ),
            DeclareLaunchArgument(
                "sliders",
                default_value="true",
                choices=["true", "false"],
                description="Move the joints by sliders; false: follow the joint_states of a running robot.",
            ),
            DeclareLaunchArgument(
                "rviz_config", default_value=layout, description="The RViz layout, a path to a .rviz file."
            ),
            DeclareLaunchArgument(
                "namespace",
                default_value="",
                description="The robot's namespace, as given to robot.launch.py.",
            ),
            OpaqueFunction(function=start_nodes),
        ]
    )


def start_nodes(context: LaunchContext) -> list[Node]:
    """Start what the arguments ask for.

    Raises:
        FileNotFoundError: There is no such robot; the message says where it was looked for.
    """
    urdf = find_urdf(LaunchConfiguration("robot").perform(context)).read_text(encoding="utf-8")
    description = {"robot_description": ParameterValue(urdf, value_type=str)}
    namespace = LaunchConfiguration("namespace")
    nodes = [
        Node(
            package="robot_state_publisher",
            executable="robot_state_publisher",
            namespace=namespace,
            parameters=[description],
        ),
        Node(
            package="rviz2",
            executable="rviz2",
            namespace=namespace,
            arguments=["-d", LaunchConfiguration("rviz_config")],
        ),
    ]
    if LaunchConfiguration("sliders").perform(context) == "true":
        nodes.append(
            Node(
                package="joint_state_publisher_gui",
                executable="joint_state_publisher_gui",
                namespace=namespace,
                parameters=[description],
            )
        )
    return nodes
