"""Messages of both audio_common_msgs, by their fields alone."""

from __future__ import annotations

import io
from array import array
from types import SimpleNamespace as Message
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from timar_audio.external_audio import (
    GSTREAMER_FORMATS,
    PORTAUDIO_FORMATS,
    ExternalStream,
    Layout,
    fill_audio_data,
    fill_info,
    read_sound,
    to_int16_mono,
)
from timar_audio.mpeg_stream import MpegStream, read_frame

TONE = 0.5 * np.sin(np.arange(480) / 10)
MONO = "S16LE,16000,1"


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


def foxglove(sample_format: str, data: bytes, rate_hz: int = 44_100, channels: int = 2) -> Message:
    """Return a RawAudio of foxglove_msgs."""
    return Message(
        timestamp=Message(sec=3, nanosec=5), data=array("B", data), format=sample_format, sample_rate=rate_hz,
        number_of_channels=channels,
    )  # fmt: skip


@pytest.mark.parametrize("sample_format", GSTREAMER_FORMATS)
def test_every_plain_format_of_ros_drivers_is_read(sample_format):
    data = coded(TONE, GSTREAMER_FORMATS[sample_format]).tobytes()
    sound = read_sound(Message(data=array("B", data)), f"{sample_format},48000,2")
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
    assert read_sound(Message(header=header(0, 0), audio=body), MONO).first_ros_ns is None
    sound = read_sound(Message(header=header(7, 1), audio=body), MONO)
    assert sound.first_ros_ns == 7_000_000_001
    np.testing.assert_array_equal(to_int16_mono(sound), [1, 256])


@settings(deadline=None, max_examples=50)
@given(samples=st.lists(st.integers(-32_768, 32_767), min_size=1, max_size=100))
def test_what_is_written_for_either_package_is_read_again_sample_by_sample(samples):
    sound = np.array(samples, np.int16)
    plain = fill_audio_data(Message(data=None), sound)
    np.testing.assert_array_equal(to_int16_mono(read_sound(plain, MONO)), sound)
    empty = {name: array("h") for name in PORTAUDIO_FORMATS.values()}
    info = fill_info(Message(format=0, channels=0, rate=0, chunk=0), 16_000, sound.size)
    audio = Message(audio_data=fill_audio_data(Message(**empty), sound), info=info)
    np.testing.assert_array_equal(to_int16_mono(read_sound(audio)), sound)


def test_an_audio_info_is_written_and_read():
    empty = Message(channels=0, sample_rate=0, sample_format="", bitrate=0, coding_format="")
    info = fill_info(empty, 16_000, 320)
    assert info.bitrate == 256_000
    stream = ExternalStream("/audio")
    stream.describe(info)
    sound = stream.read(fill_audio_data(Message(data=None), np.arange(5, dtype=np.int16)))
    assert (sound.rate_hz, to_int16_mono(sound).tolist()) == (16_000, [0, 1, 2, 3, 4])


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (Message(text="hello"), "holds no sound that is known here"),
        (
            Message(data=array("B", [1, 2, 3])),
            r"3 bytes, expected a multiple of 2 \(1 channels of S16LE, 16000",
        ),
        (Message(data=array("B")), "0 bytes"),
        (Message(data=array("f", [1])), "holds float32, and its layout says S16LE"),
        (Message(data="hello"), "holds no sound that is known here"),
        (foxglove("opus", b"\0\0"), "RawAudio is in format 'opus', expected pcm-s16"),
        (foxglove("pcm-s16", b"\0\0\0"), "3 bytes, expected a multiple of 4"),
        (typed("int16_data", np.ones(3, np.int16), channels=2), "3 samples, expected a multiple of 2"),
        (typed("int16_data", np.ones(4, np.int16), channels=0), "0 channels, expected 1..64"),
        (typed("int16_data", np.ones(4, np.int16), rate_hz=7), "rate is 7 Hz, expected 1000..384000"),
        (typed("float32_data", np.array([np.nan], np.float32)), "not finite"),
    ],
)
def test_what_cannot_be_sound_is_refused_with_what_was_expected(message, words):
    with pytest.raises(ValueError, match=words):
        read_sound(message, MONO)


def test_unknown_formats_are_refused_with_the_remedy():
    info = Message(channels=1, sample_rate=16_000, sample_format="S16LE", bitrate=192, coding_format="flac")
    with pytest.raises(ValueError, match=r"coded as 'flac'.* start its audio_capture with format:=wave"):
        ExternalStream("/audio").describe(info)
    with pytest.raises(ValueError, match="sample_format is 'S24LE', expected one of"):
        Layout("S24LE", 1, 16_000)
    odd = typed("int16_data", np.ones(4, np.int16))
    odd.info.format = 4
    with pytest.raises(ValueError, match="format is 4, expected one of PortAudio's 1, 2, 8, 16, 32"):
        read_sound(odd)


def test_foxglove_audio_says_what_it_is():
    sound = read_sound(foxglove("pcm-s16", coded(TONE, "<i2").tobytes()))
    assert (sound.samples.shape, sound.rate_hz, sound.first_ros_ns) == ((240, 2), 44_100, 3_000_000_005)
    np.testing.assert_allclose(sound.samples.reshape(-1), TONE, atol=1e-4)


@pytest.mark.parametrize("kind", ["B", "h"])
def test_bytes_of_which_nothing_says_what_they_are_are_asked_for_and_never_guessed(kind):
    """12 s of 44.1 kHz stereo once became 66 s of 16 kHz mono."""
    message = Message(data=array(kind, coded(TONE, "<i2").tobytes()))
    with pytest.raises(
        ValueError, match=r"/mic brings 960 bytes a message .* say it by --sound-layout, such as"
    ):
        ExternalStream("/mic", option="--sound-layout").read(message)
    sound = ExternalStream("/mic", " s16le, 44100,2").read(message)
    assert (sound.samples.shape, sound.rate_hz) == ((240, 2), 44_100)


@pytest.mark.parametrize(
    "text", ["S16LE", "S16LE,2", "S16LE,16k,1", "S16LE,16000,1,1", "S16LE,-1,1", "S17,16000,1"]
)
def test_a_layout_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match=r"expected (FORMAT,RATE,CHANNELS|one of)"):
        Layout.parse(text)


@pytest.mark.parametrize("is_whole", [True, False], ids=["header with sound", "header alone"])
@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT", "PCM_U8"])
def test_wav_in_pieces_says_by_its_header_what_it_is(subtype, is_whole):
    file = io.BytesIO()
    soundfile.write(file, np.repeat(TONE[:, None], 2, axis=1), 22_050, subtype, format="WAV")
    data = bytearray(file.getvalue())
    data[4:8] = b"\xff\xff\xff\xff"  # A stream does not know its length.
    begin = data.index(b"data") + 8
    cut = begin + 160 if is_whole else begin
    stream = ExternalStream("/audio")
    pieces = [data[:cut], *(data[at : at + 160] for at in range(cut, len(data), 160))]
    sounds = [stream.read(Message(data=array("B", piece))) for piece in pieces if piece]
    heard = np.concatenate([sound.samples for sound in sounds if sound.samples.size])
    assert {sound.rate_hz for sound in sounds} == {22_050}
    np.testing.assert_allclose(heard[: TONE.size], np.repeat(TONE[:, None], 2, axis=1), atol=0.01)


def mp3(rate_hz: int, channels: int, seconds: float = 2.0, **options: Any) -> tuple[bytes, np.ndarray]:
    """Return MP3 without its Xing frame, as an encoder streams it, and its sound decoded in one piece."""
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    tone = 0.3 * np.sin(2 * np.pi * 220 * time_s) * np.sin(np.pi * time_s)
    tone += 0.01 * np.random.default_rng(0).standard_normal(tone.size)
    if options:  # Noise, then silence, so that a variable bitrate varies.
        tone *= 10 * (time_s % 1 < 0.3)
    file = io.BytesIO()
    sound = np.repeat(tone[:, None], channels, axis=1)
    soundfile.write(file, sound, rate_hz, format="MP3", **options)
    data = file.getvalue()
    whole, _ = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    return data[read_frame(data).size :], whole


VARIABLE = {"bitrate_mode": "VARIABLE", "compression_level": 0.99}


@pytest.mark.parametrize(
    ("rate_hz", "channels", "piece", "options"),
    [
        (16_000, 1, 97, {}),
        (16_000, 1, 700, {}),
        (44_100, 2, 700, {}),
        (22_050, 1, 5000, {}),
        (48_000, 1, 700, {}),
        # Its smallest frames have 26 bytes: the reservoir reaches back by twenty of them.
        (22_050, 1, 300, VARIABLE),
        (24_000, 2, 30, VARIABLE),
        (44_100, 2, 700, {**VARIABLE, "compression_level": 0.1}),
        (8_000, 1, 50, VARIABLE),
    ],
)
def test_mp3_in_pieces_of_any_size_is_the_whole(rate_hz, channels, piece, options, capfd):
    data, whole = mp3(rate_hz, channels, **options)
    stream = ExternalStream("/audio")
    stream.describe(
        Message(
            channels=channels, sample_rate=rate_hz, sample_format="S16LE", bitrate=192, coding_format="mp3"
        )
    )
    sounds = [
        stream.read(Message(data=array("B", data[at : at + piece]))) for at in range(0, len(data), piece)
    ]
    heard = np.concatenate([sound.samples for sound in sounds if sound.samples.size])
    assert {sound.rate_hz for sound in sounds if sound.samples.size} == {rate_hz}
    # The encoder's own delay, which only a Xing frame states.
    at = min(4000, rate_hz // 5)
    delay = min(
        range(600, 2600),
        key=lambda k: float(np.abs(heard[at + k : at + 500 + k, 0] - whole[at : at + 500, 0]).max()),
    )
    count = min(len(heard) - delay, len(whole))
    assert count >= len(whole) - 1
    np.testing.assert_allclose(heard[delay + 2000 : delay + count], whole[2000:count], atol=1e-5)
    assert capfd.readouterr().err == "", "the library complains of nothing"


def test_mp3_without_info_is_known_by_its_frames_and_joined_in_the_middle():
    data, whole = mp3(16_000, 1)
    first = read_frame(data)
    pieces = [data[first.size : first.size + 800], data[first.size + 800 :]]
    stream = ExternalStream("/audio")
    heard = sum(stream.read(Message(data=array("B", piece))).samples.shape[0] for piece in pieces)
    assert heard == pytest.approx(len(whole), abs=3 * 576)


def test_what_is_said_to_be_mp3_and_is_none_is_refused_in_bounded_memory():
    stream = MpegStream()
    for _ in range(10):
        stream.push(bytes(100_000))
    with pytest.raises(ValueError, match="hold no frame of MP3"):
        stream.push(bytes(100_000))
    assert stream.skipped_bytes < 2_000_000
