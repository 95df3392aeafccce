"""A microphone through PortAudio, its own buffer read from a thread: a busy interpreter loses nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from timar_common.clock import NS_PER_S, SAMPLE_RATE_HZ
from timar_common.pcm import int16_to_float
from timar_common.resample import ToConversationRate, pick_channel

from timar_audio.devices import OPEN_STREAMS, find_device, import_portaudio
from timar_audio.sources import Sound

_POLL_S = 0.005
_READ_LIMIT_S = 0.1


class MicrophoneSource:
    """Sound of an input device, at its own rate, resampled to 16 kHz.

    Args:
        device: Name (a part of it is enough), index, or empty for the system's default.
        channel: Which channel, counted from 0; -1 mixes all (at most two are opened for that).
        native_rate_hz: Rate to open it at; 0 takes the device's own [Hz].
        buffer_ms: Length of PortAudio's buffer [ms].
        vanished_after_ms: When it brings nothing for so long it counts as gone [ms].
        first_sound_within_ms: So long it may take to its first sound [ms].
        clock, sleep: Machine time [ns] and waiting [s]; replaced in tests.
        portaudio: The `sounddevice` module, or what stands in for it in tests; None imports it on opening.
    """

    def __init__(
        self,
        device: str,
        channel: int,
        native_rate_hz: int,
        buffer_ms: int,
        vanished_after_ms: int,
        first_sound_within_ms: int = 5000,
        *,
        clock: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
        portaudio: Any = None,
    ) -> None:
        self._device = device
        self._channel = channel
        self._rate_hz = native_rate_hz
        self._buffer_s = buffer_ms / 1000
        self._vanished_after_ns = vanished_after_ms * 1_000_000
        self._first_sound_within_ns = first_sound_within_ms * 1_000_000
        self._clock = clock
        self._sleep = sleep
        self._portaudio = portaudio
        self._stream: Any = None
        self._was_open = False
        self._name = device or "the default microphone"
        self._channels = 1
        self._frames_read = 0
        self._heard_ns = 0
        self._resampler = ToConversationRate(SAMPLE_RATE_HZ)

    def open(self) -> str:
        """Open the device and begin to count."""
        if self._portaudio is None:
            self._portaudio = import_portaudio()
        if self._was_open:
            OPEN_STREAMS.refresh(self._portaudio)
        pa = self._portaudio
        info = find_device(pa, self._device, "input")
        self._name = str(info["name"])
        self._rate_hz = self._rate_hz or round(info["default_samplerate"])
        available = int(info["max_input_channels"])
        self._channels = min(2, available) if self._channel < 0 else self._channel + 1
        if self._channels > available:
            raise ValueError(
                f"channel {self._channel} was asked for, but microphone {self._name!r} has {available}; "
                f"choose 0..{available - 1}, or -1 to mix them"
            )
        try:
            self._stream = pa.RawInputStream(
                samplerate=self._rate_hz,
                device=info["index"],
                channels=self._channels,
                dtype="int16",
                latency=self._buffer_s,
            )
            OPEN_STREAMS.add()
            self._stream.start()
        except pa.PortAudioError as error:
            self.close()
            raise OSError(
                f"microphone {self._name!r} cannot be opened at {self._rate_hz} Hz with {self._channels} "
                f"channels: {error}; is another program using it, or does it need another native_rate_hz?"
            ) from error
        self._was_open = True
        self._frames_read = 0
        self._heard_ns = self._clock()
        self._resampler = ToConversationRate(self._rate_hz)
        return f"microphone {self._name!r}: {self._rate_hz} Hz, {self._channels} channel(s)"

    def read(self) -> list[Sound]:
        """Wait until the device has sound, and return all it has."""
        if self._stream is None:
            raise OSError(f"microphone {self._name!r} is not open; call open() first")
        try:
            frames = self._wait_for_frames()
            if not frames:
                return []
            data, has_overflowed = self._stream.read(frames)
            still_held = self._stream.read_available
        except self._portaudio.PortAudioError as error:
            raise OSError(f"microphone {self._name!r} has vanished: {error}; plug it in again") from error
        now_ns = self._clock()
        self._frames_read += frames
        counter = (self._frames_read + max(0, still_held)) * SAMPLE_RATE_HZ / self._rate_hz
        sounds: list[Sound] = []
        if has_overflowed:
            sounds.append(self._tail(now_ns, counter - frames * SAMPLE_RATE_HZ / self._rate_hz))
        native = int16_to_float(np.frombuffer(data, np.int16)).reshape(-1, self._channels)
        samples = self._resampler.push(pick_channel(native, self._channel))
        sounds.append(Sound(samples, counter, now_ns, has_overflowed=bool(has_overflowed)))
        return sounds

    def close(self) -> None:
        """Let the device go; one that has vanished cannot be let go in order, which is all right."""
        stream, self._stream = self._stream, None
        if stream is not None:
            OPEN_STREAMS.remove()
            stream.close(ignore_errors=True)

    def _wait_for_frames(self) -> int:
        """Return how many frames can be read without blocking, 0 when none came within the limit."""
        deadline_ns = self._clock() + round(_READ_LIMIT_S * NS_PER_S)
        while True:
            frames = int(self._stream.read_available)
            now_ns = self._clock()
            if frames > 0:
                self._heard_ns = now_ns
                return frames
            patience_ns = self._vanished_after_ns if self._frames_read else self._first_sound_within_ns
            if now_ns - self._heard_ns > patience_ns:
                raise OSError(
                    f"microphone {self._name!r} has vanished: it brought nothing for "
                    f"{(now_ns - self._heard_ns) / NS_PER_S:.1f} s; plug it in again"
                )
            if now_ns > deadline_ns:
                return 0
            self._sleep(_POLL_S)

    def _tail(self, now_ns: int, counter: float) -> Sound:
        """Return what the resampler still holds of the sound before a hole, and begin anew after it."""
        samples = self._resampler.push(np.zeros(0, np.float32), is_last=True)
        self._resampler = ToConversationRate(self._rate_hz)
        return Sound(samples, counter, now_ns)
