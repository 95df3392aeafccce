"""robot.launch.py under the genuine ros2 launch, where that is installed (no wheel brings it)."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import rclpy
from node_process import PATIENCE_S
from timar_bringup.demo import clip
from timar_bringup.graph import ARGUMENTS, plan, read_arguments

LAUNCHES = shutil.which("ros2") is not None and importlib.util.find_spec("launch_ros") is not None

pytestmark = [
    pytest.mark.ros,
    pytest.mark.slow,
    pytest.mark.skipif(
        not LAUNCHES, reason="ros2 launch is not installed; it comes with a ROS 2 distribution"
    ),
]

COMMAND = ("ros2", "launch", "timar_bringup", "robot.launch.py")


def launch(*typed: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*COMMAND, *typed],
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_S,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_every_argument_is_shown_with_its_description_and_default():
    shown = launch("--show-args").stdout
    for argument in ARGUMENTS:
        assert f"'{argument.name}':" in shown
        assert argument.doc in shown
        assert f"(default: '{argument.written_default()}')" in shown


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("modle:=x", "there is no argument 'modle'; did you mean 'model'?"),
        ("source:=file", "source is 'file' and user_file is empty"),
        ("params:=/nowhere.yaml", "the parameters file /nowhere.yaml cannot be read"),
    ],
)
def test_argument_that_cannot_be_meant_ends_the_launch_with_a_sentence(typed: str, sentence: str):
    done = launch(typed)
    assert done.returncode == 1
    assert sentence in done.stdout + done.stderr


def test_launch_starts_the_nodes_of_the_graph_in_their_namespace_and_ends_them(
    random_model: Path, tmp_path: Path
):
    typed = [
        "source:=file",
        f"user_file:={clip('speaker1')}",
        f"agent_file:={clip('speaker2')}",
        f"model:={random_model}",
        "record:=true",
        f"out:={tmp_path / 'bag'}",
        "namespace:=launched",
    ]
    wanted = {planned.node.name for planned in plan(read_arguments(typed)).nodes}
    rclpy.init()
    node = rclpy.create_node("watcher")
    log = (tmp_path / "launch.log").open("w+")
    process = subprocess.Popen(
        [*COMMAND, *typed], stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
    )
    try:
        deadline_s = time.monotonic() + 3 * PATIENCE_S
        seen: set[str] = set()
        while not (wanted <= seen and node.count_publishers("/launched/turn_log")):
            assert process.poll() is None, (tmp_path / "launch.log").read_text()
            assert time.monotonic() < deadline_s, seen
            time.sleep(0.2)
            seen = {name for name, space in node.get_node_names_and_namespaces() if space == "/launched"}
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=PATIENCE_S) == 0, (tmp_path / "launch.log").read_text()
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=PATIENCE_S)
        log.close()
        node.destroy_node()
        rclpy.try_shutdown()
    assert (tmp_path / "bag" / "metadata.yaml").is_file()
    said = (tmp_path / "launch.log").read_text()
    assert "Traceback" not in said
    assert "escalating" not in said
