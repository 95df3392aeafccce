"""A graph is opened to other machines on purpose only: with keys, or by saying that there are none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from timar_bringup import composer as composing
from timar_bringup import network
from timar_bringup.composer import Composer, command_line
from timar_bringup.graph import UsageError, plan, read_arguments
from timar_bringup.network import ENCLAVE, security
from timar_common.processes import START_REFUSED


def keystore(folder: Path) -> Path:
    enclave = folder / "enclaves" / ENCLAVE.strip("/")
    enclave.mkdir(parents=True)
    for name in ("cert.pem", "key.pem", "governance.p7s", "permissions.p7s"):
        (enclave / name).write_text("made by a test")
    for name in ("identity_ca.cert.pem", "permissions_ca.cert.pem"):
        (enclave / name).write_text("made by a test")
    return folder


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [(["network:=10.0.0.7"], "would hear the microphone"), (["keystore:=none"], "add network:=HOST")],
)
def test_graph_is_not_opened_by_half(typed, sentence):
    with pytest.raises(UsageError, match=sentence):
        read_arguments(typed)


def test_keystore_without_keys_is_refused_and_one_with_keys_is_enforced(tmp_path: Path):
    with pytest.raises(UsageError, match="timar keys"):
        security(tmp_path)
    variables = security(keystore(tmp_path / "keys"))
    assert variables["ROS_SECURITY_STRATEGY"] == "Enforce"
    graph = plan(read_arguments(["network:=10.0.0.7", f"keystore:={tmp_path / 'keys'}"]))
    command = command_line(graph, graph.nodes[:1], Path("p.yaml"))
    assert command[command.index("--enclave") + 1] == ENCLAVE


def test_processes_inherit_a_profile_that_listens_where_it_was_opened_and_the_log_says_to_whom(monkeypatch):
    monkeypatch.setattr(network, "own_address", lambda other: "10.0.0.5")
    program = "import os; print(open(os.environ['FASTDDS_DEFAULT_PROFILES_FILE']).read(), flush=True)"
    monkeypatch.setattr(composing, "command_line", lambda *_: [sys.executable, "-c", program])
    lines: list[str] = []
    graph = plan(read_arguments(["network:=10.0.0.7", "keystore:=none"]))
    environment = {name: value for name, value in os.environ.items() if "PROFILES_FILE" not in name}
    environment = composing.ros_environment(environment)
    with Composer(graph, lambda _, line: lines.append(line), environment) as composer:
        for child in composer._children.values():
            child.wait(30.0)
    text = "\n".join(lines)
    assert "<address>10.0.0.5</address>" in text
    assert "listens at 10.0.0.5 to whoever reaches that address, unencrypted" in text


@pytest.mark.ros
def test_node_that_cannot_have_what_security_asks_for_does_not_start(tmp_path: Path):
    """Without keys, with keys that are none, or with a Fast DDS without security: never without."""
    for folder in (tmp_path / "nothing", keystore(tmp_path / "keys")):
        environment = os.environ | {
            "ROS_SECURITY_KEYSTORE": str(folder),
            "ROS_SECURITY_ENABLE": "true",
            "ROS_SECURITY_STRATEGY": "Enforce",
        }
        command = [sys.executable, "-m", "timar_common.base_node", "timar_driver.driver_node:DriverNode"]
        command += ["--ros-args", "--enclave", ENCLAVE]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == START_REFUSED
        assert "FATAL the middleware does not start: " in done.stderr
        assert "Traceback" not in done.stderr
