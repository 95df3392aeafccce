"""Start the head where ROS 2 is installed: ros2 launch timar_bringup robot.launch.py name:=value ..."""

import os

from launch.actions import DeclareLaunchArgument, OpaqueFunction, Shutdown
from launch.event_handlers.on_process_exit import ProcessExited
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from timar_bringup.files import network_environment, with_urdf
from timar_bringup.graph import ARGUMENTS, FIRST_BACKOFF_S, STOP_WITHIN_S, plan, read_values, refuse_unknown
from timar_bringup.parameters import graph_parameters
from timar_common.processes import START_REFUSED

from launch import LaunchContext, LaunchDescription


def generate_launch_description() -> LaunchDescription:
    declared = [
        DeclareLaunchArgument(
            argument.name,
            default_value=argument.written_default(),
            description=argument.doc,
            choices=list(argument.choices) or None,
        )
        for argument in ARGUMENTS
    ]
    strict = DeclareLaunchArgument(
        "check_arguments",
        default_value="true",
        choices=["true", "false"],
        description="Refuse unknown arguments; a launch file that includes this one says false.",
    )
    return LaunchDescription([*declared, strict, OpaqueFunction(function=_nodes)])


def _after_exit(event: ProcessExited, _context: LaunchContext) -> Shutdown | None:
    """A node that refuses to start has said why and would refuse again; any other is respawned."""
    is_refused = event.returncode == START_REFUSED
    return Shutdown(reason=f"{event.process_name} refused to start") if is_refused else None


def _nodes(context: LaunchContext) -> list[Node]:
    # launch hands unknown name:=value words over in silence; a misspelt one must not be lost.
    if LaunchConfiguration("check_arguments").perform(context) == "true":
        names = [word.partition(":=")[0] for word in context.argv if ":=" in word]
        refuse_unknown(name for name in names if name != "check_arguments")
    values = {argument.name: LaunchConfiguration(argument.name).perform(context) for argument in ARGUMENTS}
    graph = plan(with_urdf(read_values(values)))
    found = graph_parameters(graph)
    return [
        Node(
            package=planned.node.package,
            executable=planned.node.name,
            namespace=graph.namespace,
            parameters=[found.values(graph.full_name(planned.node))],
            ros_arguments=["--log-level", values["log_level"]],
            additional_env=network_environment(os.environ),
            sigterm_timeout=str(STOP_WITHIN_S),
            output="screen",
            respawn=True,
            respawn_delay=FIRST_BACKOFF_S,
            on_exit=_after_exit,
        )
        for planned in graph.nodes
    ]
