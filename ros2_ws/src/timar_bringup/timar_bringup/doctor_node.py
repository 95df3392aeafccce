"""Asks a running graph for its health: diagnostics of every node, and who publishes what."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from timar_common.base_node import qos_of
from timar_common.topics import TOPICS

from timar_bringup.files import middleware_environment

_LISTEN_S = 4.0
"""Diagnostics come once a second; discovery may take some [s]."""


def ask_graph(topics: Iterable[str]) -> tuple[dict[str, tuple[int, str]], dict[str, list[str]]]:
    """Return level and message of each node by full name, and the publishers of each topic of each robot."""
    os.environ.update(middleware_environment(os.environ))
    health: dict[str, tuple[int, str]] = {}

    def take(message: Any) -> None:
        for status in message.status:
            health[status.name] = (status.level[0], status.message)

    rclpy.init(args=[])
    try:
        node = rclpy.create_node("doctor", use_global_arguments=False)
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        topic = TOPICS["/diagnostics"]
        node.create_subscription(DiagnosticArray, topic.name, take, qos_of(topic))
        end_s = time.monotonic() + _LISTEN_S
        while (left_s := end_s - time.monotonic()) > 0:
            executor.spin_once(timeout_sec=left_s)
        publishers = {
            f"{space}/{name}": _publishers(node, f"{space}/{name}")
            for space in sorted({name.rpartition("/")[0] for name in health})
            for name in topics
        }
        executor.shutdown()
        node.destroy_node()
    finally:
        rclpy.try_shutdown()
    return health, publishers


def _publishers(node: Any, topic: str) -> list[str]:
    infos = node.get_publishers_info_by_topic(topic)
    return [f"{info.node_namespace.rstrip('/')}/{info.node_name}" for info in infos]
