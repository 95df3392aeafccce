"""Processes end with whoever started them, and by SIGINT and SIGTERM alike, whatever they inherited."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from timar_common import cli
from timar_common.processes import process_pool, start_child

PATIENCE_S = 60.0


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s, "nothing happened in time"
        time.sleep(0.02)


def ignore_interrupts() -> None:
    """What a shell does to a program that it starts with ``&``."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@pytest.fixture
def run(tmp_path):
    """Start a program; it is killed at the end of the test."""
    started: list[subprocess.Popen] = []
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}

    def start(program: str, preexec_fn=None) -> subprocess.Popen:
        file = tmp_path / f"program{len(started)}.py"
        file.write_text(textwrap.dedent(program))
        started.append(
            subprocess.Popen(
                [sys.executable, str(file)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
                preexec_fn=preexec_fn,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


STOPPING = """
    import time
    from timar_common.processes import stop_signals
    stopped = []
    with stop_signals(stopped.append):
        print("up", flush=True)
        while not stopped:
            time.sleep(0.01)
    print(stopped[0].name, flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda one: one.name)
def test_stop_signals_stop_what_a_shell_started_in_the_background(run, number):
    process = run(STOPPING, ignore_interrupts)
    assert process.stdout.readline() == "up\n"
    process.send_signal(number)
    assert process.communicate(timeout=PATIENCE_S)[0] == f"{number.name}\n"
    assert process.returncode == 0


def test_what_runs_under_nohup_goes_on_when_its_terminal_is_closed(run):
    process = run(STOPPING, lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGHUP)
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=PATIENCE_S)[0] == "SIGTERM\n"


def test_child_can_be_interrupted_though_its_parent_cannot():
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        child = start_child([sys.executable, "-c", "print('up', flush=True); input()"], stdin=-1, stdout=-1)
    finally:
        signal.signal(signal.SIGINT, previous)
    assert child.stdout.readline() == b"up\n"
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=PATIENCE_S)
    assert child.returncode == -signal.SIGINT


@pytest.mark.parametrize("how", ["start_child", "end_with_parent"])
def test_child_of_a_killed_process_ends_after_cleaning_up(run, tmp_path, how):
    note = tmp_path / "cleaned"
    child = f"""
import pathlib, threading
from timar_common.processes import end_with_parent, stop_signals
{"end_with_parent(within_s=30.0)" if how == "end_with_parent" else ""}
over = threading.Event()
with stop_signals(lambda _: over.set()):
    print("up", flush=True)
    over.wait()
pathlib.Path({str(note)!r}).touch()
"""
    parent = run(f"""
        import subprocess, sys, time
        from timar_common.processes import start_child
        start = {"start_child" if how == "start_child" else "subprocess.Popen"}
        child = start([sys.executable, "-c", {child!r}], stdout=subprocess.PIPE)
        child.stdout.readline()
        print(child.pid, flush=True)
        time.sleep(600)
    """)
    pid = int(parent.stdout.readline())
    parent.kill()
    wait_until(lambda: not is_alive(pid))
    assert note.exists()


def test_node_under_nohup_outlives_who_started_it(run):
    child = (
        "import time; from timar_common.processes import end_with_parent as tie; tie(); "
        "print('up', flush=True); time.sleep(600)"
    )
    parent = run(f"""
        import signal, subprocess, sys, time
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        child = subprocess.Popen([sys.executable, "-c", {child!r}], stdout=subprocess.PIPE)
        child.stdout.readline()
        print(child.pid, flush=True)
        time.sleep(600)
    """)
    pid = int(parent.stdout.readline())
    parent.kill()
    time.sleep(0.5)
    try:
        assert is_alive(pid)
    finally:
        os.kill(pid, signal.SIGKILL)


POOL = """
    import multiprocessing, os, pathlib, sys, time

    from timar_common.cli import _interrupt
    from timar_common.processes import process_pool, stop_signals

    def work(number):
        pathlib.Path(__file__).with_name(f"{{os.getpid()}}.worker").touch()
        time.sleep(600)

    if __name__ == "__main__":
        with stop_signals(_interrupt), process_pool(2, multiprocessing.get_context("{method}")) as pool:
            print("up", flush=True)
            list(pool.map(work, range(8)))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda one: one.name)
@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_workers_and_their_server_end_with_who_started_them(run, tmp_path, method, number):
    """Two workers of a killed replay, and their server, stayed for good and went on writing."""
    parent = run(POOL.format(method=method), os.setsid)
    assert parent.stdout.readline() == "up\n"
    wait_until(lambda: len(list(tmp_path.glob("*.worker"))) == 2)
    family = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if session(pid) == parent.pid]
    assert len(family) >= 3
    parent.send_signal(number)
    wait_until(lambda: not any(map(is_alive, family)))
    assert len(list(tmp_path.glob("*.worker"))) == 2, "no job was begun after that"


def session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return 0


def test_pool_hands_out_results_and_prepares_its_workers():
    with process_pool(2, multiprocessing.get_context("fork"), _PREPARED.append, (3,)) as pool:
        assert list(pool.map(_power, [1, 2, 3])) == [1, 8, 27]


_PREPARED: list[int] = []


def _power(number: int) -> int:
    return number ** _PREPARED[0]


def test_command_that_is_stopped_says_by_what_and_cleans_up(monkeypatch, capsys):
    cleaned = []

    class Entry:
        @staticmethod
        def load():
            def command(_argv):
                try:
                    os.kill(os.getpid(), signal.SIGTERM)
                    time.sleep(PATIENCE_S)
                finally:
                    cleaned.append(True)

            return command

    monkeypatch.setattr(cli, "commands", lambda: {"wait": Entry})
    assert cli.main(["wait"]) == 128 + signal.SIGTERM
    assert cleaned == [True]
    assert capsys.readouterr().err == "timar wait: stopped by SIGTERM\n"
