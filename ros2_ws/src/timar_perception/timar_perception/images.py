"""Camera images: conversion to RGB, limits of their size, rotation, downscaling, brightness."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

SMALLEST_PX = 32
LARGEST_PX = 8192
MOST_PIXELS = 1 << 25
"""8K: a coded image of more would take gigabytes while it is decoded."""
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
    "bayer_rggb8": (1, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr8": (1, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg8": (1, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg8": (1, cv2.COLOR_BayerGB2RGB),
    "8UC1": (1, cv2.COLOR_GRAY2RGB),
    "8UC3": (3, cv2.COLOR_BGR2RGB),
    "yuyv": (2, cv2.COLOR_YUV2RGB_YUYV),
    "yuv422_yuy2": (2, cv2.COLOR_YUV2RGB_YUYV),
    "uyvy": (2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422": (2, cv2.COLOR_YUV2RGB_UYVY),
}
_CODED = {b"\xff\xd8\xff": "jpeg", b"\x89PNG\r\n\x1a\n": "png"}
"""What a coded image begins with."""
ROTATIONS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}
"""Clockwise angle [degrees] -> OpenCV's name for it."""


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


def rgb_of_compressed(data: bytes | memoryview | npt.NDArray[np.uint8]) -> Pixels:
    """Convert the bytes of a sensor_msgs/CompressedImage, JPEG or PNG, to RGB.

    What it is shows in its bytes: publishers write many things into `format`.

    Raises:
        ValueError: It is neither, is damaged, or its size is out of range.
    """
    raw = np.frombuffer(data, np.uint8)
    begin = raw[:8].tobytes()
    kind = next((kind for magic, kind in _CODED.items() if begin.startswith(magic)), "")
    if not kind:
        raise ValueError(f"a coded image begins with {begin.hex(' ') or 'nothing'}, expected JPEG or PNG")
    check_size(*_coded_size(raw.tobytes(), kind))
    # OpenCV would write its own complaint to standard error.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    # Only colours: a depth image in a PNG has 16 bits, which are no face.
    decoded = cv2.imdecode(raw, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if decoded is None:
        raise ValueError(f"a {kind.upper()} of {raw.size} bytes cannot be decoded; it is damaged")
    return rgb_of_camera(decoded)


def _coded_size(data: bytes, kind: str) -> tuple[int, int]:
    """Return width and height that a coded image states, before anything of it is decoded."""
    if kind == "png" and len(data) >= 24:
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    at = 2
    while kind == "jpeg" and at + 9 <= len(data) and data[at] == 0xFF:
        marker, size = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")
        at += 1 if marker == 0xFF else 2 + size
    raise ValueError(f"a {kind.upper()} of {len(data)} bytes says no size; it is damaged")


def upright(pixels: Pixels, rotation_deg: int, *, is_mirrored: bool) -> Pixels:
    """Undo a mirror, then turn an image clockwise by 0, 90, 180 or 270 degrees."""
    if is_mirrored:
        pixels = np.ascontiguousarray(pixels[:, ::-1])
    if rotation_deg in ROTATIONS:
        pixels = np.asarray(cv2.rotate(pixels, ROTATIONS[rotation_deg]), np.uint8)
    return pixels


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
    if width * height > MOST_PIXELS:
        raise ValueError(f"an image has {width} x {height} pixels, expected at most {MOST_PIXELS} in all")


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
