"""Whatever form motion comes in, it is read right, converted where it has one meaning, or refused."""

import json

import numpy as np
import pytest
import soundfile
from scipy.spatial.transform import Rotation
from timar_common.motion_file import JAW, NECK
from timar_training.corpora import dyads
from timar_training.corpora.check import check_folder
from timar_training.corpora.dyads import BadClipError, Clip
from timar_training.corpora.motion_forms import inspect_motion, rate_by_length
from timar_training.data_command import main as data_main

SECONDS = 6.0


def swinging(rate_hz, seconds=SECONDS):
    """Return (T, 3) neck and jaw of a slow swing, sampled at a rate."""
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    neck = 0.3 * np.sin(2 * np.pi * np.outer(time_s, [0.5, 0.31, 0.2]) + [0.0, 1.0, 2.0])
    jaw = np.outer(0.05 * (1 - np.cos(2 * np.pi * 1.3 * time_s)), [1.0, 0.0, 0.0])
    return neck, jaw


def pose(rate_hz=25, seconds=SECONDS):
    return np.concatenate(swinging(rate_hz, seconds), axis=1)


def fixed(path, duration_s=SECONDS):
    """Return what a file is converted to, and what was found."""
    recorded, remarks = inspect_motion(path, duration_s)
    return recorded.at_frame_rate(), [remark.message for remark in remarks]


def save(path, pose_array, **more):
    exp = more.pop("exp", np.zeros((max(pose_array.shape[0], 1), 50)))
    np.savez(path, exp=exp, pose=pose_array, **more)
    return path


def quaternions(angles, is_real_first):
    given = Rotation.from_rotvec(angles).as_quat()
    return given[:, [3, 0, 1, 2]] if is_real_first else given


FORMS = {
    "degrees": np.degrees(pose()),
    "quaternions, real part first": np.concatenate(
        [quaternions(part, True) for part in swinging(25)], axis=1
    ),
    "quaternions, real part last": np.stack([quaternions(part, False) for part in swinging(25)], axis=1),
    "matrices": np.stack([Rotation.from_rotvec(part).as_matrix() for part in swinging(25)], axis=1),
    "wrapped at a whole turn": np.mod(pose(), 2 * np.pi),
    "a row an angle": pose().T,
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_with_one_meaning_are_converted_and_named(tmp_path, form):
    array = FORMS[form]
    path = save(tmp_path / "a.npz", array, exp=np.zeros((150, 50)))
    track, found = fixed(path)
    neck, jaw = swinging(25)
    np.testing.assert_allclose(track.vector[:, NECK], neck, atol=1e-5)
    np.testing.assert_allclose(track.vector[:, JAW], jaw, atol=1e-5)
    assert len(found) == 1
    assert track.valid.all()


@pytest.mark.parametrize("rate_hz", [24, 30_000 / 1001, 30, 50, 60, 120, 240])
def test_another_rate_is_told_by_the_length_of_the_sound_and_converted(tmp_path, rate_hz):
    array = pose(rate_hz)
    track, found = fixed(save(tmp_path / "a.npz", array))
    neck, _ = swinging(25)
    assert abs(len(track.vector) - len(neck)) <= 1
    count = min(len(track.vector), len(neck)) - 10
    np.testing.assert_allclose(track.vector[10:count, NECK], neck[10:count], atol=0.01)
    assert any(f"{rate_by_length(len(array), SECONDS):.5g} frames a second" in message for message in found)


def test_a_rate_that_the_file_says_is_believed(tmp_path):
    track, found = fixed(save(tmp_path / "a.npz", pose(60), fps=60.0), duration_s=None)
    assert len(track.vector) == 150
    assert any("as its fps says" in message for message in found)
    with pytest.raises(ValueError, match=r"says 60\.0 frames a second, expected 25"):
        dyads.read_motion(tmp_path / "a.npz")


def test_a_nod_faster_than_the_new_rate_holds_is_not_folded_down(tmp_path):
    time_s = np.arange(6 * 120) / 120
    array = np.zeros((720, 6))
    array[:, 0] = 0.2 * np.sin(2 * np.pi * 24.0 * time_s)
    track, _ = fixed(save(tmp_path / "a.npz", array))
    assert np.abs(track.vector[10:-10, NECK]).max() < 0.01


def test_gaps_are_marked_as_unseen_and_counted(tmp_path):
    array = pose()
    array[40:50, 1] = np.nan
    array[80, 4] = np.inf
    track, found = fixed(save(tmp_path / "a.npz", array))
    assert not track.valid[40:50, 2].any()
    assert track.valid[40:50, 1].all()
    assert track.valid[80].tolist() == [True, False, True]
    assert np.isfinite(track.vector).all()
    assert any("11 frames (2 runs), first in frame 40" in message for message in found), found


def test_of_a_hundred_coefficients_the_first_fifty_are_taken(tmp_path):
    exp = np.random.default_rng(0).normal(size=(150, 100))
    track, found = fixed(save(tmp_path / "a.npz", pose(), exp=exp))
    np.testing.assert_allclose(track.vector[:, :50], exp[:, :50], rtol=1e-6)
    assert any("100 coefficients" in message for message in found)


def test_a_neck_alone_leaves_the_jaw_unseen(tmp_path):
    track, _ = fixed(save(tmp_path / "a.npz", pose()[:, :3]))
    assert not track.valid[:, 1].any()
    np.testing.assert_allclose(track.vector[:, NECK], swinging(25)[0], atol=1e-6)


six_values = np.concatenate([np.tile([1.0, 0, 0], (150, 1)), np.tile([0, 1.0, 0], (150, 1))], axis=1)
REFUSED = {
    "whether these are rows or columns": six_values,
    "cannot be told": np.tile([0.7071, 0.0, 0.0, 0.7071] * 2, (150, 1)),
    "no unit quaternions": np.tile([2.0, 0.0, 0.0, 0.0] * 2, (150, 1)),
    "are no rotations": np.ones((150, 2, 3, 3)),
    "further than a head turns": np.full((150, 6), 2.5),
    "expected (T, 6): axis-angle": np.zeros((150, 7)),
    "array of <U": np.full((150, 6), "0.1"),
    "single value": np.array(3.0),
    "no frame of motion": np.zeros((0, 6)),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_forms_with_several_meanings_or_none_are_refused_with_the_reason(tmp_path, reason):
    array = REFUSED[reason]
    exp = np.zeros((len(array) if array.ndim else 1, 50))
    np.savez(tmp_path / "a.npz", exp=exp, pose=array)
    with pytest.raises(ValueError, match=r"a\.npz") as error:
        inspect_motion(tmp_path / "a.npz", SECONDS)
    assert reason in str(error.value)


def test_python_objects_are_refused_and_never_run(tmp_path):
    np.savez(tmp_path / "a.npz", exp=np.zeros((5, 50)), pose=np.array([{}] * 5))
    with pytest.raises(ValueError, match="pose holds Python objects"):
        inspect_motion(tmp_path / "a.npz", None)


@pytest.fixture
def folder(tmp_path, write_babble_clip):
    """Return a folder in which each clip but the first has its own fault."""
    folder = tmp_path / "data"
    folder.mkdir()
    for number, name in enumerate(("good", "fast", "stereo", "cut", "loop")):
        write_babble_clip(folder, name, SECONDS, number)
    save(Clip("fast", folder).motion_path(2), pose(60))
    sides = [soundfile.read(Clip("stereo", folder).voice_path(speaker))[0] for speaker in (1, 2)]
    for speaker in (1, 2):
        soundfile.write(Clip("stereo", folder).voice_path(speaker), np.stack(sides, axis=1), 16_000)
    path = Clip("cut", folder).motion_path(2)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    path = Clip("loop", folder).motion_path(2)
    path.unlink()
    path.symlink_to(path.name)
    return folder


def test_the_check_reads_on_to_the_end_and_its_status_is_that_of_the_worst(folder, tmp_path, capsys):
    assert data_main(["check", str(folder), "--json", str(tmp_path / "found.json")]) == 1
    found = json.loads((tmp_path / "found.json").read_text())
    clips = {finding["clip"] for finding in found["findings"] if finding["severity"] == "error"}
    assert clips == {"fast", "stereo", "cut", "loop"}
    assert found["exit_status"] == 1
    assert "60 frames a second" in capsys.readouterr().out


def test_warnings_alone_have_a_status_of_their_own(tmp_path, write_babble_clip):
    clip = write_babble_clip(tmp_path, "a", SECONDS, 0)
    sound = soundfile.read(clip.voice_path(1))[0]
    soundfile.write(clip.voice_path(1), sound[::2], 8_000)
    assert data_main(["check", str(tmp_path)]) == 3


def test_what_is_fixed_is_a_folder_without_errors_and_what_cannot_be_is_left_out(folder, tmp_path, capsys):
    (folder / "train.txt").write_text("good\nfast\ncut\n")
    assert data_main(["check", str(folder), "--fix", str(tmp_path / "new")]) == 1
    assert "cut is left out" in " ".join(capsys.readouterr().err.split())
    report = check_folder(tmp_path / "new")
    assert not report.has_errors
    assert report.clips == ["fast", "good", "loop", "stereo"]
    assert (tmp_path / "new" / "train.txt").read_text() == "good\nfast\n"
    before = dyads.load_dyad(Clip("good", folder))
    after = dyads.load_dyad(Clip("good", tmp_path / "new"))
    np.testing.assert_array_equal(before.agent_motion.vector, after.agent_motion.vector)
    np.testing.assert_array_equal(before.user_motion.valid, after.user_motion.valid)
    stereo = dyads.load_dyad(Clip("stereo", tmp_path / "new"))
    sides, _ = soundfile.read(Clip("stereo", folder).voice_path(1))
    np.testing.assert_allclose(stereo.user_voice, sides[:, 0], atol=1e-4)
    np.testing.assert_allclose(stereo.agent_voice, sides[:, 1], atol=1e-4)
    assert data_main(["check", str(folder), "--fix", str(tmp_path / "new")]) == 1


def test_training_never_takes_motion_of_another_rate(folder):
    with pytest.raises(BadClipError, match="as if there were 60 a second"):
        dyads.load_dyad(Clip("fast", folder))


def test_a_jaw_of_the_other_sign_and_one_exchanged_with_the_neck_are_warned_of(tmp_path, write_babble_clip):
    for name in ("sign", "order"):
        clip = write_babble_clip(tmp_path, name, 10.0, 5)
        for speaker in (1, 2):
            level = soundfile.read(clip.voice_path(speaker))[0].reshape(-1, 640).std(axis=1)
            opening = np.zeros((250, 6))
            opening[:, 3 if name == "sign" else 0] = (-2.0 if name == "sign" else 2.0) * level
            save(clip.motion_path(speaker), opening)
    messages = {finding.clip: finding.message for finding in check_folder(tmp_path).findings}
    assert "other sign" in messages["sign"]
    assert "exchanged" in messages["order"]
