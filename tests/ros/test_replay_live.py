"""A bag played to the running graph: it hears what was recorded, in the bag's time, again and again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from timar_bringup.composer import Composer
from timar_bringup.demo import clip
from timar_bringup.files import with_urdf
from timar_bringup.graph import plan, read_arguments
from timar_inference.config import InferenceConfig
from timar_replay.bag import BagReader
from timar_replay.make_bag import Samples, write_bag
from timar_replay.out_bag import OutBag
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
    write_bag(path, Samples(voices[0]), Samples(voices[1]))
    return path


@pytest.fixture(scope="module")
def later_bag(bag: Path) -> Path:
    """The same, 1000 s later: bags of the same time would lie over each other in one recording."""
    path = bag.with_name("later")
    with BagReader(bag) as reader:
        out = OutBag(path).open()
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
