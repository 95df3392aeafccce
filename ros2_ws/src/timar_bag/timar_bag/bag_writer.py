"""Writes rosbag2 folders (MCAP) of which a kill at any moment leaves all but the last moments readable."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer, WriterError
from rosbags.rosbag2.storage_mcap import McapWriter
from rosbags.typesys.store import Typestore
from timar_common.messages import standard_types
from timar_common.topics import Topic

METADATA_VERSION: Final = 9
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# As ROS writes an infinite duration: the largest one of 64 bits of nanoseconds.
FOREVER = QosTime(9_223_372_036, 854_775_807)


class BagWriter:
    """One rosbag2 folder being written: serialized messages in, chunks on the disk at every `flush`.

    Constructing touches no disk; `open` does. Not for several threads at once.

    Args:
        path: The bag's folder; it must not exist yet.
        types: Definitions of the messages; the standard ones and this project's unless given.
    """

    def __init__(self, path: Path, types: Typestore | None = None) -> None:
        self.path = path
        self.written = 0
        self._types = types
        self._writer: Writer | None = None
        self._connections: dict[str, Connection] = {}

    def open(self, topics: Iterable[tuple[str, Topic]]) -> None:
        """Make the folder and declare every topic, so that one without a message is listed too.

        Args:
            topics: The full name each topic has on the graph, and its entry in the table of topics.

        Raises:
            ValueError: The folder exists already.
            OSError: It cannot be made.
        """
        types = self._types or standard_types()
        try:
            writer = Writer(self.path, version=METADATA_VERSION, storage_plugin=StoragePlugin.MCAP)
            writer.open()
        except WriterError as error:
            raise ValueError(
                f"the bag {self.path} exists already; give another folder, or remove it"
            ) from error
        for name, topic in topics:
            self._connections[name] = writer.add_connection(
                name, topic.type_name, typestore=types, offered_qos_profiles=[offered_qos(topic)]
            )
        self._writer = writer

    def write(self, topic_name: str, receive_ns: int, data: bytes) -> None:
        """Add one serialized message (CDR) with the ROS time of its arrival [ns].

        Raises:
            OSError: The disk refused it.
        """
        self._open_writer().write(self._connections[topic_name], receive_ns, data)
        self.written += 1

    def flush(self) -> None:
        """Bring everything written so far onto the disk, as a chunk of its own.

        Raises:
            OSError: The disk refused it.
        """
        storage = self._storage()
        if storage.chunk.msgs:
            storage.close_chunk()
        storage.bio.flush()
        os.fsync(storage.bio.fileno())

    def close(self) -> None:
        """Write the index and ``metadata.yaml``.

        Raises:
            OSError: The disk refused it; what `flush` brought there stays readable.
        """
        writer, self._writer = self._open_writer(), None
        writer.close()

    def abandon(self) -> None:
        """Let go of the file as it is, without index and metadata, after the disk refused something."""
        writer, self._writer = self._writer, None
        if writer is not None and isinstance(writer.storage, McapWriter):
            # Closing the buffered file would write its buffer and fail again: close what is beneath.
            writer.storage.bio.raw.close()

    def _storage(self) -> McapWriter:
        storage = self._open_writer().storage
        if not isinstance(storage, McapWriter):
            raise TypeError(f"a bag is written as MCAP, got {type(storage).__name__}")
        return storage

    def _open_writer(self) -> Writer:
        if self._writer is None:
            raise RuntimeError(f"the bag {self.path} is not open; call open() first")
        return self._writer


def offered_qos(topic: Topic) -> Qos:
    """Return a topic's quality of service in the words of rosbag2."""
    return Qos(
        history=QosHistory.KEEP_ALL if topic.depth == 0 else QosHistory.KEEP_LAST,
        depth=topic.depth,
        reliability=QosReliability.RELIABLE,
        durability=QosDurability.TRANSIENT_LOCAL if topic.is_latched else QosDurability.VOLATILE,
        deadline=FOREVER,
        lifespan=FOREVER,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=FOREVER,
        avoid_ros_namespace_conventions=False,
    )
