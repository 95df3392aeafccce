"""The real microphone path, PortAudio and all, on a virtual device."""

from __future__ import annotations

import ctypes
import pathlib
import subprocess
import threading
import time
import wave
from collections.abc import Callable

import numpy as np
import pytest
import scipy.signal
from timar_audio.capture import Capture
from timar_audio.capture_config import CaptureConfig
from timar_audio.devices import find_device, import_portaudio
from timar_audio.microphone import MicrophoneSource

pytestmark = pytest.mark.sound

STEP = 2531
"""The coded signal climbs by this from sample to sample, modulo 2^16: every sample tells its own place."""
LENGTH = 4 * 16_000


def write_coded(path: pathlib.Path) -> None:
    """Write the coded signal after silence, for PulseAudio swallows the start of a stream."""
    coded = (np.arange(1, LENGTH + 1, dtype=np.int64) * STEP).astype(np.uint16).view(np.int16)
    write_wav(path, np.concatenate([np.zeros(8000, np.int16), coded]), 16_000)


def write_wav(path: pathlib.Path, samples: np.ndarray, rate_hz: int) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(samples.tobytes())


def places_of(samples: np.ndarray) -> np.ndarray:
    """Decode which place of the coded signal each sample is, modulo 2^16."""
    return samples.view(np.uint16).astype(np.int64) * pow(STEP, -1, 1 << 16) % (1 << 16)


def record(
    source: MicrophoneSource, seconds: float, play: Callable[[], subprocess.Popen[bytes]] | None = None
) -> tuple[Capture, np.ndarray]:
    """Record so many seconds of blocks; what is to be heard is played when the first sound has come."""
    capture = Capture(320)
    blocks = []
    player = None
    while len(blocks) * 320 < seconds * 16_000:
        for sound in source.read():
            blocks += capture.push(sound)
        if blocks and play is not None and player is None:
            player = play()
    source.close()
    if player is not None:
        assert player.wait(timeout=60) == 0
    assert [block.first_sample for block in blocks] == list(range(0, 320 * len(blocks), 320))
    return capture, np.concatenate([block.samples for block in blocks])


def read_for(source: MicrophoneSource, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        source.read()


def heard_part(samples: np.ndarray) -> np.ndarray:
    """Cut the silence before and after the coded signal."""
    loud = np.flatnonzero(samples)
    return samples[loud[0] : loud[-1] + 1]


def open_microphone(rate_hz: int = 16_000, **options: int) -> MicrophoneSource:
    settings = {"device": "pulse", "buffer_ms": 600, "vanished_after_ms": 1000} | options
    source = MicrophoneSource(CaptureConfig(native_rate_hz=rate_hz, **settings))
    source.open()
    return source


def test_every_sample_of_a_coded_signal_arrives_once_and_in_order(virtual_sound, tmp_path):
    write_coded(tmp_path / "coded.wav")
    source = open_microphone()
    capture, samples = record(source, 6, lambda: virtual_sound.play(tmp_path / "coded.wav"))
    np.testing.assert_array_equal(places_of(heard_part(samples)), np.arange(1, LENGTH + 1))
    assert (capture.samples_lost, capture.overflows) == (0, 0)


def test_a_held_interpreter_lock_loses_nothing(virtual_sound, tmp_path):
    write_coded(tmp_path / "coded.wav")
    usleep_with_lock_held = ctypes.PyDLL(None).usleep
    ended = threading.Event()

    def hold() -> None:
        while not ended.wait(0.03):
            usleep_with_lock_held(50_000)

    holder = threading.Thread(target=hold)
    source = open_microphone()
    holder.start()
    try:
        capture, samples = record(source, 6, lambda: virtual_sound.play(tmp_path / "coded.wav"))
    finally:
        ended.set()
        holder.join()
    np.testing.assert_array_equal(places_of(heard_part(samples)), np.arange(1, LENGTH + 1))
    assert (capture.samples_lost, capture.overflows) == (0, 0)


@pytest.mark.parametrize("virtual_sound", [48_000], indirect=True)
def test_a_48_khz_device_is_resampled_without_drift(virtual_sound, tmp_path):
    rng = np.random.default_rng(0)
    burst = (rng.standard_normal(16_000) * 3000).astype(np.int16)
    signal = np.concatenate([burst, np.zeros(48_000, np.int16), burst])
    write_wav(tmp_path / "bursts.wav", signal, 16_000)
    source = open_microphone(48_000)
    capture, samples = record(source, 7, lambda: virtual_sound.play(tmp_path / "bursts.wav"))
    correlation = scipy.signal.correlate(samples.astype(np.float64), burst.astype(np.float64), "valid")
    first = int(correlation[: len(correlation) // 2].argmax())
    second = len(correlation) // 2 + int(correlation[len(correlation) // 2 :].argmax())
    assert abs(second - first - 64_000) <= 1
    assert capture.samples_lost == 0


def test_a_vanished_microphone_is_told_within_two_seconds(virtual_sound):
    source = open_microphone()
    while not source.read():
        pass
    virtual_sound.stop()
    gone = time.monotonic()
    with pytest.raises(OSError, match=r"microphone 'pulse' has vanished.*plug it in again"):
        read_for(source, 30)
    assert time.monotonic() - gone < 6.0, "a second, and what a busy machine adds"
    source.close()


def test_a_microphone_that_is_not_there_is_named_with_those_that_are(virtual_sound):
    with pytest.raises(OSError, match=r"there is no microphone 'elephant'.*those here are.*pulse"):
        find_device(import_portaudio(), "elephant", "input")
    with pytest.raises(OSError, match="there is no microphone '99'"):
        find_device(import_portaudio(), "99", "input")
