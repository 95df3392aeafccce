"""Follow the running graph's topics for the progress line of the demo."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, ClassVar

import rclpy
from sensor_msgs.msg import JointState
from timar_common.base_node import message_type, qos_of
from timar_common.topics import TOPICS
from timar_msgs.msg import FloorState, TurnLog

from timar_bringup.progress import Progress

try:  # It takes a third of the processor's time that the other one takes; Humble has none.
    from rclpy.experimental.events_executor import EventsExecutor as Executor
except ImportError:
    from rclpy.executors import SingleThreadedExecutor as Executor


class Watcher:
    """Keep a `Progress` up to date while `watch` is called; a context manager."""

    FOLLOWS_JOINTS: ClassVar[bool] = True

    def __init__(self, progress: Progress, namespace: str) -> None:
        self._progress = progress
        self._namespace = namespace

    def __enter__(self) -> Watcher:
        self._context = rclpy.Context()
        rclpy.init(
            args=["demo"], context=self._context, signal_handler_options=rclpy.signals.SignalHandlerOptions.NO
        )
        self._node = rclpy.create_node(
            "demo", namespace=self._namespace, context=self._context, use_global_arguments=False
        )
        self._executor = Executor(context=self._context)
        self._executor.add_node(self._node)
        self.subscribe("turn_log", self._on_turn)
        self.subscribe("floor", self._on_floor)
        if self.FOLLOWS_JOINTS:
            self.subscribe("joint_states", self._on_joints)
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)

    def watch(self, seconds: float) -> None:
        """Take messages in for a while."""
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left_s)

    def subscribe(self, topic_name: str, callback: Callable[[Any], None]) -> None:
        """Take messages of another topic of the graph in while `watch` is called."""
        topic = TOPICS[topic_name]
        self._node.create_subscription(message_type(topic.type_name), topic_name, callback, qos_of(topic))

    def count_subscribers(self, topic: str) -> int:
        """Return how many subscriptions a topic of the graph has."""
        return int(self._node.count_subscribers(f"{self._namespace}/{topic}"))

    def _on_turn(self, message: Any) -> None:
        if message.decision in (TurnLog.GENERATE, TurnLog.COMMIT_SKIPPED):
            self._progress.take_turn(
                time.monotonic_ns(),
                message.user_end_sample,
                message.compute_ms,
                is_late=message.is_late,
                is_sampled=message.decision == TurnLog.GENERATE,
            )

    def _on_floor(self, message: FloorState) -> None:
        self._progress.take_floor(message.state)

    def _on_joints(self, message: JointState) -> None:
        self._progress.take_joints(time.monotonic_ns(), message.name, message.position)
