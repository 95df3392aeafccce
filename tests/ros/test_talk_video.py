"""`timar talk --record`: a talk of a made user with the head, kept as a video with both voices."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from labelled_speech import USER_VOICE
from node_process import PATIENCE_S

pytestmark = [
    pytest.mark.ros,
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("ffmpeg") and shutil.which("espeak-ng")),
        reason="ffmpeg or espeak-ng is not installed",
    ),
]
DURATION_S = 40


def test_a_talk_is_kept_as_a_video_with_both_voices_and_nothing_else_is(tmp_path: Path) -> None:
    parameters, video = tmp_path / "parameters.yaml", tmp_path / "talk.mkv"
    parameters.write_text("/**/dialogue: {ros__parameters: {greeting: 'Hello, I am here and I listen.'}}\n")
    command = [sys.executable, "-m", "timar_bringup.talk", "--headless", "--mute", "--recogniser", "none"]
    command += ["--voice", "espeak", "--record", str(video), "--duration", str(DURATION_S)]
    command += ["source:=file", f"user_file:={USER_VOICE}", f"params:={parameters}"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=DURATION_S + 3 * PATIENCE_S, cwd=tmp_path
    )
    assert f"Your voice is KEPT in the video {video}" in done.stdout, done.stdout + done.stderr
    assert f"{video}: " in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parameters.yaml", "talk.mkv"]
    decode = ["ffmpeg", "-v", "error", "-i", str(video)]
    sound = subprocess.run(
        [*decode, "-f", "s16le", "-ar", "16000", "-"], check=True, capture_output=True
    ).stdout
    left, right = np.frombuffer(sound, np.int16).reshape(-1, 2).T.astype(float)
    # Each voice is twice as loud on its own side; where one is alone, the quotient says whose it is.
    loud = np.abs(left) + np.abs(right) > 1000
    quotient = np.log2((np.abs(left[loud]) + 1) / (np.abs(right[loud]) + 1))
    assert (quotient > 0.8).sum() > 16_000  # the user
    assert (quotient < -0.8).sum() > 8_000  # the head
    size = (24, 26)
    shown = [*decode, "-s", f"{size[0]}x{size[1]}", "-f", "rawvideo", "-pix_fmt", "gray", "-"]
    pictures = np.frombuffer(subprocess.run(shown, check=True, capture_output=True).stdout, np.uint8)
    pictures = pictures.reshape(-1, size[1], size[0]).astype(float)
    assert abs(len(pictures) / 25 - left.size / 16_000) < 0.2
    assert pictures[:, :22].std(axis=0).max() > 3.0  # the head moves
