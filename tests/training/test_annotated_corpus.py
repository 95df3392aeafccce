"""Dyads of annotated meetings: words at their times, tracks with masks, splits, going on after a kill."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from made_archive import write_archive
from timar_common.motion_file import JAW, NECK
from timar_model.gestures.kinematics import read_kinematics
from timar_model.metrics.movement import stroke_frames
from timar_training.corpora.check import check_folder
from timar_training.corpora.dyads import read_motion, read_voice
from timar_training.corpora.splits import check_splits
from timar_training.data_command import main
from timar_training.synthesis.annotated_corpus import (
    AnnotatedCorpusConfig,
    make_corpus,
    splits_by_series,
)
from timar_training.synthesis.posture import POSTURE_SHARE, posture
from timar_training.synthesis.speakers import PhraseSpeaker

pytestmark = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
CONFIG = AnnotatedCorpusConfig(clip_s=20.0, hours=5 * 20 / 3600)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    archive = write_archive(folder / "made.zip", meetings=5, seconds=70, off_camera=(30, 40))
    make_corpus(archive, folder / "dyads", CONFIG)
    return archive, folder / "dyads"


def test_clips_are_whole_dyads_in_lists_that_do_not_leak(corpus):
    _, folder = corpus
    report = check_folder(folder)
    assert len(report.clips) == 5
    assert not report.has_errors
    assert sum(map(len, check_splits(folder).values())) == 5
    assert json.loads((folder / "manifest.json").read_text())["kind"] == "SYNTHETIC"


def test_words_sound_at_their_times_and_pauses_are_still(corpus):
    _, folder = corpus
    for path in folder.glob("*_events.json"):
        truth = json.loads(path.read_text())
        name = path.name.removesuffix("_events.json")
        voice = read_voice(folder / f"{name}_speaker2.wav")
        spoken = np.zeros(len(voice), bool)
        for start, end, *_ in truth["own_words"]:
            spoken[int(start * 16000) : int(end * 16000)] = True
        if not spoken.any():
            continue
        far = ~np.convolve(spoken, np.ones(8001), "same").astype(bool)
        loud = np.sqrt(np.mean(np.square(voice[spoken])))
        assert loud > 10 * np.sqrt(np.mean(np.square(voice[far]))), name


def test_gestures_move_the_neck_and_time_off_camera_is_masked(corpus):
    _, folder = corpus
    moved, still = [], []
    for path in folder.glob("*_events.json"):
        truth, name = json.loads(path.read_text()), path.name.removesuffix("_events.json")
        motion = read_motion(folder / f"{name}_speaker2.npz")
        annotated = np.zeros(len(motion.valid), bool)
        for start, end in truth["annotated"]:
            annotated[round(start * 25) : round(end * 25)] = True
        np.testing.assert_array_equal(motion.valid[:, 2], annotated)
        assert not motion.valid[:, 0].any()
        speed = np.abs(np.diff(motion.vector[:, NECK.start]))
        inside = np.zeros(len(speed), bool)
        for start, end, kind, _ in truth["gestures"]:
            inside[int(start * 25) : int(end * 25)] |= kind == "nod"
        moved += list(speed[inside & annotated[1:]])
        still += list(speed[~inside & annotated[1:]])
    assert np.mean(moved) > 2 * np.mean(still)


def test_the_mouth_is_shut_where_nothing_is_said(corpus):
    _, folder = corpus
    for path in folder.glob("*_events.json"):
        truth, name = json.loads(path.read_text()), path.name.removesuffix("_events.json")
        motion = read_motion(folder / f"{name}_speaker2.npz")
        quiet = np.ones(len(motion.valid), bool)
        for start, end, *_ in truth["own_words"]:
            quiet[max(0, int(start * 25) - 6) : int(end * 25) + 6] = False
        if quiet.any():
            assert np.percentile(motion.vector[quiet, JAW.start], 95) < np.radians(1)


def test_a_killed_run_goes_on_and_ends_with_the_same_clips(corpus, tmp_path):
    archive, folder = corpus
    copied = tmp_path / "dyads"
    shutil.copytree(folder, copied)
    lost = sorted(copied.glob("*_events.json"))[1]
    voice = copied / lost.name.replace("_events.json", "_speaker1.wav")
    before, words = voice.read_bytes(), lost.read_text()
    kept = sorted(copied.glob("*_speaker1.wav"))[0]
    as_it_was = kept.stat().st_mtime_ns
    lost.unlink()
    voice.write_bytes(b"half")
    make_corpus(archive, copied, CONFIG, workers=2)
    assert voice.read_bytes() == before
    assert lost.read_text() == words
    assert kept.stat().st_mtime_ns == as_it_was, "what was there is not made again"


def test_a_folder_of_other_settings_is_refused(corpus, capsys):
    archive, folder = corpus
    assert main(["from-ami", str(archive), str(folder), "--clip-s", "30", "--processes", "1"]) == 1
    assert "other settings" in capsys.readouterr().err


def test_series_have_one_split_and_few_series_all_train():
    assert set(splits_by_series(["A", "B", "C"]).values()) == {"train"}
    many = splits_by_series([f"S{k}" for k in range(12)] * 2)
    assert sorted(many.values()) == ["ood"] + ["test"] * 2 + ["train"] * 7 + ["validation"] * 2


def test_posture_stays_around_neutral_for_an_hour():
    moved = posture(100 * 3600, np.random.default_rng(0))[::4]
    for number, name in enumerate(("pitch", "yaw", "roll")):
        captured = read_kinematics()["posture"][name]
        axis = moved[:, number]
        spread_rad = POSTURE_SHARE * captured["target_spread_rad"]
        assert axis.std() == pytest.approx(spread_rad, rel=0.1)
        after_1_s = np.corrcoef(axis[:-25], axis[25:])[0, 1]
        assert after_1_s == pytest.approx(captured["correlation_after_1_s"], abs=0.05)
    for first in range(0, len(moved), 25 * 600):
        part = moved[first : first + 25 * 600]
        assert np.abs(part.mean(0)).max() < 0.05
        np.testing.assert_allclose(part.std(0), moved.std(0), rtol=0.35)


def test_without_gestures_the_neck_is_known_everywhere_and_nods_nowhere(corpus, tmp_path):
    archive, folder = corpus
    config = dataclasses.replace(CONFIG, has_gestures=False)
    make_corpus(archive, tmp_path / "rest", config)
    rest, moved = (
        [read_motion(path) for path in where.glob("*_speaker2.npz")] for where in (tmp_path / "rest", folder)
    )
    assert len(rest) == len(moved) == 5
    assert all(track.valid[:, 2].all() for track in rest)
    assert sum(len(stroke_frames(track.vector)) for track in rest) == 0
    assert sum(len(stroke_frames(track.vector)) for track in moved) > 5


def test_where_the_user_is_seen_it_is_somebody_else_who_was_annotated(corpus):
    _, folder = corpus
    seen = list(folder.glob("*_speaker1.npz"))
    assert seen
    for path in seen:
        name = path.name.removesuffix("_speaker1.npz")
        letter = json.loads((folder / f"{name}_events.json").read_text())["seen"]
        assert letter in "ABCDE"
        assert letter not in ("", name.split("_")[2])
        motion = read_motion(path)
        assert motion.vector[motion.valid[:, 2], NECK.start].std() > 0.01


@pytest.mark.parametrize("program", ["espeak-ng", "flite", "recorded"])
def test_a_speaker_says_a_phrase_in_the_time_it_took(program):
    if program != "recorded" and shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    rng = np.random.default_rng(0)
    prompts = tuple(
        (3000 * rng.standard_normal(round(16_000 * seconds))).astype(np.int16) for seconds in (0.4, 0.9, 1.7)
    )
    speaker = PhraseSpeaker(
        "one", "", is_female=True, is_unseen=False, program=program, prompts=prompts,
        voice={"espeak-ng": "en-us+f2", "flite": "slt", "recorded": ""}[program],
    )  # fmt: skip
    for seconds in (1.2, 1.6, 2.4):
        sound = speaker.say("we could take the train on Thursday", round(16_000 * seconds))
        assert len(sound) <= 16_000 * seconds
        assert len(sound) > 0.8 * 16_000 * seconds
        assert np.abs(sound).max() > 0.01
