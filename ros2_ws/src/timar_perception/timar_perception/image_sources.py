"""Image sources: a camera through OpenCV, and a video file."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from timar_perception.images import CameraImage, Pixels, check_size, plausible_stamp_ns, rgb_of_camera

_MAX_FAILED_READS = 10
"""A camera that fails to give so many images in a row is gone."""

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
        self._requested = {
            cv2.CAP_PROP_FRAME_WIDTH: float(width),
            cv2.CAP_PROP_FRAME_HEIGHT: float(height),
            cv2.CAP_PROP_FPS: rate_hz,
            # An old image is worse than none.
            cv2.CAP_PROP_BUFFERSIZE: 1.0,
        }
        self._open_capture = open_capture or cv2.VideoCapture
        self._capture: Capture = None
        self._stream = 0

    def open(self) -> str:
        """Open the camera and return a sentence about what it gives.

        Raises:
            OSError: There is none, or it cannot be opened; the message lists those there are.
        """
        self.close()
        # OpenCV reports on standard error every way in which it tried to open a camera.
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        capture = self._open_capture(self._device)
        if not capture.isOpened():
            capture.release()
            raise OSError(f"the camera {self._device!r} cannot be opened; {describe_cameras()}")
        for key, value in self._requested.items():
            capture.set(key, value)
        if not capture.read()[0]:
            # Some devices deliver Motion JPEG only, and must be asked for it.
            capture.set(cv2.CAP_PROP_FOURCC, float(int.from_bytes(b"MJPG", "little")))
            if not capture.read()[0]:
                capture.release()
                raise OSError(
                    f"the camera {self._device!r} is there and gives no image: another program may "
                    "hold it (fuser "
                    "-v /dev/video* names it), or it delivers neither raw images nor Motion JPEG"
                )
        self._capture = capture
        self._stream += 1
        size = f"{capture.get(cv2.CAP_PROP_FRAME_WIDTH):.0f} x {capture.get(cv2.CAP_PROP_FRAME_HEIGHT):.0f}"
        return f"camera {self._device!r} gives {size} at {capture.get(cv2.CAP_PROP_FPS):g} Hz"

    def read(self) -> CameraImage:
        """Wait for the next image.

        Raises:
            OSError: The camera gives none any more.
            ValueError: What it gives is no image.
        """
        if self._capture is None:
            raise OSError(f"the camera {self._device!r} is not open")
        for _ in range(_MAX_FAILED_READS):
            is_read, frame = self._capture.read()
            if is_read and frame is not None:
                # The driver's own stamp (V4L2: monotonic, at the first byte) where it can be one, else now.
                stamp_ns = round(self._capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
                taken_ns = plausible_stamp_ns(stamp_ns, time.monotonic_ns())
                return CameraImage(rgb_of_camera(np.asarray(frame)), taken_ns, self._stream)
            time.sleep(0.01)
        raise OSError(f"the camera {self._device!r} gives no images any more; is it unplugged?")

    def read_until(
        self, ending: threading.Event, reopen_s: float, on_change: Callable[[str, bool], None]
    ) -> Iterator[CameraImage]:
        """Yield images until `ending` is set; a camera that is gone is opened again when it is back.

        Args:
            ending: Ends it.
            reopen_s: How often a camera that is gone is looked for [s].
            on_change: Called when the camera was opened or has failed, with a sentence and whether it failed.
        """
        failure = ""
        try:
            while not ending.is_set():
                try:
                    if self._capture is None:
                        on_change(self.open(), False)
                        failure = ""
                    yield self.read()
                except (OSError, ValueError) as error:
                    self.close()
                    if str(error) != failure:
                        failure = str(error)
                        on_change(failure, True)
                    ending.wait(reopen_s)
        finally:
            self.close()

    def close(self) -> None:
        """Release the camera."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None


def describe_cameras() -> str:
    """Return a sentence about the cameras that Linux knows of."""
    found = sorted(str(path) for path in Path("/dev").glob("video[0-9]*"))
    if not found:
        return "this machine has no /dev/video*: plug a camera in, or pass it into the container"
    closed = [path for path in found if not os.access(path, os.R_OK | os.W_OK)]
    hint = f"; {', '.join(closed)} may not be opened: add yourself to the group video" if closed else ""
    return f"there are {', '.join(found)}{hint}"


class VideoFile:
    """A video whose frame k is taken k / rate seconds after its start.

    Raises:
        ValueError: It is missing, or no video; the message says what was expected.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise ValueError(f"there is no video {path}; expected a file that OpenCV reads (mp4, avi, mkv)")
        self._path = path
        self._open()
        self.rate_hz = float(self._capture.get(cv2.CAP_PROP_FPS))
        if not self._capture.isOpened() or not 0.5 <= self.rate_hz <= 1000.0:
            raise ValueError(
                f"{path} cannot be read as a video (rate {self.rate_hz:g} Hz); expected mp4, avi or mkv"
            )
        size = (int(self._capture.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        check_size(*size)

    def _open(self) -> None:
        self._capture = cv2.VideoCapture(str(self._path))
        self._next = 0
        self.has_ended = False

    @property
    def frames(self) -> int:
        """How many frames the file says it has; 0 where it does not."""
        return max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))

    @property
    def next_s(self) -> float:
        """When the next frame is taken, from the start [s]."""
        return self._next / self.rate_hz

    def read_newest(self, until_s: float) -> tuple[float, Pixels] | None:
        """Skip to the newest frame that is taken by an instant, and read it.

        Args:
            until_s: From the start [s].

        Returns:
            When it is taken [s] and (height, width, 3) RGB; None when no frame is due, or at the end.
        """
        taken_s = None
        while not self.has_ended and self.next_s <= until_s:
            taken_s = self.next_s
            self._next += 1
            self.has_ended = not self._capture.grab()
        if taken_s is None or self.has_ended:
            return None
        is_read, frame = self._capture.retrieve()
        self.has_ended = not is_read
        return (taken_s, rgb_of_camera(np.asarray(frame))) if is_read else None

    def read_stamped(self) -> tuple[float, Pixels] | None:
        """Read the next frame at the time that the file itself states, for its rate may vary.

        Returns:
            When it is shown, from the start [s], and (height, width, 3) RGB; None at the end.
        """
        is_read, frame = self._capture.read()
        self.has_ended = not is_read
        if not is_read:
            return None
        self._next += 1
        return self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000.0, rgb_of_camera(np.asarray(frame))

    def rewind(self) -> None:
        """Start from the first frame again."""
        self.close()
        self._open()

    def close(self) -> None:
        """Release the file."""
        self._capture.release()
