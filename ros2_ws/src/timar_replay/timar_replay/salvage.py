"""Reads an MCAP file that breaks off or is damaged, record by record, and says what was lost."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from mcap.exceptions import McapError
from mcap.records import Channel, Chunk, McapRecord, Message, Schema
from mcap.stream_reader import CRCValidationError, StreamReader, breakup_chunk
from zstandard import ZstdError

RECORD_LIMIT_BYTES = 2**30
"""A record said to be longer than this is taken for damage."""
BROKEN_RECORD = (
    McapError, CRCValidationError, ZstdError, struct.error, ValueError, EOFError, RuntimeError,
    OverflowError, MemoryError,
)  # fmt: skip


class RawMessage(NamedTuple):
    """One serialized message of a bag."""

    topic: str
    receive_ns: int
    data: bytes


@dataclasses.dataclass(frozen=True)
class SalvagedChannel:
    """A topic found in a damaged file."""

    topic: str
    type_name: str
    definition: str


class SalvagedFile:
    """An MCAP file without trust in its index.

    Args:
        path: The file.
        losses: Sentences about what was lost are added here, when the reading meets it.
    """

    def __init__(self, path: Path, losses: list[str]) -> None:
        self._path = path
        self._losses = losses
        self._schemas: dict[int, Schema] = {}
        self._channels: dict[int, Channel] = {}

    def channels(self) -> list[SalvagedChannel]:
        """Read the whole file for its topics."""
        for record in self._records([]):
            self._learn(record)
        return [
            SalvagedChannel(channel.topic, schema.name, schema.data.decode("utf-8", "replace"))
            for channel in self._channels.values()
            if (schema := self._schemas.get(channel.schema_id))
        ]

    def messages(self, topics: set[str]) -> Iterator[RawMessage]:
        """Yield the messages of some topics, chunk by chunk, in order of arrival within a chunk."""
        for record in self._records(self._losses):
            self._learn(record)
            if isinstance(record, Message):
                channel = self._channels.get(record.channel_id)
                if channel is not None and channel.topic in topics:
                    yield RawMessage(channel.topic, record.log_time, record.data)

    def _learn(self, record: McapRecord) -> None:
        if isinstance(record, Schema):
            self._schemas[record.id] = record
        elif isinstance(record, Channel):
            self._channels[record.id] = record

    def _records(self, losses: list[str]) -> Iterator[McapRecord]:
        """Yield records one by one, those of a chunk in order of arrival; leave out what is damaged."""
        size = self._path.stat().st_size
        with self._path.open("rb") as file:
            reader = StreamReader(file, emit_chunks=True, record_size_limit=RECORD_LIMIT_BYTES)
            records = reader.records
            while True:
                begin = file.tell()
                try:
                    record = next(records, None)
                except BROKEN_RECORD as error:
                    losses.append(self._broken_off(file, begin, size, error))
                    return
                if record is None:
                    return
                if not isinstance(record, Chunk):
                    yield record
                    continue
                try:
                    inside = breakup_chunk(record, validate_crc=True)
                except BROKEN_RECORD as error:
                    losses.append(self._lost_chunk(record, error))
                    continue
                yield from sorted(inside, key=_arrival)

    def _broken_off(self, file: BinaryIO, begin: int, size: int, error: BaseException) -> str:
        reason = " ".join(str(error).split()) or type(error).__name__
        if begin >= size:
            return f"{self._path.name} has no end: the recording was cut short, its last moments are missing"
        return (
            f"{self._path.name} breaks off: the last {size - begin} of its {size} bytes are lost ({reason})"
        )

    def _lost_chunk(self, chunk: Chunk, error: BaseException) -> str:
        seconds = (chunk.message_end_time - chunk.message_start_time) / 1e9
        reason = " ".join(str(error).split()) or type(error).__name__
        return (
            f"{self._path.name}: {seconds:.2f} s from {chunk.message_start_time} ns on are damaged "
            f"and left out ({reason})"
        )


def _arrival(record: McapRecord) -> int:
    """Order by arrival; schemas and channels come before every message."""
    return record.log_time if isinstance(record, Message) else -1
