"""Supervised processes speak to their supervisor as systemd's services do, and beat while they work."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
from timar_common import heartbeat
from timar_common.clock import NS_PER_S
from timar_common.heartbeat import AllowedTime, Heartbeat
from timar_common.notify import NotifySocket, notify


@pytest.fixture
def heard(monkeypatch):
    supervisor = NotifySocket()
    for name, value in supervisor.environment.items():
        monkeypatch.setenv(name, value)
    yield supervisor
    supervisor.close()


def test_supervisor_learns_who_said_what_from_the_kernel(heard):
    program = "from timar_common.notify import notify; notify(READY=1, STATUS='a=b')"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    child = subprocess.Popen([sys.executable, "-c", program], env=environment)
    assert child.wait() == 0
    assert notify(WATCHDOG=1)
    assert list(heard.read()) == [
        (child.pid, {"READY": "1", "STATUS": "a=b"}),
        (os.getpid(), {"WATCHDOG": "1"}),
    ]


def test_systemds_own_socket_is_understood(monkeypatch, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        assert notify(READY=1)
        assert systemd.recv(100) == b"READY=1"


def test_nobody_who_listens_holds_nobody_up(monkeypatch, heard):
    assert sum(notify(WATCHDOG=1, STATUS="x" * 3000) for _ in range(10_000)) < 10_000
    monkeypatch.delenv("NOTIFY_SOCKET")
    assert not notify(WATCHDOG=1)


def test_allowed_time_follows_from_what_was_measured():
    allowed = AllowedTime(heartbeat.UNMEASURED_ALLOWED_S)
    assert allowed.allowed_s() == heartbeat.UNMEASURED_ALLOWED_S
    for _ in range(100):
        allowed.add(2.0)
    assert allowed.allowed_s() == pytest.approx(heartbeat.ALLOWED_P99 * 2.0)
    for _ in range(1000):
        allowed.add(0.01)
    assert allowed.allowed_s() == heartbeat.SHORTEST_ALLOWED_S


def test_heartbeat_is_sent_twice_a_second_and_says_when_another_thread_hangs(heard):
    pulse = Heartbeat()
    for now_ns in range(10 * NS_PER_S, 13 * NS_PER_S, NS_PER_S // 100):
        pulse.beat(now_ns)
    said = [message for _, message in heard.read()]
    assert len(said) == 6
    assert all(message["WATCHDOG"] == "1" for message in said)
    allowed_s = [int(message["WATCHDOG_USEC"]) * 1e-6 for message in said if "WATCHDOG_USEC" in message]
    assert allowed_s == [heartbeat.UNMEASURED_ALLOWED_S, *[heartbeat.SHORTEST_ALLOWED_S] * 2]
    pulse.beat(14 * NS_PER_S, hung="worker: a job takes 9 s")
    assert [message for _, message in heard.read()] == [
        {"WATCHDOG": "trigger", "STATUS": "worker: a job takes 9 s"}
    ]
