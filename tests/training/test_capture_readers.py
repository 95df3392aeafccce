"""Motion of other projects is read in our frame; the files are small ones, made up by their documentation."""

import csv

import numpy as np
import pytest
import scipy.io
import soundfile
from scipy.spatial.transform import Rotation
from timar_common.motion_file import JAW, NECK, read_motion
from timar_training.corpora.capture_readers import READERS, read_capture
from timar_training.corpora.check import check_folder
from timar_training.data_command import main as data_main

DOWN_LEFT_LEAN = np.array([0.3, -0.2, 0.1])
"""Looks down, to the right, and leans to the right."""


def write_seamless(path, frames=60):
    pose = np.zeros((frames, 21, 3))
    pose[:, 11] = 0.5 * DOWN_LEFT_LEAN
    pose[:, 14] = 0.5 * DOWN_LEFT_LEAN
    is_valid = np.ones(frames, bool)
    is_valid[30:36] = False
    pose = pose.reshape(frames, 63).astype(np.float32)
    np.savez(path, **{"smplh:body_pose": pose, "smplh:is_valid": is_valid})


def write_l2l(path):
    values = np.zeros((1, 60, 184), np.float32)
    values[0, :, 7], values[0, :, 50:53], values[0, :, 53] = 1.5, DOWN_LEFT_LEAN, 0.2
    np.save(path, values)


def write_vico(path):
    coeff = np.zeros((60, 257))
    coeff[:, 224:227] = Rotation.from_rotvec(DOWN_LEFT_LEAN).as_euler("xyz")
    scipy.io.savemat(path, {"coeff": coeff})


def write_livelink(path):
    yaw, pitch, roll = Rotation.from_rotvec(DOWN_LEFT_LEAN).as_euler("YXZ")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["Timecode", "BlendshapeCount", "EyeBlinkLeft", "JawOpen", "HeadYaw", "HeadPitch", "HeadRoll"]
        )
        for frame in range(240):
            code = f"13:59:{57 + frame // 60:02d}:{frame % 60:02d}.000"
            if frame >= 180:
                code = f"14:00:00:{frame % 60:02d}.000"
            writer.writerow([code, 61, 0.1, 0.5, yaw, -pitch, roll])


def write_bvh(path, up="y"):
    angles = Rotation.from_rotvec(DOWN_LEFT_LEAN)
    offset = "0 10 0"
    if up == "z":
        frame = Rotation.from_rotvec([np.pi / 2, 0, 0])
        angles, offset = frame * angles * frame.inv(), "0 0 10"
    neck, head = (Rotation.from_rotvec(0.5 * angles.as_rotvec()).as_euler("ZXY", degrees=True) for _ in "12")
    channels = "CHANNELS 3 Zrotation Xrotation Yrotation"
    path.write_text(
        f"""HIERARCHY
ROOT Hips {{ OFFSET 0 0 0 CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
JOINT Neck {{ OFFSET {offset} {channels}
JOINT Head {{ OFFSET {offset} {channels}
End Site {{ OFFSET {offset} }} }} }} }}
MOTION
Frames: 60
Frame Time: 0.0333333
"""
        + ("0 1 2 40 50 60 " + " ".join(f"{value:.6f}" for value in [*neck, *head]) + "\n") * 60
    )


WRITERS = {
    "seamless": (write_seamless, "a.npz"),
    "l2l": (write_l2l, "a.npy"),
    "vico": (write_vico, "a.mat"),
    "livelink": (write_livelink, "a.csv"),
    "bvh": (write_bvh, "a.bvh"),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_head_that_looks_down_and_right_does_so_in_every_format(tmp_path, kind):
    write, name = WRITERS[kind]
    write(tmp_path / name)
    recorded = read_capture(tmp_path / name)
    seen = recorded.vector[recorded.valid[:, 2]][:, NECK]
    np.testing.assert_allclose(seen, np.tile(DOWN_LEFT_LEAN, (len(seen), 1)), atol=1e-5)
    assert recorded.rate_hz == pytest.approx(60.0 if kind == "livelink" else 30.0, rel=1e-4)


def test_a_bvh_file_with_z_up_is_turned(tmp_path):
    write_bvh(tmp_path / "a.bvh", up="z")
    neck = read_capture(tmp_path / "a.bvh").vector[0, NECK]
    np.testing.assert_allclose(neck, DOWN_LEFT_LEAN, atol=1e-5)


def test_frames_and_parts_that_a_format_lacks_are_unseen(tmp_path):
    write_seamless(tmp_path / "a.npz")
    valid = read_capture(tmp_path / "a.npz").valid
    assert not valid[:, :2].any()
    assert valid[:30, 2].all()
    assert not valid[30:36, 2].any()


def test_a_jaw_of_arkit_opens(tmp_path):
    write_livelink(tmp_path / "a.csv")
    recorded = read_capture(tmp_path / "a.csv")
    np.testing.assert_allclose(recorded.vector[:, JAW], np.tile([0.2, 0, 0], (240, 1)))


BROKEN = {
    "a.npz": b"PK broken",
    "a.npy": b"\x93NUMPY broken",
    "a.mat": b"MATLAB 5.0 broken",
    "a.csv": b"Timecode,JawOpen\n1:2:3:4,0.5\n",
    "a.bvh": b"HIERARCHY ROOT Head { OFFSET 0 1 0 CHANNELS 3 Xrotation Yrotation Zrotation } MOTION "
    b"Frames: 1 Frame Time: 0.04 1 2",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_in_one_sentence_with_its_name(tmp_path, name):
    (tmp_path / name).write_bytes(BROKEN[name])
    with pytest.raises(ValueError, match=f"{name} cannot be read as"):
        read_capture(tmp_path / name)


@pytest.mark.parametrize("kind", ["c8", "U8", "M8[s]"])
def test_what_is_no_real_number_is_refused_and_not_converted(tmp_path, kind):
    """NumPy makes numbers of texts and times, and takes the real part of a complex one."""
    np.savez(tmp_path / "a.npz", **{"smplh:body_pose": np.zeros((40, 63)).astype(kind)})
    np.save(tmp_path / "a.npy", np.zeros((1, 40, 56)).astype(kind))
    for name in ("a.npz", "a.npy"):
        with pytest.raises(ValueError, match=f"{name} cannot be read as .*expected real numbers"):
            read_capture(tmp_path / name)


def test_every_cut_of_a_file_is_read_or_refused(tmp_path):
    for write, name in WRITERS.values():
        write(tmp_path / name)
        whole = (tmp_path / name).read_bytes()
        for cut in range(0, len(whole), max(1, len(whole) // 12)):
            (tmp_path / f"cut_{name}").write_bytes(whole[:cut])
            try:
                recorded = read_capture(tmp_path / f"cut_{name}")
            except ValueError:
                continue
            assert np.isfinite(recorded.vector[np.repeat(recorded.valid, (50, 3, 3), axis=1)]).all()


def test_two_participants_of_seamless_interaction_become_a_dyad(tmp_path, babble):
    source, rng = tmp_path / "source" / "improvised" / "train", np.random.default_rng(0)
    source.mkdir(parents=True)
    for name in ("V00_S0809_I00000582_P0947", "V00_S0809_I00000582_P0948", "V00_S0001_I00000001_P0001"):
        soundfile.write(source / f"{name}.wav", np.repeat(babble(2.0, rng), 3), 48_000)
        write_seamless(source / f"{name}.npz")
    assert data_main(["convert", str(tmp_path / "source"), str(tmp_path / "dyads")]) == 0
    report = check_folder(tmp_path / "dyads")
    assert report.clips == ["V00_S0809_I00000582"]
    assert not report.has_errors
    track = read_motion(tmp_path / "dyads" / "V00_S0809_I00000582_speaker2.npz")
    assert len(track.vector) == 50
    np.testing.assert_allclose(track.vector[5, NECK], DOWN_LEFT_LEAN, atol=1e-5)


def test_the_command_converts_a_file_and_names_what_it_cannot(tmp_path, capsys):
    write_bvh(tmp_path / "a.bvh")
    assert data_main(["convert", str(tmp_path / "a.bvh"), str(tmp_path / "clip_speaker2.npz")]) == 0
    assert len(read_motion(tmp_path / "clip_speaker2.npz").vector) == 50
    assert data_main(["convert", str(tmp_path / "a.fbx"), str(tmp_path / "b.npz")]) == 1
    assert ".fbx, expected one of" in " ".join(capsys.readouterr().err.split())
    assert set(READERS) == set(WRITERS)
