"""Synthetic dyads: one seed fixes them, they talk like people, and their motion keeps its rules."""

import hashlib
import itertools
import json

import numpy as np
import pytest
from timar_common.motion_file import EXPRESSION, JAW, NECK
from timar_model.metrics.movement import quick_pitch, stroke_frames
from timar_training.corpora import dyads
from timar_training.corpora.levels import frame_level_db, is_speaking
from timar_training.evaluation import quality
from timar_training.synthesis import synthesize
from timar_training.synthesis.conversation import TalkConfig, hold_conversation
from timar_training.synthesis.gestures import GestureConfig, MotionStyle, jaw_opening, move_head
from timar_training.synthesis.synthesize import CorpusConfig
from timar_training.synthesis.voices import SpeakerVoice

STYLE = MotionStyle(vigour=1.0, jaw=1.0, engagement=1.0, expressiveness=1.0, habit=1.0, rest=(0.0, 0.0, 0.0))


def syllables(seconds, seed):
    """Babble at 4.5 syllables a second, of different strengths."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(round(16_000 * seconds)) / 16_000
    count = int(seconds * 4.5) + 2
    strength = np.interp(time_s * 4.5, np.arange(count), rng.uniform(0.3, 1.0, count))
    tone = sum(np.sin(2 * np.pi * 130 * harmonic * time_s) / harmonic for harmonic in range(1, 12))
    return np.round(4000 * strength * np.sin(np.pi * 4.5 * time_s) ** 2 * tone).astype(np.int16)


def babbler(name, seed):
    lengths = (0.4, 0.6, 1.2, 1.8, 2.5, 3.1)
    sounds = tuple(syllables(length, seed + n) for n, length in enumerate(lengths))
    return SpeakerVoice(name, "made up", sounds)


@pytest.fixture
def talk():
    rng = np.random.default_rng(4)
    return hold_conversation((babbler("a", 0), babbler("b", 50)), 60.0, TalkConfig(), rng)


def make(folder, monkeypatch, processes):
    monkeypatch.setattr(synthesize, "available_voices", lambda say: [babbler("a", 0), babbler("b", 50)])
    config = CorpusConfig(hours=12 / 3600, clip_s=4.0, held_out=1, seed=9)
    synthesize.synthesize(folder, config, processes=processes)
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.suffix in (".wav", ".txt")
    }


def test_the_same_seed_makes_the_same_corpus_with_any_number_of_processes(tmp_path, monkeypatch):
    alone = make(tmp_path / "one", monkeypatch, 1)
    together = make(tmp_path / "two", monkeypatch, 2)
    assert alone == together
    assert len([name for name in alone if name.endswith(".wav")]) == 2 * 6
    for path in (tmp_path / "one").glob("*.npz"):
        first, second = (dyads.read_motion(folder / path.name) for folder in (path.parent, tmp_path / "two"))
        np.testing.assert_array_equal(first.vector, second.vector)
        np.testing.assert_array_equal(first.valid, second.valid)


def test_a_corpus_calls_itself_synthetic_and_invents_no_expression(tmp_path, monkeypatch):
    make(tmp_path, monkeypatch, 1)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["kind"] == "SYNTHETIC"
    for clip in dyads.find_clips(tmp_path):
        motion = dyads.read_motion(clip.motion_path(dyads.AGENT_SPEAKER))
        assert not motion.vector[:, EXPRESSION].any()
        assert not motion.valid[:, 0].any()
        assert motion.valid[:, 1:].all()


def test_splits_share_no_clip(tmp_path, monkeypatch):
    make(tmp_path, monkeypatch, 1)
    names = [clip.name for split in synthesize.SPLITS for clip in dyads.read_split(tmp_path, split)]
    assert len(names) == len(set(names)) == 6


def test_gaps_between_turns_centre_on_a_fifth_of_a_second_and_some_overlap():
    gaps = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        talk = hold_conversation((babbler("a", 0), babbler("b", 50)), 60.0, TalkConfig(), rng)
        said = [(word, side) for side in (0, 1) for word in talk.utterances[side] if not word.is_backchannel]
        said.sort(key=lambda pair: pair[0].first_sample)
        for (before, side), (after, other) in itertools.pairwise(said):
            if side != other:
                gaps.append((after.first_sample - before.end_sample) / 16_000)
    assert np.median(gaps) == pytest.approx(0.2, abs=0.08)
    assert 0.1 < np.mean(np.array(gaps) < 0) < 0.4


def test_the_jaw_follows_its_own_voice_without_delay_and_rests_in_silence(talk):
    motion = move_head(talk, 1, STYLE, GestureConfig(), np.random.default_rng(0))
    follows = quality.jaw_follows_voice(motion, talk.voices[1])
    assert follows.best > 0.8
    assert abs(follows.lag_ms) < 40.0
    silent = frame_level_db(talk.voices[1]) < -75.0
    assert np.median(motion[silent, JAW.start]) < 0.005
    assert 0.05 < motion[:, JAW.start].max() < 0.2


def test_a_louder_recording_of_the_same_voice_opens_the_jaw_the_same(talk):
    config = GestureConfig()
    quiet, loud = (jaw_opening(gain * talk.voices[0], config) for gain in (0.3, 1.0))
    np.testing.assert_allclose(quiet, loud, atol=0.06)


def test_the_head_nods_when_the_partner_pauses(talk):
    motion = move_head(talk, 1, STYLE, GestureConfig(), np.random.default_rng(0))
    speaking = is_speaking(talk.voices[0])
    ends = np.flatnonzero(speaking[:-1] & ~speaking[1:])
    own = is_speaking(talk.voices[1])
    gesture = quick_pitch(motion)
    after, elsewhere = [], []
    for end in ends:
        frames = slice(end // 4 + 11, end // 4 + 22)
        if end + 100 < len(own) and not own[end : end + 100].any():
            after.append(gesture[frames].max())
    for frame in range(50, len(gesture) - 50, 37):
        elsewhere.append(gesture[frame : frame + 11].max())
    assert len(after) > 3
    assert np.mean(after) > 1.5 * np.mean(elsewhere)


def test_motion_is_smooth_and_of_human_size(talk):
    motion = move_head(talk, 0, STYLE, GestureConfig(), np.random.default_rng(0))
    assert quality.roughness(motion) < 0.02
    assert np.abs(motion[:, NECK]).max() < 0.4
    assert 0.01 < motion[:, NECK.start].std() < 0.08


@pytest.mark.parametrize("bad", [{"hours": 0.0}, {"clip_s": 1.0}, {"held_out": 0}])
def test_a_corpus_without_size_is_refused(bad):
    with pytest.raises(ValueError, match=r"CorpusConfig.(hours|clip_s|held_out) is .*, expected a number"):
        CorpusConfig(**bad)


def test_a_folder_that_holds_a_corpus_is_not_overwritten(tmp_path, monkeypatch):
    make(tmp_path, monkeypatch, 1)
    with pytest.raises(FileExistsError, match="already holds a corpus"):
        synthesize.synthesize(tmp_path, CorpusConfig())


def test_a_head_without_gestures_listens_and_stays_but_does_not_nod(talk):
    motions = {
        flag: move_head(talk, 1, STYLE, GestureConfig(), np.random.default_rng(1), has_gestures=flag)
        for flag in (True, False)
    }
    assert len(stroke_frames(motions[True])) > 20
    assert len(stroke_frames(motions[False])) == 0
    rest = motions[False][:, NECK]
    assert np.abs(rest).max() < 0.3
    # It is lifted and tilted while the partner speaks, as the other is.
    listens = (is_speaking(talk.voices[0]) & ~is_speaking(talk.voices[1]))[::4][: len(rest)]
    assert rest[listens, 2].mean() > rest[~listens, 2].mean() + 0.01
    np.testing.assert_array_equal(motions[True][:, JAW], motions[False][:, JAW])
