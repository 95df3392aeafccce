"""Where pictures come from: a camera of this machine, or a video file. Topics are the node's."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from timar_perception.pictures import Picture, Pixels, believed_ns, require_size, rgb_of_camera

_UNREADABLE_IN_A_ROW = 10
"""A camera that fails to give so many pictures in a row is gone."""

Capture = Any
"""A cv2.VideoCapture, or something that acts like one."""


class CameraSource:
    """A camera through OpenCV.

    Args:
        device: Number or path.
        width: Asked for [px].
        height: Asked for [px].
        rate_hz: Asked for [Hz].
        open_capture: Makes the cv2.VideoCapture of a device.
    """

    def __init__(
        self,
        device: str,
        width: int,
        height: int,
        rate_hz: float,
        open_capture: Callable[[int | str], Capture] | None = None,
    ) -> None:
        self._device: int | str = int(device) if device.isdigit() else device
        self._asked = {
            cv2.CAP_PROP_FRAME_WIDTH: float(width),
            cv2.CAP_PROP_FRAME_HEIGHT: float(height),
            cv2.CAP_PROP_FPS: rate_hz,
            # An old picture is worse than none.
            cv2.CAP_PROP_BUFFERSIZE: 1.0,
        }
        self._open_capture = open_capture or cv2.VideoCapture
        self._capture: Capture = None

    def open(self) -> str:
        """Open the camera and return a sentence about what it gives.

        Raises:
            OSError: There is none, or it cannot be opened; the message lists those there are.
        """
        self.close()
        # It tells on standard error of every way that it tried to open a camera.
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        capture = self._open_capture(self._device)
        if not capture.isOpened():
            capture.release()
            raise OSError(f"the camera {self._device!r} cannot be opened; {describe_cameras()}")
        for key, value in self._asked.items():
            capture.set(key, value)
        self._capture = capture
        size = f"{capture.get(cv2.CAP_PROP_FRAME_WIDTH):.0f} x {capture.get(cv2.CAP_PROP_FRAME_HEIGHT):.0f}"
        return f"camera {self._device!r} gives {size} at {capture.get(cv2.CAP_PROP_FPS):g} Hz"

    def read(self) -> Picture:
        """Wait for the next picture.

        Raises:
            OSError: The camera gives none any more.
            ValueError: What it gives is no picture.
        """
        if self._capture is None:
            raise OSError(f"the camera {self._device!r} is not open")
        for _ in range(_UNREADABLE_IN_A_ROW):
            is_read, frame = self._capture.read()
            if is_read and frame is not None:
                return Picture(rgb_of_camera(np.asarray(frame)), self._taken_ns(time.monotonic_ns()))
            time.sleep(0.01)
        raise OSError(f"the camera {self._device!r} gives no pictures any more; is it unplugged?")

    def close(self) -> None:
        """Let the camera go."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def _taken_ns(self, now_ns: int) -> int:
        """Take the driver's own stamp (V4L2: monotonic, at the first byte) where it can be one, else now."""
        return believed_ns(round(self._capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6), now_ns)


def describe_cameras() -> str:
    """Say which cameras Linux knows of."""
    found = sorted(str(path) for path in Path("/dev").glob("video[0-9]*"))
    if not found:
        return "this machine has no /dev/video*: plug a camera in, or pass it into the container"
    closed = [path for path in found if not os.access(path, os.R_OK | os.W_OK)]
    hint = f"; {', '.join(closed)} may not be opened: add yourself to the group video" if closed else ""
    return f"there are {', '.join(found)}{hint}"


class VideoFile:
    """A video whose picture k is taken k / rate seconds after its start.

    Raises:
        ValueError: It is missing, or no video; the message says what was expected.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise ValueError(f"there is no video {path}; expected a file that OpenCV reads (mp4, avi, mkv)")
        self._path = path
        self._capture = cv2.VideoCapture(str(path))
        self.rate_hz = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.pictures = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        if not self._capture.isOpened() or not 0.5 <= self.rate_hz <= 1000.0:
            raise ValueError(
                f"{path} cannot be read as a video (rate {self.rate_hz:g} Hz); expected mp4, avi or mkv"
            )
        size = (int(self._capture.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        require_size(*size)
        self._next = 0

    @property
    def next_s(self) -> float:
        """When the next picture is taken, from the start [s]."""
        return self._next / self.rate_hz

    def skip(self) -> bool:
        """Leave the next picture out; tell whether there was one."""
        self._next += 1
        return bool(self._capture.grab())

    def read(self) -> Pixels | None:
        """Return the next picture (height, width, 3) RGB; None at the end."""
        self._next += 1
        is_read, frame = self._capture.read()
        return rgb_of_camera(np.asarray(frame)) if is_read and frame is not None else None

    def rewind(self) -> None:
        """Begin anew."""
        self._capture.release()
        self._capture = cv2.VideoCapture(str(self._path))
        self._next = 0

    def close(self) -> None:
        """Let the file go."""
        self._capture.release()
