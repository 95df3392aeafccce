"""Recovers the messages of an MCAP file that breaks off or is damaged, record by record."""

from __future__ import annotations

import itertools
import struct
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.reader import make_reader
from mcap.records import Channel, Chunk, McapRecord, Message, Schema
from mcap.stream_reader import CRCValidationError, StreamReader, get_chunk_data_stream
from zstandard import ZstdError

RECORD_LIMIT_BYTES = 2**30
"""A record said to be longer than this is taken for damage."""
MAX_TIME_NS = 2**63
"""ROS time is a signed number of 64 bits [ns]."""
STEPPED_NS = 1_000_000_000
"""A chunk that begins so long before its predecessor was written after the clock was set back [ns]."""
LONGEST_CHUNK_NS = 30_000_000_000
"""A recorder's chunk of about a megabyte holds some seconds of a conversation [ns]."""
RECORD_HEADER = struct.Struct("<BQ")
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


class RecoveredChannel(NamedTuple):
    """A topic found in a damaged file."""

    topic: str
    type_name: str
    definition: str
    messages: int = 0


class RecoveredFile:
    """An MCAP file without trust in its index.

    Args:
        path: The file.
        issues: Sentences about what was lost are added here, when the reading meets it.
        is_sorted: Whether the messages of a chunk are put in order of arrival; else they stay as they stand.
    """

    def __init__(self, path: Path, issues: list[str], *, is_sorted: bool = True) -> None:
        self._path = path
        self._issues = issues
        self._in_order = _in_order if is_sorted else _as_they_stand

    def channels(self) -> list[RecoveredChannel]:
        """Read the whole file for its topics."""
        counts: Counter[RecoveredChannel] = Counter()
        for channel, message in self._messages([]):
            counts[channel] += message is not None
        return [channel._replace(messages=count) for channel, count in counts.items()]

    def messages(self, topics: set[str]) -> Iterator[RawMessage]:
        """Yield the messages of some topics, chunk by chunk."""
        for channel, message in self._messages(self._issues):
            if message is not None and channel.topic in topics:
                yield RawMessage(channel.topic, message.log_time, message.data)

    def _messages(self, issues: list[str]) -> Iterator[tuple[RecoveredChannel, Message | None]]:
        """Yield each message with its channel; a channel alone when it is declared."""
        schemas: dict[int, Schema] = {}
        channels: dict[int, RecoveredChannel] = {}
        for record in self._records(issues):
            if isinstance(record, Schema):
                schemas[record.id] = record
            elif isinstance(record, Channel) and (schema := schemas.get(record.schema_id)):
                definition = schema.data.decode("utf-8", "replace")
                channels[record.id] = RecoveredChannel(record.topic, schema.name, definition)
                yield channels[record.id], None
            elif isinstance(record, Message) and record.channel_id in channels:
                yield channels[record.channel_id], record

    def _records(self, issues: list[str]) -> Iterator[McapRecord]:
        """Yield records one by one, those of a chunk in order of arrival; leave out what is damaged."""
        size = self._path.stat().st_size
        with self._path.open("rb") as file:
            records = StreamReader(file, emit_chunks=True, record_size_limit=RECORD_LIMIT_BYTES).records
            while True:
                begin = file.tell()
                try:
                    record = next(records, None)
                except BROKEN_RECORD as error:
                    yield from self._in_order(_records_in(_unfinished_chunk(file, begin))[0])
                    issues.append(self._broken_off(begin, size, error))
                    return
                if record is None:
                    return
                if isinstance(record, Chunk):
                    yield from self._unpack(record, issues)
                else:
                    yield record

    def _unpack(self, chunk: Chunk, issues: list[str]) -> list[McapRecord]:
        try:
            stream, length = get_chunk_data_stream(chunk, validate_crc=True)
            records, why = _records_in(stream.read(length))
        except BROKEN_RECORD as error:
            records, why = [], reason_of(error)
        if why:
            seconds = (chunk.message_end_time - chunk.message_start_time) / 1e9
            issues.append(
                f"{self._path.name}: a chunk of {seconds:.2f} s from {chunk.message_start_time} ns on is "
                f"damaged, {len(records)} records of it were saved ({why})"
            )
        return self._in_order(records)

    def _broken_off(self, begin: int, size: int, error: BaseException) -> str:
        if begin >= size:
            return f"{self._path.name} has no end: the recording was cut short, its last moments are missing"
        rest = size - begin
        return f"{self._path.name} breaks off in a record {rest} bytes before its end ({reason_of(error)})"


def _records_in(data: bytes) -> tuple[list[McapRecord], str]:
    """Return a chunk's records up to the first impossible one, and what is wrong with that, if any."""
    records: list[McapRecord] = []
    offset = 0
    while offset < len(data):
        head, body = data[offset : offset + RECORD_HEADER.size], b""
        kind, length = RECORD_HEADER.unpack(head) if len(head) == RECORD_HEADER.size else (0, 1)
        offset += RECORD_HEADER.size + length
        body = data[offset - length : offset]
        if len(body) < length:
            return records, "it ends inside a record"
        stream = ReadDataStream(BytesIO(body))
        try:
            if kind == Opcode.MESSAGE:
                records.append(Message.read(stream, length))
            elif kind in (Opcode.SCHEMA, Opcode.CHANNEL):
                records.append((Schema if kind == Opcode.SCHEMA else Channel).read(stream))
        except BROKEN_RECORD as error:
            return records, reason_of(error)
    return records, ""


def _unfinished_chunk(file: BinaryIO, begin: int) -> bytes:
    """Return what is there of an uncompressed chunk that the file's end cuts off; empty when it is none."""
    file.seek(begin)
    header = file.read(CHUNK_HEADER.size)
    if len(header) < CHUNK_HEADER.size:
        return b""
    kind, *_, compression_length, _ = CHUNK_HEADER.unpack(header)
    return file.read() if kind == Opcode.CHUNK and compression_length == 0 else b""


def _in_order(records: list[McapRecord]) -> list[McapRecord]:
    """Order by arrival; schemas and channels come before every message."""
    return sorted(records, key=lambda record: record.log_time if isinstance(record, Message) else -1)


def _as_they_stand(records: list[McapRecord]) -> list[McapRecord]:
    return records


def unfit_index(path: Path) -> str:
    """Return why an MCAP file is better read without its index; empty when it is not, or has none at all.

    A reader that trusts the index finds nothing where the chunks' messages are not indexed, and puts the
    second half first where the clock was set back in between.
    """
    try:
        with path.open("rb") as file:
            summary = make_reader(file).get_summary()
    except (*BROKEN_RECORD, OSError):
        return ""
    if summary is None:
        return ""
    chunks = sorted(summary.chunk_indexes, key=lambda chunk: chunk.chunk_start_offset)
    statistics = summary.statistics
    if not chunks:
        return "lists none of its chunks" if statistics is not None and statistics.chunk_count else ""
    has_messages = statistics is None or statistics.message_count > 0
    if has_messages and any(not c.message_index_offsets for c in chunks if c.message_start_time):
        return "has chunks whose messages are not indexed"
    if any(chunk.message_end_time >= MAX_TIME_NS for chunk in chunks):
        return "holds times of arrival that cannot be true"
    if any(b.message_start_time < a.message_start_time - STEPPED_NS for a, b in itertools.pairwise(chunks)):
        return "goes back in time"
    if any(chunk.message_end_time - chunk.message_start_time > LONGEST_CHUNK_NS for chunk in chunks):
        return "holds chunks of such a length that the clock may have stepped in them"
    return ""


def reason_of(error: BaseException) -> str:
    """Return an error's message in one line."""
    return " ".join(str(error).split()) or type(error).__name__
