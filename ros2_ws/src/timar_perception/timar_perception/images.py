"""Camera images: conversion to RGB, limits of their size, downscaling, brightness."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

SMALLEST_PX = 32
LARGEST_PX = 8192
OLDEST_STAMP_NS = 1_000_000_000
NEWEST_STAMP_NS = 20_000_000
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
class CameraImage:
    """An image and the instant at which it was taken.

    Raises:
        ValueError: It is no RGB image, or of a size that no face is seen in.
    """

    pixels: Pixels
    """(height, width, 3) RGB."""
    taken_ns: int
    """CLOCK_MONOTONIC [ns]."""
    stream: int = 0
    """Counts the openings of the camera; a new stream shares no time and no face with the one before."""

    def __post_init__(self) -> None:
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 3 or self.pixels.shape[2] != 3:
            raise ValueError(
                f"an image is {self.pixels.dtype} of shape {self.pixels.shape}, expected uint8 (h, w, 3) RGB"
            )
        check_size(self.pixels.shape[1], self.pixels.shape[0])


def rgb_of_message(
    encoding: str, width: int, height: int, step: int, data: bytes | memoryview | npt.NDArray[np.uint8]
) -> Pixels:
    """Convert the fields of a sensor_msgs/Image to RGB.

    Args:
        encoding: As in sensor_msgs/image_encodings.hpp.
        width: [px].
        height: [px].
        step: Length of a row [bytes].
        data: Rows one after the other.

    Returns:
        (height, width, 3) RGB.

    Raises:
        ValueError: The fields contradict each other, or the size is out of range.
    """
    check_size(width, height)
    if encoding not in _ENCODINGS:
        raise ValueError(f"an image's encoding is {encoding!r}, expected one of {', '.join(_ENCODINGS)}")
    channels, conversion = _ENCODINGS[encoding]
    raw = np.frombuffer(data, np.uint8)
    if step < width * channels or raw.size != step * height:
        raise ValueError(
            f"an image of {width} x {height} in {encoding} has rows of {step} bytes and {raw.size} bytes in "
            f"all, expected rows of {width * channels} or more and {step * height} bytes"
        )
    rows = raw.reshape(height, step)[:, : width * channels].reshape(height, width, channels)
    if conversion is None:
        return np.ascontiguousarray(rows)
    if channels == 2 and width % 2:
        raise ValueError(f"an image in {encoding} is {width} px wide, expected an even number")
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(rows), conversion), np.uint8)


def rgb_of_camera(frame: npt.NDArray) -> Pixels:
    """Convert what OpenCV's VideoCapture gives, BGR or grey, to RGB.

    Raises:
        ValueError: It is no image.
    """
    if frame.dtype != np.uint8 or frame.ndim not in (2, 3):
        raise ValueError(f"the camera gives {frame.dtype} of shape {frame.shape}, expected 8-bit colours")
    check_size(frame.shape[1], frame.shape[0])
    channels = 1 if frame.ndim == 2 else frame.shape[2]
    if channels not in (1, 3):
        raise ValueError(f"the camera gives {channels} channels, expected 3 (blue, green, red) or 1 (grey)")
    conversion = cv2.COLOR_BGR2RGB if channels == 3 else cv2.COLOR_GRAY2RGB
    return np.asarray(cv2.cvtColor(frame, conversion), np.uint8)


def plausible_stamp_ns(stamp_ns: int, now_ns: int) -> int:
    """Return when an image was taken: its stamp, or now when no working camera could stamp it so [ns]."""
    return stamp_ns if now_ns - OLDEST_STAMP_NS <= stamp_ns <= now_ns + NEWEST_STAMP_NS else now_ns


def check_size(width: int, height: int) -> None:
    """Reject a size that no face is seen in, or that would take all memory.

    Raises:
        ValueError: The message says which sides are allowed.
    """
    if not (SMALLEST_PX <= width <= LARGEST_PX and SMALLEST_PX <= height <= LARGEST_PX):
        raise ValueError(
            f"an image has {width} x {height} pixels, expected each side from {SMALLEST_PX} to {LARGEST_PX}"
        )


def downscale(pixels: Pixels, max_side_px: int) -> Pixels:
    """Return the image with its longer side at most so long."""
    height, width = pixels.shape[:2]
    scale = max_side_px / max(height, width)
    if scale >= 1.0:
        return pixels
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def mean_brightness(pixels: Pixels) -> float:
    """Return the mean over pixels and colours, 0 to 255, of every eighth row and column."""
    return float(pixels[::8, ::8].mean())
