"""Bags written again: the messages of one in their order, at other times or in another recorder's way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mcap.reader import make_reader
from mcap.writer import Writer

Stamp = Callable[[int, int], int]
"""From a message's number and time to its new time [ns]."""


def rewritten(
    bag: Path, target: Path, stamp: Stamp = lambda number, time_ns: time_ns, **options: Any
) -> Path:
    """Write a bag's messages in their order into one MCAP file, at other times or in another writer's way."""
    (source,) = bag.glob("*.mcap")
    with source.open("rb") as file, target.open("wb") as out:
        writer = Writer(out, **options)
        writer.start("ros2", "another recorder")
        channels: dict[int, int] = {}
        for number, (schema, channel, message) in enumerate(make_reader(file).iter_messages()):
            if channel.id not in channels:
                known = writer.register_schema(schema.name, schema.encoding, schema.data)
                channels[channel.id] = writer.register_channel(channel.topic, "cdr", known)
            time_ns = stamp(number, message.log_time)
            writer.add_message(channels[channel.id], time_ns, message.data, time_ns)
        writer.finish()
    return target
