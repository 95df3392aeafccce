"""The whole graph through the composer, on the shipped conversation: counts, order and times."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml
from graph_run import converse
from node_process import PATIENCE_S
from timar_bag.bag import BagMessage, BagReader
from timar_bringup.composer import Composer, ComposerConfig
from timar_bringup.demo import clip
from timar_bringup.files import with_urdf
from timar_bringup.graph import plan, read_arguments
from timar_bringup.progress import Progress
from timar_bringup.progress_node import Watcher
from timar_common.topics import TOPICS
from timar_description.find import find_joint_map
from timar_report.joints import limits_of

pytestmark = [pytest.mark.ros, pytest.mark.slow]

DURATION_S = 8.0
GENERATE, COMMIT_UNSAMPLED, TAKE_BACK, RESET = 0, 1, 2, 3
WAITED_FOR = ("user/audio", "user/audio_raw", "agent/audio", "agent/audio_planned")
FLOWING = (
    *WAITED_FOR, "user/motion", "voice_activity", "turn_events", "floor", "agent/motion", "turn_log",
    "joint_trajectory", "joint_states", "/diagnostics",
)  # fmt: skip
FRAME, MARGIN_FRAMES, FRAMES = 640, 2, 5
RECORDED_TOGETHER_NS = 20_000_000
PATIENT = f"""
/**/capture: {{ros__parameters: {{wait_timeout_s: {PATIENCE_S}}}}}
/**/playback: {{ros__parameters: {{wait_timeout_s: {PATIENCE_S}}}}}
"""


@dataclasses.dataclass(frozen=True, repr=False)
class Run:
    """What one run of the graph left."""

    composer: Composer
    statuses: dict[str, int]
    survivors: list[int]
    shared_memory: dict[str, bool]
    listeners: dict[str, int]
    progress: Progress
    lines: list[tuple[str, str]]
    messages: dict[str, list[BagMessage]]
    losses: list[str]

    def of(self, topic: str) -> list[Any]:
        return [message.message for message in self.messages[topic]]


@pytest.fixture(scope="module")
def run(random_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run")
    bag, patient = folder / "bag", folder / "patient.yaml"
    patient.write_text(PATIENT)
    arguments = read_arguments(
        [
            "source:=file",
            f"user_file:={clip('speaker1')}",
            f"user_motion_file:={clip('speaker1', '.npz')}",
            f"agent_file:={clip('speaker2')}",
            f"model:={random_model}",
            "record:=true",
            f"out:={bag}",
            "namespace:=head1",
            f"params:={patient}",
        ]
    )
    graph = plan(with_urdf(arguments))
    lines: list[tuple[str, str]] = []
    progress = Progress()
    listeners: dict[str, int] = {}
    with (
        Composer(
            graph, lambda *line: lines.append(line), config=ComposerConfig(interrupt_s=PATIENCE_S)
        ) as composer,
        Watcher(progress, "/head1") as watcher,
    ):
        converse(composer, watcher, progress, DURATION_S, lines)
        listeners = {name: watcher.count_subscribers(name) for name in WAITED_FOR}
        pids = list(composer.pids.values())
        shared_memory = {name: maps_shared_memory(pid) for name, pid in composer.pids.items()}
        statuses = composer.stop()
    messages: dict[str, list[BagMessage]] = collections.defaultdict(list)
    with BagReader(bag) as reader:
        for message in reader.messages():
            messages[message.topic].append(message)
        losses = list(reader.issues)
    return Run(composer, statuses, living(pids), shared_memory, listeners, progress, lines, messages, losses)


def living(leaders: list[int]) -> list[int]:
    """Return the processes that still live in the sessions of some leaders."""
    return [pid for pid, fields in processes() if int(fields[3]) in leaders and fields[0] != "Z"]


def processes() -> Iterator[tuple[int, list[str]]]:
    """Yield every process and its fields from /proc: state, parent, group, session, ..."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            yield int(stat.parent.name), stat.read_text().rpartition(")")[2].split()


def maps_shared_memory(pid: int) -> bool:
    """Return whether a process speaks by Fast DDS's shared memory."""
    return "/dev/shm/fast" in Path(f"/proc/{pid}/maps").read_text()


def stamp_ns(message: Any) -> int:
    return message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec


def sound(blocks: list[Any]) -> np.ndarray:
    return np.concatenate([block.samples for block in blocks])


def test_every_process_ends_by_itself_and_leaves_nobody_behind(run: Run):
    assert set(run.statuses.values()) == {0}, run.statuses
    assert run.composer.not_stopped_gently == []
    assert run.survivors == []


def test_no_process_can_be_held_up_by_the_death_of_another(run: Run):
    """Shared memory of a killed retargeting once silenced the joint states for a second."""
    assert set(run.shared_memory.values()) == {False}, run.shared_memory


def test_file_waited_for_exactly_the_subscribers_the_graph_has(run: Run):
    waited = {planned.node.name: planned.parameters for planned in run.composer.plan.nodes}
    assert run.listeners == {
        "user/audio": waited["capture"]["wait_for_subscribers"],
        "user/audio_raw": waited["capture"]["wait_for_raw_subscribers"],
        "agent/audio": waited["playback"]["wait_for_subscribers"],
        "agent/audio_planned": waited["playback"]["wait_for_plan_subscribers"],
    }


def test_body_is_there_when_the_conversation_begins(run: Run):
    """A fast engine once began three seconds before the body could move."""
    began_ns = run.messages["user/audio"][0].receive_ns
    assert run.messages["joint_states"][0].receive_ns < began_ns + 500_000_000
    assert run.messages["joint_trajectory"][0].receive_ns < began_ns + 1_500_000_000


def test_no_node_complains(run: Run):
    assert [line for line in run.lines if line[1].startswith(("ERROR", "FATAL", "Traceback"))] == []
    diagnosed = {status.name for array in run.of("/diagnostics") for status in array.status}
    names = {f"/head1/{planned.node.name}" for planned in run.composer.plan.nodes}
    assert diagnosed >= names


def test_bag_is_whole_and_knows_every_topic_with_its_type(run: Run):
    assert run.losses == []
    assert set(FLOWING) <= set(run.messages)
    assert set(FLOWING) <= set(TOPICS)


@pytest.mark.parametrize(
    ("topic", "speaker"),
    [("user/audio_raw", "speaker1"), ("user/audio", "speaker1"), ("agent/audio", "speaker2")],
)
def test_sound_on_the_topics_is_the_files_sample_for_sample(run: Run, topic: str, speaker: str):
    blocks = run.of(topic)
    firsts = np.array([block.first_sample for block in blocks])
    lengths = np.array([block.samples.size for block in blocks])
    assert firsts[0] == 0
    np.testing.assert_array_equal(np.diff(firsts), lengths[:-1])
    heard = sound(blocks)
    assert heard.size >= (DURATION_S - 0.5) * 16_000
    expected, rate_hz = soundfile.read(clip(speaker), dtype="int16")
    assert rate_hz == 16_000
    # int16 -> float -> int16 on the way may round by one step.
    difference = heard.astype(np.int32) - expected[: heard.size].astype(np.int32)
    assert np.abs(difference).max() <= 1
    assert sum(block.filled_samples for block in blocks) == 0


def test_planned_speech_is_known_before_it_is_heard(run: Run):
    planned_end, lead = 0, []
    heard = iter(run.messages["agent/audio"])
    block = next(heard)
    for message in run.messages["agent/audio_planned"]:
        while block is not None and block.receive_ns < message.receive_ns:
            lead.append(planned_end - (block.message.first_sample + block.message.samples.size))
            block = next(heard, None)
        planned_end = max(planned_end, message.message.first_sample + message.message.samples.size)
    assert len(lead) > 100
    assert np.mean(np.array(lead) >= 16_000) >= 0.9, "what a busy recorder takes in one go comes in any order"


def test_turns_follow_each_other_without_gap_and_use_the_sound_the_design_says(run: Run):
    log = run.of("turn_log")
    assert [entry.sequence for entry in log] == list(range(len(log)))
    turns = [entry for entry in log if entry.decision in (GENERATE, COMMIT_UNSAMPLED)]
    assert log[0].decision == RESET
    assert {entry.decision for entry in log[1:]} <= {GENERATE, COMMIT_UNSAMPLED, TAKE_BACK}
    begin = log[0].first_frame
    assert 0 <= begin <= 25, "the conversation begins with its sound"
    assert [turn.first_frame for turn in turns] == [begin + FRAMES * index for index in range(len(turns))]
    assert len(turns) >= (DURATION_S - 1.0) * 25 / FRAMES
    for turn in turns:
        assert turn.frames == FRAMES
        assert turn.user_end_sample == FRAME * (turn.first_frame - MARGIN_FRAMES)
        assert turn.user_first_sample == turn.user_end_sample - FRAME * FRAMES
        assert turn.agent_first_sample == FRAME * turn.first_frame
        assert turn.agent_end_sample == FRAME * (turn.first_frame + FRAMES)
        assert turn.user_samples_filled == 0


def test_turns_see_the_user_where_the_recording_does(run: Run):
    """Nobody saw what was before the conversation; every frame of the clip is marked as seen."""
    turns = [entry for entry in run.of("turn_log") if entry.decision in (GENERATE, COMMIT_UNSAMPLED)]
    seen = [list(turn.user_motion_valid) for turn in turns if turn.user_first_sample >= FRAME * FRAMES]
    assert len(seen) >= 20
    # A busy machine may bring a frame after its turn; a slip of one frame would leave none whole.
    assert np.mean([len(flags) == FRAMES and all(flags) for flags in seen]) >= 0.5, seen


def test_motion_on_the_topic_is_the_files_and_never_ahead_of_the_sound(run: Run):
    with np.load(clip("speaker1", ".npz"), allow_pickle=False) as file:
        expression, pose = file["exp"].astype(np.float32), file["pose"].astype(np.float32)
    heard_ns = {block.message.first_sample: block.receive_ns for block in run.messages["user/audio"]}
    firsts = np.array(sorted(heard_ns))
    told = run.messages["user/motion"]
    frames = [entry.message.first_frame for entry in told]
    assert frames == list(range(frames[0], frames[0] + len(frames)))
    assert frames[0] <= 5, "the motion begins with the conversation"
    is_after = []
    for entry in told:
        frame = entry.message.first_frame
        np.testing.assert_array_equal(entry.message.expression, expression[frame])
        np.testing.assert_array_equal(entry.message.neck, pose[frame, :3])
        np.testing.assert_array_equal(entry.message.jaw, pose[frame, 3:])
        block = firsts[np.searchsorted(firsts, FRAME * frame, side="right") - 1]
        is_after.append(entry.receive_ns > heard_ns[block] - RECORDED_TOGETHER_NS)
    assert np.mean(is_after) >= 0.9, "what a busy recorder takes in one go comes in any order"


def test_turn_is_decided_only_when_its_sound_has_been_heard(run: Run):
    blocks = run.of("user/audio")
    ends = np.array([block.first_sample + block.samples.size for block in blocks])
    for entry in run.of("turn_log"):
        if entry.decision == GENERATE and entry.user_end_sample > 0:
            needed = blocks[int(np.searchsorted(ends, entry.user_end_sample))]
            # A stamp is filtered over many blocks, and may stand some milliseconds beside its own.
            assert stamp_ns(entry) > stamp_ns(needed) + 15_000_000


def test_motion_is_stamped_with_the_instant_its_sound_is_heard(run: Run):
    blocks = run.of("agent/audio")
    samples = np.array([block.first_sample for block in blocks], float)
    stamps_ns = np.array([stamp_ns(block) for block in blocks], float)
    motions = run.of("agent/motion")
    assert len(motions) >= 20
    firsts = [motion.first_frame for motion in motions]
    assert firsts == sorted(firsts)
    for motion in motions:
        assert motion.frames == FRAMES
        assert motion.fps == 25.0
        assert (motion.expression.size, motion.jaw.size, motion.neck.size) == (250, 15, 15)
        assert np.isfinite(motion.expression).all()
        sample = FRAME * motion.first_frame
        if samples[0] <= sample <= samples[-1]:
            expected_ns = np.interp(sample, samples, stamps_ns)
            assert abs(stamp_ns(motion) - expected_ns) < 30e6, "less than a frame"


def test_joint_commands_keep_the_limits_and_end_in_a_stop(run: Run):
    limits = limits_of("timar_head")
    commands = run.of("joint_trajectory")
    assert len(commands) >= 20
    for command in commands:
        assert set(command.joint_names) == set(limits)
        times_s = [
            point.time_from_start.sec + point.time_from_start.nanosec * 1e-9 for point in command.points
        ]
        assert all(np.diff(times_s) > 0)
        assert np.abs(command.points[-1].velocities).max() == 0.0
        for index, name in enumerate(command.joint_names):
            positions = np.array([point.positions[index] for point in command.points])
            velocities = np.array([point.velocities[index] for point in command.points])
            assert np.isfinite(positions).all()
            assert positions.min() >= limits[name].lower_rad - 1e-6
            assert positions.max() <= limits[name].upper_rad + 1e-6
            assert np.abs(velocities).max() <= limits[name].velocity_rad_s + 1e-6


def test_joints_are_where_they_were_commanded_to_be(run: Run):
    states = run.of("joint_states")
    names = list(run.of("joint_trajectory")[0].joint_names)
    assert set(names) <= set(states[0].name)
    times_s = np.array([stamp_ns(state) for state in states]) / 1e9
    assert np.median(np.diff(times_s)) == pytest.approx(0.02, abs=0.004)
    positions = np.array(
        [[dict(zip(s.name, s.position, strict=True))[name] for name in names] for s in states]
    )
    assert np.isfinite(positions).all()
    assert (np.ptp(positions, axis=0) > 1e-3).sum() >= 5
    assert run.progress.moved_ns is not None


def test_both_speakers_hold_the_floor_in_the_order_of_their_voices(run: Run):
    floors = run.of("floor")
    states = [floor.state for floor in floors]
    assert {1, 2} <= set(states)
    since = [floor.since_sample for floor in floors]
    assert since == sorted(since)
    assert all(np.diff(states) != 0)


def test_killed_graph_leaves_no_process_and_a_bag_that_reads(random_model: Path, tmp_path: Path):
    typed = ["source:=file", f"user_file:={clip('speaker1')}", f"model:={random_model}"]
    typed += ["record:=true", f"out:={tmp_path / 'bag'}"]
    command = [sys.executable, "-u", "-m", "timar_bringup.composer", *typed]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        deadline_s = time.monotonic() + 2 * PATIENCE_S
        while not {"user/audio_raw", "turn_log"} <= topics_in(tmp_path / "bag"):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline_s
            time.sleep(0.2)
        leaders = [pid for pid, fields in processes() if fields[1] == str(process.pid)]
    finally:
        process.kill()
        process.communicate()
    assert len(leaders) == 5
    deadline_s = time.monotonic() + PATIENCE_S
    while living(leaders):
        assert time.monotonic() < deadline_s, living(leaders)
        time.sleep(0.1)
    topics, seen = set(), []
    with BagReader(tmp_path / "bag") as reader:
        for message in reader.messages():
            topics.add(message.topic)
            if message.topic == "turn_log":
                seen += list(message.message.user_motion_valid)
    assert {"user/audio_raw", "turn_log"} <= topics
    assert "user/motion" not in topics
    assert seen == [], "nobody tells of the user's motion, so no turn may claim to have seen it"


def topics_in(bag: Path) -> set[str]:
    """Return the topics of which a bag, still being written, holds a message."""
    try:
        with BagReader(bag) as reader:
            return {message.topic for message in reader.messages()}
    except (OSError, ValueError):
        return set()  # nothing is written yet


def refused(*typed: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "timar_bringup.composer", *typed],
        capture_output=True, text=True, timeout=2 * PATIENCE_S, check=False,
    )  # fmt: skip


FILES = (f"user_file:={clip('speaker1')}", f"agent_file:={clip('speaker2')}", "source:=file")


def test_unknown_parameter_key_ends_the_start_with_its_name(tmp_path: Path, random_model: Path):
    params = tmp_path / "mine.yaml"
    params.write_text("/**/turns:\n  ros__parameters:\n    start_msec: 60\n")
    done = refused(*FILES, f"model:={random_model}", f"params:={params}")
    assert done.returncode == 2
    assert "turns has no parameter 'start_msec'; did you mean 'start_ms'? It has:" in done.stderr


def test_missing_model_folder_ends_the_start_with_its_name(tmp_path: Path):
    done = refused(*FILES, f"model:={tmp_path / 'nowhere'}")
    assert done.returncode == 1
    assert str(tmp_path / "nowhere") in done.stdout
    assert "the process 'inference' refused to start" in done.stderr


def test_missing_wav_ends_the_start_with_its_name(tmp_path: Path, random_model: Path):
    done = refused("source:=file", f"user_file:={tmp_path / 'nobody.wav'}", f"model:={random_model}")
    assert done.returncode == 1
    assert "nobody.wav" in done.stdout


def test_missing_motion_file_ends_the_start_with_its_name(tmp_path: Path, random_model: Path):
    done = refused(*FILES, f"model:={random_model}", f"user_motion_file:={tmp_path / 'nobody.npz'}")
    assert done.returncode == 1
    assert f"there is no motion file {tmp_path / 'nobody.npz'}" in done.stdout
    assert "the process 'motion' refused to start" in done.stderr


def test_unknown_argument_ends_the_start_with_the_nearest_one():
    done = refused("modle:=calm-head")
    assert done.returncode == 2
    assert "there is no argument 'modle'; did you mean 'model'?" in done.stderr


def test_robot_file_with_a_joint_the_urdf_lacks_ends_the_start_with_the_joints_name(
    tmp_path: Path, random_model: Path
):
    shipped = find_joint_map("timar_head")
    content = yaml.safe_load(shipped.read_text(encoding="utf-8"))
    content["joints"]["tail"] = content["joints"]["neck_yaw"]
    content["urdf"] = str(shipped.with_suffix(".urdf"))
    mine = tmp_path / "mine.yaml"
    mine.write_text(yaml.safe_dump(content), encoding="utf-8")
    done = refused(*FILES, f"model:={random_model}", f"robot:={mine}")
    assert done.returncode == 1
    assert "no movable joint 'tail'" in done.stdout
