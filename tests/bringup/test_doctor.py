"""The doctor names what stands in a head's way, with what to do, and nothing personal."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
from timar_bringup import doctor
from timar_bringup.doctor import CheckVerdict, GraphProcesses


def verdicts(findings) -> list[str]:
    return [finding.verdict.value for finding in findings]


@pytest.mark.parametrize(
    ("variables", "word"),
    [
        ({"ROS_DOMAIN_ID": "233"}, "expected 0 to 101"),
        ({"ROS_DOMAIN_ID": "150"}, "ports may be taken"),
        ({"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}, "the same in every process"),
        ({"ROS_LOCALHOST_ONLY": "1"}, "unset ROS_LOCALHOST_ONLY"),
        ({"ROS_DISCOVERY_SERVER": "10.0.0.1:11811"}, "unset ROS_DISCOVERY_SERVER"),
        ({"FASTDDS_DEFAULT_PROFILES_FILE": "/nowhere.xml"}, "does not exist"),
    ],
)
def test_variable_by_which_nodes_miss_each_other_is_named_with_what_to_do(variables, word):
    findings = list(doctor.middleware(variables))
    assert any(word in finding.line() and finding.verdict is not CheckVerdict.OK for finding in findings)
    assert verdicts(doctor.middleware({})) == ["ok"]


def test_serial_port_that_may_not_be_opened_names_the_group(tmp_path: Path):
    assert verdicts(doctor.devices(tmp_path)) == ["ok", "ok"]
    (tmp_path / "ttyUSB0").touch(mode=0o000)
    if os.access(tmp_path / "ttyUSB0", os.W_OK):
        pytest.skip("root may open everything")
    serial, _ = doctor.devices(tmp_path)
    assert serial.verdict is CheckVerdict.PROBLEM
    assert "usermod -aG" in serial.remedy


def test_port_of_the_view_that_is_taken_is_said():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        (finding,) = doctor.ports(taken.getsockname()[1])
    assert finding.verdict is CheckVerdict.WARNING
    assert "view_port:=" in finding.remedy


def test_damaged_model_is_a_problem(tmp_path: Path):
    (tmp_path / "manifest.json").write_text("{}")
    assert verdicts(doctor.model(str(tmp_path))) == ["problem"]


def test_processes_of_a_graph_that_is_gone_are_found(tmp_path: Path):
    for pid, parent in ((7, 1), (8, 5)):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "cmdline").write_bytes(b"python\0-m\0timar_common.base_node\0x:Y\0")
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (py (x) thon) S {parent} 1 1")
    found = doctor.graph_processes(tmp_path)
    assert found == GraphProcesses((), (7, 8), (7,))
    (finding,) = doctor.leftovers(found)
    assert finding.verdict is CheckVerdict.PROBLEM
    assert finding.remedy == "kill 7"


def test_running_graph_is_judged_by_its_diagnostics_and_by_who_publishes():
    names = ("inference", "retargeting", "driver", "turns", "capture", "playback")
    health = {f"/head/{name}": (0, "running") for name in names}
    assert set(verdicts(doctor.graph(health, {"/head/joint_trajectory": ["/head/retargeting"]}))) == {"ok"}
    health["/head/driver"] = (2, "servo 3 is hot")
    del health["/head/inference"]
    findings = list(doctor.graph(health, {"/head/joint_states": ["/head/driver", "/head/old"]}))
    said = [finding.line() for finding in findings if finding.verdict is CheckVerdict.PROBLEM]
    assert len(said) == 3
    assert "/head/driver: servo 3 is hot" in said[0]
    assert "inference of /head are not heard" in said[1]
    assert "/head/joint_states has 2 publishers: /head/driver, /head/old" in said[2]


def test_report_for_a_bug_is_json_without_the_users_name_or_folder(capsys, monkeypatch, tmp_path: Path):
    monkeypatch.setenv("HOME", str(tmp_path))
    status = doctor.main(["--json", "--listen", "0", "--model", str(tmp_path / "nothing")])
    text = capsys.readouterr().out
    findings = json.loads(text)
    assert {"machine", "python", "ros", "sound", "serial", "model", "disk", "clock"} <= {
        finding["check"] for finding in findings
    }
    assert all(finding["remedy"] for finding in findings if finding["verdict"] != "ok")
    assert status == 1, "a model that is not there is a problem"
    assert str(tmp_path) not in text
    assert socket.gethostname() not in text
