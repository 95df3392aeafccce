"""A bag explains itself: who has no workspace of ours reads every message by what stands in the file."""

from __future__ import annotations

from pathlib import Path

import pytest
from mcap.reader import make_reader
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from timar_bag.bag_writer import TopicBagWriter
from timar_bag.ground_truth import KNOWN_TOPICS
from timar_common.messages import standard_types


@pytest.fixture
def schemas(tmp_path: Path) -> dict[str, tuple[str, str, str]]:
    """Return name, encoding and text of each topic's schema in a bag that holds all topics."""
    writer = TopicBagWriter(tmp_path / "bag", "/head").open()
    writer.close()
    (path,) = (tmp_path / "bag").glob("*.mcap")
    with path.open("rb") as file:
        summary = make_reader(file).get_summary()
    assert summary is not None
    found = {}
    for channel in summary.channels.values():
        schema = summary.schemas[channel.schema_id]
        assert channel.message_encoding == "cdr"
        found[channel.topic] = schema.name, schema.encoding, schema.data.decode()
    return found


def test_every_topic_carries_its_whole_definition(schemas: dict[str, tuple[str, str, str]]) -> None:
    assert len(schemas) == len(KNOWN_TOPICS)
    for topic, (name, encoding, text) in schemas.items():
        assert encoding == "ros2msg", topic
        alone = get_typestore(Stores.EMPTY)
        alone.register(get_types_from_msg(text, name))
        needed = {name}
        while needed:
            type_name = needed.pop()
            assert type_name in alone.fielddefs, f"{topic}: {type_name} is in no definition of the bag"
            assert alone.fielddefs[type_name] == standard_types().fielddefs[type_name]
            needed |= nested(alone.fielddefs[type_name][1])


def nested(fields: object) -> set[str]:
    """Return the names of message types in a type's fields, however they are wrapped in arrays."""
    if isinstance(fields, str):
        return {fields} if "/msg/" in fields else set()
    if isinstance(fields, (list, tuple)):
        return set().union(*map(nested, fields)) if fields else set()
    return set()
