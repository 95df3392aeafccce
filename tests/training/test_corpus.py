"""A corpus is known by its headers, and no list leaks into another."""

import io
import json
import struct
import time

import numpy as np
import pytest
import soundfile
from timar_common.motion_file import MotionTrack
from timar_training.corpora import dyads
from timar_training.corpora.dyads import BadClipError, Clip
from timar_training.corpora.index import index_corpus
from timar_training.corpora.splits import check_splits
from timar_training.data_command import main as data_main


def sparse_wav(path, seconds, number):
    """Write a WAV of so many seconds of which the disk holds one block, with a number to tell it by."""
    size = 2 * 16_000 * seconds
    head = (
        b"RIFF"
        + struct.pack("<I", 36 + size)
        + b"WAVEfmt "
        + struct.pack("<IHHIIHH", 16, 1, 1, 16_000, 32_000, 2, 16)
    )
    with path.open("wb") as file:
        file.write(head + b"data" + struct.pack("<I", size) + struct.pack("<q", number))
        file.truncate(44 + size)


@pytest.fixture(scope="module")
def hundred_hours(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hundred_hours")
    buffer = io.BytesIO()
    np.savez(buffer, exp=np.zeros((75, 50), np.float32), pose=np.zeros((75, 6), np.float32))
    for number in range(1200):
        clip = Clip(f"clip{number:04d}", folder)
        for speaker in (1, 2):
            sparse_wav(clip.voice_path(speaker), 300, 2 * number + speaker)
        clip.motion_path(2).write_bytes(buffer.getvalue())
    return folder


def test_a_hundred_hours_are_indexed_in_under_a_minute_without_loading_them(hundred_hours, tmp_path):
    began_s = time.process_time()
    index = index_corpus(hundred_hours, tmp_path)
    first_s = time.process_time() - began_s
    assert index.hours == pytest.approx(100.0)
    assert first_s < 60.0
    assert {clip.agent.motion_frames for clip in index.clips.values()} == {75}
    assert {clip.user.motion_frames for clip in index.clips.values()} == {0}
    prints = {side.fingerprint for clip in index.clips.values() for side in (clip.user, clip.agent)}
    assert len(prints) == 2400


def test_an_index_is_kept_and_a_changed_file_is_looked_at_again(tmp_path, write_babble_clip):
    write_babble_clip(tmp_path, "a", 4.0, 0)
    write_babble_clip(tmp_path, "b", 4.0, 1)
    before = index_corpus(tmp_path, tmp_path / ".prepared")
    write_babble_clip(tmp_path, "b", 6.0, 2)
    after = index_corpus(tmp_path, tmp_path / ".prepared")
    assert after.clips["a"] == before.clips["a"]
    assert (before.clips["b"].frames, after.clips["b"].frames) == (100, 150)


def test_any_rate_unequal_sides_and_a_side_without_motion_are_read(tmp_path):
    clip = Clip("odd", tmp_path)
    rng = np.random.default_rng(0)
    soundfile.write(clip.voice_path(1), 0.1 * rng.standard_normal(44_100 * 3), 44_100, subtype="PCM_24")
    soundfile.write(clip.voice_path(2), 0.1 * rng.standard_normal(22_050 * 2), 22_050)
    track = MotionTrack(np.ones((60, 56), np.float32), np.ones((60, 3), bool))
    dyads.write_motion(clip.motion_path(2), track)
    facts = index_corpus(tmp_path).clips["odd"]
    assert facts.frames == 50
    assert (facts.user.rate_hz, facts.user.motion_frames) == (44_100, 0)
    assert len(dyads.read_voice(clip.voice_path(1))) == 48_000
    assert len(dyads.read_voice(clip.voice_path(2))) == 32_000


@pytest.fixture
def two_lists(tmp_path, write_babble_clip, write_splits):
    for number, name in enumerate("abcd"):
        write_babble_clip(tmp_path, name, 2.0, number)
    write_splits(tmp_path, train=["a", "b"], test=["c"], ood=["d"])
    return tmp_path


def origins(folder, *rows):
    lines = ["clip,recording,user_voice,agent_voice", *rows]
    (folder / "recordings.csv").write_text("\n".join(lines) + "\n")


def test_lists_that_share_nothing_pass(two_lists):
    origins(two_lists, "a,r1,anna,bert", "b,r2,anna,carl", "c,r3,dora,emil", "d,r4,finn,gina")
    assert [clip.name for clip in check_splits(two_lists)["train"]] == ["a", "b"]


def test_a_clip_in_two_lists_is_refused(two_lists, write_splits):
    write_splits(two_lists, test=["b"])
    with pytest.raises(BadClipError, match=r"b stands in train\.txt and test\.txt"):
        check_splits(two_lists)


def test_a_copy_under_another_name_is_refused(two_lists):
    copy = two_lists / "c_speaker2.wav"
    copy.write_bytes((two_lists / "a_speaker1.wav").read_bytes())
    with pytest.raises(BadClipError, match=r"c_speaker2\.wav in test\.txt has the same sound as a_speaker1"):
        check_splits(two_lists)


def test_a_recording_in_two_lists_is_refused(two_lists):
    origins(two_lists, "a,r1,anna,bert", "c,r1,dora,emil")
    with pytest.raises(BadClipError, match="same recording 'r1'"):
        check_splits(two_lists)


def test_a_pair_of_voices_in_two_lists_is_refused_in_either_order(two_lists):
    origins(two_lists, "a,r1,anna,bert", "c,r3,bert,anna")
    with pytest.raises(BadClipError, match=r"same voices 'anna\+bert'"):
        check_splits(two_lists)


def test_voices_said_to_be_shared_may_be_but_never_with_the_unseen_ones(two_lists):
    (two_lists / "manifest.json").write_text(json.dumps({"voices_are_shared": True}))
    origins(two_lists, "a,r1,anna,bert", "c,r3,bert,anna")
    check_splits(two_lists)
    origins(two_lists, "a,r1,anna,bert", "d,r3,bert,anna")
    with pytest.raises(BadClipError, match="same voices"):
        check_splits(two_lists)


def test_the_command_says_what_a_folder_holds_and_refuses_leaks(two_lists, capsys, write_splits):
    assert data_main(["index", str(two_lists)]) == 0
    assert "4 clips" in capsys.readouterr().out
    write_splits(two_lists, test=["b"])
    assert data_main(["index", str(two_lists)]) == 1
    assert "a clip has one split" in " ".join(capsys.readouterr().err.split())
