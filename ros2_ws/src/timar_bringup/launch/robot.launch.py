"""Start the head where ROS 2 is installed: ros2 launch timar_bringup robot.launch.py name:=value ..."""

import functools
import os
import time

from launch.action import Action
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction, RegisterEventHandler, TimerAction
from launch.event_handlers import OnProcessStart
from launch.events.process import ProcessExited, ProcessStarted
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from timar_bringup.composer import ChildRun, Ended, after_end
from timar_bringup.files import network_environment, page_environment, with_urdf
from timar_bringup.graph import (
    ARGUMENTS,
    STOP_WITHIN_S,
    Plan,
    PlannedNode,
    UsageError,
    plan,
    read_values,
    refuse_unknown,
)
from timar_bringup.network import who_reaches
from timar_bringup.parameters import graph_parameters
from timar_bringup.watch import Watch, carry_out
from timar_common.notify import NotifySocket
from timar_common.processes import RESTARTS_VARIABLE

from launch import LaunchContext, LaunchDescription

_POLL_S = 0.2


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


class _Supervisor:
    """Starts nodes again by their roles, and ends those that hang, as the composer does."""

    def __init__(self, graph: Plan, environment: dict[str, str]) -> None:
        self._graph = graph
        self._parameters = graph_parameters(graph)
        self._heard = NotifySocket()
        self._environment = environment | self._heard.environment
        self._watch = Watch()
        self._runs = {
            planned.node.name: ChildRun(graph.role(planned.node.process)) for planned in graph.nodes
        }

    def actions(self) -> list[Action]:
        """Return what starts the nodes and watches them."""
        nodes = (action for planned in self._graph.nodes for action in self._start(planned))
        return [*nodes, self._poll_soon()]

    def _start(self, planned: PlannedNode) -> list[Action]:
        node = planned.node
        niceness = self._graph.role(node.process).niceness
        action = Node(
            package=node.package,
            executable=node.name,
            namespace=self._graph.namespace,
            parameters=[self._parameters.values(self._graph.full_name(node))],
            ros_arguments=["--log-level", str(self._graph.arguments["log_level"])],
            additional_env={**self._environment, RESTARTS_VARIABLE: str(self._runs[node.name].restarts)},
            prefix=f"nice -n {niceness}" if niceness else None,
            sigterm_timeout=str(STOP_WITHIN_S),
            output="screen",
            on_exit=functools.partial(self._after_exit, planned),
        )
        started = functools.partial(self._started, node.name)
        return [RegisterEventHandler(OnProcessStart(target_action=action, on_start=started)), action]

    def _poll_soon(self) -> TimerAction:
        return TimerAction(period=_POLL_S, actions=[OpaqueFunction(function=self._poll)])

    def _started(self, name: str, event: ProcessStarted, _context: LaunchContext) -> None:
        self._watch.begin(name, event.pid, time.monotonic())

    def _poll(self, _context: LaunchContext) -> list[Action]:
        now_s = time.monotonic()
        self._watch.listen(self._heard, now_s)
        said: list[str] = []
        for step in self._watch.steps(now_s):
            carry_out(step, said.append, os.kill)
        return [*(LogInfo(msg=sentence) for sentence in said), self._poll_soon()]

    def _after_exit(
        self, planned: PlannedNode, event: ProcessExited, context: LaunchContext
    ) -> list[Action] | None:
        name = planned.node.name
        self._watch.end(name)
        if context.is_shutdown:
            return None
        ended, run = Ended(name, event.returncode), self._runs[name]
        wait_s = run.end(event.returncode, time.monotonic())
        if wait_s is None and (run.role.is_essential or not run.is_down):
            raise RuntimeError(ended.sentence())  # What ends the launch with status 1.
        said = LogInfo(msg=after_end(ended, run, wait_s))
        if wait_s is None:
            return [said]
        run.start()
        return [said, TimerAction(period=wait_s, actions=self._start(planned))]


def _nodes(context: LaunchContext) -> list[Action]:
    # launch hands unknown name:=value words over in silence; a misspelt one must not be lost.
    if LaunchConfiguration("check_arguments").perform(context) == "true":
        names = [word.partition(":=")[0] for word in context.argv if ":=" in word]
        refuse_unknown(name for name in names if name != "check_arguments")
    values = {argument.name: LaunchConfiguration(argument.name).perform(context) for argument in ARGUMENTS}
    graph = plan(with_urdf(read_values(values)))
    for name in ("network", "logs"):
        if values[name]:
            raise UsageError(f"{name}:= is for timar run; under ros2 launch the machine's settings count")
    environment = network_environment(os.environ) | page_environment(os.environ)
    return [LogInfo(msg=who_reaches(os.environ)), *_Supervisor(graph, environment).actions()]
