"""Inference on another machine, whose clocks are wrong: motion is in time, a lost link is survived.

The two machines are network namespaces of this one with a cable between them. On the one that computes, the
wall clock is an hour ahead and the monotonic clock a day.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from node_process import PATIENCE_S
from timar_bringup.demo import clip
from timar_bringup.network import profile
from timar_common.wav import read_wav, write_wav
from two_machines import ADDRESSES, TwoMachines
from wrong_clock import wrong_clocks

pytestmark = pytest.mark.ros

WATCHER = """
import json, sys, time
import rclpy
from sensor_msgs.msg import JointState
from timar_common.base_node import qos_of
from timar_common.topics import TOPICS
from timar_msgs.msg import AudioChunk, HeadMotion
rclpy.init()
node = rclpy.create_node("watcher")

def write(kind, *values):
    print(json.dumps([kind, time.monotonic(), *values]), flush=True)

def motion(message):
    stamp = message.header.stamp
    lead_s = stamp.sec + 1e-9 * stamp.nanosec - time.time()
    write("preview" if message.is_preview else "motion", lead_s)

def joints(message):
    at = dict(zip(message.name, message.position))
    write("joints", *(at[name] for name in ("neck_yaw", "neck_pitch", "neck_roll", "jaw")))

def listen(kind, topic, callback):
    node.create_subscription(kind, topic, callback, qos_of(TOPICS[topic]))

listen(HeadMotion, "agent/motion", motion)
listen(JointState, "joint_states", joints)
listen(AudioChunk, "user/audio", lambda message: write("sound", message.first_sample))
while True:
    rclpy.spin_once(node, timeout_sec=0.1)
"""
NECK_LIMIT_RAD_S = 4.0


@dataclasses.dataclass
class Pair:
    """A head and a machine that computes for it, both running."""

    machines: TwoMachines
    logs: dict[str, Path]

    def said(self, machine: str) -> str:
        """Return what a machine's composer wrote so far."""
        return self.logs[machine].read_text(encoding="utf-8")

    def wait_for(self, machine: str, words: str, since: int = 0) -> None:
        """Wait until a machine's log says something, after so many characters."""
        deadline_s = time.monotonic() + PATIENCE_S
        while words not in self.said(machine)[since:]:
            assert time.monotonic() < deadline_s, f"{machine} never said {words!r}:\n{self.said(machine)}"
            time.sleep(0.1)

    def seen(self) -> dict[str, np.ndarray]:
        """Return by kind what the watcher wrote: (n, 1 + values), time first [s]."""
        rows: dict[str, list[list[float]]] = {"motion": [], "preview": [], "joints": [], "sound": []}
        for line in self.said("watcher").splitlines(keepends=True):
            if line.startswith("[") and line.endswith("\n"):
                kind, *values = json.loads(line)
                rows[kind].append(values)
        return {kind: np.array(values) for kind, values in rows.items()}

    def wait_for_motion(self, turns: int, patience_s: float = PATIENCE_S) -> None:
        """Wait until so many more turns came."""
        wanted = len(self.seen()["motion"]) + turns
        deadline_s = time.monotonic() + patience_s
        while len(self.seen()["motion"]) < wanted:
            assert time.monotonic() < deadline_s, self.said("head") + self.said("box")
            time.sleep(0.2)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    voice = tmp_path / "user.wav"
    write_wav(voice, np.tile(read_wav(clip("speaker1")), 4))
    base = {key: value for key, value in os.environ.items() if not re.match("ROS_AUTO|FAST.*PROFILES", key)}
    clocks, wrong = wrong_clocks(tmp_path, wall_s=3600, monotonic_s=86_400)
    composer = [sys.executable, "-m", "timar_bringup.composer", "namespace:=head9", "keystore:=none"]
    with contextlib.ExitStack() as stack:
        machines = stack.enter_context(TwoMachines().connected())
        logs = {name: tmp_path / f"{name}.log" for name in ("head", "box", "watcher")}

        def start(name: str, machine: str, command: list[str], environment: dict[str, str]) -> None:
            log = stack.enter_context(logs[name].open("w"))
            command = [*machines.command(machine), *command]
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            stack.callback(end, process)

        box = [*clocks, *composer, f"head_host:={ADDRESSES['head']}"]
        start("box", "box", box, base | wrong)
        talk = ["source:=file", f"user_file:={voice}", f"agent_file:={clip('speaker2')}"]
        start("head", "head", [*composer, f"inference_host:={ADDRESSES['box']}", *talk], base)
        watcher = [sys.executable, "-c", WATCHER, "--ros-args", "-r", "__ns:=/head9"]
        reach = tmp_path / "reach.xml"
        reach.write_text(profile([ADDRESSES["head"]], []), encoding="utf-8")
        here = {"FASTDDS_DEFAULT_PROFILES_FILE": str(reach)}
        start("watcher", "head", watcher, base | here | {"ROS_AUTOMATIC_DISCOVERY_RANGE": "SYSTEM_DEFAULT"})
        found = Pair(machines, logs)
        found.wait_for_motion(20, 4 * PATIENCE_S)
        yield found


def end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(PATIENCE_S)
    finally:
        process.kill()


def speeds(joints: np.ndarray) -> np.ndarray:
    """Return the largest speed of any joint between two states that came soon after each other [rad/s]."""
    steps = np.diff(joints[:, 0])
    return (np.abs(np.diff(joints[:, 1:], axis=0)) / np.maximum(steps, 0.01)[:, None])[steps < 0.05]


def test_motion_comes_in_time_from_a_machine_whose_clocks_are_wrong(pair: Pair) -> None:
    leads_s = pair.seen()["motion"][5:, 1]
    assert 0.0 < np.median(leads_s) < 0.2, leads_s
    said = re.search(
        r"clock is known to ([\d.]+) ms; there and back takes ([\d.]+) ms, p99", pair.said("box")
    )
    assert said is not None
    assert float(said[1]) <= float(said[2])


def test_head_idles_while_the_cable_is_out_and_goes_on_by_itself(pair: Pair) -> None:
    pair.machines.plug(False)
    cut_s = time.monotonic()
    time.sleep(2.0)
    pair.machines.plug(True)
    pair.wait_for_motion(10)
    seen = pair.seen()
    motion_s, sound_s, joints = (seen[kind][:, 0] for kind in ("motion", "sound", "joints"))
    assert not ((motion_s > cut_s + 0.5) & (motion_s < cut_s + 2.0)).any()
    assert np.diff(joints[joints > cut_s]).max() < 1.0, "the driver goes on"
    assert np.diff(sound_s[sound_s > cut_s]).max() < 1.0, "capture goes on"
    assert speeds(seen["joints"]).max() < NECK_LIMIT_RAD_S
    assert np.median(seen["motion"][-5:, 1]) > 0.0, "in time again"
    assert "no sound came for longer" not in pair.said("box")


@pytest.mark.long
def test_link_that_was_away_for_20_s_and_lost_its_address_begins_a_new_conversation(pair: Pair) -> None:
    before = {machine: len(pair.said(machine)) for machine in ("head", "box")}
    pair.machines.plug(False)
    pair.machines.address("head", False)
    cut_s = time.monotonic()
    time.sleep(20.0)
    assert (
        "the inference host is gone; the head idles until it is back" in pair.said("head")[before["head"] :]
    )
    assert "the head does not answer any more" in pair.said("box")[before["box"] :]
    pair.machines.address("head", True)
    pair.machines.plug(True)
    pair.wait_for("box", "no sound came for longer than max_gap_s: a new conversation begins", before["box"])
    pair.wait_for_motion(10)
    seen = pair.seen()
    joints_s = seen["joints"][:, 0]
    away = (joints_s > cut_s + 1.0) & (joints_s < cut_s + 20.0)
    assert np.diff(joints_s[joints_s > cut_s]).max() < 1.0, "the driver goes on"
    assert np.ptp(seen["joints"][away, 1:], axis=0).max() > 0.01, "the head idles and does not freeze"
    assert speeds(seen["joints"]).max() < NECK_LIMIT_RAD_S
    assert np.median(seen["motion"][-5:, 1]) > 0.0, "in time again"
    pair.wait_for("head", "the inference host is there", before["head"])
