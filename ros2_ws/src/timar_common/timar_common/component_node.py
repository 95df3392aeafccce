"""The ROS 2 host of a component: topics, parameters, services, diagnostics and the worker of long work.

A node file derives from `ComponentNode`, names its component, and adds only what belongs to a device or ROS.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any, ClassVar

from std_srvs.srv import Trigger

from timar_common.base_node import BaseNode, message_type, qos_of, with_past
from timar_common.component import Component
from timar_common.diagnostics import Level, Report
from timar_common.hosting import ComponentHost
from timar_common.jobs import RealTime
from timar_common.messages import prepare
from timar_common.topics import TOPICS

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble's name
    from rclpy.qos_event import SubscriptionEventCallbacks

_THROTTLE_S = 5.0
# rclpy knows callers by where they stand in the code, and lets each keep one severity and one throttle.
_WRITERS: dict[tuple[Level, bool], Callable[[Any, str], None]] = {
    (Level.OK, False): lambda logger, text: logger.info(text),
    (Level.WARN, False): lambda logger, text: logger.warning(text),
    (Level.ERROR, False): lambda logger, text: logger.error(text),
    (Level.OK, True): lambda logger, text: logger.info(text, throttle_duration_sec=_THROTTLE_S),
    (Level.WARN, True): lambda logger, text: logger.warning(text, throttle_duration_sec=_THROTTLE_S),
    (Level.ERROR, True): lambda logger, text: logger.error(text, throttle_duration_sec=_THROTTLE_S),
}


class ComponentNode(BaseNode):
    """Run a component as a lifecycle node; messages stay serialized up to the component's border."""

    component_type: ClassVar[type[Component]]
    work_clock: RealTime | None = None
    """Time of the component's long work; the machine's unless a test gives another."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "component_type" in cls.__dict__:
            cls.NAME, cls.Config = cls.component_type.NAME, cls.component_type.Config

    def make_component(self) -> Component:
        """Return the component for `self.config`; a node that gives it a device overrides this."""
        return self.component_type(self.config)  # type: ignore[call-arg]

    def now_ns(self) -> int:
        """Return CLOCK_MONOTONIC [ns]."""
        return time.monotonic_ns()

    def build(self) -> None:
        """Make the component, its topics, timer and services."""
        self.component = self.make_component()
        prepare(TOPICS[topic].type_name for topic in (*self.component.inputs, *self.component.outputs))
        self.host = ComponentHost(self.component, _NodeClock(self), self._publish, self._log, self.work_clock)
        self.publishers_by_topic = {
            topic: self.create_topic_publisher(topic) for topic in self.component.outputs
        }
        for topic in self.component.inputs:
            self.subscribe_input(topic)
        if self.component.tick_s is not None:
            self.create_steady_timer(self.component.tick_s, self.host.tick)
        for name in self.component.services:
            self.create_named_service(Trigger, name, self._server(name))

    def start(self) -> None:
        """Activate the component."""
        self.host.start()

    def stop(self) -> None:
        """Deactivate the component."""
        self.host.stop()

    def release(self) -> None:
        """Drop the component."""
        self.component = self.host = None  # type: ignore[assignment]

    def reconfigure(self, config: Any) -> None:
        """Hand live parameters to the component."""
        self.host.call(self.component.reconfigure, config)
        super().reconfigure(config)

    def hung(self, now_ns: int) -> str:
        """Say what the component's long work hangs in."""
        return self.host.hung(now_ns) if self.is_active else ""

    def report(self) -> Report:
        """Return the health of the component and of its host."""
        self.host.bad_messages += self.bad_messages  # Of external topics, which the node itself counts.
        self.bad_messages = 0
        return self.host.report()

    def subscribe_input(self, topic_name: str) -> None:
        """Subscribe to an input of the component; a node that must wait with one overrides this."""
        topic = TOPICS[topic_name]

        def deliver(data: bytes) -> None:
            if self.hears() and self.receives(topic_name):
                self.host.receive(topic_name, data)

        message_class, guarded = message_type(topic.type_name), self.peers.guarded(topic, deliver)

        @functools.cache  # Once, however many publishers do not fit.
        def subscribe() -> None:
            self._subscribe(message_class, topic.name, qos_of(topic), guarded, raw=True)

        if not (topic.held and self.component.hears_past):
            subscribe()
            return
        # A publisher of another program holds nothing, and would not be heard at all by one who asks for it.
        events = SubscriptionEventCallbacks(incompatible_qos=lambda _: subscribe())
        self._subscribe(
            message_class, topic.name, with_past(topic), guarded, raw=True, event_callbacks=events
        )

    def hears(self) -> bool:
        """Tell whether messages reach the component now."""
        return self.is_active and self.is_time_known

    def receives(self, topic_name: str) -> bool:
        """Return whether an input counts now; a node that leaves one to another node overrides this."""
        return True

    def _publish(self, topic: str, data: bytes) -> None:
        self.publishers_by_topic[topic].publish(data)

    def _log(self, level: Level, text: str, is_repeated: bool = False) -> None:
        _WRITERS[level, is_repeated](self.get_logger(), text)

    def _server(self, name: str) -> Callable[[Any, Any], Any]:
        def answer(_request: Any, response: Any) -> Any:
            if not self.is_active:
                response.success, response.message = False, f"{self.get_name()} is not active"
                return response
            reply = self.host.serve(name)
            response.success, response.message = reply.success, reply.message
            return response

        return answer


class _NodeClock:
    """Machine time of a node, and its place in ROS time."""

    def __init__(self, node: ComponentNode) -> None:
        self._node = node

    def now_ns(self) -> int:
        return self._node.now_ns()

    def ros_ns(self, monotonic_ns: int) -> int:
        self._node.update_anchor()
        return self._node.anchor.ros_ns(monotonic_ns)

    def monotonic_ns(self, ros_ns: int) -> int:
        self._node.update_anchor()
        return self._node.anchor.monotonic_ns(ros_ns)
