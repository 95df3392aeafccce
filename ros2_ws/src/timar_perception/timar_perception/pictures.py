"""Pictures as they come and as the eyes want them: RGB, of a size that can be, not too large."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

SMALLEST_PX = 32
LARGEST_PX = 8192
OLDEST_BELIEVED_NS = 1_000_000_000
NEWEST_BELIEVED_NS = 20_000_000
"""A stamp so far ahead of now is put down to reading two clocks [ns]."""

# Encoding of sensor_msgs/Image -> bytes a pixel, and OpenCV's conversion to RGB.
_ENCODINGS: dict[str, tuple[int, int | None]] = {
    "rgb8": (3, None),
    "bgr8": (3, cv2.COLOR_BGR2RGB),
    "rgba8": (4, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, cv2.COLOR_BGRA2RGB),
    "mono8": (1, cv2.COLOR_GRAY2RGB),
    "8UC1": (1, cv2.COLOR_GRAY2RGB),
    "8UC3": (3, cv2.COLOR_BGR2RGB),
    "yuyv": (2, cv2.COLOR_YUV2RGB_YUYV),
    "yuv422_yuy2": (2, cv2.COLOR_YUV2RGB_YUYV),
    "uyvy": (2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422": (2, cv2.COLOR_YUV2RGB_UYVY),
}


@dataclasses.dataclass(frozen=True)
class Picture:
    """What a camera saw at an instant."""

    pixels: Pixels
    """(height, width, 3) RGB."""
    taken_ns: int
    """CLOCK_MONOTONIC [ns]."""


def rgb_of_message(
    encoding: str, width: int, height: int, step: int, data: bytes | memoryview | npt.NDArray[np.uint8]
) -> Pixels:
    """Read the fields of a sensor_msgs/Image.

    Args:
        encoding: As in sensor_msgs/image_encodings.hpp.
        width: [px].
        height: [px].
        step: Length of a row [bytes].
        data: Rows one after the other.

    Returns:
        (height, width, 3) RGB.

    Raises:
        ValueError: The fields contradict each other, or nobody could look at such a picture.
    """
    require_size(width, height)
    if encoding not in _ENCODINGS:
        raise ValueError(f"a picture's encoding is {encoding!r}, expected one of {', '.join(_ENCODINGS)}")
    channels, conversion = _ENCODINGS[encoding]
    raw = np.frombuffer(data, np.uint8)
    if step < width * channels or raw.size != step * height:
        raise ValueError(
            f"a picture of {width} x {height} in {encoding} has rows of {step} bytes and {raw.size} bytes in "
            f"all, expected rows of {width * channels} or more and {step * height} bytes"
        )
    rows = raw.reshape(height, step)[:, : width * channels].reshape(height, width, channels)
    if conversion is None:
        return np.ascontiguousarray(rows)
    if channels == 2 and width % 2:
        raise ValueError(f"a picture in {encoding} is {width} px wide, expected an even number")
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(rows), conversion), np.uint8)


def rgb_of_camera(frame: npt.NDArray) -> Pixels:
    """Read what OpenCV's VideoCapture gives: BGR, or grey.

    Raises:
        ValueError: It is no picture.
    """
    if frame.dtype != np.uint8 or frame.ndim not in (2, 3):
        raise ValueError(f"the camera gives {frame.dtype} of shape {frame.shape}, expected 8-bit colours")
    require_size(frame.shape[1], frame.shape[0])
    channels = 1 if frame.ndim == 2 else frame.shape[2]
    if channels == 3:
        return np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8)
    if channels == 1:
        return np.asarray(cv2.cvtColor(frame, cv2.COLOR_GRAY2RGB), np.uint8)
    raise ValueError(f"the camera gives {channels} channels, expected 3 (blue, green, red) or 1 (grey)")


def believed_ns(stamp_ns: int, now_ns: int) -> int:
    """Return when a picture was taken: its stamp, or now when no camera that works could stamp it so [ns]."""
    return stamp_ns if now_ns - OLDEST_BELIEVED_NS <= stamp_ns <= now_ns + NEWEST_BELIEVED_NS else now_ns


def require_size(width: int, height: int) -> None:
    """Refuse a size that no face is seen in, or that would take all memory.

    Raises:
        ValueError: The message says which sides are allowed.
    """
    if not (SMALLEST_PX <= width <= LARGEST_PX and SMALLEST_PX <= height <= LARGEST_PX):
        raise ValueError(
            f"a picture has {width} x {height} pixels, expected each side from {SMALLEST_PX} to {LARGEST_PX}"
        )


def shrink(pixels: Pixels, max_side_px: int) -> Pixels:
    """Return the picture with its longer side at most so long."""
    height, width = pixels.shape[:2]
    share = max_side_px / max(height, width)
    if share >= 1.0:
        return pixels
    size = (max(1, round(width * share)), max(1, round(height * share)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def mean_brightness(pixels: Pixels) -> float:
    """Return the mean of all pixels and colours, 0 to 255; every eighth pixel is looked at."""
    return float(pixels[::8, ::8].mean())
