"""Damages bags the way life does, to try what is made of them."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from rosbags.rosbag2 import StoragePlugin, Writer
from timar_common.messages import standard_types
from timar_common.suggest import unknown_name

from timar_bag.bag import BagReader
from timar_bag.out_bag import OutBag
from timar_bag.truth import KNOWN_TOPICS

STEP_NS = 3_600_000_000_000
"""By how much the second clock is off [ns]."""
EVERY = 10


@dataclasses.dataclass(frozen=True)
class _Raw:
    topic: str
    receive_ns: int
    data: bytes


def damage_bag(bag: Path, name: str) -> None:
    """Damage a bag of this project where it lies.

    Args:
        bag: A rosbag2 folder of one MCAP file.
        name: One of `DAMAGES`.

    Raises:
        ValueError: There is no such damage.
    """
    if name not in DAMAGES:
        raise ValueError(unknown_name("damage", name, DAMAGES))
    DAMAGES[name](bag)


def _truncated(bag: Path) -> None:
    """Break off in the middle, as when the power went: no index, no metadata."""
    for path in bag.glob("*.mcap"):
        data = path.read_bytes()
        path.write_bytes(data[: len(data) * 2 // 3])
    (bag / "metadata.yaml").unlink(missing_ok=True)


def _no_metadata(bag: Path) -> None:
    """Lack metadata.yaml, as when the recorder was killed."""
    (bag / "metadata.yaml").unlink()


def _no_plan(bag: Path) -> None:
    """Lack the agent's planned speech, as bags of other recorders do."""
    _rewrite(bag, lambda messages: (m for m in messages if m.topic != "agent/audio_planned"))


def _lost_blocks(bag: Path) -> None:
    """Lack every tenth message of the user's sound."""

    def kept(messages: Iterator[_Raw]) -> Iterator[_Raw]:
        count = 0
        for message in messages:
            count += message.topic == "user/audio"
            if not (message.topic.startswith("user/audio") and count % EVERY == 0):
                yield message

    _rewrite(bag, kept)


def _duplicated(bag: Path) -> None:
    """Hold every tenth message twice."""

    def doubled(messages: Iterator[_Raw]) -> Iterator[_Raw]:
        for number, message in enumerate(messages):
            yield message
            if number % EVERY == 0:
                yield message

    _rewrite(bag, doubled)


def _out_of_order(bag: Path) -> None:
    """Hold neighbouring messages of one topic the other way round, every tenth time."""

    def swapped(messages: Iterator[_Raw]) -> Iterator[_Raw]:
        held: _Raw | None = None
        count = 0
        for message in messages:
            if held is not None and message.topic == held.topic:
                yield dataclasses.replace(message, receive_ns=held.receive_ns)
                yield dataclasses.replace(held, receive_ns=message.receive_ns)
                held = None
                continue
            count += message.topic == "user/audio"
            if held is None and message.topic == "user/audio" and count % EVERY == 0:
                held = message
                continue
            yield message
        if held is not None:
            yield held

    _rewrite(bag, swapped)


def _two_clocks(bag: Path) -> None:
    """Have arrivals on another clock than stamps, an hour apart, as when two machines never met."""
    _rewrite(
        bag,
        lambda messages: (
            dataclasses.replace(message, receive_ns=message.receive_ns + STEP_NS) for message in messages
        ),
    )


def _unknown_types(bag: Path) -> None:
    """Hold the user's motion in a type that nobody knows, as another laboratory's tracker would write it."""
    target = bag.with_name(f"{bag.name}-damaged")
    with BagReader(bag) as reader, Writer(target, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connections = {
            name: writer.add_connection(
                topic.full_name, "other_msgs/msg/Face", msgdef="?", rihs01="RIHS01_" + "0" * 64
            )
            if name == "user/motion"
            else writer.add_connection(topic.full_name, topic.type_name, typestore=standard_types())
            for name, topic in reader.topics.items()
        }
        for name, receive_ns, data in reader.raw_messages():
            writer.write(connections[name], receive_ns, data)
    _take_place(target, bag)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "truncated": _truncated,
    "no_metadata": _no_metadata,
    "no_plan": _no_plan,
    "lost_blocks": _lost_blocks,
    "duplicated": _duplicated,
    "out_of_order": _out_of_order,
    "two_clocks": _two_clocks,
    "unknown_types": _unknown_types,
}


def _rewrite(bag: Path, change: Callable[[Iterator[_Raw]], Iterator[_Raw]]) -> None:
    """Write the bag anew with its messages changed."""
    target = bag.with_name(f"{bag.name}-damaged")
    with BagReader(bag) as reader:
        known = [name for name in reader.topics if name in KNOWN_TOPICS]
        out = OutBag(target, reader.namespace).open(known)
        for message in change(_Raw(*raw) for raw in reader.raw_messages(known)):
            out.write_bytes(message.topic, message.receive_ns, message.data)
        out.close()
    _take_place(target, bag)


def _take_place(target: Path, bag: Path) -> None:
    """Put a bag in another's place, by whose name its files then go."""
    shutil.rmtree(bag)
    target.rename(bag)
    for path in bag.glob("*.mcap"):
        path.rename(bag / path.name.replace(target.name, bag.name))
    metadata = bag / "metadata.yaml"
    metadata.write_text(metadata.read_text("utf-8").replace(target.name, bag.name), "utf-8")
