"""A process of nodes that hangs, in whatever way, is found, says where, and is started again.

A hung process was once never noticed, and a frozen one was killed at the end in silence, with status 0. Nodes
of this test hang each in its own way, in processes of one composer.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from timar_bringup import composer as composing
from timar_bringup.composer import Composer
from timar_bringup.graph import plan, read_arguments

pytestmark = pytest.mark.ros

PATIENCE_S = 45.0
NODES = """
import ctypes, os, sys, threading, time
from timar_common import base_node, heartbeat, jobs
from timar_common.component import Component, Job
from timar_common.component_node import ComponentNode
heartbeat.SHORTEST_ALLOWED_S = heartbeat.UNMEASURED_ALLOWED_S = jobs.UNMEASURED_ALLOWED_S = 2.0

class Hanging(base_node.BaseNode):
    NAME = sys.argv[1]
    from timar_audio.turns_config import TurnsConfig as Config
    def start(self):
        print("up", flush=True)
        if sys.argv[2] != "works":
            self.create_steady_timer(0.5, getattr(self, sys.argv[2]))
    def deadlock(self):
        lock = threading.Lock()
        lock.acquire()
        lock.acquire()
    def hold_interpreter(self):
        ctypes.PyDLL(None).sleep(10)

class Work(Component):
    NAME, Config, queue_capacity, tick_s = sys.argv[1], Hanging.Config, 1, 0.1
    handed_out = False
    def __init__(self, config): self.config = config
    def next_job(self, now_ns):
        if not self.handed_out:
            self.handed_out = True
            return Job()
    def work(self, job, clock, is_busy):
        self.never_ends()
        yield
    def never_ends(self):
        threading.Event().wait()

class Working(ComponentNode):
    component_type = Work
    def start(self):
        print("up", flush=True)
        super().start()

sys.exit(base_node.run([Working if sys.argv[2] == "worker" else Hanging]))
"""
HANGS = {"sound": "hold_interpreter", "motion": "deadlock", "inference": "worker", "driver": "works"}


@pytest.fixture
def graph(request, monkeypatch, tmp_path):
    """Give a composer whose processes hang as they are told, and what they say."""
    lines: list[tuple[str, str]] = []
    (tmp_path / "nodes.py").write_text(NODES)
    monkeypatch.setattr(
        composing,
        "command_line",
        lambda graph, nodes, files: [
            sys.executable,
            str(tmp_path / "nodes.py"),
            nodes[0].node.process,
            request.param[nodes[0].node.process],
        ],
    )
    with Composer(plan(read_arguments([])), lambda *line: lines.append(line)) as composer:
        composer.lines = lines
        yield composer, lines


def follow(composer: Composer, condition) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert composer.poll() is None
        assert time.monotonic() < end_s, "\n".join(map(str, composer.lines))
        time.sleep(0.02)


def said(lines: list[tuple[str, str]], text: str) -> bool:
    return any(text in line for _, line in lines)


@pytest.mark.parametrize("graph", [HANGS], indirect=True, ids=["each hangs in its own way"])
def test_process_that_hangs_writes_its_stacks_and_is_started_again(graph):
    composer, lines = graph
    follow(composer, lambda: {name for name, line in lines if line == "up"} == set(HANGS))
    follow(composer, lambda: composer._watch.is_ready("driver"))
    os.kill(composer.pids["driver"], signal.SIGSTOP)
    stopped_s = time.monotonic()
    follow(composer, lambda: composer.restarts["driver"] == 1)
    # The process may have told less than what a composer allows by itself, and it may not.
    assert time.monotonic() - stopped_s < 5.0 + 5.0
    follow(composer, lambda: all(composer.restarts.values()))
    for process, word in (
        ("driver", "T (stopped)"),
        ("sound", "in hold_interpreter"),
        ("motion", "in deadlock"),
        ("inference", "in never_ends"),
        ("inference", "Job takes"),
    ):
        of_process = [line for name, line in lines if name == process or f"{process!r}" in line]
        assert any(word in line for line in of_process), (process, word, of_process)


@pytest.mark.parametrize("graph", [dict.fromkeys(HANGS, "works")], indirect=True, ids=["all work"])
def test_process_frozen_at_the_end_is_named_with_what_it_did_within_three_seconds(graph):
    composer, lines = graph
    follow(composer, lambda: {name for name, line in lines if line == "up"} == set(HANGS))
    follow(composer, lambda: composer._watch.is_ready("driver"))
    os.kill(composer.pids["driver"], signal.SIGSTOP)
    began_s = time.monotonic()
    composer.stop()
    took_s = time.monotonic() - began_s
    (sentence,) = [line for line in composer.bad_ends() if "'driver'" in line]
    assert "had to be killed; it last said: running" in sentence
    assert any("'driver' did not stop" in line and "T (stopped)" in line for _, line in lines)
    assert composer.not_stopped_gently == ["driver"]
    assert took_s < 3.5


def test_nothing_stays_in_the_temporary_folder_when_the_composer_is_killed(tmp_path: Path):
    folder = tmp_path / "tmp"
    folder.mkdir()
    composer = subprocess.Popen(
        [sys.executable, "-m", "timar_bringup.composer", "replay:=true"],
        env=os.environ | {"TMPDIR": str(folder), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "torch")},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        # The first line says who reaches the graph, before any process is there.
        listed = Path(f"/proc/{composer.pid}/task/{composer.pid}/children")
        start_s = time.monotonic()
        while not (children := listed.read_text().split()):
            assert composer.poll() is None
            assert time.monotonic() - start_s < PATIENCE_S
            time.sleep(0.05)
    finally:
        composer.kill()
        composer.communicate()
    end_s = time.monotonic() + PATIENCE_S
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < end_s
        time.sleep(0.05)
    # onnxruntime keeps one file of that name there, whoever runs it.
    assert {path.name for path in folder.iterdir()} <= {".ses"}
