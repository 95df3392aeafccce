"""The other nodes of the graph as one node sees them: who is missing, and who publishes beside whom.

Everything goes by a node's own view of the graph, so it is said also where no message ever arrives.
"""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from timar_common.clock import NS_PER_S
from timar_common.diagnostics import Level, Report
from timar_common.middleware import settings, suspicions
from timar_common.sole_publisher import (
    PublisherEndpoint,
    SolePublisher,
    located,
    processes_of,
    started_ticks,
)
from timar_common.topics import TOPICS, Topic

MISSING_SAID_AFTER_S = 7.0
"""Who was not found for so long is said to be missing [s]."""
FIRST_SEEN_S = 3.0
"""A publisher of this node's own topic that is found within so long was there before [s]."""


class GraphPeers:
    """Watch over the publishers of a node's topics.

    Args:
        node: An rclpy node.
        environment: What its middleware was told.
    """

    def __init__(self, node: Any, environment: Mapping[str, str] = os.environ) -> None:
        self.rival = ""
        """Who published one of this node's own topics before it, and still does; empty: nobody."""
        self._node, self._environment = node, environment
        self._begin_ns: int | None = None
        self._inputs: dict[str, SolePublisher] = {}
        self._outputs: dict[str, set[bytes]] = {}
        self._found_ns: dict[str, int] = {}
        self._said: set[str | bytes] = set()
        self._earlier: set[bytes] = set()
        self._problem = ""
        self._own_gid = b""

    def guarded(self, topic: Topic, deliver: Callable[[Any], None]) -> Callable[..., None]:
        """Return a subscription's callback that lets through what the topic's one publisher says.

        rclpy hands over the gid to a callback of two arguments. Kilted's events executor calls it with one,
        the pair; Humble with the message alone.
        """
        if not topic.publisher:
            return deliver
        sole = SolePublisher(lambda: self._publishers(topic.name), self._gid_of_node, topic.is_latched)
        self._inputs[topic.name] = sole
        if topic.is_shared:
            return deliver

        def take(*taken: Any) -> None:
            message, info = (
                taken if len(taken) == 2 else taken[0] if type(taken[0]) is tuple else (*taken, None)
            )
            source = info.get("publisher_gid") if isinstance(info, dict) else None
            gid = bytes(source["data"][:16]) if source else b""
            if sole.admits(gid, time.monotonic_ns()):
                deliver(message)
            elif gid not in self._said:
                self._said.add(gid)
                self._node.get_logger().error(self._conflict(topic.name, sole, gid))

        take.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in ("message", "info")]
        )
        return take

    def publishes(self, topic_name: str) -> None:
        """Watch a topic that the node itself publishes."""
        if TOPICS[topic_name].publisher == self._node.get_name():
            self._outputs[topic_name] = set()

    def check(self, now_ns: int) -> None:
        """Look at the graph, and log what is new; call it once a second."""
        self._age_ns(now_ns)
        seconds = self._check_inputs(now_ns)  # First, for who is missing follows from what it saw.
        self._problem = "; ".join([*self._check_missing(now_ns), *seconds, *self._check_outputs(now_ns)])

    def check_early(self, now_ns: int) -> None:
        """Look at every call while the node is new: who was there before is to be known before it acts."""
        if self._age_ns(now_ns) < FIRST_SEEN_S * NS_PER_S:
            self.check(now_ns)

    def add_to(self, report: Report) -> None:
        """Add to a node's health what is wrong with its graph."""
        if self._problem:
            report.worsen(Level.WARN, self._problem)

    def _age_ns(self, now_ns: int) -> int:
        """Return how long the node looks at the graph [ns]."""
        self._begin_ns = now_ns if self._begin_ns is None else self._begin_ns
        return now_ns - self._begin_ns

    def _check_missing(self, now_ns: int) -> list[str]:
        missing = []
        for name, sole in self._inputs.items():
            if sole.publishers or self._is_there(TOPICS[name].publisher):
                self._found_ns[name] = now_ns
                if name in self._said:
                    self._said.discard(name)
                    self._node.get_logger().info(f"{TOPICS[name].publisher} is there ({name})")
            elif now_ns - self._found_ns.setdefault(name, now_ns) > MISSING_SAID_AFTER_S * NS_PER_S:
                missing.append(name)
        if not missing:
            return []
        whom = {TOPICS[name].publisher for name in missing}
        sentence = f"misses {', '.join(sorted(whom))}: nobody publishes {', '.join(missing)}"
        if set(missing) - self._said:
            self._said |= set(missing)
            self._node.get_logger().warning(
                f"{self._node.get_name()} {sentence}; {_advice(self._environment)}"
            )
        return [sentence]

    def _check_inputs(self, now_ns: int) -> list[str]:
        found = []
        for name, sole in self._inputs.items():
            sole.look(now_ns)
            if not TOPICS[name].is_shared and sole.others():
                found.append(self._conflict(name, sole))
        return found

    def _check_outputs(self, now_ns: int) -> list[str]:
        found: list[str] = []
        self.rival = ""
        own_gid = self._gid_of_node()
        if not own_gid:
            return found
        for name in self._outputs:
            for endpoint in self._publishers(name):
                is_other = endpoint.gid[:12] != own_gid[:12] and processes_of(endpoint.gid, own_gid) != []
                if not is_other or (TOPICS[name].is_shared and not self._is_namesake(endpoint)):
                    continue
                if self._age_ns(now_ns) < FIRST_SEEN_S * NS_PER_S and _may_be_older(endpoint, own_gid):
                    self._earlier.add(endpoint.gid)
                who = located(endpoint, own_gid)
                found.append(f"{name} is published by {who} as well; {_WAYS_OUT}")
                if endpoint.gid in self._earlier:
                    self.rival = who
                    found[-1] += "; it was there first"
                if endpoint.gid not in self._said:
                    self._said.add(endpoint.gid)
                    self._node.get_logger().error(found[-1])
        return found

    def _is_there(self, node_name: str) -> bool:
        """Tell whether a node is seen, though it may not publish yet: it reads its model, or is paused."""
        space = self._node.get_namespace()
        return (node_name, space) in self._node.get_node_names_and_namespaces()

    def _is_namesake(self, endpoint: PublisherEndpoint) -> bool:
        return endpoint.node == self._node.get_fully_qualified_name()

    def _conflict(self, topic_name: str, sole: SolePublisher, gid: bytes = b"") -> str:
        own_gid = self._gid_of_node()
        others = [end for end in sole.others() if not gid or end.gid == gid]
        refused = ", ".join(located(end, own_gid) for end in others) or "a publisher that is not found"
        first = sole.publishers.get(sole.in_charge)
        first_said = (
            f"{located(first, own_gid)} stays in charge" if first else "whoever came first stays in charge"
        )
        return (
            f"{topic_name} has a second publisher, {refused}, which is not obeyed: {first_said}; {_WAYS_OUT}"
        )

    def _publishers(self, topic_name: str) -> list[PublisherEndpoint]:
        name = self._node.resolve_topic_name(topic_name)
        return [
            PublisherEndpoint(
                bytes(info.endpoint_gid[:16]), f"{info.node_namespace.rstrip('/')}/{info.node_name}"
            )
            for info in self._node.get_publishers_info_by_topic(name)
        ]

    def _gid_of_node(self) -> bytes:
        """Return the gid of one of this process's own publishers; empty until the graph shows it."""
        if not self._own_gid:
            low = os.getpid() & 0xFFFF
            for endpoint in self._publishers("/diagnostics"):
                if self._is_namesake(endpoint) and int.from_bytes(endpoint.gid[4:6], "little") == low:
                    self._own_gid = endpoint.gid
        return self._own_gid


def _may_be_older(endpoint: PublisherEndpoint, own_gid: bytes) -> bool:
    """Tell whether a publisher began before this process; of another machine that is not known.

    Two that start at once would else each take the other for the first, and both stand still.
    """
    pids = processes_of(endpoint.gid, own_gid)
    return pids is None or any(started_ticks(pid) < started_ticks(os.getpid()) for pid in pids)


_WAYS_OUT = "end one of them, or give each robot a namespace of its own (namespace:=NAME)"


def _advice(environment: Mapping[str, str]) -> str:
    found = list(suspicions(environment))
    tries = "; ".join(f"{suspicion.text}: {suspicion.remedy}" for suspicion in found)
    return (
        f"here: {settings(environment)}; try: "
        + (f"{tries}; " if tries else "")
        + "see in its log whether it runs, give every process the same ROS_DOMAIN_ID, RMW_IMPLEMENTATION and "
        "namespace, between machines open UDP 7400 to 7700 in the firewall; timar doctor looks at more"
    )
