"""Cameras that are missing, unplugged or odd say so; a video file knows when each picture was taken."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from fake_camera import FakeCapture
from timar_perception.sources import CameraSource, VideoFile


def test_a_camera_that_is_missing_is_named_with_what_there_is():
    source = CameraSource("99", 640, 480, 30.0)
    with pytest.raises(
        OSError, match=r"camera 99 cannot be opened; (this machine has no /dev/video|there are)"
    ):
        source.open()


def test_an_unplugged_camera_says_so_and_can_be_opened_again():
    capture = FakeCapture()
    source = CameraSource("0", 64, 48, 30.0, lambda device: capture)
    assert "30 x 30 at 30 Hz" in source.open()
    assert source.read().pixels.shape == (48, 64, 3)
    capture.is_there = False
    with pytest.raises(OSError, match="gives no pictures any more; is it unplugged"):
        source.read()
    capture.is_there = True
    source.open()
    assert source.read().pixels.shape == (48, 64, 3)


def test_the_drivers_stamp_is_believed_when_it_can_be_one_and_else_arrival_counts():
    for stamp_ms, low_ms, high_ms in ((None, 20.0, 60.0), (0.0, -1.0, 20.0), (1e15, -1.0, 20.0)):
        source = CameraSource("0", 64, 48, 30.0, lambda device, stamp=stamp_ms: FakeCapture(stamp_ms=stamp))
        source.open()
        picture = source.read()
        age_ms = (time.monotonic_ns() - picture.taken_ns) / 1e6
        # A busy machine may be late in reading the clock; older than its stamp a picture never is.
        assert low_ms <= age_ms < high_ms + 500.0


def write_video(path: Path, rate_hz: float = 20.0, pictures: int = 10) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), rate_hz, (64, 48))
    for number in range(pictures):
        writer.write(np.full((48, 64, 3), 20 * number, np.uint8))
    writer.release()


def test_a_video_knows_when_each_picture_was_taken_and_begins_anew(tmp_path: Path):
    write_video(tmp_path / "user.mp4")
    video = VideoFile(tmp_path / "user.mp4")
    assert (video.rate_hz, video.pictures, video.next_s) == (20.0, 10, 0.0)
    video.read()
    assert video.skip()
    assert video.next_s == 0.1
    assert video.read()[0, 0, 0] == pytest.approx(40, abs=6)
    while video.read() is not None:
        pass
    video.rewind()
    assert video.next_s == 0.0
    assert video.read()[0, 0, 0] == pytest.approx(0, abs=6)
    video.close()


def test_what_is_no_video_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"there is no video .*expected a file that OpenCV reads"):
        VideoFile(tmp_path / "missing.mp4")
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(ValueError, match=r"text\.mp4 cannot be read as a video"):
        VideoFile(tmp_path / "text.mp4")
