"""Microphone through PortAudio, its own buffer read from a thread: a busy interpreter loses no audio."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from timar_common.clock import NS_PER_S, SAMPLE_RATE_HZ
from timar_common.pcm import int16_to_float
from timar_common.resample import ToConversationRate, pick_channel

from timar_audio.capture_config import CaptureConfig
from timar_audio.devices import DeviceStream
from timar_audio.sources import Sound

_POLL_S = 0.005
_READ_LIMIT_S = 0.1


class MicrophoneSource:
    """Audio of an input device, at its own rate, resampled to 16 kHz.

    Args:
        config: Which device, channel, rate and buffer, and when it counts as gone.
        clock, sleep: Machine time [ns] and waiting [s]; replaced in tests.
        portaudio: The `sounddevice` module, or what stands in for it in tests; None imports it on opening.
    """

    def __init__(
        self,
        config: CaptureConfig,
        *,
        clock: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
        portaudio: Any = None,
    ) -> None:
        self._config = config
        self._clock, self._sleep = clock, sleep
        self._device = DeviceStream(
            "input", config.device, config.native_rate_hz, config.buffer_ms / 1000, portaudio
        )
        self._channels = 1
        self._frames_read = 0
        self._heard_ns = 0
        self._resampler = ToConversationRate(SAMPLE_RATE_HZ)

    def open(self) -> str:
        """Open the device and begin to count."""
        self._channels = self._device.open(self._count_channels)
        self._frames_read = 0
        self._heard_ns = self._clock()
        self._resampler = ToConversationRate(self._device.rate_hz)
        return f"{self._device.name}: {self._device.rate_hz} Hz, {self._channels} channel(s)"

    def read(self) -> list[Sound]:
        """Wait until the device has audio, and return all it has."""
        stream = self._device.stream
        with self._device.in_use():
            frames = self._wait_for_frames(stream)
            if not frames:
                return []
            data, has_overflowed = stream.read(frames)
            still_held = stream.read_available
        now_ns = self._clock()
        self._frames_read += frames
        scale = SAMPLE_RATE_HZ / self._device.rate_hz
        counter = (self._frames_read + max(0, still_held)) * scale
        sounds: list[Sound] = []
        if has_overflowed:
            sounds.append(self._tail(now_ns, counter - frames * scale))
        native = int16_to_float(np.frombuffer(data, np.int16).reshape(-1, self._channels))
        samples = self._resampler.push(pick_channel(native, self._config.channel))
        sounds.append(Sound(samples, counter, now_ns, has_overflowed=bool(has_overflowed)))
        return sounds

    def close(self) -> None:
        """Release the device."""
        self._device.close()

    def _count_channels(self, available: int) -> int:
        channel = self._config.channel
        if channel >= available:
            raise ValueError(
                f"channel {channel} was asked for, but {self._device.name} has {available}; "
                f"choose 0..{available - 1}, or -1 to mix them"
            )
        return min(2, available) if channel < 0 else channel + 1

    def _wait_for_frames(self, stream: Any) -> int:
        """Return how many frames can be read without blocking, 0 when none came within the limit."""
        deadline_ns = self._clock() + round(_READ_LIMIT_S * NS_PER_S)
        while True:
            frames = int(stream.read_available)
            now_ns = self._clock()
            if frames > 0:
                self._heard_ns = now_ns
                return frames
            config = self._config
            patience_ms = config.vanished_after_ms if self._frames_read else config.first_sound_within_ms
            if now_ns - self._heard_ns > patience_ms * 1_000_000:
                raise OSError(
                    f"{self._device.name} has vanished: it brought nothing for "
                    f"{(now_ns - self._heard_ns) / NS_PER_S:.1f} s; plug it in again"
                )
            if now_ns > deadline_ns:
                return 0
            self._sleep(_POLL_S)

    def _tail(self, now_ns: int, counter: float) -> Sound:
        """Return what the resampler still holds of the sound before a hole, and begin again after it."""
        samples = self._resampler.push(np.zeros(0, np.float32), is_last=True)
        self._resampler = ToConversationRate(self._device.rate_hz)
        return Sound(samples, counter, now_ns)
