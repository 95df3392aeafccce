"""The layout for Foxglove names topics and fields that exist, and each joint where its messages have it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rosbags.typesys.store import Typestore
from timar_bag.commands import bag as bag_command
from timar_bag.layout import layout
from timar_common.topics import TOPICS
from timar_description import find_joint_map, find_urdf
from timar_driver.config import DriverConfig
from timar_driver.driver_setup import set_up_driver
from timar_retargeting.robot import load_robot

SHIPPED = Path(__file__).resolve().parents[2] / "examples" / "foxglove_layout.json"
STEP = re.compile(r"([a-z_0-9]+)(\[\d+\])?")


def states() -> list[str]:
    return list(set_up_driver(DriverConfig(), find_urdf("timar_head")).driver.joint_names)


def commands() -> list[str]:
    return list(load_robot(find_joint_map("timar_head")).joint_names)


def paths(content: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for panel in content["configById"].values():
        for path in panel.get("paths", ()):
            yield path["value"], path["label"]


def kind_of(types: Typestore, type_name: str, place: str) -> str:
    """Follow a message path such as ``points[0].positions[3]`` and return the field's base type."""
    for step in filter(None, re.sub(r"\{.*?\}", "", place).split(".")):
        name, index = STEP.fullmatch(step).groups()
        fields = dict(types.fielddefs[type_name][1])
        assert name in fields, f"{type_name} has no field {name}"
        node, detail = int(fields[name][0]), fields[name][1]
        assert (index is not None) == (node in (3, 4)), step
        if index is not None:
            node, detail = int(detail[0][0]), detail[0][1]
        type_name = detail if isinstance(detail, str) else detail[0]
    return type_name


def test_every_path_is_a_number_in_a_topic_that_is_recorded(types: Typestore):
    found = list(paths(layout(states(), commands(), "/head1")))
    assert len(found) > 10
    for value, _ in found:
        topic, _, place = value.removeprefix("/head1/").partition(".")
        topic, brace, rest = topic.partition("{")
        if brace:
            name, _ = rest.rstrip("}").split("==")
            assert name in dict(types.fielddefs[TOPICS[topic].type_name][1])
        assert kind_of(types, TOPICS[topic].type_name, place) in (
            "float32", "float64", "uint8", "int32", "bool",
        ), value  # fmt: skip


def test_each_joint_is_read_where_its_messages_have_it():
    names = {"joint_states": states(), "joint_trajectory": commands()}
    seen = set()
    for value, label in paths(layout(states(), commands())):
        topic = value.lstrip("/").partition(".")[0]
        if topic in names:
            number = int(re.findall(r"\[(\d+)\]$", value)[0])
            assert names[topic][number] == label.removesuffix(" (command)")
            seen.add(label)
    assert {"jaw", "neck_pitch", "jaw (command)"} <= seen


def test_every_panel_stands_in_the_layout_once():
    content = layout(states(), commands(), urdf=find_urdf("timar_head"))

    def placed(node: Any) -> list[str]:
        return [node] if isinstance(node, str) else placed(node["first"]) + placed(node["second"])

    assert sorted(placed(content["layout"])) == sorted(content["configById"])
    layer = content["configById"]["3D!head"]["layers"]["head"]
    assert Path(layer["filePath"]).is_file()


def test_shipped_layout_is_that_of_the_default_head():
    assert json.loads(SHIPPED.read_text("utf-8")) == layout(states(), commands())


def test_layout_of_a_bag_has_its_namespace_and_joints(make_bag: Callable[..., Path], tmp_path: Path):
    bag = make_bag(namespace="/robot")
    assert bag_command(["layout", str(bag), str(tmp_path / "layout.json"), "--namespace", "robot"]) == 0
    content = json.loads((tmp_path / "layout.json").read_text("utf-8"))
    assert all(value.startswith("/robot/") for value, _ in paths(content))
    assert any("joint_states" in value for value, _ in paths(content))


def test_bag_that_is_none_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert bag_command(["layout", str(tmp_path / "nothing"), str(tmp_path / "layout.json")]) == 1
    assert "there is no bag" in capsys.readouterr().err
