"""Whatever process of the running head is killed, the head goes on and the process comes back.

Killing the browser view, the recorder or the inference process once ended the whole robot within two seconds.
One graph is started, each process but the recorder is killed in turn by SIGKILL, and what the topics show
is kept.
"""

from __future__ import annotations

import collections
import dataclasses
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from node_process import PATIENCE_S
from sensor_msgs.msg import JointState
from timar_bringup.composer import Composer
from timar_bringup.demo import clip
from timar_bringup.files import with_urdf
from timar_bringup.graph import plan, read_arguments
from timar_bringup.progress import Progress
from timar_bringup.progress_node import Watcher

pytestmark = pytest.mark.ros

VICTIMS = ("view", "inference", "motion", "driver", "sound")
WATCHED = ("user/audio", "agent/motion", "joint_trajectory", "joint_states")
COMES_FROM = {
    "inference": "agent/motion",
    "motion": "joint_trajectory",
    "driver": "joint_states",
    "sound": "user/audio",
}
NECK = ("neck_yaw", "neck_pitch", "neck_roll", "jaw")
SETTLE_S = 2.0


@dataclasses.dataclass
class Kill:
    """What followed the death of one process; times count from it [s]."""

    times: dict[str, np.ndarray]
    """When messages of each watched topic came."""
    positions: np.ndarray
    """(n, 1 + joints) time and joints of the neck [rad]."""
    others_unchanged: bool
    lines: list[str]

    def gap_s(self, topic: str) -> float:
        """Return the longest silence of a topic from the kill on."""
        times = self.times[topic]
        return float(np.diff(np.concatenate([times[times <= 0][-1:], times[times > 0]])).max())


@pytest.fixture(scope="module")
def kills(random_model: Path) -> dict[str, Kill]:
    typed = [
        "source:=file",
        f"user_file:={clip('speaker1')}",
        f"agent_file:={clip('speaker2')}",
        f"model:={random_model}",
    ]
    typed += ["view:=true", "view_port:=18600", "namespace:=head7"]
    lines: list[str] = []
    heard: dict[str, list[float]] = collections.defaultdict(list)
    joints: list[tuple[float, ...]] = []
    progress = Progress()
    found: dict[str, Kill] = {}
    with (
        Composer(plan(with_urdf(read_arguments(typed))), lambda _, line: lines.append(line)) as composer,
        Watcher(progress, "/head7") as watcher,
    ):
        for topic in WATCHED:
            watch(watcher, topic, heard[topic], joints)

        def go_on(seconds: float) -> None:
            end_s = time.monotonic() + seconds
            while time.monotonic() < end_s:
                watcher.watch(0.05)
                assert composer.poll() is None, lines

        def is_back(topic: str, since_s: float) -> bool:
            return bool(heard[topic]) and heard[topic][-1] > since_s

        deadline_s = time.monotonic() + PATIENCE_S
        while progress.elapsed_s(time.monotonic_ns()) < SETTLE_S:
            go_on(0.1)
            assert time.monotonic() < deadline_s, lines
        for victim in VICTIMS:
            before, said = dict(composer.pids), len(lines)
            killed_s = time.monotonic()
            os.kill(composer.pids[victim], signal.SIGKILL)
            deadline_s = killed_s + PATIENCE_S
            # From when on a message of its topic is the new process's.
            while composer.restarts[victim] == 0:
                go_on(0.05)
            restarted_s = time.monotonic()
            while not is_back(COMES_FROM.get(victim, "joint_states"), restarted_s):
                go_on(0.1)
                assert time.monotonic() < deadline_s, lines
            go_on(SETTLE_S)
            found[victim] = Kill(
                {topic: np.array(times) - killed_s for topic, times in heard.items()},
                np.array(joints) - np.array([killed_s, *(0.0 for _ in NECK)]),
                all(pid == before[name] for name, pid in composer.pids.items() if name != victim),
                lines[said:],
            )
    return found


def watch(watcher: Watcher, topic: str, times: list[float], joints: list[tuple[float, ...]]) -> None:
    def take(message: object) -> None:
        times.append(time.monotonic())
        if isinstance(message, JointState):
            by_name = dict(zip(message.name, message.position, strict=True))
            joints.append((times[-1], *(by_name[name] for name in NECK)))

    watcher.subscribe(topic, take)


@pytest.mark.parametrize("victim", VICTIMS)
def test_killed_process_comes_back_and_no_other_is_touched(kills: dict[str, Kill], victim: str) -> None:
    kill = kills[victim]
    assert kill.others_unchanged
    assert any(
        f"the process '{victim}' was killed by SIGKILL and is started again" in line for line in kill.lines
    )
    assert not [line for line in kill.lines if line.startswith(("FATAL", "Traceback"))], kill.lines


@pytest.mark.parametrize("victim", VICTIMS)
def test_head_does_not_jump_when_a_process_dies_or_comes_back(kills: dict[str, Kill], victim: str) -> None:
    # Where the driver was away no joint states came: then the two readings are seconds apart.
    times, positions = kills[victim].positions[:, 0], kills[victim].positions[:, 1:]
    near = (times[1:] > 0) & (np.diff(times) < 0.05)
    speeds = np.abs(np.diff(positions, axis=0))[near] / np.maximum(np.diff(times)[near], 0.01)[:, None]
    assert speeds.max() < 4.0, "faster than the neck's limit in the URDF"


def test_others_do_not_notice_that_the_view_is_gone(kills: dict[str, Kill]) -> None:
    for topic in WATCHED:
        assert kills["view"].gap_s(topic) < 1.5


def test_head_idles_while_inference_is_away(kills: dict[str, Kill]) -> None:
    assert kills["inference"].gap_s("joint_trajectory") < 2.0
    assert kills["inference"].gap_s("agent/motion") > kills["inference"].gap_s("joint_trajectory")


def test_new_conversation_begins_by_itself_when_sound_is_back(kills: dict[str, Kill]) -> None:
    kill = kills["sound"]
    assert any("capture was started again" in line for line in kill.lines)
    back_s = kill.times["user/audio"][kill.times["user/audio"] > 0][1]
    assert (kill.times["agent/motion"] > back_s).any()
