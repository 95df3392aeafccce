"""Messages of both audio_common_msgs, by their fields alone."""

from __future__ import annotations

from array import array
from types import SimpleNamespace as Message

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from timar_audio.external_audio import (
    GSTREAMER_FORMATS,
    PORTAUDIO_FORMATS,
    Layout,
    fill_audio_data,
    fill_info,
    read_layout,
    read_sound,
    to_int16_mono,
)

TONE = 0.5 * np.sin(np.arange(480) / 10)


def header(seconds: int, nanoseconds: int) -> Message:
    return Message(stamp=Message(sec=seconds, nanosec=nanoseconds))


def coded(values: np.ndarray, kind: str) -> np.ndarray:
    """Write sound in [-1, 1] as samples of a NumPy type."""
    kind = np.dtype(kind)
    if kind.kind == "f":
        return values.astype(kind)
    half = float(1 << (8 * kind.itemsize - 1))
    return np.rint(values * (half - 1) + (half if kind.kind == "u" else 0)).astype(kind)


def typed(field: str, samples: np.ndarray, channels: int = 1, rate_hz: int = 44_100) -> Message:
    """Return an Audio of mgonzs13."""
    data = {name: array("h") for name in PORTAUDIO_FORMATS.values()} | {field: samples}
    number = next(number for number, name in PORTAUDIO_FORMATS.items() if name == field)
    info = Message(format=number, channels=channels, rate=rate_hz, chunk=samples.size)
    return Message(audio_data=Message(**data), info=info)


@pytest.mark.parametrize("sample_format", GSTREAMER_FORMATS)
def test_every_plain_format_of_ros_drivers_is_read(sample_format):
    data = coded(TONE, GSTREAMER_FORMATS[sample_format]).tobytes()
    sound = read_sound(Message(data=array("B", data)), Layout(sample_format, 2, 48_000))
    assert (sound.samples.shape, sound.rate_hz, sound.first_ros_ns) == ((240, 2), 48_000, None)
    np.testing.assert_allclose(sound.samples.reshape(-1), TONE, atol=0.01)


@pytest.mark.parametrize("field", PORTAUDIO_FORMATS.values())
def test_every_format_of_mgonzs13_is_read(field):
    samples = coded(TONE, field.removesuffix("_data"))
    sound = read_sound(Message(header=header(3, 5), audio=typed(field, samples, channels=2)))
    assert (sound.samples.shape, sound.rate_hz, sound.first_ros_ns) == ((240, 2), 44_100, 3_000_000_005)
    np.testing.assert_allclose(sound.samples.reshape(-1), TONE, atol=0.01)


def test_a_stamp_of_zero_is_none_and_a_stamped_message_of_ros_drivers_is_read():
    body = Message(data=np.array([1, 0, 0, 1], np.uint8))  # as rosbags reads it
    assert read_sound(Message(header=header(0, 0), audio=body)).first_ros_ns is None
    sound = read_sound(Message(header=header(7, 1), audio=body))
    assert sound.first_ros_ns == 7_000_000_001
    np.testing.assert_array_equal(to_int16_mono(sound), [1, 256])


@settings(deadline=None, max_examples=50)
@given(samples=st.lists(st.integers(-32_768, 32_767), min_size=1, max_size=100))
def test_what_is_written_for_either_package_is_read_again_sample_by_sample(samples):
    sound = np.array(samples, np.int16)
    plain = fill_audio_data(Message(data=None), sound)
    np.testing.assert_array_equal(to_int16_mono(read_sound(plain)), sound)
    empty = {name: array("h") for name in PORTAUDIO_FORMATS.values()}
    info = fill_info(Message(format=0, channels=0, rate=0, chunk=0), 16_000, sound.size)
    audio = Message(audio_data=fill_audio_data(Message(**empty), sound), info=info)
    np.testing.assert_array_equal(to_int16_mono(read_sound(audio)), sound)


def test_an_audio_info_is_written_and_read():
    empty = Message(channels=0, sample_rate=0, sample_format="", bitrate=0, coding_format="")
    info = fill_info(empty, 16_000, 320)
    assert info.bitrate == 256_000
    assert read_layout(info) == Layout("S16LE", 1, 16_000)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (Message(text="hello"), "holds no sound that is known here"),
        (Message(data=b"\x01\x02\x03"), r"3 bytes, expected a multiple of 2 \(1 channels of S16LE\)"),
        (Message(data=b""), "0 bytes"),
        (typed("int16_data", np.ones(3, np.int16), channels=2), "3 samples, expected a multiple of 2"),
        (typed("int16_data", np.ones(4, np.int16), channels=0), "0 channels, expected 1..64"),
        (typed("int16_data", np.ones(4, np.int16), rate_hz=7), "rate is 7 Hz, expected 1000..384000"),
        (typed("float32_data", np.array([np.nan], np.float32)), "not finite"),
    ],
)
def test_what_cannot_be_sound_is_refused_with_what_was_expected(message, words):
    with pytest.raises(ValueError, match=words):
        read_sound(message)


def test_mp3_and_unknown_formats_are_refused_with_the_remedy():
    info = Message(channels=1, sample_rate=16_000, sample_format="S16LE", bitrate=192, coding_format="mp3")
    with pytest.raises(ValueError, match=r"coded as 'mp3' .* start its audio_capture with format:=wave"):
        read_layout(info)
    with pytest.raises(ValueError, match="sample_format is 'S24LE', expected one of"):
        Layout("S24LE")
    odd = typed("int16_data", np.ones(4, np.int16))
    odd.info.format = 4
    with pytest.raises(ValueError, match="format is 4, expected one of PortAudio's 1, 2, 8, 16, 32"):
        read_sound(odd)
