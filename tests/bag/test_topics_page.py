"""The page of topics says what the table of topics and the nodes say."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import NamedTuple

import pytest
from timar_common.component import Component
from timar_common.topics import TOPICS, Topic
from timar_retargeting.retargeting_component import OUTPUT_TOPICS

ROOT = Path(__file__).resolve().parents[2]
CALL = re.compile(r"\b(create_topic_publisher|create_topic_subscription)\(\s*\"([^\"]+)\"")
OPEN_ENDS = ("any", "every node")

MOTION = ROOT / "examples/data/conversation/conversation_speaker1.npz"


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


def component_classes() -> list[type[Component]]:
    """Return every component of the workspace, with the configuration variants that change its topics."""
    paths = sorted((ROOT / "ros2_ws/src").glob("timar_*/timar_*/*_component.py"))
    modules = [importlib.import_module(f"{path.parent.name}.{path.stem}") for path in paths]
    return [
        found
        for module in modules
        for found in vars(module).values()
        if inspect.isclass(found) and issubclass(found, Component) and found.__module__ == module.__name__
    ]


def variants_of(component: type[Component], monkeypatch: pytest.MonkeyPatch) -> list[Component]:
    """Return components in every configuration that changes their topics."""
    configs = [component.Config()]
    if component.NAME == "retargeting":
        configs = [component.Config(output=output) for output in OUTPUT_TOPICS]
    if component.NAME == "turns":
        monkeypatch.setattr("timar_audio.turns_component.read_motion_noise", lambda path: object())
        configs.append(component.Config(motion_noise_file="calibration.yaml"))
    if component.NAME == "perception":
        configs.append(component.Config(follow="talking"))
    if component.NAME == "capture":
        configs.append(component.Config(echo_suppression="filter"))
    if component.NAME == "view":
        configs.append(component.Config(page_microphone=True))
    if component.NAME == "motion_player":
        configs = [component.Config(file=str(MOTION))]
    return [component(config) for config in configs]


@pytest.fixture(scope="module")
def ends() -> dict[str, tuple[set[str], set[str]]]:
    """Return by topic the nodes that publish on it and those that read it."""
    found: dict[str, tuple[set[str], set[str]]] = {name: (set(), set()) for name in TOPICS}
    with pytest.MonkeyPatch.context() as monkeypatch:
        for component_class in component_classes():
            for component in variants_of(component_class, monkeypatch):
                for end, topics in enumerate((component.outputs, component.inputs)):
                    for topic in topics:
                        found[topic][end].add(component.NAME)
    calls = ("create_topic_publisher", "create_topic_subscription")
    for path in (ROOT / "ros2_ws/src").glob("timar_*/timar_*/*_node.py"):
        for call, topic in CALL.findall(path.read_text("utf-8")):
            found[topic][calls.index(call)].add(path.stem.removesuffix("_node"))
    return found


def test_the_page_lists_exactly_the_topics_of_the_table() -> None:
    assert list(page()) == list(TOPICS)


@pytest.mark.parametrize("name", TOPICS)
def test_type_and_quality_of_service_are_those_of_the_table(name: str) -> None:
    row, topic = page()[name], TOPICS[name]
    assert (row.type_name, row.quality) == (topic.type_name, quality_of(topic))
    assert row.meaning


@pytest.mark.parametrize("name", TOPICS)
def test_who_sends_and_who_reads_are_the_nodes_that_do(
    name: str, ends: dict[str, tuple[set[str], set[str]]]
) -> None:
    row = page()[name]
    for listed, end, nodes in zip(
        (row.senders, row.readers), ("senders", "readers"), ends[name], strict=True
    ):
        named = {node for node in listed if not node.startswith(OPEN_ENDS)}
        assert named == nodes, f"{name}: the page and the nodes disagree about its {end}"
