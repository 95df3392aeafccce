"""The base of every node: described parameters, topics of the one table, lifecycle, diagnostics.

A node derives from `BaseNode`, names its configuration dataclass, and fills in four methods: `build`
(publishers, subscriptions), `start`, `stop`, `release`. A node that runs a component derives from
`timar_common.component_node.ComponentNode` instead.
"""

from __future__ import annotations

import dataclasses
import faulthandler
import functools
import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.time import Time
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Header

from timar_common.cancellation import Cancellation, WorkCancelledError
from timar_common.clock import RosAnchor, RosClock, SimClock
from timar_common.config import Description, describe
from timar_common.diagnostics import Level, Report
from timar_common.heartbeat import Heartbeat
from timar_common.middleware import suspicions
from timar_common.notify import notify
from timar_common.parameter_file import converted, names_for_every_node
from timar_common.peers import GraphPeers
from timar_common.processes import (
    SHOW_STACKS,
    START_REFUSED,
    end_with_parent,
    own_restarts,
    stop_signals,
)
from timar_common.suggest import nearest, refuse_unknown
from timar_common.topics import TOPICS, Topic

_ANCHOR_READINGS = 5
_ANCHOR_APART_NS = 100_000
JOIN_WITHIN_S = 5.0
"""A thread that has not ended after so long is left to the end of the process [s]."""
END_WITHIN_S = 10
"""A process that is ending and has not ended after so long says where it hangs and is gone [s]."""


def message_type(type_name: str) -> Any:
    """Import a message class by its ROS name, for example ``timar_msgs/msg/AudioChunk``."""
    package, kind, name = type_name.split("/")
    return getattr(importlib.import_module(f"{package}.{kind}"), name)


def qos_of(topic: Topic) -> QoSProfile:
    """Return the quality of service both ends of a topic use."""
    return QoSProfile(
        depth=topic.depth,
        history=HistoryPolicy.KEEP_ALL if topic.depth == 0 else HistoryPolicy.KEEP_LAST,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if topic.is_latched else DurabilityPolicy.VOLATILE,
    )


def publisher_qos(topic: Topic) -> QoSProfile:
    """Return what a topic's publishers offer: they may hold more messages than readers ask for."""
    return with_past(topic) if topic.held else qos_of(topic)


def with_past(topic: Topic) -> QoSProfile:
    """Return the quality of service that reaches back over what a topic's publishers hold."""
    qos = qos_of(topic)
    qos.durability, qos.depth = DurabilityPolicy.TRANSIENT_LOCAL, max(qos.depth, topic.held)
    return qos


def declare_config(node: LifecycleNode, config_type: type) -> Any:
    """Declare every field of a configuration dataclass as a described parameter and read it back.

    Raises:
        ValueError: A value lies outside its range; the message names parameter, value and range.
    """
    defaults = config_type()
    values = {}
    for name, description in describe(config_type).items():
        default = getattr(defaults, name)
        if isinstance(default, tuple):
            default = list(default)
        _take_former_names(node, name, description)
        _convert_override(node, name, config_type)
        if not node.has_parameter(name):
            try:
                node.declare_parameter(name, default, _descriptor(description, default))
            except rclpy.exceptions.ParameterException as error:
                raise ValueError(f"parameter {name}: {error} ({description.text()})") from error
        value = node.get_parameter(name).value
        values[name] = tuple(value) if isinstance(default, list) else value
    return config_type(**values)


def _convert_override(node: LifecycleNode, name: str, config_type: type) -> None:
    """Take a whole 400.0 for an integer, and so on; rclpy refuses whatever has another type."""
    if (override := node._parameter_overrides.get(name)) is not None and override.value is not None:
        value = converted(override.value, config_type, name, f"parameter {name}")
        if type(value) is not type(override.value) or value != override.value:
            node._parameter_overrides[name] = rclpy.Parameter(name, value=value)


def _take_former_names(node: LifecycleNode, name: str, description: Description) -> None:
    """Accept a parameter under a name of an earlier release, with a warning."""
    for former in description.formerly:
        if former in node._parameter_overrides:
            node.get_logger().warning(
                f"parameter {former} is now called {name}; the old name goes next release"
            )
            value = node._parameter_overrides.pop(former).value
            node._parameter_overrides.setdefault(name, rclpy.Parameter(name, value=value))


class BaseNode(LifecycleNode):
    """A lifecycle node that configures and activates itself unless `autostart` is false."""

    NAME: ClassVar[str]
    Config: ClassVar[type]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(self.NAME, **kwargs)
        self.declare_parameter(
            "autostart", True, ParameterDescriptor(description="Configure and activate by itself.")
        )
        self.is_active = False
        self.is_over = False
        """Whether the node has done all it was started for; its process then ends."""
        self.exit_status = 0
        """What the process ends with; a node that fails after its start sets it."""
        self.ending = threading.Event()
        """Set while the node does not act; what `run_in_thread` started looks at it, or waits by it."""
        self.bad_messages = 0
        self.peers = GraphPeers(self)
        """Who publishes what this node hears, and what it says itself."""
        self.anchor = RosAnchor()
        self.ros_clock: RosClock | None = None
        """What gives ROS time instead of this machine's clock."""
        self.is_time_known = True
        """Whether stamps of messages can be read; while not, a node of a component leaves them out."""
        self.config: Any = None
        self._owned: list[tuple[Callable[[Any], bool], Any]] = []
        self._threads: list[threading.Thread] = []

    # What a node fills in.

    def build(self) -> None:
        """Make the core, publishers and subscriptions from `self.config`."""

    def follow_clock(self) -> None:
        """Set `ros_clock`: with use_sim_time, ROS time comes from /clock, also between its messages."""
        self.ros_clock = None
        if not self.get_parameter("use_sim_time").value:
            return
        self.ros_clock = clock = SimClock()

        def tick(message: Any) -> None:
            clock.tick(time.monotonic_ns(), Time.from_msg(message.clock).nanoseconds)

        qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._owned.append((self.destroy_subscription, self.create_subscription(Clock, "/clock", tick, qos)))

    def start(self) -> None:
        """Begin to act; messages are delivered from now on."""

    def stop(self) -> None:
        """End all acting."""

    def release(self) -> None:
        """Drop what `build` made, beyond publishers, subscriptions, timers and services."""

    def reconfigure(self, config: Any) -> None:
        """Take a configuration that differs from `self.config` in live parameters only."""
        self.config = config

    def hung(self, now_ns: int) -> str:
        """Say what a thread of the node hangs in, if it has one that may; empty: it works."""
        return ""

    def report(self) -> Report:
        """Return the health of the node; called once a second."""
        return Report()

    # What a node may use.

    def create_topic_publisher(self, topic_name: str) -> Any:
        """Make a publisher of a topic of the table."""
        topic = TOPICS[topic_name]
        publisher = self.create_publisher(message_type(topic.type_name), topic.name, publisher_qos(topic))
        self._owned.append((self.destroy_publisher, publisher))
        self.peers.publishes(topic_name)
        return publisher

    def create_external_publisher(self, message_class: Any, name: str, qos: QoSProfile) -> Any:
        """Make a publisher of a topic from outside this workspace."""
        publisher = self.create_publisher(message_class, name, qos)
        self._owned.append((self.destroy_publisher, publisher))
        return publisher

    def create_topic_subscription(self, topic_name: str, callback: Callable[[Any], None]) -> None:
        """Subscribe to a topic of the table; of one with one publisher, a second one is not heard.

        While the node is inactive messages are left out. A message that makes the callback raise ValueError
        is counted, logged at most every five seconds, and otherwise ignored.
        """
        topic = TOPICS[topic_name]
        deliver = self.peers.guarded(topic, self._while_active(topic.name, callback))
        self._subscribe(message_type(topic.type_name), topic.name, qos_of(topic), deliver)

    def create_external_subscription(
        self, message_class: Any, name: str, qos: QoSProfile, callback: Callable[[Any], None]
    ) -> None:
        """Subscribe to a topic from outside this workspace; else as `create_topic_subscription`."""
        self._subscribe(message_class, name, qos, self._while_active(name, callback))

    def _while_active(self, name: str, callback: Callable[[Any], None]) -> Callable[[Any], None]:
        @functools.wraps(callback)
        def deliver(message: Any) -> None:
            if not self.is_active:
                return
            try:
                callback(message)
            except ValueError as error:
                self.bad_messages += 1
                self.get_logger().error(f"{name}: {error}", throttle_duration_sec=5.0)

        return deliver

    def _subscribe(
        self, message_class: Any, name: str, qos: QoSProfile, deliver: Callable[..., None], **options: Any
    ) -> None:
        subscription = self.create_subscription(message_class, name, deliver, qos, **options)
        self._owned.append((self.destroy_subscription, subscription))

    def create_steady_timer(self, period_s: float, callback: Callable[[], None]) -> None:
        """Call back in steady time while the node is active."""

        def tick() -> None:
            if self.is_active:
                callback()

        clock = rclpy.clock.Clock(clock_type=rclpy.clock.ClockType.STEADY_TIME)
        self._owned.append((self.destroy_timer, self.create_timer(period_s, tick, clock=clock)))

    def run_in_thread(self, work: Callable[[], None], name: str) -> None:
        """Run something in a thread of its own until it returns, which it does soon after `ending` is set."""
        self._threads.append(threading.Thread(target=work, name=name, daemon=True))
        self._threads[-1].start()

    def create_named_service(self, service_type: Any, name: str, callback: Callable[[Any, Any], Any]) -> None:
        """Offer a service under a relative name."""
        self._owned.append((self.destroy_service, self.create_service(service_type, name, callback)))

    def header(self, monotonic_ns: int, frame_id: str = "") -> Header:
        """Return a header stamped with the ROS time of a monotonic instant."""
        self.update_anchor()
        return Header(stamp=Time(nanoseconds=self.anchor.ros_ns(monotonic_ns)).to_msg(), frame_id=frame_id)

    def monotonic_ns(self, header: Header) -> int:
        """Return the monotonic instant of a header's stamp [ns]."""
        self.update_anchor()
        return self.anchor.monotonic_ns(Time.from_msg(header.stamp).nanoseconds)

    def ros_now_ns(self) -> int:
        """Return ROS time now [ns]; with use_sim_time 0 until the first message of /clock."""
        if self.ros_clock is not None:
            return self.ros_clock.ros_ns(time.monotonic_ns()) if self.ros_clock.is_started else 0
        return int(self.get_clock().now().nanoseconds)

    def update_anchor(self) -> None:
        """Read both clocks; tell in the log when the ROS clock stepped."""
        if self.anchor.update(*self._both_clocks()):
            self.get_logger().warning("the ROS clock stepped; motion keeps its instants")

    def _both_clocks(self) -> tuple[int, int]:
        """Read monotonic and ROS time at the same instant [ns].

        On a busy machine the process can be put aside between two readings, which would move a stamp by
        milliseconds; then it is read again, and the closest pair counts.
        """
        if self.ros_clock is not None:
            now_ns = time.monotonic_ns()
            return now_ns, self.ros_clock.ros_ns(now_ns)
        closest: tuple[int, int, int] | None = None
        for _ in range(_ANCHOR_READINGS):
            before_ns = time.monotonic_ns()
            ros_ns = self.get_clock().now().nanoseconds
            apart_ns = time.monotonic_ns() - before_ns
            if closest is None or apart_ns < closest[0]:
                closest = (apart_ns, before_ns + apart_ns // 2, ros_ns)
            if apart_ns < _ANCHOR_APART_NS:
                break
        return closest[1:]

    # Lifecycle.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read parameters, build the node."""
        try:
            self.config = declare_config(self, self.Config)
            self._refuse_unknown_parameters()
            self.follow_clock()
            self.update_anchor()
            self.build()
            self._follow_live_parameters()
            self._open_diagnostics()
        except (ValueError, OSError, RuntimeError) as error:
            self.get_logger().fatal(str(error))
            self._drop()
            return TransitionCallbackReturn.FAILURE
        except WorkCancelledError:
            self._drop()
            return TransitionCallbackReturn.FAILURE
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let messages in and begin to act."""
        self.ending = threading.Event()  # A thread that hung in a device still sees the end of its own time.
        try:
            self.start()
        except (ValueError, OSError, RuntimeError) as error:
            self.get_logger().fatal(str(error))
            self._end()
            return TransitionCallbackReturn.FAILURE
        self.is_active = True
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop acting."""
        self._end()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Drop everything that configuring made."""
        self._drop()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End from whatever state."""
        self.close()
        return TransitionCallbackReturn.SUCCESS

    def close(self) -> None:
        """Stop and drop everything; safe in every state and more than once."""
        if self.is_active:
            self._end()
        self._drop()

    def _end(self) -> None:
        """Stop acting, and wait for what runs beside."""
        was_active, self.is_active = self.is_active, False
        self.ending.set()
        if was_active:
            self.stop()
        for thread in self._threads:
            thread.join(timeout=JOIN_WITHIN_S)
        self._threads.clear()

    def _drop(self) -> None:
        for destroy, handle in reversed(self._owned):
            destroy(handle)
        self._owned.clear()
        self.release()

    def _refuse_unknown_parameters(self) -> None:
        """ROS ignores a misspelt parameter; a robot must not.

        What a section for nodes of any name says, and this node has not, may be another node's, unless it
        nearly names a parameter of this one.
        """
        known = set(self._parameters) | {"use_sim_time"}
        unknown = {
            name for name in self._parameter_overrides if not name.startswith("qos_overrides.")
        } - known
        shared = names_for_every_node(sys.argv) if unknown else set()
        others = {name for name in unknown & shared if not nearest(name, known)}
        if others:
            self.get_logger().info(f"left to other nodes: the parameters {', '.join(sorted(others))}")
        refuse_unknown("parameter", sorted(unknown - others), sorted(known), owner=self.get_name())
        for name in sorted(self._parameters):
            origin = "given" if name in self._parameter_overrides else "default"
            self.get_logger().debug(f"parameter {name}: {self._parameters[name].value!r} ({origin})")

    def _follow_live_parameters(self) -> None:
        """Let live parameters take effect when they are set, and refuse values that do not fit."""
        live = {name for name, description in describe(self.Config).items() if description.is_live}
        if not live:
            return

        def on_set(parameters: list[rclpy.Parameter]) -> SetParametersResult:
            changed = {parameter.name: parameter.value for parameter in parameters if parameter.name in live}
            try:
                if changed:
                    self.reconfigure(dataclasses.replace(self.config, **changed))
            except ValueError as error:
                return SetParametersResult(successful=False, reason=str(error))
            return SetParametersResult(successful=True)

        self.add_on_set_parameters_callback(on_set)

        def stop_following(callback: Any) -> bool:
            self.remove_on_set_parameters_callback(callback)
            return True

        self._owned.append((stop_following, on_set))

    def _open_diagnostics(self) -> None:
        topic = TOPICS["/diagnostics"]
        publisher = self.create_publisher(DiagnosticArray, topic.name, qos_of(topic))
        self._owned.append((self.destroy_publisher, publisher))

        def publish() -> None:
            if not self.get_parameter("use_sim_time").value:  # A bag's player stands in for several nodes.
                self.peers.check(time.monotonic_ns())
            publisher.publish(self._diagnostic_array())

        self.create_steady_timer(1.0, publish)

    def _diagnostic_array(self) -> DiagnosticArray:
        report = self.report()
        report.values.setdefault("bad_messages", self.bad_messages)
        report.values["restarts"] = own_restarts()
        self.peers.add_to(report)
        if self.bad_messages:
            report.worsen(Level.WARN, f"{self.bad_messages} messages refused; the log says why")
        status = DiagnosticStatus(
            level=bytes([report.level]),
            name=self.get_fully_qualified_name(),
            message=report.message,
            hardware_id="",
            values=[KeyValue(key=key, value=_written(value)) for key, value in report.values.items()],
        )
        return DiagnosticArray(header=self.header(time.monotonic_ns()), status=[status])


def run(node_types: Sequence[type[BaseNode]], args: Sequence[str] | None = None) -> int:
    """Run nodes in this process until a signal, and return the exit status.

    SIGINT and SIGTERM, and the end of who started the process, end the spinning between two callbacks; every
    node is then stopped and destroyed, within `END_WITHIN_S`. The status is `START_REFUSED` when a node
    refused to start, after saying why, 1 when one hung while it ended, else what the nodes have set.
    """
    for suspicion in suspicions(os.environ):
        if suspicion.is_certain:  # Fast DDS would end the process, or go on with other settings.
            return _refused_by_middleware(RuntimeError(f"{suspicion.text}; {suspicion.remedy}"))
    try:
        rclpy.init(args=args, signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)
    except (
        RuntimeError
    ) as error:  # Of rcl: keys that are asked for and not there, a domain id that cannot be.
        return _refused_by_middleware(error)
    wanted_end, starting = threading.Event(), Cancellation()

    def end(*_: object) -> None:
        if not wanted_end.is_set():
            wanted_end.set()
            starting.cancel()
            _end_soon()

    faulthandler.register(SHOW_STACKS, file=sys.__stderr__)
    end_with_parent(within_s=END_WITHIN_S + 1.0)
    with stop_signals(end), starting.scope():
        return _spin(node_types, wanted_end)


def _spin(node_types: Sequence[type[BaseNode]], wanted_end: threading.Event) -> int:
    executor = None
    nodes: list[BaseNode] = []
    try:
        for node_type in node_types:
            if wanted_end.is_set():
                return 0
            notify(STATUS=f"starting {node_type.NAME}")
            try:
                nodes.append(node_type())
            except RuntimeError as error:
                return _refused_by_middleware(error)
            if nodes[-1].get_parameter("autostart").value and not _autostart(nodes[-1]):
                return 0 if wanted_end.is_set() else START_REFUSED
        executor = _executor()
        for node in nodes:
            executor.add_node(node)
        notify(READY=1, STATUS="running")
        heartbeat = Heartbeat()
        while not (wanted_end.is_set() or any(node.is_over for node in nodes)) and rclpy.ok():
            executor.spin_once(timeout_sec=0.1)
            now_ns = time.monotonic_ns()
            heartbeat.beat(now_ns, next(filter(None, (node.hung(now_ns) for node in nodes)), ""))
    except (ExternalShutdownException, KeyboardInterrupt):
        pass
    finally:
        notify(STOPPING=1, STATUS="stopping")
        if not wanted_end.is_set():
            _end_soon()
        for node in nodes:
            node.close()
            node.destroy_node()
        if executor is not None:
            executor.shutdown()
        rclpy.try_shutdown()
    return max((node.exit_status for node in nodes), default=0)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the nodes named ``module:Class`` on the command line, before any ``--ros-args``, in one process."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    cut = arguments.index("--ros-args") if "--ros-args" in arguments else len(arguments)
    # Until the nodes run there is nothing to stop, so a signal simply ends the imports.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    node_types = []
    for spec in arguments[:cut]:
        module_name, class_name = spec.split(":")
        notify(STATUS=f"importing {module_name}")
        node_types.append(getattr(importlib.import_module(module_name), class_name))
    return run(node_types, ["timar", *arguments[cut:]])


def _refused_by_middleware(error: RuntimeError) -> int:
    reason = " ".join(str(error).split())
    if "security libraries" in reason:
        reason = "Fast DDS was built without security here; take ROS 2 from a distribution, which has it"
    sys.stderr.write(f"FATAL the middleware does not start: {reason}\n")
    return START_REFUSED


def _end_soon() -> None:
    """Let nothing that hangs keep the process: neither a node that stops nor the middleware's own threads."""
    faulthandler.dump_traceback_later(END_WITHIN_S, exit=True, file=sys.__stderr__)


def _autostart(node: BaseNode) -> bool:
    if node.trigger_configure() != TransitionCallbackReturn.SUCCESS:
        return False
    return node.trigger_activate() == TransitionCallbackReturn.SUCCESS


def _executor() -> Any:
    """Return the executor that needs the least CPU; Humble has only the single-threaded one."""
    try:
        from rclpy.experimental.events_executor import EventsExecutor
    except ImportError:
        from rclpy.executors import SingleThreadedExecutor

        return SingleThreadedExecutor()
    return EventsExecutor()


def _descriptor(description: Description, default: Any) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(description=description.text(), read_only=False)
    if description.minimum is None or description.maximum is None or isinstance(default, (bool, str, list)):
        return descriptor
    if isinstance(default, int):
        descriptor.integer_range = [
            IntegerRange(from_value=int(description.minimum), to_value=int(description.maximum))
        ]
    else:
        descriptor.floating_point_range = [
            FloatingPointRange(from_value=float(description.minimum), to_value=float(description.maximum))
        ]
    return descriptor


def _written(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
