"""Reads rosbag2 folders and files, MCAP and sqlite3, whole or damaged, one message at a time."""

from __future__ import annotations

import dataclasses
import re
import struct
from collections.abc import Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import apsw
from rosbags.rosbag2 import Reader, ReaderError
from rosbags.rosbag2.storage_mcap import zstd  # type: ignore[attr-defined]  # its module varies with Python
from rosbags.serde import SerdeError
from rosbags.typesys.base import TypesysError
from rosbags.typesys.store import Typestore
from timar_common.messages import standard_types

from timar_bag.message_types import types_of_bag
from timar_bag.salvage import RawMessage, SalvagedFile
from timar_bag.truth import KNOWN_TOPICS

# What rosbags may raise on a damaged file, beyond its own ReaderError.
DAMAGE = (
    ReaderError, zstd.ZstdError, apsw.Error, struct.error, ValueError, KeyError, IndexError, TypeError,
    EOFError, OSError, RuntimeError, AssertionError, MemoryError,
)  # fmt: skip
UNREADABLE = (SerdeError, TypesysError, KeyError, ValueError, IndexError)


class BagMessage(NamedTuple):
    """One message of a bag."""

    topic: str
    """Name as in the table of topics, without the robot's namespace; a foreign one keeps its full name."""
    receive_ns: int
    """ROS time at which the recorder got it [ns]."""
    message: Any
    """Fields as attributes; arrays are numpy arrays."""


@dataclasses.dataclass(frozen=True)
class BagTopic:
    """One topic of a bag."""

    name: str
    """Relative to the robot's namespace, as in the table of topics; a foreign one keeps its full name."""
    full_name: str
    type_name: str
    definition: str
    """Text of the message's definition, with its dependencies; empty when the bag carries none."""
    messages: int = 0
    """How many the bag says it holds; of a damaged file, how many could be found."""


class BagReader:
    """Read a bag in the order of its messages, streaming; what cannot be read is said in `losses`.

    A folder without ``metadata.yaml`` (the recorder was killed), a bare ``.mcap`` or ``.db3`` file, a file
    that breaks off and a chunk that is damaged are all read as far as they go.

    Args:
        path: A rosbag2 folder, or one of its files.
        namespace: The robot's, for example ``/robot``; found by itself unless the bag holds several robots.
    """

    def __init__(self, path: Path, namespace: str | None = None) -> None:
        self.path = path
        self.namespace = namespace or ""
        self.losses: list[str] = []
        """One sentence for each thing that could not be read; complete when the reading is."""
        self.topics: dict[str, BagTopic] = {}
        self._wanted_namespace = namespace
        self._sources: list[_Source] = []
        self._types: Typestore | None = None

    def __enter__(self) -> BagReader:
        """Open the bag.

        Raises:
            FileNotFoundError: There is no bag at this path.
            ValueError: Nothing in it can be read, or it holds several robots and none was named.
        """
        self._sources = [_Source(path, self.losses) for path in self._parts()]
        found: dict[str, BagTopic] = {}
        for source in self._sources:
            source.open()
            for topic in source.topics():
                before = found.get(topic.full_name)
                found[topic.full_name] = before or topic
                if before is not None:
                    found[topic.full_name] = dataclasses.replace(
                        before, messages=before.messages + topic.messages
                    )
        if not found:
            why = "; ".join(self.losses) or "it holds no topic"
            self.close()
            raise ValueError(f"{self.path} cannot be read: {why}")
        self.namespace = self._find_namespace(found.values())
        for topic in found.values():
            name = self._relative(topic)
            expected = KNOWN_TOPICS[name].type_name if name in KNOWN_TOPICS else topic.type_name
            if topic.type_name != expected:
                self.losses.append(
                    f"{name} is of type {topic.type_name}, expected {expected}; it is not read"
                )
                name = topic.full_name
            self.topics[name] = dataclasses.replace(topic, name=name)
        self._types, problems = types_of_bag({topic.type_name: topic.definition for topic in found.values()})
        self.losses.extend(problems)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the bag."""
        self.close()

    def close(self) -> None:
        """Close every file; safe to call more than once."""
        for source in self._sources:
            source.close()

    def messages(self, topics: Collection[str] | None = None) -> Iterator[BagMessage]:
        """Yield the messages of some topics (all unless named), in the bag's order.

        Messages of unknown type and such that cannot be decoded are left out, counted, and said in `losses`.
        """
        for entry, _ in self.messages_with_bytes(topics):
            yield entry

    def messages_with_bytes(
        self, topics: Collection[str] | None = None, decoded: Collection[str] | None = None
    ) -> Iterator[tuple[BagMessage, bytes]]:
        """Yield messages as `messages` does, each with the bytes it was read from.

        Args:
            topics: Which; None: all.
            decoded: Those that are decoded, the others have None for a message; None: all.
        """
        if self._types is None:
            raise RuntimeError(f"the bag {self.path} is not open; use it in a `with` statement")
        unread: dict[tuple[str, str], int] = {}
        for topic, receive_ns, data in self.raw_messages(topics):
            if decoded is not None and topic not in decoded:
                yield BagMessage(topic, receive_ns, None), data
                continue
            type_name = self.topics[topic].type_name
            try:
                message = self._types.deserialize_cdr(data, type_name)
            except UNREADABLE as error:
                known = type_name in self._types.fielddefs
                why = " ".join(str(error).split()) if known else f"its type {type_name} is unknown"
                unread[topic, why] = unread.get((topic, why), 0) + 1
                continue
            yield BagMessage(topic, receive_ns, message), data
        for (topic, why), count in unread.items():
            self.losses.append(f"{count} messages of {topic} could not be decoded ({why})")

    def has_messages(self, topic: str) -> bool:
        """Tell whether the bag holds messages of a topic."""
        return topic in self.topics and self.topics[topic].messages > 0

    def span_ns(self) -> tuple[int, int]:
        """Return when the bag begins and how long it is [ns, ROS time]; zeros where it cannot say."""
        spans = [span for source in self._sources if (span := source.span_ns()) is not None]
        if not spans:
            return 0, 0
        begin = min(begin for begin, _ in spans)
        return begin, max(end for _, end in spans) - begin

    def has_current_definition(self, topic: str) -> bool:
        """Tell whether a topic was recorded by the definition its type has today."""
        if self._types is None:
            raise RuntimeError(f"the bag {self.path} is not open; use it in a `with` statement")
        type_name, today = self.topics[topic].type_name, standard_types().fielddefs
        return type_name in today and self._types.fielddefs.get(type_name) == today[type_name]

    def raw_messages(self, topics: Collection[str] | None = None) -> Iterator[tuple[str, int, bytes]]:
        """Yield (topic, ROS time of arrival [ns], serialized message) in the bag's order."""
        names = {
            topic.full_name: name for name, topic in self.topics.items() if topics is None or name in topics
        }
        for source in self._sources:
            for message in source.messages(set(names)):
                yield names[message.topic], message.receive_ns, message.data

    def _parts(self) -> list[Path]:
        """Return what to read, in order: the folder itself when it has its metadata, else its files."""
        if not self.path.exists():
            raise FileNotFoundError(
                f"there is no bag at {self.path}; give a rosbag2 folder, an .mcap or a .db3 file"
            )
        if self.path.is_file() or (self.path / "metadata.yaml").exists():
            return [self.path]
        parts = sorted((p for p in self.path.iterdir() if p.suffix in (".mcap", ".db3")), key=_natural)
        if not parts:
            raise FileNotFoundError(
                f"{self.path} holds no bag: no metadata.yaml, .mcap or .db3 file is in it"
            )
        self.losses.append(
            "metadata.yaml is missing: the recording was not closed; its files were read directly"
        )
        return parts

    def _find_namespace(self, topics: Collection[BagTopic]) -> str:
        """Return the one namespace under which this project's topics stand."""
        if self._wanted_namespace is not None:
            return "/" + self._wanted_namespace.strip("/") if self._wanted_namespace.strip("/") else ""
        found = {
            topic.full_name[: -len(known.name) - 1]
            for topic in topics
            for known in KNOWN_TOPICS.values()
            if topic.type_name == known.type_name
            and topic.type_name.startswith("timar_msgs/")
            and topic.full_name.endswith("/" + known.name)
        }
        if len(found) > 1:
            raise ValueError(
                f"{self.path} holds several robots: {', '.join(sorted(name or '/' for name in found))}; "
                "name one of these namespaces"
            )
        return found.pop() if found else ""

    def _relative(self, topic: BagTopic) -> str:
        relative = topic.full_name.removeprefix(self.namespace + "/")
        return relative if relative in KNOWN_TOPICS else topic.full_name


class _Source:
    """One folder or file, read through rosbags, and by salvage from where that fails."""

    def __init__(self, path: Path, losses: list[str]) -> None:
        self._path = path
        self._losses = losses
        self._reader: Reader | None = None
        self._salvaged: list[SalvagedFile] = []

    def open(self) -> None:
        try:
            reader = Reader(self._path)
            reader.open()
            self._reader = reader
        except DAMAGE as error:
            self._open_salvage(error)

    def topics(self) -> list[BagTopic]:
        if self._reader is not None:
            return [
                BagTopic(c.topic, c.topic, c.msgtype, c.msgdef.data, c.msgcount)
                for c in self._reader.connections
            ]
        return [
            BagTopic(c.topic, c.topic, c.type_name, c.definition, c.messages)
            for f in self._salvaged
            for c in f.channels()
        ]

    def span_ns(self) -> tuple[int, int] | None:
        if self._reader is None or not self._reader.message_count:
            return None
        return int(self._reader.start_time), int(self._reader.end_time)

    def messages(self, full_names: set[str]) -> Iterator[RawMessage]:
        if self._reader is None:
            for file in self._salvaged:
                yield from file.messages(full_names)
            return
        wanted = [c for c in self._reader.connections if c.topic in full_names]
        if not wanted:
            return
        last_ns, count_at_last = -1, 0
        try:
            for connection, receive_ns, data in self._reader.messages(wanted):
                count_at_last = count_at_last + 1 if receive_ns == last_ns else 1
                last_ns = receive_ns
                yield RawMessage(connection.topic, receive_ns, data)
        except DAMAGE as error:
            self._open_salvage(error)
            yield from self._rest(full_names, last_ns, count_at_last)

    def close(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None and reader.is_open:
            reader.close()

    def _rest(self, full_names: set[str], last_ns: int, count_at_last: int) -> Iterator[RawMessage]:
        """Yield what salvage finds beyond the messages already yielded."""
        for file in self._salvaged:
            for message in file.messages(full_names):
                if message.receive_ns < last_ns:
                    continue
                if message.receive_ns == last_ns and count_at_last:
                    count_at_last -= 1
                    continue
                yield message

    def _open_salvage(self, error: BaseException) -> None:
        """Read the MCAP files record by record; what is in no MCAP file is lost."""
        self.close()
        paths = sorted(self._path.glob("*.mcap"), key=_natural) if self._path.is_dir() else [self._path]
        self._salvaged = [SalvagedFile(path, self._losses) for path in paths if path.suffix == ".mcap"]
        reason = " ".join(str(error).split()) or type(error).__name__
        if not self._salvaged:
            self._losses.append(f"{self._path.name} is damaged and cannot be read ({reason})")


def _natural(path: Path) -> list[str | int]:
    """Order bag_2 before bag_10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]
