"""A bag played to the running graph: it hears what was recorded, in the bag's time, again and again."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import rclpy
import soundfile
from node_process import PATIENCE_S
from rclpy.qos import qos_profile_sensor_data
from rosgraph_msgs.msg import Clock
from timar_bag.bag import BagReader
from timar_bag.bag_writer import TopicBagWriter
from timar_bag.make_bag import WholeSound, write_bag
from timar_bringup.composer import Composer
from timar_bringup.demo import clip
from timar_bringup.files import with_urdf
from timar_bringup.graph import plan, read_arguments
from timar_common.base_node import message_type, qos_of
from timar_common.clock import NS_PER_S
from timar_common.topics import TOPICS
from timar_inference.config import InferenceConfig
from timar_replay.replay import replay
from timar_replay.replay_settings import ReplaySettings

pytestmark = [pytest.mark.ros, pytest.mark.slow]

SECONDS = 4
GENERATE, COMMIT_UNSAMPLED = 0, 1


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds of the shipped conversation, stamped years ago."""
    voices = [
        soundfile.read(clip(speaker), SECONDS * 16_000, dtype="int16")[0]
        for speaker in ("speaker1", "speaker2")
    ]
    path = tmp_path_factory.mktemp("made") / "talk"
    write_bag(path, WholeSound(voices[0]), WholeSound(voices[1]))
    return path


@pytest.fixture(scope="module")
def later_bag(bag: Path) -> Path:
    """The same, 1000 s later: bags of the same time would lie over each other in one recording."""
    path = bag.with_name("later")
    with BagReader(bag) as reader:
        out = TopicBagWriter(path).open()
        for entry in reader.messages():
            entry.message.header.stamp.sec += 1000
            out.write(entry.topic, entry.receive_ns + 1000 * 10**9, entry.message)
        out.close()
    return path


@pytest.fixture(scope="module")
def heard(bag: Path, later_bag: Path, random_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a graph recorded that heard one bag after the other."""
    out = tmp_path_factory.mktemp("live") / "bag"
    lines: list[str] = []
    typed = ["replay:=true", f"model:={random_model}", "record:=true", f"out:={out}", "namespace:=head1"]
    with Composer(
        plan(with_urdf(read_arguments(typed))), lambda *line: lines.append(" ".join(line))
    ) as composer:
        for played in (bag, later_bag):
            command = [sys.executable, "-m", "timar_common.cli", "replay", str(played), "--live"]
            command += ["--robot-namespace", "head1", "--wait-for-nodes", "5"]
            play = subprocess.run(
                command, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL
            )
            assert play.returncode == 0, play.stderr + play.stdout + "\n".join(lines)
            assert composer.poll() is None, lines
        composer.stop()
    assert not [line for line in lines if "Traceback" in line], lines
    return out


def messages(bag: Path, topic: str) -> list:
    with BagReader(bag) as reader:
        return list(reader.messages({topic}))


def test_graph_hears_every_block_as_it_was_recorded(bag: Path, later_bag: Path, heard: Path):
    for topic in ("user/audio", "agent/audio", "agent/audio_planned"):
        sent, again, came = ([] for _ in range(3))
        for found, folder in ((sent, bag), (again, later_bag), (came, heard)):
            with BagReader(folder) as reader:
                found += [data for _, _, data in reader.raw_messages({topic})]
        assert came == sent + again, topic


def test_turns_are_made_of_the_same_sound_as_offline(
    bag: Path, heard: Path, random_model: Path, tmp_path: Path
):
    settings = ReplaySettings(inference=InferenceConfig(model=str(random_model), warmup_turns=0))
    replay(bag, tmp_path / "offline", settings)
    offline, live = (
        [entry.message for entry in messages(folder, "turn_log")] for folder in (tmp_path / "offline", heard)
    )
    first_id = live[0].conversation_id
    ranges = [
        [
            (turn.first_frame, turn.user_first_sample, turn.user_end_sample, turn.agent_first_sample)
            for turn in log
            if turn.decision in (GENERATE, COMMIT_UNSAMPLED)
            and turn.conversation_id in (first_id, offline[0].conversation_id)
        ]
        for log in (offline, live)
    ]
    # On a busy machine a turn may come too late to be sampled, or after the end; it is of the same sound.
    assert len(ranges[1]) > 0.7 * len(ranges[0])
    assert set(ranges[1]) <= set(ranges[0])
    assert len({turn.conversation_id for turn in live}) == 2, "the second play is a conversation of its own"


def test_motion_is_stamped_in_the_bags_time_and_reaches_the_joints(bag: Path, heard: Path):
    first_id = messages(heard, "turn_log")[0].message.conversation_id
    motion = [
        entry.message
        for entry in messages(heard, "agent/motion")
        if not entry.message.is_preview and entry.message.conversation_id == first_id
    ]
    sound = messages(bag, "user/audio")
    begin_s = sound[0].message.header.stamp.sec + 1e-9 * sound[0].message.header.stamp.nanosec
    assert motion
    for message in motion:
        due_s = message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec
        # Frame f is shown when sample 640 f is heard, which is 0.04 f s after the first one.
        assert due_s - begin_s == pytest.approx(0.04 * message.first_frame, abs=0.5)
    states = np.array([entry.message.position for entry in messages(heard, "joint_states")])
    assert np.ptp(states, axis=0).max() > 0.01


def test_the_log_of_a_played_bag_is_repeated_exactly(heard: Path, random_model: Path, tmp_path: Path):
    inference = InferenceConfig(model=str(random_model), warmup_turns=0)
    report = replay(heard, tmp_path / "bag", ReplaySettings(inference=inference, is_following=True))
    assert report.agreement["is_exact"], report


class Listener:
    """What was heard of a robot, and when [s], and how the time on /clock went."""

    def __init__(self, namespace: str, topics: tuple[str, ...]) -> None:
        rclpy.init(args=[])
        self._node = rclpy.create_node("listener", namespace=namespace)
        self.came_s: dict[str, list[float]] = {topic: [] for topic in topics}
        self.clock: list[tuple[float, int]] = []
        for topic in topics:
            known = TOPICS[topic]
            self._node.create_subscription(
                message_type(known.type_name), known.name, self._noting(topic), qos_of(known)
            )
        self._node.create_subscription(Clock, "/clock", self._on_clock, qos_profile_sensor_data)

    def listen(self, until: Callable[[], bool], patience_s: float = 2 * PATIENCE_S) -> None:
        deadline_s = time.monotonic() + patience_s
        while not until():
            assert time.monotonic() < deadline_s, {topic: len(came) for topic, came in self.came_s.items()}
            rclpy.spin_once(self._node, timeout_sec=0.05)

    def listen_for(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        self.listen(lambda: time.monotonic() >= end_s)

    def close(self) -> None:
        self._node.destroy_node()
        rclpy.shutdown()

    def _noting(self, topic: str) -> Callable[[object], None]:
        return lambda message: self.came_s[topic].append(time.monotonic())

    def _on_clock(self, message: Clock) -> None:
        self.clock.append((time.monotonic(), message.clock.sec * NS_PER_S + message.clock.nanosec))


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener("head2", ("user/audio", "joint_trajectory"))
    yield listener
    listener.close()


def test_enter_pauses_the_clock_and_the_graph_goes_on_as_if_nothing_had_been(
    bag: Path, random_model: Path, listener: Listener, tmp_path: Path
):
    out, lines = tmp_path / "bag", []
    typed = ["replay:=true", f"model:={random_model}", "record:=true", f"out:={out}", "namespace:=head2"]
    command = [sys.executable, "-m", "timar_common.cli", "replay", str(bag), "--live"]
    command += ["--robot-namespace", "head2", "--wait-for-nodes", "5"]
    keyboard, terminal = pty.openpty()
    heard, moved = listener.came_s["user/audio"], listener.came_s["joint_trajectory"]
    with Composer(
        plan(with_urdf(read_arguments(typed))), lambda *line: lines.append(" ".join(line))
    ) as composer:
        with subprocess.Popen(command, stdin=terminal, stderr=subprocess.PIPE, text=True) as play:
            listener.listen(lambda: len(heard) >= 75 or play.poll() is not None)
            os.write(keyboard, b"\n")
            listener.listen_for(1.0)
            standing, blocks, plans = len(listener.clock), len(heard), len(moved)
            listener.listen_for(3.0)
            shown_ns = {ros_ns for _, ros_ns in listener.clock[standing:]}
            assert len(shown_ns) == 1, "the clock ran on while the play was paused"
            assert len(listener.clock) - standing > 50, "nobody told the time any more"
            assert len(heard) == blocks
            assert len(moved) > plans, "the head stood dead meanwhile"
            os.write(keyboard, b"\n")
            listener.listen(lambda: play.poll() is not None)
            assert play.returncode == 0, play.stderr.read()
        assert composer.poll() is None, lines
        composer.stop()
    assert not [line for line in lines if "Traceback" in line], lines
    with BagReader(bag) as sent, BagReader(out) as came:
        assert [data for *_, data in came.raw_messages({"user/audio"})] == [
            data for *_, data in sent.raw_messages({"user/audio"})
        ]
    turns = [entry.message for entry in messages(out, "turn_log") if entry.message.frames]
    assert len({turn.conversation_id for turn in turns}) == 1
    assert turns[-1].first_frame > 0.8 * SECONDS * 25
    inference = InferenceConfig(model=str(random_model), warmup_turns=0)
    report = replay(out, tmp_path / "again", ReplaySettings(inference=inference, is_following=True))
    assert report.agreement["is_exact"], report
