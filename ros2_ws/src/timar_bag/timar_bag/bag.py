"""Reads rosbag2 folders and files, MCAP and sqlite3, and ROS 1 bags, whole or damaged, message by message."""

from __future__ import annotations

import dataclasses
import functools
import re
import struct
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import apsw
from rosbags.rosbag2 import Reader, ReaderError
from rosbags.rosbag2.storage_mcap import zstd  # type: ignore[attr-defined]  # its module varies with Python
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.base import TypesysError
from rosbags.typesys.store import Typestore
from timar_common.messages import standard_types

from timar_bag.bag_writer import PART
from timar_bag.clock_steps import ClockSteps
from timar_bag.ground_truth import KNOWN_TOPICS
from timar_bag.recovery import RawMessage, RecoveredFile, reason_of, unfit_index
from timar_bag.ros1 import SUFFIX, Ros1File

# What rosbags may raise on a damaged file, beyond its own ReaderError.
DAMAGE = (
    ReaderError, zstd.ZstdError, apsw.Error, struct.error, ValueError, KeyError, IndexError, TypeError,
    EOFError, OSError, RuntimeError, AssertionError, MemoryError, OverflowError,
)  # fmt: skip
UNREADABLE = (SerdeError, TypesysError, KeyError, ValueError, IndexError)
BAG_SUFFIXES = (".mcap", ".db3", SUFFIX)
CLOCK_TOPICS = ("user/audio", "user/audio_raw", "agent/audio")
"""Sound with the conversation's counter; the first that a bag holds is its clock."""
UNCOMPRESSED = re.compile(r"^ *compression_mode: *(''|\"\"|none)? *$", re.MULTILINE | re.IGNORECASE)
"""Line of a ``metadata.yaml`` whose messages are not compressed one by one."""


class BagMessage(NamedTuple):
    """One message of a bag."""

    topic: str
    """Name as in the table of topics, without the robot's namespace; an external one keeps its full name."""
    receive_ns: int
    """ROS time at which the recorder got it [ns]."""
    message: Any
    """Fields as attributes; arrays are numpy arrays."""


@dataclasses.dataclass(frozen=True)
class BagTopic:
    """One topic of a bag."""

    name: str
    """Relative to the robot's namespace, as in the table of topics; an external one keeps its full name."""
    full_name: str
    type_name: str
    definition: str
    """Text of the message's definition, with its dependencies; empty when the bag carries none."""
    messages: int = 0
    """How many the bag says it holds; of a damaged file, how many could be found."""


class BagReader:
    """Read a bag in the order of its messages, streaming; `issues` says what cannot be read.

    A folder without ``metadata.yaml`` (the recorder was killed), a bare ``.mcap`` or ``.db3`` file, a file
    that breaks off and a chunk that is damaged are all read as far as they go.

    Args:
        path: A rosbag2 folder, or one of its files.
        namespace: The robot's, for example ``/robot``; found by itself unless the bag holds several robots.
    """

    def __init__(self, path: Path, namespace: str | None = None) -> None:
        self.path = path
        self.namespace = namespace or ""
        self.issues: list[str] = []
        """One sentence for each thing that could not be read; complete when the reading is."""
        self.topics: dict[str, BagTopic] = {}
        self._wanted_namespace = namespace
        self._files: list[_BagPart] = []
        self._types: Typestore | None = None

    def __enter__(self) -> BagReader:
        """Open the bag.

        Raises:
            FileNotFoundError: There is no bag at this path.
            ValueError: Nothing in it can be read, or it holds several robots and none was named.
        """
        self._files = [_BagPart(path, self.issues) for path in self._parts()]
        found: dict[str, BagTopic] = {}
        for part in self._files:
            for topic in part.open():
                first = found.setdefault(topic.full_name, dataclasses.replace(topic, messages=0))
                count = first.messages + topic.messages
                found[topic.full_name] = dataclasses.replace(first, messages=count)
        if not found:
            self.close()
            raise ValueError(f"{self.path} cannot be read: {'; '.join(self.issues) or 'it holds no topic'}")
        self.namespace = self._find_namespace(found.values())
        for full_name, topic in found.items():
            name = full_name.removeprefix(self.namespace + "/")
            name = name if name in KNOWN_TOPICS else full_name
            expected = KNOWN_TOPICS[name].type_name if name in KNOWN_TOPICS else topic.type_name
            if topic.type_name != expected:
                self.issues.append(
                    f"{name} is of type {topic.type_name}, expected {expected}; it is not read"
                )
                name = full_name
            self.topics[name] = dataclasses.replace(topic, name=name)
        definitions = {topic.type_name: topic.definition for topic in found.values()}
        self._types, problems = types_of_bag(definitions)
        self.issues.extend(problems)
        return self

    def __exit__(self, *error: object) -> None:
        """Close the bag."""
        self.close()

    def close(self) -> None:
        """Close every file; safe to call more than once."""
        for part in self._files:
            part.close()

    def messages(self, topics: Collection[str] | None = None) -> Iterator[BagMessage]:
        """Yield the messages of some topics (all unless named), in the bag's order.

        Messages of unknown type and such that cannot be decoded are left out, and counted in `issues`.
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
        types, unread = self._open_types(), Counter[tuple[str, str]]()
        for topic, receive_ns, data in self.raw_messages(topics):
            message = None
            if decoded is None or topic in decoded:
                type_name = self.topics[topic].type_name
                try:
                    message = types.deserialize_cdr(data, type_name)
                except UNREADABLE as error:
                    is_known = type_name in types.fielddefs
                    unread[topic, reason_of(error) if is_known else f"its type {type_name} is unknown"] += 1
                    continue
            yield BagMessage(topic, receive_ns, message), data
        for (topic, why), count in unread.items():
            self.issues.append(f"{count} messages of {topic} could not be decoded ({why})")

    def raw_messages(self, topics: Collection[str] | None = None) -> Iterator[tuple[str, int, bytes]]:
        """Yield (topic, ROS time of arrival [ns], serialized message) in the bag's order.

        Steps of the recorder's clock are taken out, by the counter of the sound in the bag.
        """
        names = {topic.full_name: name for name, topic in self.topics.items()}
        wanted = set(names.values()) if topics is None else set(topics)
        # With whatever is read, a voice is: the same bag has the same times in each reading.
        clock = next((name for name in CLOCK_TOPICS if self.has_messages(name)), "")
        read = {full_name for full_name, name in names.items() if name in wanted or name == clock}
        steps = ClockSteps(self._sound_range)
        recorded = (
            message._replace(topic=names[message.topic])
            for part in self._files
            for message in part.messages(read)
        )
        for message in steps.steady(recorded, lambda topic: topic == clock):
            if message.topic in wanted:
                yield message
        self.issues.extend(issue for issue in steps.issues() if issue not in self.issues)

    def _sound_range(self, message: RawMessage) -> tuple[int, int] | None:
        try:
            sound: Any = self._open_types().deserialize_cdr(
                message.data, self.topics[message.topic].type_name
            )
        except UNREADABLE:
            return None
        return int(sound.first_sample), int(sound.first_sample) + len(sound.samples)

    def has_messages(self, topic: str) -> bool:
        """Return whether the bag holds messages of a topic."""
        return topic in self.topics and self.topics[topic].messages > 0

    def span_ns(self) -> tuple[int, int]:
        """Return when the bag begins and how long it is [ns, ROS time]; zeros where it cannot say."""
        spans = [span for part in self._files if (span := part.span_ns()) is not None]
        begin = min((begin for begin, _ in spans), default=0)
        return begin, max((end for _, end in spans), default=0) - begin

    def has_current_definition(self, topic: str) -> bool:
        """Return whether a topic was recorded by the definition its type has today."""
        type_name, today = self.topics[topic].type_name, standard_types().fielddefs
        return type_name in today and self._open_types().fielddefs.get(type_name) == today[type_name]

    def _open_types(self) -> Typestore:
        if self._types is None:
            raise RuntimeError(f"the bag {self.path} is not open; use it in a `with` statement")
        return self._types

    def _parts(self) -> list[Path]:
        """Return what to read, in order: the bag, then what a recorder wrote that was started again."""
        further = sorted((p for p in self.path.glob(f"{PART}*") if p.is_dir()), key=_natural)
        try:
            first = self._parts_of(self.path)
        except FileNotFoundError:
            if not further:
                raise
            first = []
        return [*first, *(part for folder in further for part in self._parts_of(folder))]

    def _parts_of(self, path: Path) -> list[Path]:
        """Return a folder itself when it has its metadata, else its files."""
        if not path.exists():
            raise FileNotFoundError(
                f"there is no bag at {path}; give a rosbag2 folder, an .mcap, a .db3 or a .bag file"
            )
        metadata = path / "metadata.yaml"
        if path.is_file():
            return [path]
        parts = sorted((p for p in path.iterdir() if p.suffix in BAG_SUFFIXES), key=_natural)
        if metadata.exists():
            # A single MCAP file says all that the metadata do, and reading their YAML takes 0.1 s.
            is_enough = [part.suffix for part in parts] == [".mcap"] and UNCOMPRESSED.search(
                metadata.read_text("utf-8", "replace")
            )
            return parts if is_enough else [path]
        if not parts:
            raise FileNotFoundError(
                f"{path} holds no bag: no metadata.yaml, .mcap, .db3 or .bag file is in it"
            )
        if any(part.suffix != SUFFIX for part in parts):
            self.issues.append(
                "metadata.yaml is missing: the recording was not closed; its files were read directly"
            )
        return parts

    def _find_namespace(self, topics: Collection[BagTopic]) -> str:
        """Return the one namespace under which this project's topics are."""
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


class _BagPart:
    """One folder or file, read through rosbags, and record by record from where that fails."""

    def __init__(self, path: Path, issues: list[str]) -> None:
        self._path = path
        self._issues = issues
        self._reader: Reader | None = None
        self._recovered: list[RecoveredFile] = []
        self._ros1 = Ros1File(path, issues) if path.suffix == SUFFIX else None

    def open(self) -> list[BagTopic]:
        """Open it and return its topics, each as often as it stands there."""
        if self._ros1 is not None:
            return [BagTopic(c.topic, *c) for c in self._ros1.open()]
        reason = unfit_index(self._path) if self._path.suffix == ".mcap" else ""
        if reason:
            self._issues.append(f"{self._path.name} {reason}; it was read in the order of the file")
            self._recovered = [RecoveredFile(self._path, self._issues, is_sorted=False)]
            return self._recovered_topics()
        try:
            reader = Reader(self._path)
            reader.open()
            self._reader = reader
        except DAMAGE as error:
            self._recover(error)
            return self._recovered_topics()
        return [BagTopic(c.topic, c.topic, c.msgtype, c.msgdef.data, c.msgcount) for c in reader.connections]

    def _recovered_topics(self) -> list[BagTopic]:
        return [BagTopic(c.topic, *c) for file in self._recovered for c in file.channels()]

    def span_ns(self) -> tuple[int, int] | None:
        if self._ros1 is not None:
            return self._ros1.span_ns()
        if self._reader is None or not self._reader.message_count:
            return None
        return int(self._reader.start_time), int(self._reader.end_time)

    def messages(self, full_names: set[str]) -> Iterator[RawMessage]:
        if self._ros1 is not None:
            yield from self._ros1.messages(full_names)
            return
        last_ns, count_at_last = -1, 0
        if self._reader is None:
            for file in self._recovered:
                yield from file.messages(full_names)
            return
        wanted = [c for c in self._reader.connections if c.topic in full_names]
        try:
            # Without a wanted connection rosbags would yield them all.
            for connection, receive_ns, data in self._reader.messages(wanted) if wanted else ():
                count_at_last = count_at_last + 1 if receive_ns == last_ns else 1
                last_ns = receive_ns
                yield RawMessage(connection.topic, receive_ns, data)
        except DAMAGE as error:
            self._recover(error)
        # What recovery finds beyond the messages already yielded.
        for file in self._recovered:
            for message in file.messages(full_names):
                if message.receive_ns == last_ns and count_at_last:
                    count_at_last -= 1
                elif message.receive_ns >= last_ns:
                    yield message

    def close(self) -> None:
        if self._ros1 is not None:
            self._ros1.close()
        reader, self._reader = self._reader, None
        if reader is not None and reader.is_open:
            reader.close()

    def _recover(self, error: BaseException) -> None:
        """Go on with the MCAP files record by record; what is in no MCAP file is lost."""
        self.close()
        paths = sorted(self._path.glob("*.mcap"), key=_natural) if self._path.is_dir() else [self._path]
        self._recovered = [RecoveredFile(path, self._issues) for path in paths if path.suffix == ".mcap"]
        if not self._recovered:
            self._issues.append(f"{self._path.name} is damaged and cannot be read ({reason_of(error)})")


def _natural(path: Path) -> list[str | int]:
    """Order bag_2 before bag_10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]


def types_of_bag(definitions: Mapping[str, str]) -> tuple[Typestore, list[str]]:
    """Return the types to read a bag with: its own definitions first, the standard ones for what it lacks.

    A bag is read by the definitions it carries, for the messages may have changed since it was recorded.

    Args:
        definitions: Text of the definition (msg or idl, with its dependencies) by type name; may be empty.

    Returns:
        The types, and one sentence for each definition that could not be understood.
    """
    store, problems = _types_of(tuple(sorted(definitions.items())))
    return store, list(problems)


@functools.lru_cache(maxsize=8)
def _types_of(definitions: tuple[tuple[str, str], ...]) -> tuple[Typestore, tuple[str, ...]]:
    """Make the types once for all bags of the same definitions, for it takes longer than opening a bag."""
    known = dict(standard_types().fielddefs)
    problems = []
    for name, text in definitions:
        try:
            if text.lstrip("=\n ").startswith("IDL:"):
                known.update(get_types_from_idl(text))
            elif text:
                known.update(get_types_from_msg(text, name))
        except TypesysError as error:
            problems.append(f"the bag's definition of {name} could not be understood ({reason_of(error)})")
    store = get_typestore(Stores.EMPTY)
    store.register(known)
    return store, tuple(problems)
