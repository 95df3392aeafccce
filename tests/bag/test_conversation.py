"""A bag as arrays: what is impossible is refused and said, and nothing non-finite passes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from timar_bag.conversation import read_conversation
from timar_bag.voice import VoiceTrack
from timar_common.messages import find_message_folder
from timar_report.joints import limits_of
from timar_report.summary import summarize

LATE_NS = 1_700_000_003_000_000_000


def bad_motion(bag, **fields) -> None:
    header = bag.header(LATE_NS)
    expression = np.zeros(100, np.float32)
    message = bag.make(
        "timar_msgs/msg/HeadMotion", header=header, fps=25.0, frames=2, expression=expression, **fields
    )
    bag.add("agent/motion", LATE_NS, message)


def bad_command(bag, positions: list[float], names: list[str]) -> None:
    point = bag.make("trajectory_msgs/msg/JointTrajectoryPoint", positions=np.array(positions))
    message = bag.make("trajectory_msgs/msg/JointTrajectory", joint_names=names, points=[point])
    bag.add("joint_trajectory", LATE_NS, message)


def bad_state(bag) -> None:
    message = bag.make("sensor_msgs/msg/JointState", name=["jaw"], position=np.array([np.inf]))
    bag.add("joint_states", LATE_NS, message)


def bad_block(bag, first_sample: int, samples: int, filled: int = 0) -> None:
    message = bag.make(
        "timar_msgs/msg/AudioChunk", sample_rate=16_000, first_sample=first_sample, filled_samples=filled,
        samples=bag.samples(samples),
    )  # fmt: skip
    bag.add("user/audio", LATE_NS, message)


SIX = np.zeros(6, np.float32)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda bag: bad_motion(bag, jaw=SIX[:5], neck=SIX), "5 jaw and 6 neck numbers do not make 2 frames"),
        (lambda bag: bad_motion(bag, jaw=SIX, neck=SIX * np.nan), "holds a number that is not finite"),
        (lambda bag: bad_command(bag, [0.1], ["jaw", "neck_yaw"]), "one position for each of 2 joints"),
        (lambda bag: bad_command(bag, [np.nan], ["jaw"]), "a commanded position is not finite"),
        (bad_state, "a joint's position is not finite"),
        (lambda bag: bad_block(bag, -320, 320), "is impossible"),
        (lambda bag: bad_block(bag, 96_000, 0), "is impossible"),
        (lambda bag: bad_block(bag, 96_000, 320, filled=321), "is impossible"),
        (lambda bag: bad_block(bag, 2**60, 320), "which is no gap"),
    ],
)
def test_an_impossible_message_is_refused_said_and_changes_no_number(
    make_bag, tmp_path: Path, damage, said: str
) -> None:
    clean = summarize(make_bag(), tmp_path, has_picture=False)
    damaged = summarize(make_bag(damage), tmp_path, has_picture=False)
    (loss,) = damaged["extra"].pop("losses")
    assert loss.startswith("1 messages rejected: ")
    assert said in loss
    for summary in (clean, damaged):
        for name in ("messages", "losses"):
            summary["extra"].pop(name, None)
        summary.pop("bag")
    assert damaged == clean
    assert "NaN" not in json.dumps(damaged)


def test_an_empty_bag_is_said(make_bag, tmp_path: Path) -> None:
    def forget(bag) -> None:
        bag._entries.clear()

    with pytest.raises(ValueError, match="holds no message: nothing was recorded"):
        read_conversation(make_bag(forget))


def test_the_envelope_is_the_same_however_the_blocks_are_cut() -> None:
    samples = np.random.default_rng(3).integers(-20_000, 20_000, 4800).astype(np.int16)
    voices = []
    for size in (4800, 320, 100, 7):
        track = VoiceTrack()
        for first in range(0, 4800, size):
            block = samples[first : first + size]
            track.append(first + 1000, block, 0, 62_500 * first, 62_500 * first)
        voices.append(track.finish())
    square = (samples.astype(float) / 32768) ** 2
    for voice in voices:
        assert voice.envelope_first_sample == 960
        # Sample 1000 lies 40 samples into the first hop of 160.
        assert voice.mean_square.size == 31
        assert voice.mean_square[1] == pytest.approx(square[120:280].mean())
        assert voice.mean_square.sum() == pytest.approx(square.sum() / 160)
        assert voice.peak.max() == pytest.approx(np.abs(samples.astype(float)).max() / 32768)
        assert voice.duration_s == 0.3


def test_a_gap_in_a_voice_keeps_the_place_of_what_follows() -> None:
    track = VoiceTrack()
    loud = np.full(320, 16_000, np.int16)
    track.append(0, loud, 0, 0, 0)
    track.append(960, loud, 0, 60_000_000, 60_000_000)
    voice = track.finish()
    assert (voice.mean_square > 0).tolist() == [True, True, False, False, False, False, True, True]
    assert voice.samples_lost == 640
    assert voice.time_ns([0, 480, 960, 1280]).tolist() == [0, 30_000_000, 60_000_000, 80_000_000]


def test_limits_and_leads_are_those_of_the_robots_own_description() -> None:
    limits = limits_of("timar_head")
    assert {"jaw", "neck_yaw", "neck_pitch", "neck_roll"} <= set(limits)
    for limit in limits.values():
        assert limit.lower_rad < limit.upper_rad
        assert limit.velocity_rad_s > 0
    with pytest.raises(FileNotFoundError, match="nobody"):
        limits_of("nobody")


def test_message_definitions_are_found_without_a_sourced_workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    assert (find_message_folder() / "TurnLog.msg").is_file()
