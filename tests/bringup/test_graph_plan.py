"""What the launch arguments turn into, and which of them are refused."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import yaml
from timar_bringup.files import node_parameters, shared_file
from timar_bringup.graph import ARGUMENTS, NODES, UsageError, plan, read_arguments
from timar_common.config import describe

ROOT = Path(__file__).resolve().parents[2]
FILES = ["source:=file", "user_file:=/u.wav", "agent_file:=/a.wav"]


def parameters(node: str, *typed: str) -> dict:
    planned = {planned.node.name: planned for planned in plan(read_arguments(typed)).nodes}
    return dict(planned[node].parameters)


# Node -> its configuration dataclass, which can be read without ROS 2.
CONFIGS = {
    "inference": "timar_inference.config:InferenceConfig",
    "recorder": "timar_bag.recorder:RecorderConfig",
    "view": "timar_view.config:ViewConfig",
    "driver": "timar_driver.config:DriverConfig",
    "retargeting": "timar_retargeting.config:RetargetingConfig",
    "motion_player": "timar_bag.motion_player:MotionPlayerConfig",
    "perception": "timar_perception.config:PerceptionConfig",
    "turns": "timar_audio.turns_config:TurnsConfig",
    "playback": "timar_audio.playback_config:PlaybackConfig",
    "capture": "timar_audio.capture_config:CaptureConfig",
}


def config_of(node) -> type:
    module, _, name = CONFIGS[node.name].partition(":")
    return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.name)
def test_every_parameter_the_graph_sets_exists_in_the_nodes_config(node):
    known = set(describe(config_of(node)))
    assert set(node.parameters) <= known
    assert set(node.parameters.values()) <= {argument.name for argument in ARGUMENTS}


def test_every_key_of_the_shipped_parameters_exists_and_is_in_range():
    shipped = node_parameters(shared_file("config/robot.yaml", {}))
    nodes = {node.name: node for node in NODES}
    for name, values in shipped.items():
        config_type = config_of(nodes[name])
        unknown = set(values) - set(describe(config_type))
        assert not unknown, f"{name} has no parameter {unknown}"
        config_type(
            **{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        )


def test_recorder_and_view_run_only_when_asked_for():
    names = [planned.node.name for planned in plan(read_arguments(FILES)).nodes]
    assert set(names) == {"capture", "playback", "turns", "inference", "retargeting", "driver"}
    more = [
        planned.node.name for planned in plan(read_arguments([*FILES, "record:=true", "view:=true"])).nodes
    ]
    assert set(more) - set(names) == {"recorder", "view"}


def test_replay_runs_neither_microphone_nor_playback_and_takes_the_bags_time():
    planned = plan(read_arguments(["replay:=true", "record:=true"])).nodes
    assert {one.node.name for one in planned} == {"turns", "inference", "retargeting", "driver", "recorder"}
    assert all(one.parameters["use_sim_time"] is True for one in planned)
    assert "use_sim_time" not in parameters("turns")


def test_file_source_waits_for_as_many_listeners_as_the_graph_has():
    alone = parameters("capture", *FILES)
    recorded = parameters("capture", *FILES, "record:=true")
    assert (alone["wait_for_subscribers"], alone["wait_for_raw_subscribers"]) == (2, 1)
    assert (recorded["wait_for_subscribers"], recorded["wait_for_raw_subscribers"]) == (3, 2)
    assert (alone["wait_for_nodes"], recorded["wait_for_nodes"]) == (6, 7)
    assert "wait_for_subscribers" not in parameters("capture")
    head = parameters("playback", *FILES, "record:=true")
    assert (head["wait_for_subscribers"], head["wait_for_plan_subscribers"]) == (2, 2)


def test_users_motion_is_played_only_with_a_file_and_is_waited_for():
    played = plan(read_arguments([*FILES, "user_motion_file:=/u.npz"])).nodes
    assert {one.node.name for one in played} - {
        one.node.name for one in plan(read_arguments(FILES)).nodes
    } == {"motion_player"}
    with_motion = parameters("capture", *FILES, "user_motion_file:=/u.npz")
    assert (with_motion["wait_for_subscribers"], with_motion["wait_for_nodes"]) == (3, 7)
    assert parameters("motion_player", *FILES, "user_motion_file:=/u.npz") == {"file": "/u.npz"}


def test_sound_and_driver_share_their_process_with_no_other_room():
    groups = plan(read_arguments([*FILES, "record:=true", "view:=true"])).processes()
    packages = {name: {planned.node.package for planned in nodes} for name, nodes in groups.items()}
    assert packages["sound"] == {"timar_audio"}
    assert packages["driver"] == {"timar_driver"}


def test_empty_argument_leaves_the_parameter_to_the_file():
    assert "device" not in parameters("capture")
    assert parameters("capture", "device:=usb")["device"] == "usb"


def test_autostart_false_reaches_every_node():
    planned = plan(read_arguments(["autostart:=false"])).nodes
    assert all(one.parameters["autostart"] is False for one in planned)


def test_overrides_match_nodes_in_any_namespace():
    overrides = plan(read_arguments([*FILES, "namespace:=head1"])).overrides()
    names = ("driver", "retargeting", "inference", "turns", "playback", "capture")
    assert set(overrides) == {f"/**/{name}" for name in names}
    assert yaml.safe_load(yaml.safe_dump(overrides)) == overrides


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        (["modell:=x"], "there is no argument 'modell'; did you mean 'model'"),
        (["model=x"], "'model=x' is not of the form name:=value"),
        (["record:=yes"], "record is 'yes', expected true or false"),
        (["view_port:=http"], "view_port is 'http', expected a whole number"),
        (["source:=radio"], "source is 'radio', expected one of microphone, file"),
        (["source:=file"], "source is 'file' and user_file is empty"),
        (["user_file:=a.wav"], "add source:=file"),
        (["replay:=true", "agent_file:=a.wav"], "agent_file is 'a.wav' with replay:=true"),
        (["user_motion_file:=a.npz"], "recorded motion goes with a recorded voice: add source:=file"),
    ],
)
def test_argument_that_cannot_be_meant_is_refused(typed, sentence):
    with pytest.raises(UsageError) as error:
        read_arguments(typed)
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("/**/captur:\n  ros__parameters:\n    file: a\n", "the graph has no such node"),
        ("/**/capture:\n  file: a\n", "has no mapping 'ros__parameters'"),
        ("- a\n", "must be a mapping"),
        ("a: [\n", "is not YAML"),
    ],
)
def test_parameters_file_that_ros_would_ignore_in_silence_is_refused(tmp_path, text, sentence):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=sentence):
        node_parameters(path)


def test_missing_parameters_file_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"nowhere\.yaml cannot be read"):
        node_parameters(tmp_path / "nowhere.yaml")


def test_every_node_of_the_graph_is_an_executable_of_its_package():
    for node in NODES:
        package = ROOT / "ros2_ws" / "src" / node.package
        assert f'"{node.name} = ' in (package / "setup.py").read_text(), node.name
        module, _, name = node.component.partition(":")
        file = package / Path(*module.split(".")).with_suffix(".py")
        assert f"class {name}(" in file.read_text(), node.component
