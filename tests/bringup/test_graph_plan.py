"""What the launch arguments turn into, and which of them are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from timar_bringup.files import shared_file
from timar_bringup.graph import ARGUMENTS, NODES, UsageError, plan, read_arguments
from timar_common.config import describe
from timar_common.parameter_file import check_sections, parameters_for

ROOT = Path(__file__).resolve().parents[2]
FILES = ["source:=file", "user_file:=/u.wav", "agent_file:=/a.wav"]


def parameters(node: str, *typed: str) -> dict:
    planned = {planned.node.name: planned for planned in plan(read_arguments(typed)).nodes}
    return dict(planned[node].parameters)


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.name)
def test_every_parameter_the_graph_sets_exists_in_the_nodes_config(node):
    known = set(describe(node.config_type()))
    assert set(node.parameters) <= known
    assert set(node.parameters.values()) <= {argument.name for argument in ARGUMENTS}


def test_every_key_of_the_shipped_parameters_exists_and_is_in_range():
    shipped = shared_file("config/robot.yaml", {})
    nodes = {f"/{node.name}": node.config_type() for node in NODES}
    assert not check_sections(shipped, nodes)
    for name, config_type in nodes.items():
        config_type(**{key: value for key, (value, _) in parameters_for(shipped, name, config_type).items()})


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
    assert (head["wait_for_subscribers"], head["wait_for_plan_subscribers"]) == (2, 3)


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


def test_two_machines_run_each_node_once_and_still_wait_for_each_other():
    here = {one.node.name for one in plan(read_arguments(FILES)).nodes}
    head = plan(read_arguments([*FILES, "inference_host:=192.168.1.20", "keystore:=none"]))
    box = plan(
        read_arguments(["head_host:=192.168.1.10", "keystore:=none", "namespace:=head1", "engine:=onnx"])
    )
    assert {one.node.name for one in head.nodes} == here - {"inference"} | {"time_server"}
    assert [one.node.name for one in box.nodes] == ["inference"]
    assert (head.other_host, box.other_host, box.namespace) == ("192.168.1.20", "192.168.1.10", "/head1")
    assert box.nodes[0].parameters["clock_of_head"] is True
    assert "clock_of_head" not in parameters("inference", *FILES)
    waits = parameters("capture", *FILES, "inference_host:=192.168.1.20", "keystore:=none")
    assert waits["wait_for_subscribers"] == parameters("capture", *FILES)["wait_for_subscribers"]
    assert waits["wait_for_nodes"] == len(head.nodes) + len(box.nodes)


def test_empty_argument_leaves_the_parameter_to_the_file():
    assert "device" not in parameters("capture")
    assert parameters("capture", "device:=usb")["device"] == "usb"


def test_autostart_false_reaches_every_node():
    planned = plan(read_arguments(["autostart:=false"])).nodes
    assert all(one.parameters["autostart"] is False for one in planned)


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
        (["replay:=true", "sink:=browser"], "source or sink is 'browser' with replay:=true"),
        (["speaker:=default", "sink:=browser"], "speaker is 'default' and sink is 'browser'"),
        (["replay:=true", "agent_file:=a.wav"], "agent_file is 'a.wav' with replay:=true"),
        (
            ["inference_host:=b", "head_host:=a", "keystore:=none"],
            "inference_host and head_host are both given",
        ),
        (
            ["inference_host:=b", "keystore:=none", "model:=TIMAR"],
            "model is 'TIMAR' with inference_host:=b; it counts on the other",
        ),
        (["head_host:=a"], "head_host is 'a' and keystore is empty"),
        (
            ["head_host:=a", "keystore:=none", "view:=true"],
            "view is True with head_host:=a; it counts on the other machine",
        ),
        (["inference_host:=b", "keystore:=none", "replay:=true"], "a bag is heard on one machine"),
        (["user_motion_file:=a.npz"], "recorded motion goes with a recorded voice: add source:=file"),
    ],
)
def test_argument_that_cannot_be_meant_is_refused(typed, sentence):
    with pytest.raises(UsageError) as error:
        read_arguments(typed)
    assert sentence in str(error.value)


def test_every_node_of_the_graph_is_an_executable_of_its_package():
    for node in NODES:
        package = ROOT / "ros2_ws" / "src" / node.package
        assert f'"{node.name} = ' in (package / "setup.py").read_text(), node.name
        module, _, name = node.component.partition(":")
        file = package / Path(*module.split(".")).with_suffix(".py")
        assert f"class {name}(" in file.read_text(), node.component


def test_the_engines_settings_are_given_at_launch_or_left_by_auto():
    names = ("threads", "margin_frames", "window_frames", "when_full")
    left = {"engine", "allow_degraded", *names}
    assert not left & {*parameters("inference")}
    assert not left & {*parameters("inference", "engine:=auto", *(f"{name}:=auto" for name in names))}
    assert parameters("inference", "allow_degraded:=true")["allow_degraded"] is True
    given = [
        "engine:=onnx-int8",
        "threads:=2",
        "margin_frames:=13",
        "window_frames:=100",
        "when_full:=reanchor",
    ]
    found = parameters("inference", *given)
    assert {name: found[name] for name in ("engine", *names)} == {
        "engine": "onnx-int8",
        "threads": 2,
        "margin_frames": 13,
        "window_frames": 100,
        "when_full": "reanchor",
    }
    for word, expected in (
        ("threads:=many", "threads is 'many', expected a whole number or auto"),
        ("when_full:=never", "when_full is 'never', expected one of auto, recompute, reanchor"),
    ):
        with pytest.raises(UsageError, match=expected):
            read_arguments([word])


def test_the_page_is_served_and_essential_where_it_is_microphone_or_loudspeaker():
    graph = plan(read_arguments(["source:=browser", "sink:=browser", "view_host:=0.0.0.0"]))
    of = {planned.node.name: planned.parameters for planned in graph.nodes}
    assert (of["capture"]["source"], of["playback"]["sink"]) == ("browser", "browser")
    assert (of["view"]["page_microphone"], of["view"]["page_loudspeaker"]) == (True, True)
    assert of["view"]["host"] == "0.0.0.0"
    assert graph.role("view").is_essential
    silent = plan(read_arguments(["view:=true"]))
    of = {planned.node.name: planned.parameters for planned in silent.nodes}
    assert not of["view"]["page_microphone"]
    assert "sink" not in of["playback"]
    assert not silent.role("view").is_essential


def test_a_file_waits_for_the_press_on_start_only_where_the_page_is_opened():
    words = ["source:=file", "user_file:=u.wav", "agent_file:=a.wav", "sink:=browser"]
    for opened in (True, False):
        graph = plan(read_arguments([*words, f"open_browser:={str(opened).lower()}"]))
        playback = next(planned.parameters for planned in graph.nodes if planned.node.name == "playback")
        assert playback.get("wait_for_page", False) is opened
