"""The page of topics says what the table of topics and the nodes say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest
from timar_common.topics import TOPICS, Topic

ROOT = Path(__file__).resolve().parents[2]
CALL = re.compile(r"\b(create_topic_publisher|create_topic_subscription)\(\s*\"([^\"]+)\"")
OPEN_ENDS = ("any", "every node")


class Row(NamedTuple):
    type_name: str
    senders: set[str]
    readers: set[str]
    quality: str
    meaning: str


def page() -> dict[str, Row]:
    rows = {}
    for line in (ROOT / "docs/topics.md").read_text("utf-8").splitlines():
        cells = [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        if line.startswith("| `"):
            name, type_name, way, quality, meaning = cells
            senders, readers = ({n.strip() for n in end.split(",")} for end in way.split("→"))
            rows[name] = Row(type_name, senders, readers, quality, meaning)
    return rows


def quality_of(topic: Topic) -> str:
    depth = f"depth {topic.depth}" if topic.depth else "keep all"
    return f"reliable, {depth}" + (", transient local" if topic.is_latched else "")


def nodes_that(call: str, topic: str) -> set[str]:
    """Return the nodes whose source publishes on, or listens to, a topic."""
    found = set()
    for path in (ROOT / "ros2_ws/src").glob("timar_*/timar_*/*_node.py"):
        if (call, topic) in CALL.findall(path.read_text("utf-8")):
            found.add(path.stem.removesuffix("_node"))
    return found


def test_the_page_lists_exactly_the_topics_of_the_table() -> None:
    assert list(page()) == list(TOPICS)


@pytest.mark.parametrize("name", TOPICS)
def test_type_and_quality_of_service_are_those_of_the_table(name: str) -> None:
    row, topic = page()[name], TOPICS[name]
    assert (row.type_name, row.quality) == (topic.type_name, quality_of(topic))
    assert row.meaning


@pytest.mark.parametrize("name", TOPICS)
def test_who_sends_and_who_reads_are_the_nodes_that_do(name: str) -> None:
    row = page()[name]
    for said, call in ((row.senders, "create_topic_publisher"), (row.readers, "create_topic_subscription")):
        named = {node for node in said if not node.startswith(OPEN_ENDS)}
        assert named == nodes_that(call, name), f"{name}: the page and the nodes disagree about {call}"
