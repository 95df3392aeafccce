"""What a person says about parameters reaches the node, with its origin to be seen, or is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from timar_bringup.graph import NODES, UsageError, plan, read_arguments
from timar_bringup.parameters import graph_parameters, main
from timar_common.processes import START_REFUSED


def written(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_an_argument_counts_more_than_a_file_and_a_later_file_more_than_an_earlier(tmp_path: Path) -> None:
    first = written(
        tmp_path, "a.yaml", "/**/turns:\n  ros__parameters: {pause_ms: 300.0, start_ms: 100}\n"
        "/**/inference:\n  ros__parameters: {engine: torch}\n"
    )  # fmt: skip
    second = written(tmp_path, "b.yaml", "/head1/turns:\n  ros__parameters: {pause_ms: 400}\n")
    typed = [f"params:={first},{second}", "namespace:=head1", "engine:=onnx"]
    found = graph_parameters(plan(read_arguments(typed)))
    turns = found.by_node["/head1/turns"]
    assert turns["pause_ms"] == (400, f"{second}, line 1")
    assert turns["start_ms"] == (100, f"{first}, line 1")
    assert turns["aggressiveness"].origin == "config/robot.yaml"
    assert found.by_node["/head1/inference"]["engine"] == ("onnx", "argument engine")


def test_what_is_for_other_peoples_nodes_is_let_through_and_listed(tmp_path: Path) -> None:
    path = written(tmp_path, "a.yaml", "/**/planner:\n  ros__parameters: {speed: 3}\n")
    assert graph_parameters(plan(read_arguments([f"params:={path}"]))).others == ("/**/planner",)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("/**/captur:\n  ros__parameters: {file: a}\n", "did you mean 'capture'"),
        ("turns:\n  ros__parameters: {pause_ms: 400}\n", "turns' is for it in any namespace"),
        ("/**/turns:\n  ros__parameters: {pause_ms: 9}\n", r"pause_ms is 9.*set by .*a\.yaml, line 1"),
        ("/**/turns:\n  ros__parameters: {paus_ms: 400}\n", "line 1: turns has no parameter 'paus_ms'"),
        ("a: [\n", "is not YAML"),
    ],
)
def test_what_would_change_nothing_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    path = written(tmp_path, "a.yaml", text)
    with pytest.raises(UsageError, match=sentence):
        graph_parameters(plan(read_arguments([f"params:={path}", "namespace:=head1"])))


def test_missing_parameters_file_is_named() -> None:
    with pytest.raises(UsageError, match=r"nowhere\.yaml cannot be read"):
        graph_parameters(plan(read_arguments(["params:=nowhere.yaml"])))


def test_the_command_shows_every_parameter_of_every_node_and_what_set_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, "a.yaml", "/**/turns:\n  ros__parameters: {pause_ms: 4e2}\n")
    assert main(["--json", f"params:={path}"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert table["/turns"]["pause_ms"] == {"value": 400, "origin": f"{path}, line 1"}
    assert table["/turns"]["interruption_check"]["origin"] == "config/robot.yaml"
    assert table["/turns"]["resume_ms"]["origin"] == "default"
    assert {name for name in table} == {f"/{one.node.name}" for one in plan(read_arguments([])).nodes}
    assert main([f"params:={tmp_path}/none.yaml"]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_configurations_of_all_nodes_are_read_without_ros() -> None:
    code = "from timar_bringup.graph import NODES; [node.config_type() for node in NODES]; "
    code += "import sys; print([name for name in ('rclpy', 'torch', 'cv2', 'viser') if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
    assert len(NODES) > 10


@pytest.mark.ros
@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("/**/turns:\n  ros__parameters: {pause_ms: 410.0}\n", "parameter pause_ms: 410 (given)"),
        ("/**:\n  ros__parameters: {pause_ms: 420, speed: 3}\n", "parameter pause_ms: 420 (given)"),
        (
            "/**:\n  ros__parameters: {pause_mz: 420}\n",
            "turns has no parameter 'pause_mz'; did you mean 'pause_ms'",
        ),
        ("/**/turns:\n  ros__parameters: {pause_ms: 410.5}\n", "pause_ms is 410.5, expected a whole number"),
    ],
)
def test_a_node_that_is_started_alone_takes_or_refuses_the_same(tmp_path: Path, text: str, line: str) -> None:
    path = written(tmp_path, "a.yaml", text)
    code = "import sys, threading, os, signal; from timar_common.base_node import main; "
    code += "timer = threading.Timer(4.0, lambda: os.kill(os.getpid(), signal.SIGINT)); "
    code += "timer.daemon = True; timer.start(); sys.exit(main())"
    command = [sys.executable, "-c", code, "timar_audio.turns_node:TurnsNode", "--ros-args"]
    command += ["--params-file", str(path), "--log-level", "turns:=debug"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert line in ended.stdout + ended.stderr
    assert ended.returncode == (0 if "given" in line else START_REFUSED)
