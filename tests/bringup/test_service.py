"""The head as a service: the unit starts what was typed, and systemd hears what it expects."""

from __future__ import annotations

import configparser
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from timar_bringup import service
from timar_bringup.composer import UNIT_WATCHDOG_S, ServiceReport
from timar_bringup.service import unit_text


def test_unit_runs_the_composer_with_the_words_that_were_typed_in_the_shells_environment():
    unit = unit_text(
        ["record:=true", 'device:=USB "50 %" $1'],
        Path("/srv/head"),
        {"AMENT_PREFIX_PATH": "/opt/ws", "SECRET": "x"},
    )
    parsed = configparser.RawConfigParser(strict=False)
    parsed.optionxform = str
    parsed.read_string(unit)
    assert parsed["Service"]["Type"] == "notify"
    assert parsed["Service"]["WorkingDirectory"] == "/srv/head"
    assert parsed["Service"]["ExecStart"] == (
        f'"{sys.executable}" "-m" "timar_bringup.composer" "record:=true" "device:=USB \\"50 %%\\" $$1"'
    )
    assert '"AMENT_PREFIX_PATH=/opt/ws"' in unit
    assert "SECRET" not in unit


def test_wrong_argument_is_refused_before_anything_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert service.main(["install", "--user", "recrod:=true"]) == 2
    assert "did you mean 'record'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_unit_is_written_and_a_machine_without_systemd_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert service.main(["install", "--user", "view:=true"]) == 1
    assert '"view:=true"' in (tmp_path / "systemd/user/timar.service").read_text()
    assert "type it where systemd runs" in capsys.readouterr().err


def test_systemd_is_told_once_that_the_graph_is_up_and_often_that_the_composer_works(monkeypatch):
    said: list[dict] = []
    monkeypatch.setattr("timar_bringup.composer.notify", lambda **words: said.append(words))
    report = ServiceReport()
    for tick in range(600):
        report.update(is_ready=tick > 50, now_s=tick / 10)
    assert sum("READY" in words for words in said) == 1
    assert sum("WATCHDOG" in words for words in said) >= 60.0 / (UNIT_WATCHDOG_S / 2)


@pytest.mark.ros
def test_composer_as_a_service_reports_ready_works_and_stops_as_systemd_asks(tmp_path):
    """A socket stands for systemd's."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(50.0)
        command = [sys.executable, "-m", "timar_bringup.composer", "replay:=true", "autostart:=false"]
        environment = os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify"), "ROS_DOMAIN_ID": "91"}
        composer = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        try:
            heard = []
            while not any(b"READY=1" in word for word in heard):
                heard.append(systemd.recv(4096))
            assert b"WATCHDOG=1" in heard
            began_s = time.monotonic()
            composer.send_signal(signal.SIGTERM)
            assert composer.wait(30.0) == 0
            assert time.monotonic() - began_s < 10.0
            while heard[-1] != b"STOPPING=1":
                heard.append(systemd.recv(4096))
        finally:
            composer.kill()
            composer.wait()
