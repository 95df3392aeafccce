"""Reads ROS 1 bags (.bag) as rosbag2 would hold them: definitions without `seq`, messages as CDR."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from rosbags.rosbag1 import Reader, ReaderError
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from timar_bag.recovery import RawMessage, RecoveredChannel, reason_of

SUFFIX = ".bag"
_HEADER = "std_msgs/msg/Header"
_SEQ = re.compile(r"(MSG: std_msgs/Header\n(?:(?!====)[^\n]*\n)*?)\s*uint32 seq[^\n]*\n")


class Ros1File:
    """A ROS 1 bag.

    Args:
        path: The file.
        issues: Sentences about what was lost are added here.
    """

    def __init__(self, path: Path, issues: list[str]) -> None:
        self._path, self._issues = path, issues
        self._reader: Reader | None = None

    def open(self) -> list[RecoveredChannel]:
        """Open it and return its topics; none when it cannot be read."""
        reader = Reader(self._path)
        try:
            reader.open()
        except (ReaderError, OSError, ValueError, KeyError, AssertionError) as error:
            self._issues.append(
                f"{self._path.name} cannot be read ({reason_of(error)}); if its recorder was killed, `rosbag "
                "reindex` of ROS 1 mends it"
            )
            return []
        self._reader = reader
        return [RecoveredChannel(c.topic, c.msgtype, _as_ros2(c), c.msgcount) for c in reader.connections]

    def span_ns(self) -> tuple[int, int] | None:
        """Return when it begins and ends [ns]."""
        if self._reader is None or not self._reader.message_count:
            return None
        return int(self._reader.start_time), int(self._reader.end_time)

    def messages(self, topics: set[str]) -> Iterator[RawMessage]:
        """Yield the messages of some topics, by their times of arrival."""
        reader = self._reader
        wanted = [c for c in reader.connections if c.topic in topics] if reader is not None else []
        if reader is None or not wanted:
            return
        types = get_typestore(Stores.EMPTY)
        for connection in wanted:
            types.register(get_types_from_msg(_as_ros2(connection), connection.msgtype))
        try:
            for connection, receive_ns, data in reader.messages(wanted):
                cdr = bytes(types.ros1_to_cdr(data, connection.msgtype))
                yield RawMessage(connection.topic, receive_ns, cdr)
        except Exception as error:  # rosbags raises what its generated code meets in damaged bytes.
            self._issues.append(f"{self._path.name} is damaged from here on ({reason_of(error)})")

    def close(self) -> None:
        """Close it; safe to call more than once."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()


def _as_ros2(connection: object) -> str:
    """Return the text of a connection's definition as ROS 2 has it: a Header counts no messages."""
    text: str = connection.msgdef.data  # type: ignore[attr-defined]
    if connection.msgtype == _HEADER:  # type: ignore[attr-defined]
        return re.sub(r"(?m)^\s*uint32 seq.*\n", "", text)
    return _SEQ.sub(r"\1", text)
