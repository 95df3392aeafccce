"""The microphone against a PortAudio that does what we say."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest
import scipy.signal
from timar_audio.capture import Capture
from timar_audio.capture_config import CaptureConfig
from timar_audio.devices import find_device, import_portaudio
from timar_audio.microphone import MicrophoneSource


class PortAudioError(Exception):
    """As sounddevice's."""


class FakeStream:
    """A device with a ring of its own: sound older than the ring is lost, the next read says so."""

    def __init__(
        self, audio: FakePortAudio, samplerate: int, channels: int, latency: float, **_: object
    ) -> None:
        self._audio = audio
        self._rate_hz = samplerate
        self._channels = channels
        self._ring = round(latency * samplerate)
        self._start_ns = audio.now_ns
        self._read = 0
        self._has_overflowed = False
        self.is_closed = False

    def start(self) -> None:
        if self._audio.refuses:
            raise PortAudioError("Device unavailable [PaErrorCode -9985]")

    @property
    def read_available(self) -> int:
        if self._audio.dies_at_ns is not None and self._audio.now_ns >= self._audio.dies_at_ns:
            if self._audio.dies_silently:
                return 0
            raise PortAudioError("Unanticipated host error [PaErrorCode -9999]")
        written = (self._audio.now_ns - self._start_ns) * self._rate_hz // 1_000_000_000
        if written - self._read > self._ring:
            self._read = written
            self._has_overflowed = True
        return written - self._read

    def read(self, frames: int) -> tuple[bytes, bool]:
        places = np.arange(self._read, self._read + frames)
        self._read += frames
        values = np.stack([self._audio.signal(places / self._rate_hz)] * self._channels, axis=1)
        overflowed, self._has_overflowed = self._has_overflowed, False
        return np.round(values * 32_767).astype(np.int16).tobytes(), overflowed

    def close(self, ignore_errors: bool) -> None:
        self.is_closed = True


class FakePortAudio:
    """The part of sounddevice the microphone uses, in a time of its own."""

    PortAudioError = PortAudioError

    def __init__(self, signal: Callable[[np.ndarray], np.ndarray] = np.zeros_like) -> None:
        self.now_ns = 1_000_000_000
        self.signal = signal
        self.refuses = False
        self.dies_at_ns: int | None = None
        self.dies_silently = False
        self.devices = [
            {"name": "Loudspeaker", "max_input_channels": 0, "default_samplerate": 48_000.0, "index": 0},
            {"name": "Array (USB)", "max_input_channels": 4, "default_samplerate": 48_000.0, "index": 1},
        ]
        self.streams: list[FakeStream] = []

    def query_devices(self, device: int | str | None = None, kind: str | None = None) -> object:
        if kind is None:
            return self.devices
        for index, info in enumerate(self.devices):
            is_wanted = device in (None, index) or (isinstance(device, str) and device in info["name"])
            if is_wanted and info["max_input_channels"]:
                return info
        raise ValueError(f"No input device matching {device!r}")

    def RawInputStream(self, **options: object) -> FakeStream:  # noqa: N802
        self.streams.append(FakeStream(self, **options))
        return self.streams[-1]

    def _terminate(self) -> None:
        """Forget the list of devices."""

    def _initialize(self) -> None:
        """Make it anew."""

    def sleep(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)


def microphone(audio: FakePortAudio, **changes: object) -> MicrophoneSource:
    config = CaptureConfig(**({"vanished_after_ms": 1000} | changes))
    return MicrophoneSource(config, clock=lambda: audio.now_ns, sleep=audio.sleep, portaudio=audio)


def tone(times_s: np.ndarray) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * 440 * times_s)


def sweep(times_s: np.ndarray) -> np.ndarray:
    return 0.5 * scipy.signal.chirp(times_s, 200, 6.0, 3000)


def recorded(source: MicrophoneSource, capture: Capture, seconds: float, audio: FakePortAudio) -> list:
    end_ns = audio.now_ns + round(seconds * 1e9)
    blocks = []
    while audio.now_ns < end_ns:
        for sound in source.read():
            blocks += capture.push(sound)
    return blocks


def test_a_48_khz_array_is_opened_at_its_own_rate_and_heard_at_16_khz():
    audio = FakePortAudio(tone)
    source = microphone(audio)
    assert source.open() == "microphone 'Array (USB)': 48000 Hz, 2 channel(s)"
    samples = np.concatenate([b.samples for b in recorded(source, Capture(320), 2.0, audio)]) / 32_768
    assert samples.size == pytest.approx(32_000, abs=800)
    inner = slice(1600, samples.size - 1600)
    np.testing.assert_allclose(samples[inner], tone(np.arange(samples.size) / 16_000)[inner], atol=2e-3)


def test_a_device_that_comes_back_at_another_rate_and_with_other_channels_is_heard_as_before():
    audio = FakePortAudio(tone)
    source, capture = microphone(audio), Capture(320)
    source.open()
    blocks = recorded(source, capture, 2.0, audio)
    for rate_hz, channels in ((44_100.0, 1), (16_000.0, 8), (48_000.0, 2)):
        source.close()
        audio.devices[1] |= {"default_samplerate": rate_hz, "max_input_channels": channels}
        assert f"{rate_hz:.0f} Hz" in source.open()
        blocks = recorded(source, Capture(320), 2.0, audio)
        heard = np.concatenate([block.samples for block in blocks])[4000:28_000] / 32_768
        assert heard.size == 24_000
        spectrum = np.abs(np.fft.rfft(heard * np.hanning(heard.size)))
        assert np.argmax(spectrum) * 16_000 / heard.size == pytest.approx(440, abs=1)


def test_after_an_overflow_sound_stands_where_it_was_spoken():
    audio = FakePortAudio(sweep)
    source, capture = microphone(audio), Capture(320)
    source.open()
    blocks = recorded(source, capture, 3.0, audio)
    audio.now_ns += 300_000_000
    blocks += recorded(source, capture, 2.0, audio)
    assert capture.overflows == 1
    assert capture.samples_lost == pytest.approx(4800, abs=200)
    heard = np.concatenate([block.samples for block in blocks]) / 32_768
    spoken = sweep(np.arange(heard.size) / 16_000)
    for part in (slice(16_000, 40_000), slice(56_000, 72_000)):
        lags = scipy.signal.correlation_lags(part.stop - part.start, part.stop - part.start)
        shift = lags[scipy.signal.correlate(heard[part], spoken[part]).argmax()]
        assert abs(shift) < 100  # 6 ms
    last = blocks[-1]
    assert abs(last.monotonic_ns - 1_000_000_000 - last.first_sample * 62_500) < 12e6


def test_one_channel_of_an_array_can_be_picked():
    audio = FakePortAudio(tone)
    source = microphone(audio, channel=3)
    assert source.open().endswith("4 channel(s)")
    with pytest.raises(ValueError, match=r"channel 4 was asked for, but microphone 'Array \(USB\)' has 4"):
        microphone(audio, channel=4).open()


@pytest.mark.parametrize("device", ["", "1", "USB"])
def test_a_device_is_found_by_default_index_and_part_of_its_name(device):
    assert find_device(FakePortAudio(), device, "input")["name"] == "Array (USB)"


def test_a_device_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(OSError, match=r"no microphone 'Violin' .*those here are 1: Array \(USB\)"):
        find_device(FakePortAudio(), "Violin", "input")


def test_a_machine_without_a_microphone_is_told_so():
    audio = FakePortAudio()
    audio.devices = audio.devices[:1]
    with pytest.raises(OSError, match="no microphone on this machine; plug one in, or give source:=file"):
        microphone(audio).open()


def test_a_busy_device_is_refused_with_the_reason():
    audio = FakePortAudio()
    audio.refuses = True
    with pytest.raises(OSError, match=r"cannot be opened at 48000 Hz with 2 .*: Device unavailable"):
        microphone(audio).open()
    assert audio.streams[0].is_closed


@pytest.mark.parametrize("dies_silently", [False, True])
def test_a_microphone_that_is_unplugged_is_told_within_its_time(dies_silently):
    audio = FakePortAudio()
    audio.dies_at_ns = audio.now_ns + 2_000_000_000
    audio.dies_silently = dies_silently
    source = microphone(audio)
    source.open()
    with pytest.raises(OSError, match=r"'Array \(USB\)' has vanished: .*plug it in again"):
        recorded(source, Capture(320), 10.0, audio)
    assert audio.now_ns - audio.dies_at_ns <= 1_100_000_000
    source.close()
    source.close()
    assert audio.streams[0].is_closed


def test_without_portaudio_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(OSError, match="apt install libportaudio2"):
        import_portaudio()
