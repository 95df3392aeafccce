"""A value in a ROS 2 parameters file counts, or is refused in one sentence.

`barge_in_ms: 400.0` was once refused where 400 was meant, `turns:` under a namespace matched nothing in
silence, and a section for all nodes was refused.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from timar_common.config import number, option
from timar_common.parameter_file import (
    check_sections,
    converted,
    names_for_every_node,
    parameters_for,
    read_parameters,
)


@dataclasses.dataclass(frozen=True)
class ListenerConfig:
    pause_ms: int = number(500, "Pause.", 0, 5000, "ms", formerly=("silence_ms",))
    gain: float = number(1.0, "Gain.", 0.0, 10.0)
    is_loud: bool = option(False, "Loud.")
    device: str = option("", "Device.")
    gains: tuple[float, ...] = option((), "Gains.")


@dataclasses.dataclass(frozen=True)
class SpeakerConfig:
    voice: str = option("", "Voice.")


NODES = {"/head/listener": ListenerConfig, "/head/speaker": SpeakerConfig}


def written(tmp_path: Path, text: str, encoding: str = "utf-8") -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding=encoding)
    return path


def listener(tmp_path: Path, text: str, node: str = "/head/listener") -> dict[str, object]:
    found = parameters_for(written(tmp_path, text), node, ListenerConfig)
    assert all(where.startswith(str(tmp_path / "mine.yaml")) for _, where in found.values())
    return {name: value for name, (value, _) in found.items()}


@pytest.mark.parametrize(
    "section",
    ["/**/listener", "/head/listener", "head/listener", "/*/listener", "/**", "/head/*", "/head/**", "/*/*"],
)
def test_every_pattern_of_ros_that_matches_counts(tmp_path: Path, section: str) -> None:
    text = f"{section}:\n  ros__parameters: {{pause_ms: 300}}\n"
    assert listener(tmp_path, text) == {"pause_ms": 300}


@pytest.mark.parametrize("section", ["listener", "/listener", "/*", "/other/listener", "/head/listener/deep"])
def test_a_pattern_that_ros_does_not_match_does_not_count(tmp_path: Path, section: str) -> None:
    text = f"{section}:\n  ros__parameters: {{pause_ms: 300}}\n"
    assert listener(tmp_path, text) == {}


def test_namespaces_and_names_may_be_nested(tmp_path: Path) -> None:
    text = "head:\n  listener:\n    ros__parameters:\n      gain: 2\n      qos_overrides: {/a: {depth: 3}}\n"
    assert listener(tmp_path, text) == {"qos_overrides./a.depth": 3, "gain": 2.0}


def test_the_later_section_wins(tmp_path: Path) -> None:
    text = "/head/listener:\n  ros__parameters: {gain: 1.5}\n/**:\n  ros__parameters: {gain: 2.5}\n"
    assert listener(tmp_path, text) == {"gain": 2.5}


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("pause_ms", "400.0", 400),
        ("pause_ms", "4e2", 400),
        ("silence_ms", "400.0", 400),
        ("gain", "3", 3.0),
        ("gain", "1e-1", 0.1),
        ("gain", "'2.5'", 2.5),
        ("is_loud", "yes", True),
        ("is_loud", "Off", False),
        ("is_loud", "'true'", True),
        ("device", "3", "3"),
        ("device", "usb", "usb"),
        ("gains", "[1, 2.5]", [1.0, 2.5]),
        ("gains", "[]", []),
        ("use_sim_time", "yes", True),
    ],
)
def test_a_value_is_taken_as_its_parameters_type(
    tmp_path: Path, name: str, value: str, meant: object
) -> None:
    found = listener(tmp_path, f"/**/listener:\n  ros__parameters:\n    {name}: {value}\n")[name]
    assert found == meant
    assert type(found) is type(meant)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("pause_ms", "400.5", "400.5, expected a whole number"),
        ("pause_ms", "true", "True, expected a whole number"),
        ("pause_ms", "soon", "'soon', expected a whole number"),
        ("pause_ms", ".nan", "nan, expected a whole number"),
        ("pause_ms", ".inf", "inf, expected a whole number"),
        ("pause_ms", "", "None, expected a whole number"),
        ("gain", "[1.0]", "[1.0], expected a number"),
        ("is_loud", "1", "1, expected true or false"),
        ("is_loud", "2024-01-01", "expected true or false"),
        ("device", "1.10", "1.1, expected text; put it in quotes"),
        ("device", "on", "True, expected text; put it in quotes"),
        ("gains", "1.0", "1.0, expected a list"),
        ("gains", "[1.0, a]", "'a', expected a number"),
        ("pause_m", "3", "listener has no parameter 'pause_m'; did you mean 'pause_ms'"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_with_its_line(
    tmp_path: Path, name: str, value: str, expected: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(expected)) as error:
        listener(tmp_path, f"# mine\n/**/listener:\n  ros__parameters:\n    {name}: {value}\n")
    assert "mine.yaml, line 2" in str(error.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("/**/listener: {pause_ms: 3}\n", "has no mapping 'ros__parameters'"),
        ("/**/listener:\n  ros_parameters: {pause_ms: 3}\n", "'ros_parameters' is not it"),
        ("/**/listener:\n  ros__parameters: 3\n", "'ros__parameters' must be a mapping"),
        ("/**/listener:\n", "'/**/listener' must be a mapping"),
        ("/**/listener:\n  ros__parameters: {a: 1}\n  more: 2\n", "unknown key 'more'"),
        ("/**/listener:\n  ros__parameters: {a: 1, a: 2}\n", "'a' is said twice"),
        ("/**/a:\n  ros__parameters: {}\n/**/a:\n  ros__parameters: {}\n", "'/**/a' is said twice"),
        ("/**/listener:\n\tros__parameters: {}\n", "is not YAML"),
        ("- a\n", "must be a mapping"),
        ("a: [\n", "is not YAML"),
    ],
)
def test_a_file_of_another_layout_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        read_parameters(written(tmp_path, text))


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("!!python/object:os.system x", "line 2, .*: a value here cannot be read .*constructor"),
        ("2026-13-45", r"a value here cannot be read \(month must be in 1..12\)"),
        ("9" * 5000, "a value here cannot be read .*digits"),
        ("[" * 5000, "nested too deeply"),
        ("{a: " * 60 + "1" + "}" * 60, "nested too deeply"),
        ("&b {c: *b}", "holds itself by an alias"),
    ],
    ids=["object", "date", "digits", "depth", "depth-of-ours", "alias"],
)
def test_a_value_that_yaml_cannot_mean_is_refused_with_its_place(
    tmp_path: Path, value: str, sentence: str
) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(f"/**:\n  ros__parameters:\n    a: {value}\n")
    with pytest.raises(ValueError, match=sentence) as caught:
        read_parameters(path)
    assert str(path) in str(caught.value)


def test_an_empty_file_and_a_byte_order_mark_are_taken(tmp_path: Path) -> None:
    for text in ("", "\n", "# nothing\n"):
        assert read_parameters(written(tmp_path, text)) == []
    section = "/**/listener:\n  ros__parameters: {gain: 2.0}\n"
    [found] = read_parameters(written(tmp_path, section, encoding="utf-8-sig"))
    assert found.values == {"gain": 2.0}


def test_sections_of_other_peoples_nodes_are_let_through_and_named(tmp_path: Path) -> None:
    text = "/**/listener:\n  ros__parameters: {gain: 2.0}\n/arm/planner:\n  ros__parameters: {speed: 3}\n"
    assert check_sections(written(tmp_path, text), NODES) == ["/arm/planner"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("/**/listner:\n  ros__parameters: {gain: 2.0}\n", "did you mean 'listener'"),
        ("listener:\n  ros__parameters: {gain: 2.0}\n", "with the full name '/head/listener'"),
        ("/heed/listener:\n  ros__parameters: {gain: 2.0}\n", "'/**/listener' is for it in any namespace"),
        ("/**:\n  ros__parameters: {pause_m: 2.0}\n", "has a parameter 'pause_m'; did you mean 'pause_ms'?"),
        ("/head/*:\n  ros__parameters: {voise: a}\n", "did you mean 'voice'?"),
    ],
)
def test_what_nearly_names_ours_and_reaches_nothing_is_refused(
    tmp_path: Path, text: str, sentence: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        check_sections(written(tmp_path, text), NODES)


def test_a_parameter_for_all_nodes_counts_where_it_exists(tmp_path: Path) -> None:
    path = written(tmp_path, "/**:\n  ros__parameters: {voice: deep, use_sim_time: false, speed: 3}\n")
    assert [*parameters_for(path, "/head/listener", ListenerConfig)] == ["use_sim_time"]
    assert [*parameters_for(path, "/head/speaker", SpeakerConfig)] == ["voice", "use_sim_time"]
    assert check_sections(path, NODES) == []
    assert names_for_every_node(["--ros-args", "--params-file", str(path)]) == {
        "voice",
        "use_sim_time",
        "speed",
    }


def test_values_as_ros_hands_them_over_are_converted_likewise() -> None:
    assert converted(400.0, ListenerConfig, "pause_ms", "parameter pause_ms") == 400
    with pytest.raises(ValueError, match="parameter pause_ms is '400 ms', expected a whole number"):
        converted("400 ms", ListenerConfig, "pause_ms", "parameter pause_ms")
