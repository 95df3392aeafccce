"""`timar data from-video`: the user's own recordings, tried on videos that are made on the spot."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from portrait import portrait
from projected_face import ScriptedLandmarker, project
from scipy.io import wavfile
from timar_perception.head_pose import CameraModel
from timar_training import data_command
from timar_training.corpora import from_video
from timar_training.corpora.dyads import Clip, load_dyad
from timar_training.corpora.from_video import convert_video

pytestmark = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")

WIDTH, HEIGHT, RATE_HZ = 320, 240, 25
CAMERA = CameraModel.from_field_of_view(WIDTH, HEIGHT, 60.0)
SILENCE = np.zeros(RATE_HZ * 640, np.int16)


def tone(hz: float, seconds: float = 1.6) -> np.ndarray:
    return (8000 * np.sin(2 * np.pi * hz * np.arange(int(16000 * seconds)) / 16000)).astype(np.int16)


def write_video(path: Path, frames: np.ndarray, sound: np.ndarray | None, *options: str) -> Path:
    """Write frames (n, h, w, 3) and sound (m,) or (m, channels) of 16 kHz."""
    height, width = frames.shape[1:3]
    command = ["ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24"]
    command += ["-s", f"{width}x{height}", "-r", str(RATE_HZ), "-i", "-"]
    if sound is not None:
        wavfile.write(path.with_suffix(".wav"), 16000, sound)
        command += ["-i", str(path.with_suffix(".wav"))]
    command += ["-c:v", "mpeg4", "-q:v", "2", *options, str(path)]
    subprocess.run(command, input=frames.tobytes(), check=True)
    return path


def grey(count: int = 40, width: int = WIDTH) -> np.ndarray:
    return np.full((count, HEIGHT, width, 3), 120, np.uint8)


def convert(files: list[Path], folder: Path, faces: int, said: list[str] | None = None) -> float:
    """Convert with a landmarker that finds so many faces in every image."""
    found = tuple(project(place_m=(0.15 * k, 0.0, 0.6), camera=CAMERA) for k in range(faces))
    messages = said if said is not None else []
    return convert_video(
        files, Clip("call", folder), None, messages.append, make_landmarker=lambda: ScriptedLandmarker(found)
    )


def test_two_nodding_faces_side_by_side_become_a_dyad_of_their_nods_and_voices(tmp_path, capsys):
    head, times_s = portrait("astronaut"), np.arange(40) / RATE_HZ
    pitch = {"left": 0.2 * np.sin(np.pi * times_s) ** 2, "right": 0 * times_s}
    halves = [[head.draw(CAMERA, (angle, 0, 0)) for angle in pitch[side]] for side in ("left", "right")]
    sound = np.stack([tone(200), tone(310)], 1)
    write_video(tmp_path / "call.mp4", np.concatenate([np.stack(half) for half in halves], 2), sound)

    out = tmp_path / "dyads"
    assert data_command.main(["from-video", str(tmp_path / "call.mp4"), "--out", str(out)]) == 0

    dyad = load_dyad(Clip("call", out))
    assert dyad.frames == pytest.approx(40, abs=2)
    nods = dyad.user_motion.vector[:, 53] - dyad.user_motion.vector[0, 53]
    seen = dyad.user_motion.valid[:, 2]
    assert seen.mean() > 0.9
    assert np.abs(nods - pitch["left"][: len(nods)])[seen].max() < 0.06
    assert np.ptp(dyad.agent_motion.vector[dyad.agent_motion.valid[:, 2], 53]) < 0.04
    for voice, hz in ((dyad.user_voice, 200), (dyad.agent_voice, 310)):
        spectrum = np.abs(np.fft.rfft(voice))
        assert np.argmax(spectrum) * 16000 / len(voice) == pytest.approx(hz, abs=3)
    assert "1.6 s of call" in " ".join(capsys.readouterr().err.split())
    assert data_command.main(["from-video", str(tmp_path / "call.mp4"), "--out", str(out)]) == 1
    assert "exists already" in capsys.readouterr().err


def test_a_video_for_each_person_gives_each_their_own_voice(tmp_path):
    files = [write_video(tmp_path / f"{name}.mkv", grey(), tone(hz)) for name, hz in (("a", 200), ("b", 310))]
    assert convert(files, tmp_path / "out", faces=1) == pytest.approx(1.6, abs=0.05)
    dyad = load_dyad(Clip("call", tmp_path / "out"))
    assert dyad.user_motion.valid[:-1, 2].all()
    peak_hz = np.argmax(np.abs(np.fft.rfft(dyad.agent_voice))) * 16000 / len(dyad.agent_voice)
    assert peak_hz == pytest.approx(310, abs=4)


def test_images_of_a_variable_rate_count_at_their_own_times(tmp_path):
    dropped = ["-vf", "select='not(between(n,20,21))',setpts=PTS+0.4/TB", "-vsync", "vfr"]
    for name in ("a", "b"):
        write_video(tmp_path / f"{name}.mkv", grey(), tone(200, 2.0), *(dropped if name == "a" else ()))
    said: list[str] = []
    convert([tmp_path / "a.mkv", tmp_path / "b.mkv"], tmp_path / "out", 1, said)
    assert "a.mkv has a variable frame rate (40 ms from image to image, up to 120)" in " ".join(said)
    assert not any("b.mkv has a variable" in one for one in said)


@pytest.mark.parametrize(
    ("faces", "sound", "expected"),
    [
        (0, tone(200), "shows no face that can be tracked"),
        (2, tone(200), "shows up to 2 faces at once, several in 100% of the images, expected one person"),
        (3, tone(200), "shows up to 3 faces at once"),
        (1, None, "has no sound, expected the voice of who is seen"),
        (1, SILENCE, "is silent throughout"),
    ],
)
def test_a_video_that_is_not_one_person_with_a_voice_is_refused(tmp_path, faces, sound, expected):
    bad = write_video(tmp_path / "bad.mkv", grey(), sound)
    good = write_video(tmp_path / "good.mkv", grey(), tone(310))
    with pytest.raises(ValueError, match=expected) as caught:
        convert([bad, good], tmp_path / "out", faces)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("sound", "expected"),
    [
        (tone(200), r"has 1 channel\(s\) of sound, expected two"),
        (np.stack([tone(200), tone(200)], 1), "has the same sound in both channels"),
    ],
)
def test_one_video_needs_a_voice_in_each_channel(tmp_path, sound, expected):
    bad = write_video(tmp_path / "bad.mkv", grey(width=2 * WIDTH), sound)
    with pytest.raises(ValueError, match=expected):
        convert([bad], tmp_path / "out", 1)


def test_what_is_no_video_is_refused(tmp_path, monkeypatch):
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(ValueError, match=r"text\.mp4 cannot be read as a video"):
        convert([tmp_path / "text.mp4"], tmp_path / "out", 1)
    with pytest.raises(FileNotFoundError, match=r"there is no video .*missing\.mp4"):
        convert([tmp_path / "missing.mp4"], tmp_path / "out", 1)
    monkeypatch.setattr(from_video.shutil, "which", lambda name: None)
    with pytest.raises(RuntimeError, match="ffmpeg is not installed"):
        convert([tmp_path / "text.mp4"], tmp_path / "out", 1)
