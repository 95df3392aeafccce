"""Dyads on disk: the order of the vector, and clear words for bad folders."""

import numpy as np
import pytest
import soundfile
from scipy.io import wavfile
from timar_common.motion_file import JAW, NECK, MotionTrack
from timar_common.wav import SoundFile
from timar_training.corpora import dyads
from timar_training.corpora.check import check_folder
from timar_training.corpora.dyads import BadClipError, Clip
from timar_training.data_command import main as data_main


def speech_like(seconds, seed=0, rate_hz=16_000):
    rng = np.random.default_rng(seed)
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    return (0.2 * rng.standard_normal(time_s.size) * (np.sin(2 * np.pi * 2 * time_s) > 0)).astype(np.float32)


def write_clip(folder, name="clip", seconds=2.0, seed=0):
    clip = Clip(name, folder)
    rng = np.random.default_rng(seed)
    for speaker in (1, 2):
        dyads.write_voice(clip.voice_path(speaker), speech_like(seconds, seed=seed + 10 * speaker))
        vector = rng.normal(0, 0.1, (round(25 * seconds), 56)).astype(np.float32)
        dyads.write_motion(clip.motion_path(speaker), MotionTrack(vector, np.ones((len(vector), 3), bool)))
    return clip


def messages(folder):
    return [f"{finding.severity}: {finding.message}" for finding in check_folder(folder).findings]


def test_pose_holds_neck_before_jaw_and_the_vector_jaw_before_neck(tmp_path):
    pose = np.arange(12, dtype=np.float32).reshape(2, 6) / 10
    np.savez(tmp_path / "a.npz", exp=np.zeros((2, 50), np.float32), pose=pose)
    motion = dyads.read_motion(tmp_path / "a.npz")
    np.testing.assert_array_equal(motion.vector[:, JAW], pose[:, 3:6])
    np.testing.assert_array_equal(motion.vector[:, NECK], pose[:, 0:3])
    assert motion.valid.all()


def test_motion_written_is_motion_read(tmp_path):
    rng = np.random.default_rng(1)
    valid = rng.random((7, 3)) < 0.7
    vector = rng.standard_normal((7, 56)).astype(np.float32) * np.repeat(valid, (50, 3, 3), axis=1)
    dyads.write_motion(tmp_path / "a.npz", MotionTrack(vector.astype(np.float32), valid))
    read = dyads.read_motion(tmp_path / "a.npz")
    np.testing.assert_array_equal(read.vector, vector.astype(np.float32))
    np.testing.assert_array_equal(read.valid, valid)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.uint8, np.float32])
def test_stereo_of_another_rate_and_format_is_read_as_mono_16_khz(tmp_path, dtype):
    time_s = np.arange(48_000) / 48_000
    tone = 0.5 * np.sin(2 * np.pi * 440 * time_s)
    stereo = np.stack([tone, tone], axis=1)
    if dtype == np.uint8:
        raw = np.round(stereo * 127 + 128).astype(dtype)
    elif dtype == np.float32:
        raw = stereo.astype(dtype)
    else:
        raw = np.round(stereo * np.iinfo(dtype).max).astype(dtype)
    wavfile.write(tmp_path / "a.wav", 48_000, raw)
    read = dyads.read_voice(tmp_path / "a.wav")
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    assert len(read) == 16_000
    np.testing.assert_allclose(read[500:-500], expected[500:-500], atol=0.01)


def test_a_good_folder_has_no_findings_and_its_hours(tmp_path):
    write_clip(tmp_path)
    report = check_folder(tmp_path)
    assert report.findings == []
    assert report.hours == pytest.approx(2.0 / 3600)
    assert report.statistics["neck_yaw"]["std_rad"] == pytest.approx(0.1, rel=0.2)


def test_a_missing_twin_is_an_error(tmp_path):
    write_clip(tmp_path).voice_path(2).unlink()
    assert any("clip_speaker2.wav is missing" in message for message in messages(tmp_path))


def test_a_number_that_is_not_finite_is_an_error(tmp_path):
    clip = write_clip(tmp_path)
    bad = np.zeros((50, 6), np.float32)
    bad[3, 2] = np.nan
    np.savez(clip.motion_path(2), exp=np.zeros((50, 50), np.float32), pose=bad)
    assert any("not finite" in message for message in messages(tmp_path))


def test_flat_sound_wrong_rate_and_wrong_length_are_warned_of(tmp_path):
    clip = write_clip(tmp_path)
    dyads.write_voice(clip.voice_path(1), np.zeros(32_000, np.float32))
    wavfile.write(clip.voice_path(2), 8_000, (speech_like(3.0, 5, 8_000) * 32767).astype(np.int16))
    found = messages(tmp_path)
    assert any("is flat" in message for message in found)
    assert any("8000 Hz" in message for message in found)
    assert any("2.00 s of motion, its voice 3.00 s" in message for message in found)
    assert any("speaker 1 lasts 2.00 s and speaker 2 3.00 s" in message for message in found)


def test_the_same_recording_twice_is_an_error(tmp_path):
    first, second = write_clip(tmp_path, "a"), write_clip(tmp_path, "b", seed=3)
    second.voice_path(1).write_bytes(first.voice_path(1).read_bytes())
    assert any("duplicate of a_speaker1.wav" in message for message in messages(tmp_path))


def test_a_clip_in_two_splits_is_an_error(tmp_path):
    write_clip(tmp_path, "a")
    (tmp_path / "train.txt").write_text("a\n")
    (tmp_path / "test.txt").write_text("a\nb\n")
    found = messages(tmp_path)
    assert any("a clip belongs to one split" in message for message in found)
    assert any("names it, but it is not in the folder" in message for message in found)


def test_degrees_instead_of_radians_are_an_error(tmp_path):
    clip = write_clip(tmp_path)
    np.savez(clip.motion_path(2), exp=np.zeros((50, 50)), pose=np.full((50, 6), 20.0))
    assert any("an angle of 20.0: degrees" in message for message in messages(tmp_path))


@pytest.mark.parametrize("content", [b"", b"RIFF1234", b"not a wav at all"])
def test_what_is_no_wav_is_said_in_a_sentence(tmp_path, content):
    (tmp_path / "x_speaker1.wav").write_bytes(content)
    with pytest.raises(BadClipError, match=r"x_speaker1\.wav"):
        dyads.read_voice(tmp_path / "x_speaker1.wav")


def test_a_folder_that_does_not_exist_is_said_by_the_command(tmp_path, capsys):
    assert data_main(["check", str(tmp_path / "nothing")]) == 1
    assert "is not a folder" in " ".join(capsys.readouterr().err.split())


def test_the_command_fails_on_errors_and_not_on_good_data(tmp_path):
    clip = write_clip(tmp_path)
    assert data_main(["check", str(tmp_path)]) == 0
    clip.voice_path(1).unlink()
    assert data_main(["check", str(tmp_path)]) == 1


def test_a_file_list_that_names_no_clip_of_the_folder_is_refused(tmp_path):
    write_clip(tmp_path, "a")
    (tmp_path / "train.txt").write_text("b\n")
    with pytest.raises(BadClipError, match=r"train\.txt names b"):
        dyads.read_split(tmp_path, "train")


@pytest.mark.parametrize("subtype", ["ULAW", "ALAW", "PCM_24", "FLOAT"])
def test_what_makes_a_bag_is_good_for_training_too(tmp_path, subtype):
    clip = write_clip(tmp_path)
    for speaker in (1, 2):
        sound = speech_like(2.0, seed=speaker)
        soundfile.write(clip.voice_path(speaker), sound, 16_000, subtype=subtype)
    report = check_folder(tmp_path)
    assert report.findings == []
    with SoundFile(clip.voice_path(1)) as file:
        live = file.read_all()
    np.testing.assert_array_equal(dyads.read_voice(clip.voice_path(1)), live.astype(np.float32) / 32_768)


@pytest.mark.parametrize("content", [b"PK\x03\x04 broken", b"", b"\x93NUMPY no zip"])
def test_a_motion_file_that_is_broken_is_one_finding_and_does_not_end_the_check(tmp_path, content):
    write_clip(tmp_path, "a").motion_path(2).write_bytes(content)
    write_clip(tmp_path, "b", seed=3)
    np.savez(tmp_path / "b_speaker1.npz", exp=np.array([["x"] * 50]), pose=np.zeros((1, 6)))
    found = messages(tmp_path)
    assert sum("a_speaker2.npz cannot be read as npz" in message for message in found) == 1
    assert any("b_speaker1.npz: exp is an array of <U1" in message for message in found)
