"""A recorded conversation as a video: both voices, and the head as its joints stood."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from timar_description import find_urdf
from timar_report.video import LEVELS_PX, RATE_HZ, check_video, save_video

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
SIZE_PX = (96, 120)


def decoded(path: Path, *options: str) -> bytes:
    command = ["ffmpeg", "-v", "error", "-i", str(path), *options, "-"]
    return subprocess.run(command, check=True, capture_output=True).stdout


@needs_ffmpeg
def test_a_video_holds_both_voices_and_the_head_that_moves(
    make_bag: Callable[..., Path], tmp_path: Path
) -> None:
    bag, path = make_bag(seconds=2.0), tmp_path / "talk.mp4"
    assert save_video(bag, find_urdf(), path, SIZE_PX) == 2.0
    pictures = np.frombuffer(decoded(path, "-f", "rawvideo", "-pix_fmt", "rgb24"), np.uint8)
    pictures = pictures.reshape(-1, SIZE_PX[1], SIZE_PX[0], 3).astype(int)
    assert len(pictures) == 2 * RATE_HZ
    # The neck's yaw is 0.25 rad at 0.5 s and -0.25 rad at 1.5 s, and 0 at 0 s, 1 s and 2 s.
    heads = pictures[:, : SIZE_PX[1] - LEVELS_PX]
    turned, same = (np.abs(heads[a] - heads[b]).mean() for a, b in ((12, 37), (0, 25)))
    assert turned > 3 * same
    stereo = np.frombuffer(decoded(path, "-f", "s16le", "-ar", "16000"), np.int16).reshape(-1, 2)
    assert abs(len(stereo) / 16_000 - 2.0) < 0.1
    # The head's voice is a tone of 400 Hz, the user's noise.
    spectrum = np.abs(np.fft.rfft(stereo[:32_000], axis=0))
    tone, others = spectrum[780:821].max(axis=0), np.median(spectrum, axis=0)
    assert (tone > 20 * others).all()
    assert 1.5 < tone[1] / tone[0] < 2.5
    assert 1.5 < others[0] / others[1] < 2.5


@needs_ffmpeg
def test_a_bag_without_a_voice_or_joints_and_a_file_of_another_kind_are_refused(
    make_bag: Callable[..., Path], tmp_path: Path
) -> None:
    bag = make_bag(seconds=1.0, omit=("joint_states",))
    with pytest.raises(ValueError, match="has no joint positions"):
        save_video(bag, find_urdf(), tmp_path / "talk.mp4")
    with pytest.raises(ValueError, match=r"expected one of \.mp4, \.mkv, \.webm"):
        check_video(tmp_path / "talk.gif")
    assert not list(tmp_path.glob("talk*"))
