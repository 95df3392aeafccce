"""A process of nodes ends when it is told to, even if a node hangs while it stops."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.ros

HANGING = """
import sys, time
from timar_common import base_node

class Hanging(base_node.BaseNode):
    NAME = "hanging"
    from timar_audio.turns_config import TurnsConfig as Config
    def start(self):
        print("up", flush=True)
    def stop(self):
        time.sleep(60)

base_node.END_WITHIN_S = 1
sys.exit(base_node.run([Hanging]))
"""


def test_node_that_hangs_while_stopping_says_where_and_is_gone():
    process = subprocess.Popen(
        [sys.executable, "-c", HANGING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30.0)
        assert process.returncode == 1
        assert "in stop" in errors
    finally:
        process.kill()
        process.communicate()


def test_signal_during_the_imports_ends_the_process_without_a_traceback(tmp_path):
    (tmp_path / "slow_room.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    process = subprocess.Popen(
        [sys.executable, "-m", "timar_common.base_node", "slow_room:Node"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30.0)
        assert process.returncode == -signal.SIGINT
        assert "Traceback" not in errors
    finally:
        process.kill()
        process.communicate()
