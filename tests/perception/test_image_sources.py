"""Cameras that are missing, unplugged or odd are reported; a video file knows when each frame was taken."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from fake_camera import FakeCapture
from timar_perception.image_sources import CameraSource, VideoFile


def test_a_camera_that_is_missing_is_named_with_what_there_is():
    source = CameraSource("99", 640, 480, 30.0)
    with pytest.raises(
        OSError, match=r"camera 99 cannot be opened; (this machine has no /dev/video|there are)"
    ):
        source.open()


def test_an_unplugged_camera_is_reported_and_can_be_opened_again():
    capture = FakeCapture()
    source = CameraSource("0", 64, 48, 30.0, lambda device: capture)
    assert "30 x 30 at 30 Hz" in source.open()
    first = source.read()
    assert first.pixels.shape == (48, 64, 3)
    capture.is_there = False
    with pytest.raises(OSError, match="gives no images any more; is it unplugged"):
        source.read()
    capture.is_there = True
    source.open()
    again = source.read()
    assert again.pixels.shape == (48, 64, 3)
    assert again.stream == first.stream + 1, "another stream: its times and faces are others"


def test_a_camera_is_reopened_when_it_is_back_and_each_change_is_reported_once():
    capture = FakeCapture(is_there=False)
    ending = threading.Event()
    changes: list[tuple[str, bool]] = []

    def on_change(text: str, has_failed: bool) -> None:
        changes.append((text, has_failed))
        capture.is_there = True

    source = CameraSource("7", 64, 48, 30.0, lambda device: capture)
    for number, image in enumerate(source.read_until(ending, 0.01, on_change)):
        assert image.pixels.shape == (48, 64, 3)
        if number == 3:
            ending.set()
    assert [has_failed for _, has_failed in changes] == [True, False]
    assert "cannot be opened" in changes[0][0]


def test_a_camera_that_delivers_motion_jpeg_only_is_asked_for_it():
    class JpegOnly(FakeCapture):
        fourcc = 0.0

        def set(self, key: int, value: float) -> bool:
            self.fourcc = value if key == cv2.CAP_PROP_FOURCC else self.fourcc
            return True

        def read(self) -> tuple[bool, np.ndarray | None]:
            return super().read() if self.fourcc == cv2.VideoWriter.fourcc(*"MJPG") else (False, None)

    source = CameraSource("0", 64, 48, 30.0, lambda device: JpegOnly())
    source.open()
    assert source.read().pixels.shape == (48, 64, 3)


def test_a_camera_that_another_program_holds_is_told_apart_from_one_that_is_missing():
    class Busy(FakeCapture):
        def read(self) -> tuple[bool, np.ndarray | None]:
            return False, None

    source = CameraSource("0", 64, 48, 30.0, lambda device: Busy())
    with pytest.raises(OSError, match=r"camera 0 is there and gives no image: another program may hold it"):
        source.open()


def test_the_drivers_stamp_counts_when_it_can_be_one_and_else_arrival():
    for stamp_ms, low_ms, high_ms in ((None, 20.0, 60.0), (0.0, -1.0, 20.0), (1e15, -1.0, 20.0)):
        source = CameraSource("0", 64, 48, 30.0, lambda device, stamp=stamp_ms: FakeCapture(stamp_ms=stamp))
        source.open()
        image = source.read()
        age_ms = (time.monotonic_ns() - image.taken_ns) / 1e6
        # A busy machine may be late in reading the clock; older than its stamp an image never is.
        assert low_ms <= age_ms < high_ms + 500.0


def write_video(path: Path, rate_hz: float = 20.0, frames: int = 10) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), rate_hz, (64, 48))
    for number in range(frames):
        writer.write(np.full((48, 64, 3), 20 * number, np.uint8))
    writer.release()


def test_a_video_gives_the_newest_frame_that_is_due_and_starts_again_when_rewound(tmp_path: Path):
    write_video(tmp_path / "user.mp4")
    video = VideoFile(tmp_path / "user.mp4")
    assert (video.rate_hz, video.next_s) == (20.0, 0.0)
    assert video.read_newest(-0.01) is None
    taken_s, pixels = video.read_newest(0.0)
    assert (taken_s, pixels[0, 0, 0]) == (0.0, pytest.approx(0, abs=6))
    assert video.read_newest(0.04) is None, "the next one is taken at 50 ms"
    taken_s, pixels = video.read_newest(0.12)
    assert (taken_s, pixels[0, 0, 0]) == (pytest.approx(0.1), pytest.approx(40, abs=6))
    frames = 3
    while video.read_newest(video.next_s) is not None:
        frames += 1
    assert (frames, video.has_ended) == (10, True)
    assert video.read_newest(100.0) is None
    video.rewind()
    assert (video.next_s, video.has_ended) == (0.0, False)
    assert video.read_newest(0.0)[1][0, 0, 0] == pytest.approx(0, abs=6)
    video.close()


def test_what_is_no_video_is_rejected(tmp_path: Path):
    with pytest.raises(ValueError, match=r"there is no video .*expected a file that OpenCV reads"):
        VideoFile(tmp_path / "missing.mp4")
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(ValueError, match=r"text\.mp4 cannot be read as a video"):
        VideoFile(tmp_path / "text.mp4")
