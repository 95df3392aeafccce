"""Sound files of every kind, good and bad."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import scipy.signal
import soundfile
from timar_common.wav import SoundFile, read_wav, write_wav


def tone(rate_hz: int, seconds: float = 0.5, frequency_hz: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * frequency_hz * np.arange(round(rate_hz * seconds)) / rate_hz)


def read_in(file: SoundFile, piece: int) -> np.ndarray:
    pieces = []
    while (samples := file.read(piece)).size:
        pieces.append(samples)
    return np.concatenate(pieces)


def signal_to_error_db(heard: np.ndarray, wanted: np.ndarray) -> float:
    inner = slice(800, -800)  # the resampler's filter rings at both ends
    return 10 * np.log10((wanted[inner] ** 2).sum() / ((heard[inner] - wanted[inner]) ** 2).sum())


@pytest.mark.parametrize(
    ("rate_hz", "channels", "subtype", "quality_db"),
    [
        (16_000, 1, "PCM_16", 80),
        (16_000, 1, "PCM_U8", 35),
        (16_000, 1, "PCM_24", 80),
        (16_000, 1, "PCM_32", 80),
        (48_000, 2, "PCM_16", 70),
        (44_100, 1, "FLOAT", 70),
        (44_100, 3, "DOUBLE", 70),
        (8_000, 1, "PCM_16", 70),
        (11_025, 2, "PCM_U8", 35),
        (96_000, 1, "PCM_24", 70),
        (8_000, 1, "ULAW", 30),
        (192_000, 1, "PCM_16", 70),
        (48_000, 6, "PCM_24", 70),
    ],
)
def test_any_rate_depth_and_channels_play_the_same_sound(tmp_path, rate_hz, channels, subtype, quality_db):
    path = tmp_path / "tone.wav"
    sound = np.repeat(tone(rate_hz)[:, None], channels, axis=1)
    soundfile.write(path, sound, rate_hz, subtype=subtype)
    samples = read_in(SoundFile(path), 320)
    assert abs(samples.size - 8000) <= 1
    wanted = tone(16_000)[: samples.size]
    assert signal_to_error_db(samples / 32_768, wanted) > quality_db


def test_16_bit_sound_of_the_conversation_rate_passes_bit_for_bit(tmp_path):
    rng = np.random.default_rng(1)
    samples = rng.integers(-32_768, 32_768, 5000).astype(np.int16)
    soundfile.write(tmp_path / "noise.wav", samples, 16_000)
    np.testing.assert_array_equal(read_in(SoundFile(tmp_path / "noise.wav"), 333), samples)


@pytest.mark.parametrize("rate_hz", [16_000, 44_100, 48_000])
@pytest.mark.parametrize("piece", [1, 7, 320, 4001, 1 << 20])
def test_pieces_of_any_size_are_the_whole(tmp_path, rate_hz, piece):
    soundfile.write(tmp_path / "tone.wav", tone(rate_hz, 0.2), rate_hz)
    whole = read_in(SoundFile(tmp_path / "tone.wav"), 16_000)
    pieces = read_in(SoundFile(tmp_path / "tone.wav"), piece)
    assert pieces.size == whole.size == 3200
    np.testing.assert_allclose(pieces, whole, atol=1)


def test_channels_are_mixed_or_picked(tmp_path):
    left, right = tone(16_000), 0.5 * tone(16_000, frequency_hz=1000)
    soundfile.write(tmp_path / "stereo.wav", np.stack([left, right], axis=1), 16_000, subtype="FLOAT")
    for channel, wanted in ((-1, (left + right) / 2), (0, left), (1, right)):
        heard = read_in(SoundFile(tmp_path / "stereo.wav", channel), 320) / 32_768
        np.testing.assert_allclose(heard, wanted, atol=1e-4)


def test_resampling_lets_no_sound_above_8_khz_through(tmp_path):
    soundfile.write(tmp_path / "high.wav", tone(48_000, frequency_hz=11_000), 48_000)
    heard = read_in(SoundFile(tmp_path / "high.wav"), 320)[800:-800]
    spectrum = np.abs(scipy.signal.periodogram(heard / 32_768.0)[1])
    assert 10 * np.log10(np.mean((heard / 32_768.0) ** 2) + 1e-12) < -80
    assert np.isfinite(spectrum).all()


def test_numbers_that_are_none_become_silence(tmp_path):
    sound = tone(16_000).astype(np.float32)
    sound[100:200] = np.nan
    sound[300] = np.inf
    soundfile.write(tmp_path / "broken.wav", sound, 16_000, subtype="FLOAT")
    heard = read_in(SoundFile(tmp_path / "broken.wav"), 320)
    assert (heard[100:200] == 0).all()
    assert heard[300] == 0
    np.testing.assert_allclose(heard[400:] / 32_768, sound[400:], atol=1e-4)


def test_skipping_is_reading_without_keeping(tmp_path):
    soundfile.write(tmp_path / "tone.wav", tone(44_100), 44_100)
    whole = read_in(SoundFile(tmp_path / "tone.wav"), 320)
    file = SoundFile(tmp_path / "tone.wav")
    file.skip(3000)
    np.testing.assert_allclose(read_in(file, 320), whole[3000:], atol=1)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no sound file .*nowhere\.wav; give the path"):
        SoundFile(tmp_path / "nowhere.wav")


def test_a_folder_is_not_a_file(tmp_path):
    with pytest.raises(ValueError, match="is not a file; give the path of a WAV file"):
        SoundFile(tmp_path)


def test_an_empty_file_is_told_apart_from_one_without_sound(tmp_path):
    (tmp_path / "empty.wav").touch()
    with pytest.raises(ValueError, match=r"empty\.wav is empty \(0 bytes\)"):
        SoundFile(tmp_path / "empty.wav")
    soundfile.write(tmp_path / "silent.wav", np.zeros(0), 16_000)
    with pytest.raises(ValueError, match=r"silent\.wav holds no sound \(0 samples\)"):
        SoundFile(tmp_path / "silent.wav")


@pytest.mark.parametrize(
    "content", [b"hello, I am a poem\n" * 20, b"RIFF\x10\0\0\0WAVE", b"\x89PNG\r\n\x1a\n" * 9]
)
def test_what_is_not_a_sound_file_is_refused_in_one_sentence(tmp_path, content):
    (tmp_path / "poem.wav").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"poem\.wav is not a sound file that can be read .*expected a WAV"
    ) as error:
        SoundFile(tmp_path / "poem.wav")
    assert "\n" not in str(error.value)


def test_a_truncated_file_plays_what_is_there_and_warns(tmp_path):
    path = tmp_path / "cut.wav"
    soundfile.write(path, tone(16_000, 1.0), 16_000)
    whole = path.read_bytes()
    path.write_bytes(whole[: 44 + 16_000])
    file = SoundFile(path)
    assert len(file.warnings) == 1
    assert "is cut short: its header promises 32044 bytes and 16044 are there" in file.warnings[0]
    assert read_in(file, 320).size == 8000


def test_a_header_that_does_not_know_its_length_is_no_truncation(tmp_path):
    path = tmp_path / "piped.wav"
    soundfile.write(path, tone(16_000, 0.5), 16_000)
    content = bytearray(path.read_bytes())
    content[4:8] = struct.pack("<I", 0xFFFFFFFF)
    content[40:44] = struct.pack("<I", 0xFFFFFFFF)
    path.write_bytes(content)
    file = SoundFile(path)
    assert file.warnings == []
    assert read_in(file, 320).size == 8000


def test_a_channel_that_is_not_there_is_refused(tmp_path):
    soundfile.write(tmp_path / "mono.wav", tone(16_000), 16_000)
    with pytest.raises(ValueError, match="channel 3 was asked for, but the sound has 1"):
        SoundFile(tmp_path / "mono.wav", channel=3)


def test_a_whole_file_is_read_and_written_bit_for_bit(tmp_path):
    samples = np.random.default_rng(1).integers(-32_768, 32_768, 50_000).astype(np.int16)
    write_wav(tmp_path / "noise.wav", samples)
    np.testing.assert_array_equal(read_wav(tmp_path / "noise.wav"), samples)


def test_a_whole_file_with_numbers_that_are_none_is_refused_with_their_count(tmp_path):
    sound = tone(16_000)
    sound[100:103] = np.nan
    soundfile.write(tmp_path / "broken.wav", sound, 16_000, subtype="FLOAT")
    with pytest.raises(ValueError, match=r"broken\.wav holds 3 samples that are not finite numbers"):
        read_wav(tmp_path / "broken.wav")


# What people have: the whole kind, not one instance.

RATE = 16_000
SOUND = tone(RATE, 3.0)


def plain_wav(tmp_path) -> bytes:
    soundfile.write(tmp_path / "plain.wav", SOUND, RATE)
    return (tmp_path / "plain.wav").read_bytes()


def with_sizes(content: bytes, riff: int | None = None, data: int | None = None) -> bytes:
    changed = bytearray(content)
    for offset, size in ((4, riff), (40, data)):
        if size is not None:
            changed[offset : offset + 4] = struct.pack("<I", size)
    return bytes(changed)


def assembled(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"WAVE"
    for name, content in chunks:
        body += name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize(
    ("riff", "data"),
    [(0, 0), (None, 0), (0, None), (0xFFFFFFFF, 0xFFFFFFFF), (None, 0xFFFFFFFF), (0xFFFFFFFF, 0)],
)
def test_a_header_that_a_pipe_left_unfinished_loses_no_sound(tmp_path, riff, data):
    """A data size of 0 over 96 kB of sound was once "holds no sound"."""
    path = tmp_path / "piped.wav"
    path.write_bytes(with_sizes(plain_wav(tmp_path), riff, data))
    file = SoundFile(path)
    assert file.duration_s == 3.0
    assert file.warnings == []
    np.testing.assert_array_equal(file.read_all(), read_wav(tmp_path / "plain.wav"))


def test_a_header_that_says_less_than_follows_is_reported_and_all_is_read(tmp_path):
    path = tmp_path / "short.wav"
    path.write_bytes(with_sizes(plain_wav(tmp_path), data=1000))
    file = SoundFile(path)
    assert file.read_all().size == 48_000
    assert "says that it holds 1000 bytes of sound, and 96000 follow; all are read" in file.warnings[0]


@pytest.mark.parametrize("before", [b"", b"xyz", b"INFOISFT\x06\0\0\0Lavf58"])
@pytest.mark.parametrize("after", [b"", b"xyz", b"INFOISFT\x06\0\0\0Lavf58"])
def test_other_chunks_before_and_after_the_sound_are_no_sound(tmp_path, before, after):
    plain = plain_wav(tmp_path)
    path = tmp_path / "chunks.wav"
    path.write_bytes(
        assembled(
            (b"LIST", before),
            (b"fmt ", plain[20:36]),
            (b"LIST", before),
            (b"data", plain[44:]),
            (b"LIST", after),
        )
    )
    file = SoundFile(path)
    assert file.warnings == []
    np.testing.assert_array_equal(file.read_all(), read_wav(tmp_path / "plain.wav"))


@pytest.mark.parametrize(
    ("full_scale", "subtype"), [(2.0**15, "FLOAT"), (2.0**23, "DOUBLE"), (2.0**31, "FLOAT")]
)
def test_float_samples_in_an_integers_scale_keep_their_level(tmp_path, full_scale, subtype):
    path = tmp_path / "scaled.wav"
    soundfile.write(path, SOUND * (full_scale - 1), RATE, subtype=subtype)
    file = SoundFile(path)
    assert f"full scale is taken to be {full_scale:.0f}" in file.warnings[0]
    np.testing.assert_allclose(file.read_all() / 32_768, SOUND, atol=1e-4)


def test_channels_that_cancel_each_other_are_not_mixed_to_silence(tmp_path):
    path = tmp_path / "antiphase.wav"
    soundfile.write(path, np.stack([SOUND, -SOUND], 1), RATE)
    file = SoundFile(path)
    assert "2 channels that cancel each other when mixed; channel 0 is taken" in file.warnings[0]
    np.testing.assert_allclose(file.read_all() / 32_768, SOUND, atol=1e-4)
    assert SoundFile(path, channel=1).warnings == []


@pytest.mark.parametrize(
    ("sound", "warning"),
    [
        (np.clip(20 * SOUND, -1, 1), "is clipped: 9"),
        (SOUND + 0.4, "has an offset of 0.40 of full scale"),
        (0 * SOUND, "holds nothing but silence"),
        (0.001 * SOUND, "is very quiet: -69 dB"),
        (
            np.where(np.arange(48_000) < 10, np.nan, SOUND),
            "holds 10 samples that are not finite numbers, of 48000",
        ),
        (np.where(np.arange(48_000) < 10, -np.inf, SOUND), "holds 10 samples that are not finite"),
    ],
)
def test_what_is_wrong_with_a_sound_is_known_when_it_is_opened(tmp_path, sound, warning):
    soundfile.write(tmp_path / "odd.wav", sound, RATE, subtype="FLOAT")
    [found] = SoundFile(tmp_path / "odd.wav").warnings
    assert warning in found


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.wav", {"format": "WAVEX"}),
        ("a.wav", {"format": "RF64"}),
        ("a.wav", {"subtype": "ALAW"}),
        ("a.wav", {"subtype": "GSM610"}),
        ("a.wav", {"subtype": "IMA_ADPCM"}),
        ("a.flac", {}),
        ("a.ogg", {}),
        ("lies.wav", {"format": "FLAC"}),
        ("lies.mp3", {"format": "WAV"}),
        ("lies.wav", {"format": "MP3"}),
    ],
)
def test_other_kinds_of_sound_are_read_whatever_their_name_says(tmp_path, name, options):
    soundfile.write(tmp_path / name, SOUND, RATE, **options)
    heard = read_wav(tmp_path / name)
    assert abs(heard.size - 48_000) < 1200
    assert np.std(heard / 32_768) == pytest.approx(np.std(SOUND), rel=0.15)


def cut_in_half(tmp_path, kind):
    soundfile.write(tmp_path / f"whole.{kind}", SOUND, RATE)
    content = (tmp_path / f"whole.{kind}").read_bytes()
    path = tmp_path / f"cut.{kind}"
    path.write_bytes(content[: len(content) // 2])
    return path


def test_an_mp3_that_is_cut_short_is_used_as_far_as_it_goes(tmp_path):
    file = SoundFile(cut_in_half(tmp_path, "mp3"))
    assert "is cut short" in file.warnings[0]
    assert 1.0 < file.duration_s < 2.0
    assert file.read_all().size == pytest.approx(file.duration_s * RATE, abs=1)


@pytest.mark.parametrize(("kind", "reason"), [("flac", "is damaged"), ("ogg", "is not a sound file")])
def test_a_compressed_file_that_cannot_be_read_to_its_end_is_refused(tmp_path, kind, reason):
    with pytest.raises(ValueError, match=reason):
        SoundFile(cut_in_half(tmp_path, kind))


@pytest.mark.parametrize("rate_hz", [0, 1, 3999, 2_000_000_000])
def test_a_rate_that_sound_does_not_have_is_refused(tmp_path, rate_hz):
    content = bytearray(plain_wav(tmp_path))
    content[24:28] = struct.pack("<I", rate_hz)
    (tmp_path / "rate.wav").write_bytes(content)
    with pytest.raises(ValueError, match=r"samples a second, expected 4000 to 384000|is not a sound file"):
        SoundFile(tmp_path / "rate.wav")


def test_headerless_sound_is_refused(tmp_path):
    for name in ("bare.raw", "bare.wav"):
        (tmp_path / name).write_bytes(plain_wav(tmp_path)[44:])
        with pytest.raises(ValueError, match="is not a sound file that can be read"):
            SoundFile(tmp_path / name)
