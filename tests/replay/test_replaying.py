"""A bag replayed: the same bytes every time, whatever is wrong with it, and the log repeated exactly."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from synthetic_talk import track, voice
from timar_audio.floor import Speaker
from timar_bag.bag import BagReader
from timar_bag.bag_writer import TopicBagWriter
from timar_bag.damage import DAMAGES, damage_bag
from timar_bag.dualtalk import DualTalkClip, from_dualtalk, to_dualtalk
from timar_bag.ground_truth import KNOWN_TOPICS
from timar_bag.make_bag import SpeechLabel, WholeSound, write_bag
from timar_common.motion_file import read_motion, write_motion
from timar_inference.runtime import Runtime, open_runtime
from timar_model.metrics import clip_metrics
from timar_replay.replay import replay
from timar_replay.replay_command import replay as command
from timar_replay.replay_settings import ReplaySettings
from timar_replay.runs import ReplayJob, run_job
from timar_replay.virtual_worker import ComputeTimePolicy
from timar_report.compare import compare_runs
from timar_report.frames import read_frames
from timar_report.joints import limits_of
from timar_report.score import score_bag
from timar_report.score_files import read_score


@pytest.fixture(scope="session")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "talk"
    labels = [SpeechLabel(Speaker.USER, 3.0, 4.5)]
    write_bag(
        path,
        WholeSound(voice(1)),
        WholeSound(voice(2)),
        user_motion=track(1),
        agent_motion=track(2),
        labels=labels,
    )
    return path


@pytest.fixture(scope="session")
def replayed(
    bag: Path, settings: ReplaySettings, runtime: Runtime, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("replayed") / "bag"
    assert replay(bag, out, settings, runtime).issues == []
    return out


def messages(bag: Path) -> list[tuple[str, int, bytes]]:
    with BagReader(bag) as reader:
        return list(reader.raw_messages())


@pytest.mark.slow
def test_replaying_twice_gives_the_same_bytes(
    bag: Path, settings: ReplaySettings, runtime: Runtime, replayed: Path, tmp_path: Path
):
    replay(bag, tmp_path / "bag", settings, open_runtime(settings.inference))
    first, second = ((folder / "bag.mcap").read_bytes() for folder in (replayed, tmp_path / "bag"))
    assert first == second


def test_another_seed_gives_other_motion(bag: Path, settings: ReplaySettings, replayed: Path, tmp_path: Path):
    replay(bag, tmp_path / "bag", settings.changed(["inference.seed=7"]))
    assert not np.array_equal(read_frames(tmp_path / "bag").made, read_frames(replayed).made)


def test_inputs_are_carried_over_as_they_were(bag: Path, replayed: Path):
    for topic in ("user/audio_raw", "user/audio", "agent/audio", "user/motion", "truth/agent_motion"):
        before, after = (
            [data for name, _, data in messages(folder) if name == topic] for folder in (bag, replayed)
        )
        assert before
        assert before == after, topic


@pytest.mark.slow
def test_following_the_log_of_a_replay_gives_the_same_motion_and_log(
    replayed: Path, settings: ReplaySettings, runtime: Runtime, tmp_path: Path
):
    following = dataclasses.replace(settings, is_following=True)
    report = replay(replayed, tmp_path / "bag", following, runtime)
    assert report.agreement["is_exact"], report
    assert report.agreement["motions"] == 30
    made = [
        {data for name, _, data in messages(folder) if name == "agent/motion"}
        for folder in (replayed, tmp_path / "bag")
    ]
    assert made[0] == made[1]


@pytest.mark.slow
def test_following_with_another_seed_is_told_to_differ(
    replayed: Path, settings: ReplaySettings, runtime: Runtime, tmp_path: Path
):
    def other_seed(topic: str, message: object) -> None:
        if topic == "turn_log":
            message.seed += 1  # type: ignore[attr-defined]

    changed = rewritten(replayed, tmp_path / "changed", other_seed)
    report = replay(changed, tmp_path / "bag", dataclasses.replace(settings, is_following=True), runtime)
    assert not report.agreement["is_exact"]
    assert report.agreement["motions_equal"] == 0
    assert report.agreement["largest_difference"] > 1e-3


def test_slow_machine_commits_turns_unsampled_and_says_so(
    bag: Path, settings: ReplaySettings, tmp_path: Path
):
    replay(bag, tmp_path / "bag", dataclasses.replace(settings, policy=ComputeTimePolicy.read("fixed:230")))
    score = score_bag(tmp_path / "bag", limits_of("timar_head"))
    assert score.numbers["late_turns"] > 0
    assert score.numbers["extra"]["unsampled_turns"] > 5
    by_floor = score.numbers["by_floor"].values()
    assert sum(part["late_turns"] for part in by_floor) == score.numbers["late_turns"]
    assert sum(part["unsampled_turns"] for part in by_floor) == score.numbers["extra"]["unsampled_turns"]
    assert score.numbers["latency_ms"]["compute"]["p50"] == pytest.approx(230.0)
    assert score.numbers["motion"]["shown_share"] < 0.6


SAID = {
    "truncated": "breaks off",
    "no_metadata": "metadata.yaml is missing",
    "no_plan": "no agent/audio_planned",
    "lost_blocks": "samples of the user's sound are missing",
    "duplicated": "came again",
    "out_of_order": "came again",
    "two_clocks": "another clock",
    "unknown_types": "user/motion is of type other_msgs/msg/Face, expected timar_msgs/msg/UserMotion",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(DAMAGES))
def test_damaged_bag_is_replayed_as_far_as_it_goes_and_its_losses_are_said(
    name: str, bag: Path, settings: ReplaySettings, runtime: Runtime, tmp_path: Path
):
    damaged = tmp_path / "talk"
    shutil.copytree(bag, damaged)
    damage_bag(damaged, name)
    report = replay(damaged, tmp_path / "out", settings, runtime)
    assert any(SAID[name] in loss for loss in report.issues), report.issues
    assert report.counts["turn_log"] >= (15 if name == "truncated" else 29)
    score = score_bag(tmp_path / "out", limits_of("timar_head"))
    assert score.numbers["late_turns"] == 0


def test_bag_without_the_agents_plan_gives_the_same_motion_as_with_it(
    bag: Path, settings: ReplaySettings, runtime: Runtime, replayed: Path, tmp_path: Path
):
    damaged = tmp_path / "talk"
    shutil.copytree(bag, damaged)
    damage_bag(damaged, "no_plan")
    replay(damaged, tmp_path / "out", settings, runtime)
    np.testing.assert_array_equal(read_frames(tmp_path / "out").made, read_frames(replayed).made)


def test_bag_without_sound_of_the_user_is_refused(bag: Path, settings: ReplaySettings, tmp_path: Path):
    def drop(topic: str, message: object) -> bool:
        return topic.startswith("user/audio")

    silent = rewritten(bag, tmp_path / "silent", drop)
    with pytest.raises(ValueError, match=r"neither user/audio nor user/audio_raw|no message"):
        replay(silent, tmp_path / "out", settings)


@pytest.mark.slow
def test_score_against_the_truth_is_that_of_the_published_metrics(replayed: Path):
    score = score_bag(replayed, limits_of("timar_head"))
    frames = score.frames
    known = frames.is_true & frames.is_made & frames.is_seen
    expected = clip_metrics(frames.made[known], frames.truth[known], frames.user[known])
    for name, value in expected.items():
        assert score.numbers["as_generated"][name] == pytest.approx(value)
    assert score.numbers["labels"]["labels"] == 1.0
    parts = score.numbers["by_floor"]
    assert set(parts) == {"speaking", "listening", "overlap", "idle"}
    for role, state in (("speaking", 2), ("listening", 1)):
        there = known & frames.is_shown & (frames.floor == state)
        expected = clip_metrics(frames.shown[there], frames.truth[there], frames.user[there])
        assert parts[role]["as_shown"]["frames"] == there.sum() > 0
        for name, value in expected.items():
            assert parts[role]["as_shown"][name] == pytest.approx(value), (role, name)


def test_score_as_shown_sees_what_came_late(make_bag: Callable[..., Path]):
    in_time, late = (
        score_bag(make_bag(late_turns=turns), limits_of("timar_head")).numbers for turns in ((), (5, 6, 7))
    )
    assert in_time["frames"]["late"] == 1  # the script's very first turn is due before it can be made
    # 150 ms of compute begin 80 ms before the turn is due: 70 ms late, two frames of each.
    assert late["frames"]["late"] == 1 + 6
    assert late["motion"]["shown_share"] < in_time["motion"]["shown_share"]


@pytest.mark.parametrize("delay_ms", [0.0, 120.0])
def test_lip_lag_is_the_jaws_delay(delay_ms: float, make_bag: Callable[..., Path]):
    numbers = score_bag(make_bag(jaw_delay_ms=delay_ms), limits_of("timar_head")).numbers
    assert numbers["lips"]["lag_ms"] == pytest.approx(delay_ms, abs=8.0)
    assert numbers["lips"]["correlation_at_lag"] > 0.95


def rewritten(bag: Path, target: Path, change: Callable[[str, object], object]) -> Path:
    """Write a bag with each message changed; True drops it."""
    with BagReader(bag) as reader:
        out = TopicBagWriter(target).open()
        for entry in reader.messages():
            if change(entry.topic, entry.message) is not True and entry.topic in KNOWN_TOPICS:
                out.write(entry.topic, entry.receive_ns, entry.message)
        out.close()
    return target


@pytest.fixture(scope="session")
def long_replay(settings: ReplaySettings, runtime: Runtime, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("long")
    write_bag(folder / "talk", WholeSound(voice(1, 24)), WholeSound(voice(2, 24)))
    run_job(ReplayJob(folder / "talk", folder / "a", settings, has_report=False), runtime)
    return folder


@pytest.mark.slow
def test_comparing_a_run_with_itself_finds_nothing(long_replay: Path):
    compared = compare_runs(long_replay / "a", long_replay / "a")
    assert compared.worse == []
    assert {metric.verdict for metric in compared.metrics} == {"same"}
    assert "on torch" in compared.made_with[0], "who compares must see what with what"
    assert "seed 0, ideal, code " in compared.made_with[0]
    assert compared.made_with[0] == compared.made_with[1]


@pytest.mark.slow
def test_planted_jitter_is_caught_by_compare(
    long_replay: Path, settings: ReplaySettings, runtime: Runtime, tmp_path: Path
):
    random = np.random.default_rng(5)

    def shake(topic: str, message: object) -> None:
        if topic == "agent/motion":
            message.neck = message.neck + 0.2 * random.standard_normal(message.neck.size).astype(np.float32)  # type: ignore[attr-defined]

    worse = tmp_path / "b"
    shutil.copytree(long_replay / "a", worse)
    shutil.rmtree(worse / "bag")
    score = score_bag(rewritten(long_replay / "a" / "bag", worse / "bag", shake), limits_of("timar_head"))
    content = read_score(worse)
    windows = {name: [None if np.isnan(v) else float(v) for v in vs] for name, vs in score.windows.items()}
    from timar_common.atomic import write_json

    write_json(worse / "score.json", {**content, "windows": windows})
    assert "neck_jerk_rad_s3" in compare_runs(long_replay / "a", worse).worse
    assert "neck_jerk_rad_s3" not in compare_runs(worse, long_replay / "a").worse


@pytest.mark.slow
def test_late_turns_alone_make_a_run_worse(
    long_replay: Path,
    settings: ReplaySettings,
    runtime: Runtime,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    slow = dataclasses.replace(settings, policy=ComputeTimePolicy.read("fixed:120"))
    run_job(ReplayJob(long_replay / "talk", tmp_path / "b", slow, has_report=False), runtime)
    assert {"late_turns", "frames.late"} <= set(compare_runs(long_replay / "a", tmp_path / "b").worse)
    typed = ["compare", str(long_replay / "a"), str(tmp_path / "b")]
    assert command(typed) == 1
    said = capsys.readouterr().out
    assert "worse: " in said
    assert "fixed:120" in said, "what A and B were made with stands above the table"
    back = ["compare", *typed[:0:-1], "--allow-worse", "--out", str(tmp_path / "compared.json")]
    assert command(back) == 0
    worse = json.loads((tmp_path / "compared.json").read_text())["worse"]
    assert not {"late_turns", "frames.late"} & set(worse)


def test_dualtalk_to_bag_and_back_is_the_same_clip(tmp_path: Path):
    import soundfile

    clip = DualTalkClip(tmp_path, "talk")
    for speaker in (1, 2):
        soundfile.write(clip.voice(speaker), voice(speaker, 4), 16_000, "PCM_16")
        write_motion(clip.motion(speaker), track(speaker, 4))
    assert from_dualtalk(clip, tmp_path / "bag") == 4.0
    back = DualTalkClip(tmp_path / "back", "talk")
    assert to_dualtalk(tmp_path / "bag", back) == []
    for speaker in (1, 2):
        before, after = (soundfile.read(c.voice(speaker), dtype="int16")[0] for c in (clip, back))
        np.testing.assert_allclose(after, before, atol=1)
        known = read_motion(back.motion(speaker))
        np.testing.assert_array_equal(
            known.vector[known.valid[:, 0]], track(speaker, 4).vector[known.valid[:, 0]]
        )
        assert known.valid.mean() >= 0.94


@pytest.mark.slow
def test_what_was_shown_becomes_training_data_where_there_is_no_truth(
    settings: ReplaySettings, runtime: Runtime, tmp_path: Path
):
    write_bag(tmp_path / "talk", WholeSound(voice(1, 3)), WholeSound(voice(2, 3)))
    replay(tmp_path / "talk", tmp_path / "out", settings, runtime)
    losses = to_dualtalk(tmp_path / "out", DualTalkClip(tmp_path / "clip", "talk"))
    assert losses == ["the bag holds no motion of speaker 1; talk_speaker1.npz is not written"]
    made = read_motion(tmp_path / "clip" / "talk_speaker2.npz")
    shown, is_shown = read_frames(tmp_path / "out").shown, read_frames(tmp_path / "out").is_shown
    np.testing.assert_array_equal(made.vector[is_shown], shown[is_shown])
