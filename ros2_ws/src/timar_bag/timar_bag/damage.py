"""Damages bags in the ways that happen in use, to try what is made of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from rosbags.rosbag2 import StoragePlugin, Writer
from timar_common.messages import standard_types
from timar_common.suggest import refuse_unknown

from timar_bag.bag import BagReader
from timar_bag.bag_writer import TopicBagWriter
from timar_bag.ground_truth import KNOWN_TOPICS
from timar_bag.recovery import RawMessage

STEP_NS = 3_600_000_000_000
"""By how much the second clock is off [ns]."""
EVERY = 10


def damage_bag(bag: Path, name: str) -> None:
    """Damage a bag of this project in place.

    Args:
        bag: A rosbag2 folder of one MCAP file.
        name: One of `DAMAGES`.

    Raises:
        ValueError: There is no such damage.
    """
    refuse_unknown("damage", [name], DAMAGES)
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


def _no_plan(messages: Iterable[RawMessage]) -> Iterator[RawMessage]:
    """Lack the agent's planned speech, as bags of other recorders do."""
    return (message for message in messages if message.topic != "agent/audio_planned")


def _lost_blocks(messages: Iterable[RawMessage]) -> Iterator[RawMessage]:
    """Lack every tenth message of the user's sound."""
    count = 0
    for message in messages:
        count += message.topic == "user/audio"
        if not (message.topic.startswith("user/audio") and count % EVERY == 0):
            yield message


def _duplicated(messages: Iterable[RawMessage]) -> Iterator[RawMessage]:
    """Hold every tenth message twice."""
    for number, message in enumerate(messages):
        yield message
        if number % EVERY == 0:
            yield message


def _out_of_order(messages: Iterable[RawMessage]) -> Iterator[RawMessage]:
    """Hold neighbouring messages of the user's sound the other way round, every tenth time."""
    held: RawMessage | None = None
    count = 0
    for message in messages:
        is_sound = message.topic == "user/audio"
        if held is not None and is_sound:
            yield message._replace(receive_ns=held.receive_ns)
            yield held._replace(receive_ns=message.receive_ns)
            held = None
            continue
        count += is_sound
        if held is None and is_sound and count % EVERY == 0:
            held = message
        else:
            yield message
    if held is not None:
        yield held


def _two_clocks(messages: Iterable[RawMessage]) -> Iterator[RawMessage]:
    """Have arrivals on another clock than stamps, an hour apart, as when two machines never met."""
    return (message._replace(receive_ns=message.receive_ns + STEP_NS) for message in messages)


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
    _replace(bag, target)


def _rewrite(change: Callable[[Iterable[RawMessage]], Iterator[RawMessage]], bag: Path) -> None:
    """Write the bag again with its messages changed."""
    target = bag.with_name(f"{bag.name}-damaged")
    with BagReader(bag) as reader:
        known = [name for name in reader.topics if name in KNOWN_TOPICS]
        out = TopicBagWriter(target, reader.namespace).open(known)
        for message in change(RawMessage(*raw) for raw in reader.raw_messages(known)):
            out.write_bytes(*message)
        out.close()
    _replace(bag, target)


def _replace(bag: Path, target: Path) -> None:
    """Put another bag in a bag's place, by whose name its files then go."""
    shutil.rmtree(bag)
    target.rename(bag)
    for path in bag.glob("*.mcap"):
        path.rename(bag / path.name.replace(target.name, bag.name))
    metadata = bag / "metadata.yaml"
    metadata.write_text(metadata.read_text("utf-8").replace(target.name, bag.name), "utf-8")


DAMAGES: dict[str, Callable[[Path], None]] = {
    "truncated": _truncated,
    "no_metadata": _no_metadata,
    "no_plan": partial(_rewrite, _no_plan),
    "lost_blocks": partial(_rewrite, _lost_blocks),
    "duplicated": partial(_rewrite, _duplicated),
    "out_of_order": partial(_rewrite, _out_of_order),
    "two_clocks": partial(_rewrite, _two_clocks),
    "unknown_types": _unknown_types,
}
