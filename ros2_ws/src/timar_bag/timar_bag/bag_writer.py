"""Writes rosbag2 folders (MCAP) of which a kill at any moment leaves all but the last moments readable."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
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
from timar_audio.floor import Speaker
from timar_common.clock import SAMPLE_RATE_HZ
from timar_common.messages import Header, Message, converted, encode, new, standard_types
from timar_common.topics import Topic

from timar_bag.ground_truth import KNOWN_TOPICS

METADATA_VERSION: Final = 9
PART: Final = "part_"
"""A bag's folder holds one folder so called for each time that its recorder was started again."""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# As ROS writes an infinite duration: the largest one of 64 bits of nanoseconds.
FOREVER = QosTime(9_223_372_036, 854_775_807)


FRAME_IDS = {Speaker.USER: "microphone", Speaker.AGENT: "loudspeaker"}


class BagWriter:
    """One rosbag2 folder being written: serialized messages in, chunks on the disk at every `flush`.

    Constructing touches no disk; `open` does. Not for several threads at once.

    Args:
        path: The bag's folder; it must not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.written = 0
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
        try:
            writer = Writer(self.path, version=METADATA_VERSION, storage_plugin=StoragePlugin.MCAP)
            writer.open()
        except WriterError as error:
            raise ValueError(
                f"the bag {self.path} exists already; give another folder, or remove it"
            ) from error
        for name, topic in topics:
            self._connections[name] = writer.add_connection(
                name, topic.type_name, typestore=standard_types(), offered_qos_profiles=[offered_qos(topic)]
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


class TopicBagWriter:
    """Write messages of the known topics into a new bag, by their names in the table of topics.

    Args:
        path: The bag's folder; it must not exist yet.
        namespace: Put before every relative topic.
    """

    def __init__(self, path: Path, namespace: str = "") -> None:
        self.path = path
        self.counts: Counter[str] = Counter()
        self._writer = BagWriter(path)
        self._names = {name: name if name.startswith("/") else f"{namespace}/{name}" for name in KNOWN_TOPICS}
        self._last_ns = 0

    def open(self, topics: Iterable[str] | None = None) -> TopicBagWriter:
        """Make the bag with some topics, all unless named.

        Raises:
            ValueError: The folder exists already.
            OSError: It cannot be made.
        """
        names = KNOWN_TOPICS if topics is None else topics
        self._writer.open((self._names[name], KNOWN_TOPICS[name]) for name in names)
        return self

    def write(self, topic: str, receive_ns: int, message: Any) -> bytes:
        """Add a message at a ROS time of arrival [ns] and return its bytes.

        Args:
            topic: Name in the table of topics.
            receive_ns: ROS time of arrival [ns].
            message: Of today's or another definition of the topic's type; a `Header` holds ROS time.
        """
        type_name = KNOWN_TOPICS[topic].type_name
        if not isinstance(message, standard_types().types[type_name]):
            message = converted(message, type_name)
        data = encode(message, ros_ns=lambda stamp_ns: stamp_ns)
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


def audio_chunk(
    first_sample: int, samples: npt.NDArray[np.int16], header: Header, filled_samples: int = 0
) -> Message:
    """Return a timar_msgs/AudioChunk.

    Args:
        first_sample: Index of samples[0] on the conversation clock.
        samples: (n,) mono at 16 kHz.
        header: Instant of samples[0], and whose sound it is (`FRAME_IDS`).
        filled_samples: How many of them are silence that stands for lost sound.
    """
    fields = {"first_sample": first_sample, "filled_samples": filled_samples, "samples": samples}
    return new("AudioChunk", header=header, sample_rate=SAMPLE_RATE_HZ, **fields)


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
