"""Fetches a URDF from a running ROS 2 graph: the topic `robot_description`, or the parameter of a node."""

from __future__ import annotations

import time
from collections.abc import Callable

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter_client import AsyncParameterClient
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import String

TOPIC = "robot_description"
SEMANTIC = "robot_description_semantic"
_ANOTHER_S = 0.5
"""So long another publisher's description is waited for [s]."""


def fetch_description(namespace: str = "", owner: str = "", timeout_s: float = 10.0) -> tuple[str, list[str]]:
    """Return the URDF that a graph publishes, and what was seen beside it.

    Args:
        namespace: Of the robot's topics and nodes.
        owner: The node whose parameter `robot_description` is read; empty: the topic is read.
        timeout_s: So long it is waited for.

    Raises:
        RuntimeError: Nobody has it, or two publish different ones.
    """
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    node = Node("description_reader", namespace=namespace, context=context)
    try:
        fetch = _from_parameter if owner else _from_topic
        text = fetch(node, owner, timeout_s)
        names = {name for name, _ in node.get_topic_names_and_types()}
        semantic = node.resolve_topic_name(SEMANTIC)
        return text, [f"{semantic} is an SRDF and is ignored"] if semantic in names else []
    finally:
        node.destroy_node()
        rclpy.try_shutdown(context=context)


def _from_topic(node: Node, _: str, timeout_s: float) -> str:
    found: dict[str, None] = {}
    # As robot_state_publisher publishes it: kept for those who come later.
    quality = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    node.create_subscription(String, TOPIC, lambda message: found.setdefault(message.data), quality)
    topic = node.resolve_topic_name(TOPIC)
    if not _spin(node, timeout_s, lambda: bool(found)):
        publishers = [info.node_name for info in node.get_publishers_info_by_topic(topic)]
        others = [name for name, _ in node.get_topic_names_and_types() if name.endswith(f"/{TOPIC}")]
        near = [name for name in others if name != topic]
        raise RuntimeError(
            f"no URDF came on {topic} within {timeout_s:g} s; "
            + (f"{', '.join(publishers)} publishes it, but not latched (transient local)" if publishers else
               f"there is {', '.join(near)}: give its --namespace" if near else
               "does robot_state_publisher run? --node NAME reads a node's parameter")
        )  # fmt: skip
    _spin(node, _ANOTHER_S, lambda: len(found) > 1)
    if len(found) > 1:
        publishers = sorted(info.node_name for info in node.get_publishers_info_by_topic(topic))
        raise RuntimeError(
            f"{len(found)} different URDFs came on {topic}, from {', '.join(publishers)}; stop all but one, "
            "or give --node NAME"
        )
    return next(iter(found))


def _from_parameter(node: Node, owner: str, timeout_s: float) -> str:
    client = AsyncParameterClient(node, owner)
    if not client.wait_for_services(timeout_s):
        raise RuntimeError(f"no node {owner} answered within {timeout_s:g} s; see `ros2 node list`")
    answer = client.get_parameters([TOPIC])
    _spin(node, timeout_s, answer.done)
    result = answer.result() if answer.done() else None
    values = result.values if result is not None else []
    if not values or not values[0].string_value:
        raise RuntimeError(f"the node {owner} has no text in its parameter {TOPIC}")
    return str(values[0].string_value)


def _spin(node: Node, seconds: float, is_done: Callable[[], bool]) -> bool:
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    end_s = time.monotonic() + seconds
    while not is_done() and time.monotonic() < end_s:
        executor.spin_once(timeout_sec=0.05)
    executor.remove_node(node)
    executor.shutdown()
    return is_done()
