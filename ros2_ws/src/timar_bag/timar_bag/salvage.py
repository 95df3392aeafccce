"""Reads an MCAP file that breaks off or is damaged, record by record, and says what was lost."""

from __future__ import annotations

import collections
import dataclasses
import struct
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.records import Channel, Chunk, McapRecord, Message, Schema
from mcap.stream_reader import CRCValidationError, StreamReader, get_chunk_data_stream
from zstandard import ZstdError

RECORD_LIMIT_BYTES = 2**30
"""A record said to be longer than this is taken for damage."""
CHUNK_HEADER = struct.Struct("<BQQQQIIQ")
"""Of an uncompressed chunk: opcode, length, times, size, checksum, length of the compression's name, size."""
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
    messages: int


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
        counts: collections.Counter[int] = collections.Counter()
        for record in self._records([]):
            self._learn(record)
            if isinstance(record, Message):
                counts[record.channel_id] += 1
        return [
            SalvagedChannel(
                channel.topic, schema.name, schema.data.decode("utf-8", "replace"), counts[channel.id]
            )
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
                    yield from sorted(_records_in(_unfinished_chunk(file, begin))[0], key=_arrival)
                    losses.append(self._broken_off(begin, size, error))
                    return
                if record is None:
                    return
                if isinstance(record, Chunk):
                    yield from self._unpack(record, losses)
                else:
                    yield record

    def _unpack(self, chunk: Chunk, losses: list[str]) -> list[McapRecord]:
        try:
            stream, length = get_chunk_data_stream(chunk, validate_crc=True)
            records, why = _records_in(stream.read(length))
        except BROKEN_RECORD as error:
            records, why = [], _said(error)
        if why:
            seconds = (chunk.message_end_time - chunk.message_start_time) / 1e9
            losses.append(
                f"{self._path.name}: a chunk of {seconds:.2f} s from {chunk.message_start_time} ns on is "
                f"damaged, {len(records)} records of it were saved ({why})"
            )
        return sorted(records, key=_arrival)

    def _broken_off(self, begin: int, size: int, error: BaseException) -> str:
        if begin >= size:
            return f"{self._path.name} has no end: the recording was cut short, its last moments are missing"
        return (
            f"{self._path.name} breaks off in a record {size - begin} bytes before its end ({_said(error)})"
        )


def _records_in(data: bytes) -> tuple[list[McapRecord], str]:
    """Return a chunk's records up to the first impossible one, and what is wrong with that, if any."""
    records: list[McapRecord] = []
    place = 0
    while place < len(data):
        header = data[place : place + 9]
        if len(header) < 9:
            return records, "it ends inside a record"
        kind, length = struct.unpack("<BQ", header)
        body = data[place + 9 : place + 9 + length]
        if len(body) < length:
            return records, "it ends inside a record"
        stream = ReadDataStream(BytesIO(body))
        try:
            if kind == Opcode.MESSAGE:
                records.append(Message.read(stream, length))
            elif kind == Opcode.SCHEMA:
                records.append(Schema.read(stream))
            elif kind == Opcode.CHANNEL:
                records.append(Channel.read(stream))
        except BROKEN_RECORD as error:
            return records, _said(error)
        place += 9 + length
    return records, ""


def _unfinished_chunk(file: BinaryIO, begin: int) -> bytes:
    """Return what is there of an uncompressed chunk that the file's end cuts off; empty when it is none."""
    file.seek(begin)
    header = file.read(CHUNK_HEADER.size)
    if len(header) < CHUNK_HEADER.size:
        return b""
    kind, _, _, _, _, _, compression_length, _ = CHUNK_HEADER.unpack(header)
    return file.read() if kind == Opcode.CHUNK and compression_length == 0 else b""


def _said(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _arrival(record: McapRecord) -> int:
    """Order by arrival; schemas and channels come before every message."""
    return record.log_time if isinstance(record, Message) else -1
