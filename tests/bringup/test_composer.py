"""Processes are started, watched and ended without orphans; plain programs stand in for the nodes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from timar_bringup import composer as composing
from timar_bringup.composer import (
    ChildRun,
    Composer,
    ComposerConfig,
    Ended,
    command_line,
    ros_environment,
)
from timar_bringup.files import network_environment
from timar_bringup.graph import MAX_RESTARTS, OPTIONAL_NICENESS, ROLES, plan, read_arguments
from timar_common.processes import START_REFUSED

QUICK = ComposerConfig(interrupt_s=0.6, terminate_s=0.6)
GRAPH = plan(read_arguments(["namespace:=/head1/", "record:=true"]))

OBEDIENT = "import time; print('up', flush=True); time.sleep(60)"
NOTES_ITS_START = "import os; open(__file__.rpartition('/')[0] + f'/{os.getpid()}', 'w').close()"
DEAF = """
import signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('up', flush=True)
time.sleep(60)
"""


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_until(condition, timeout_s: float = 60.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "nothing happened in time"
        time.sleep(0.02)


@pytest.fixture
def start(monkeypatch):
    """Start a composer whose processes run given programs, all others an obedient one."""
    made: list[Composer] = []

    def make(
        programs: dict[str, str] | None = None, lines: list | None = None, is_awaited: bool = True
    ) -> Composer:
        programs = programs or {}
        monkeypatch.setattr(
            composing,
            "command_line",
            lambda graph, nodes, files: [sys.executable, "-c", programs.get(nodes[0].node.process, OBEDIENT)],
        )
        seen = lines if lines is not None else []
        composer = Composer(GRAPH, lambda *line: seen.append(line), config=QUICK)
        made.append(composer)
        composer.start()
        wait_until(lambda: not is_awaited or {name for name, _ in seen} >= composer.pids.keys())
        return composer

    yield make
    for composer in made:
        composer.stop()


def test_one_process_runs_per_group_and_all_end(start):
    lines: list = []
    composer = start(lines=lines)
    assert set(composer.pids) == {"recorder", "driver", "motion", "inference", "sound"}
    assert composer.poll() is None
    statuses = composer.stop()
    assert set(statuses) == set(composer.pids)
    assert not any(map(is_alive, composer.pids.values()))
    assert ("sound", "up") in lines
    assert composer.not_stopped_gently == []


def test_process_whose_interpreter_still_starts_is_ended_without_a_word(start, monkeypatch, tmp_path):
    """SIGINT during Python's own start was answered by "Fatal Python error: init_import_site"."""
    (tmp_path / "sitecustomize.py").write_text(OBEDIENT.replace("print('up', flush=True)", NOTES_ITS_START))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}")
    lines: list = []
    composer = start(lines=lines, is_awaited=False)
    wait_until(lambda: {int(path.name) for path in tmp_path.glob("[0-9]*")} == set(composer.pids.values()))
    assert set(composer.stop().values()) == {-signal.SIGTERM}
    assert (composer.not_stopped_gently, list(composer.bad_ends())) == ([], [])
    assert [line for name, line in lines if name != "composer"] == []


def test_process_deaf_to_sigint_and_sigterm_is_killed_in_time_and_named(start):
    composer = start({"inference": DEAF})
    began_s = time.monotonic()
    statuses = composer.stop()
    assert time.monotonic() - began_s < 20.0
    assert statuses["inference"] == -signal.SIGKILL
    assert composer.not_stopped_gently == ["inference"]


ENDS_AT_ONCE = "import sys; print('up', flush=True); sys.exit(3)"
REFUSES = f"import sys; print('up', flush=True); sys.exit({START_REFUSED})"


def poll_until(composer: Composer, condition) -> Ended | None:
    end = time.monotonic() + 60.0
    while (ended := composer.poll()) is None and not condition():
        assert time.monotonic() < end, "nothing happened in time"
        time.sleep(0.02)
    return ended


@pytest.mark.parametrize("process", ["recorder", "inference", "sound", "motion", "driver"])
def test_killed_process_is_started_again_and_the_others_are_left_alone(start, process):
    lines: list[tuple[str, str]] = []
    composer = start(lines=lines)
    before = dict(composer.pids)
    os.kill(before[process], signal.SIGKILL)
    assert poll_until(composer, lambda: composer.restarts[process] == 1) is None
    assert is_alive(composer.pids[process])
    assert {name for name, pid in composer.pids.items() if pid != before[name]} == {process}
    (said,) = [line for name, line in lines if name == "composer" and line.startswith("WARN")]
    assert said.startswith(
        f"WARN the process '{process}' was killed by SIGKILL and is started again in 0.25 s"
    )
    assert ROLES[process].meanwhile in said


def test_optional_process_that_ends_again_and_again_stays_down_and_the_graph_goes_on(start, monkeypatch):
    monkeypatch.setattr(composing, "FIRST_BACKOFF_S", 0.01)
    lines: list[tuple[str, str]] = []
    composer = start({"recorder": ENDS_AT_ONCE}, lines)
    assert poll_until(composer, lambda: "it stays down" in lines[-1][1]) is None
    assert composer.restarts["recorder"] == MAX_RESTARTS
    assert composer.poll() is None


def test_driver_that_cannot_come_back_ends_the_graph(start, monkeypatch):
    monkeypatch.setattr(composing, "FIRST_BACKOFF_S", 0.01)
    composer = start({"driver": ENDS_AT_ONCE})
    ended = poll_until(composer, lambda: False)
    assert ended == Ended("driver", 3)
    assert composer.restarts["driver"] == MAX_RESTARTS
    assert "'driver' ended with status 3; the graph cannot go on" in ended.sentence()


@pytest.mark.parametrize("process", ["recorder", "inference"])
def test_process_that_refuses_its_first_start_ends_the_graph_for_it_would_refuse_again(start, process):
    composer = start({process: REFUSES})
    ended = poll_until(composer, lambda: False)
    assert ended == Ended(process, START_REFUSED)
    assert f"'{process}' refused to start" in ended.sentence()


def test_wait_before_a_restart_doubles_and_is_forgotten_after_a_while():
    run = ChildRun(ROLES["inference"])
    waits = []
    for now_s in (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 100.0):
        waits.append(run.end(-9, now_s))
        run.start()
    assert waits == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 0.25]
    # It did run: a device that is missing now may come back, so a later refusal is no end.
    assert run.end(START_REFUSED, 101.0) == 0.5


def test_optional_processes_run_at_a_lower_priority(start):
    composer = start()
    niceness = {name: os.getpriority(os.PRIO_PROCESS, pid) for name, pid in composer.pids.items()}
    assert niceness.pop("recorder") == min(19, os.getpriority(os.PRIO_PROCESS, 0) + OPTIONAL_NICENESS)
    assert set(niceness.values()) == {os.getpriority(os.PRIO_PROCESS, 0)}


def test_every_process_of_the_graph_has_a_role():
    everything = plan(
        read_arguments(
            [
                "record:=true",
                "view:=true",
                "perception:=true",
                "websocket:=true",
                "dialogue:=built-in",
                "metrics_port:=9465",
            ]
        )
    )
    assert set(everything.processes()) == set(ROLES)


def test_what_a_process_left_behind_ends_with_it(start, tmp_path):
    note = tmp_path / "pid"
    leaver = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])
open({str(note)!r}, 'w').write(str(child.pid))
print('up', flush=True)
time.sleep(60)
"""
    composer = start({"sound": leaver})
    pid = int(note.read_text())
    assert is_alive(pid)
    composer.stop()
    wait_until(lambda: not is_alive(pid))


def test_recorder_is_stopped_when_all_others_have_ended(start, tmp_path):
    log = tmp_path / "ends"

    def program(name: str) -> str:
        return f"""
import time
print('up', flush=True)
try:
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(0.2)
    open({str(log)!r}, 'a').write({name!r} + '\\n')
"""

    composer = start({name: program(name) for name in ("recorder", "driver", "sound")})
    composer.stop()
    assert log.read_text().split()[-1] == "recorder"


def test_killed_composer_leaves_no_orphan(tmp_path):
    """The kernel ends the children of a composer that had no time to do so itself."""
    script = tmp_path / "compose.py"
    script.write_text(
        textwrap.dedent(f"""
        import sys, time
        from timar_bringup import composer as composing
        from timar_bringup.graph import plan, read_arguments
        composing.command_line = lambda graph, nodes, files: [sys.executable, "-c", {OBEDIENT!r}]
        composer = composing.Composer(plan(read_arguments([])), lambda *line: None)
        composer.start()
        print(*composer.pids.values(), flush=True)
        time.sleep(60)
        """)
    )
    paths = os.pathsep.join(path for path in sys.path if path)
    parent = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": paths},
    )
    pids = [int(word) for word in parent.stdout.readline().split()]
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert len(pids) == 4
    wait_until(lambda: not any(map(is_alive, pids)))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda one: one.name)
def test_composer_that_a_shell_started_in_the_background_stops_its_processes_gently(tmp_path, number):
    """A shell hands SIGINT down as ignored to what it starts with `&`; nothing ended by SIGINT then."""
    program = f"try:\n    {OBEDIENT}\nexcept KeyboardInterrupt:\n    print('stopped gently', flush=True)\n"
    script = tmp_path / "compose.py"
    script.write_text(
        textwrap.dedent(f"""
        import sys
        from timar_bringup import composer as composing
        composing.command_line = lambda *_: [sys.executable, "-c", {program!r}]
        sys.exit(composing.main([]))
        """)
    )
    composer = subprocess.Popen(
        ["sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    try:
        lines = [composer.stdout.readline() for _ in range(5)]
        assert "only this machine reaches the graph" in lines[0]
        assert [line.split()[1:] for line in lines[1:]] == [["up"]] * 4
        composer.send_signal(number)
        rest, _ = composer.communicate(timeout=60.0)
        assert composer.returncode == 0
        assert rest.count("stopped gently") == 4
    finally:
        composer.kill()
        composer.communicate()


def test_command_line_names_nodes_namespace_and_parameters_file():
    nodes = GRAPH.processes()["sound"]
    command = command_line(GRAPH, nodes, Path("/a b.yaml"))
    assert command[1:] == [
        "-m", "timar_common.base_node",
        "timar_audio.turns_node:TurnsNode", "timar_audio.playback_node:PlaybackNode",
        "timar_audio.capture_node:CaptureNode",
        "--ros-args", "--log-level", "info", "-r", "__ns:=/head1",
        "--params-file", "/a b.yaml",
    ]  # fmt: skip


def test_environment_keeps_what_was_set_by_hand():
    environment = ros_environment({"ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET", "ROS_DOMAIN_ID": "7"})
    assert environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "SUBNET"
    assert environment["ROS_DOMAIN_ID"] == "7"
    assert Path(environment["FASTDDS_DEFAULT_PROFILES_FILE"]).name == "fastdds.xml"
    assert ros_environment({})["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "SYSTEM_DEFAULT"


def test_nodes_log_elsewhere_where_home_cannot_be_written(tmp_path, monkeypatch):
    """rclpy refused to start: failed to create log directory."""
    assert "ROS_LOG_DIR" not in ros_environment({"HOME": str(tmp_path)})
    mine = str(tmp_path / "log")
    assert ros_environment({"HOME": str(tmp_path), "ROS_LOG_DIR": mine})["ROS_LOG_DIR"] == mine
    (tmp_path / "file").touch()
    no_folder = str(tmp_path / "file" / "log")
    assert ros_environment({"HOME": str(tmp_path), "ROS_LOG_DIR": no_folder})["ROS_LOG_DIR"] != no_folder
    monkeypatch.setattr(os, "access", lambda *_: False)
    for given in ({"HOME": str(tmp_path)}, {"HOME": str(tmp_path), "ROS_LOG_DIR": mine}):
        assert Path(ros_environment(given)["ROS_LOG_DIR"]).parent.is_dir()


def test_launched_processes_keep_to_udp_unless_the_machine_says_otherwise():
    assert network_environment({"ROS_DOMAIN_ID": "7"}) == {"FASTDDS_BUILTIN_TRANSPORTS": "UDPv4"}
    assert network_environment({"FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA"}) == {}
    assert network_environment({"FASTRTPS_DEFAULT_PROFILES_FILE": "/mine.xml"}) == {}


def test_settings_with_which_no_process_starts_are_refused_with_a_sentence(capsys, monkeypatch):
    """Fast DDS ended each process without a word of the variable, and each was started again for ever."""
    for name, value in (("ROS_DOMAIN_ID", "300"), ("FASTDDS_DEFAULT_PROFILES_FILE", "/nowhere.xml")):
        with monkeypatch.context() as patched:
            patched.setenv(name, value)
            assert composing.main([]) == 2
            assert name in capsys.readouterr().err


def test_mistyped_argument_ends_with_a_sentence_and_status_2(capsys):
    assert composing.main(["sorce:=file"]) == 2
    assert "did you mean 'source'" in capsys.readouterr().err
