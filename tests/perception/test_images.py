"""Every encoding gives the same colours; what is no image is rejected with what was expected."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from timar_perception.images import (
    CameraImage,
    downscale,
    mean_brightness,
    rgb_of_camera,
    rgb_of_compressed,
    rgb_of_message,
    upright,
)

RGB = np.zeros((48, 64, 3), np.uint8)
RGB[:, :32] = (200, 40, 20)
RGB[:, 32:] = (20, 60, 180)
ENCODED = {
    "rgb8": RGB,
    "bgr8": RGB[:, :, ::-1],
    "rgba8": np.concatenate([RGB, np.full((48, 64, 1), 255, np.uint8)], 2),
    "bgra8": np.concatenate([RGB[:, :, ::-1], np.full((48, 64, 1), 255, np.uint8)], 2),
    "yuyv": cv2.cvtColor(RGB, cv2.COLOR_RGB2YUV_YUYV),
    "uyvy": cv2.cvtColor(RGB, cv2.COLOR_RGB2YUV_UYVY),
    "yuv422": cv2.cvtColor(RGB, cv2.COLOR_RGB2YUV_UYVY),
    "yuv422_yuy2": cv2.cvtColor(RGB, cv2.COLOR_RGB2YUV_YUYV),
    "8UC3": RGB[:, :, ::-1],
}
BAYER = {"bayer_rggb8": "RGGB", "bayer_bggr8": "BGGR", "bayer_gbrg8": "GBRG", "bayer_grbg8": "GRBG"}


@pytest.mark.parametrize("encoding", ENCODED)
def test_every_encoding_gives_the_same_colours(encoding: str):
    rows = ENCODED[encoding].reshape(48, -1)
    padded = np.concatenate([rows, np.zeros((48, 12), np.uint8)], axis=1)
    read = rgb_of_message(encoding, 64, 48, padded.shape[1], padded.tobytes())
    np.testing.assert_allclose(read[:, [4, 60]].astype(int), RGB[:, [4, 60]], atol=4)


@pytest.mark.parametrize("encoding", BAYER)
def test_a_bayer_pattern_gives_the_same_colours(encoding: str):
    mosaic = np.zeros((48, 64), np.uint8)
    for place, colour in enumerate(BAYER[encoding]):
        row, column = divmod(place, 2)
        mosaic[row::2, column::2] = RGB[row::2, column::2, "RGB".index(colour)]
    read = rgb_of_message(encoding, 64, 48, 64, mosaic.tobytes())
    np.testing.assert_allclose(read[4:-4][:, [4, 60]].astype(int), RGB[4:-4][:, [4, 60]], atol=4)


@pytest.mark.parametrize("kind", [".jpg", ".png"])
@pytest.mark.parametrize("is_grey", [False, True])
def test_a_coded_image_gives_the_same_colours_whatever_its_format_field_says(kind: str, is_grey: bool):
    source = cv2.cvtColor(RGB, cv2.COLOR_RGB2GRAY) if is_grey else RGB[:, :, ::-1]
    read = rgb_of_compressed(cv2.imencode(kind, source)[1].tobytes())
    wanted = cv2.cvtColor(source, cv2.COLOR_GRAY2RGB) if is_grey else RGB
    np.testing.assert_allclose(read[:, [4, 60]].astype(int), wanted[:, [4, 60]], atol=6)


JPEG = cv2.imencode(".jpg", RGB)[1].tobytes()
PNG = cv2.imencode(".png", RGB)[1].tobytes()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "begins with nothing, expected JPEG or PNG"),
        (b"\0\0\0\x01" + JPEG, "begins with 00 00 00 01 .*, expected JPEG or PNG"),
        (JPEG[:20], "says no size; it is damaged"),
        (PNG[:40], "cannot be decoded; it is damaged"),
        (PNG[:16] + (60_000).to_bytes(4, "big") * 2 + PNG[24:], "60000 x 60000 pixels, expected each side"),
        (PNG[:16] + (8000).to_bytes(4, "big") * 2 + PNG[24:], "8000 x 8000 pixels, expected at most"),
        (cv2.imencode(".png", RGB[:8, :8])[1].tobytes(), "8 x 8 pixels, expected each side"),
    ],
)
def test_a_coded_image_that_is_none_is_rejected_before_it_costs_memory(data: bytes, said: str):
    with pytest.raises(ValueError, match=said):
        rgb_of_compressed(data)


def test_a_camera_that_hangs_on_its_side_or_shows_a_mirror_is_put_right():
    image = np.zeros((48, 64, 3), np.uint8)
    image[:10, :10] = 255  # The upper left corner.
    assert upright(image, 0, is_mirrored=False) is image
    for rotation_deg, row, column in ((90, 5, -5), (180, -5, -5), (270, -5, 5)):
        assert upright(image, rotation_deg, is_mirrored=False)[row, column, 0] == 255
    assert upright(image, 0, is_mirrored=True)[5, -5, 0] == 255
    assert upright(image, 90, is_mirrored=True).shape == (64, 48, 3)
    assert upright(image, 90, is_mirrored=True)[-5, -5, 0] == 255


def test_grey_is_seen_as_grey():
    read = rgb_of_message("mono8", 64, 48, 64, bytes(range(64)) * 48)
    assert (read == np.arange(64, dtype=np.uint8)[None, :, None]).all()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (("32FC1", 64, 48, 256, b""), "encoding is '32FC1', expected one of rgb8"),
        (("rgb8", 0, 0, 0, b""), "0 x 0 pixels, expected each side from 32 to 8192"),
        (("rgb8", 2**31, 2**31, 3, b""), "2147483648 x 2147483648 pixels"),
        (("rgb8", 64, 48, 192, b"\0" * 100), "9216 bytes"),
        (("rgb8", 64, 48, 10, b"\0" * 480), "rows of 10 bytes"),
        (("yuyv", 65, 48, 130, b"\0" * 6240), "expected an even number"),
    ],
)
def test_hostile_fields_are_rejected_by_name(fields: tuple, said: str):
    with pytest.raises(ValueError, match=said):
        rgb_of_message(*fields)


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (np.zeros((48, 64, 2), np.uint8), "2 channels, expected 3"),
        (np.zeros((48, 64, 3), np.float32), "float32 of shape"),
        (np.zeros((3, 3, 3), np.uint8), "3 x 3 pixels"),
    ],
)
def test_a_camera_that_gives_no_image_is_reported(frame: np.ndarray, said: str):
    with pytest.raises(ValueError, match=said):
        rgb_of_camera(frame)


def test_large_images_are_scaled_down_and_small_ones_left():
    assert downscale(np.zeros((2160, 3840, 3), np.uint8), 640).shape == (360, 640, 3)
    assert downscale(RGB, 640) is RGB


def test_brightness_is_the_mean_of_all_colours():
    assert mean_brightness(np.full((48, 64, 3), 77, np.uint8)) == 77.0


@pytest.mark.parametrize("pixels", [np.zeros((48, 64), np.uint8), np.zeros((48, 64, 3), np.float32)])
def test_an_image_is_rgb_of_eight_bits(pixels: np.ndarray):
    with pytest.raises(ValueError, match=r"expected uint8 \(h, w, 3\) RGB"):
        CameraImage(pixels, 0)
