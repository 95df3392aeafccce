"""The bag a replay writes: the recorded inputs as they were, and what the cores made of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from timar_bag.bag_writer import BagWriter
from timar_bag.message_types import standard_types
from timar_bag.messages import MessageMaker
from timar_bag.truth import KNOWN_TOPICS


class OutBag:
    """Write messages of the known topics; use it in a ``with`` block.

    Args:
        path: The bag's folder; it must not exist yet.
        namespace: Put before every relative topic.
    """

    def __init__(self, path: Path, namespace: str = "") -> None:
        self.path = path
        types = standard_types()
        self.make = MessageMaker(types)
        self.counts: Counter[str] = Counter()
        self._writer = BagWriter(path, types)
        self._names = {name: name if name.startswith("/") else f"{namespace}/{name}" for name in KNOWN_TOPICS}
        self._last_ns = 0

    def open(self, topics: Iterable[str] | None = None) -> OutBag:
        """Make the bag with some topics, all unless named.

        Raises:
            ValueError: The folder exists already.
            OSError: It cannot be made.
        """
        names = KNOWN_TOPICS if topics is None else topics
        self._writer.open((self._names[name], KNOWN_TOPICS[name]) for name in names)
        return self

    def write(self, topic: str, receive_ns: int, message: Any) -> bytes:
        """Add a message at a ROS time of arrival [ns] and return its bytes."""
        data = self.make.serialize(message, KNOWN_TOPICS[topic].type_name)
        self.write_bytes(topic, receive_ns, data)
        return data

    def write_bytes(self, topic: str, receive_ns: int, data: bytes) -> None:
        """Add a serialized message at a ROS time of arrival [ns]; never before the one written last."""
        self._last_ns = max(self._last_ns, receive_ns)
        self._writer.write(self._names[topic], self._last_ns, data)
        self.counts[topic] += 1

    def close(self) -> None:
        """Write index and metadata."""
        self._writer.close()
