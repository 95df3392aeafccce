"""The page of topics says what the table of topics and the nodes say."""

from __future__ import annotations

import ast
import functools
import importlib
import re
from pathlib import Path
from typing import NamedTuple

import pytest
from timar_common.component import Component
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


@functools.cache
def components() -> dict[str, tuple[type[Component], set[str]]]:
    """Return every component and the topics its source names, by its node's name."""
    found = {}
    for path in (ROOT / "ros2_ws/src").glob("timar_*/timar_*/*_component.py"):
        text = path.read_text("utf-8")
        strings = {node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)}
        module = importlib.import_module(f"{path.parent.name}.{path.stem}")
        for name, value in vars(module).items():
            is_its_own = isinstance(value, type) and value.__module__ == module.__name__
            if is_its_own and issubclass(value, Component) and name.endswith("Component"):
                named = {*value.inputs, *value.outputs, *(text for text in strings if text in TOPICS)}
                found[value.NAME] = (value, named)
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
    for said, call, side, other in (
        (row.senders, "create_topic_publisher", "outputs", "inputs"),
        (row.readers, "create_topic_subscription", "inputs", "outputs"),
    ):
        named = {node for node in said if not node.startswith(OPEN_ENDS)}
        certain, possible = nodes_that(call, name), set()
        for node, (component, topics) in components().items():
            if name in getattr(component, side):
                certain.add(node)
            elif name in topics and name not in getattr(component, other):
                possible.add(node)  # Which side it is depends on the configuration.
        assert certain <= named <= certain | possible, f"{name}: the page and the nodes disagree about {call}"
    users = {node for node, (_, topics) in components().items() if name in topics}
    assert users <= row.senders | row.readers
