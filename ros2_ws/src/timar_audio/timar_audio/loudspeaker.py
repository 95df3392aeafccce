"""Loudspeaker through PortAudio: audio resampled adaptively from the microphone's clock to the device's.

The device's counter is tracked against machine time, and so is the microphone's; from both follows which
sample of the conversation is to leave the loudspeaker at which of the device's frames. Sound is resampled by
that ratio, corrected slowly and inaudibly; only a great error (a start, an underrun) is mended by a jump, and
any error at once while nothing is said.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import soxr
from timar_common.clock import NS_PER_S, SAMPLE_RATE_HZ, SAMPLES_PER_MS, SampleClock
from timar_common.config import check, number
from timar_common.diagnostics import Level, Report
from timar_common.pcm import float_to_int16, int16_to_float

from timar_audio.devices import DeviceStream
from timar_audio.playback import Playback
from timar_audio.playback_config import PlaybackConfig

_POLL_S = 0.004
_RESAMPLER_MEMORY = SAMPLE_RATE_HZ // 10
"""After so much silence the resampler holds nothing else [samples]."""
_PATIENCE_NS = 3 * NS_PER_S
"""A sound server may take up to two seconds to begin [ns]."""


class VariableResampler:
    """soxr with a ratio that follows two crystals.

    Args:
        nominal_ratio: Conversation samples per device frame.
    """

    def __init__(self, nominal_ratio: float) -> None:
        self._stream = soxr.ResampleStream(nominal_ratio * 1.01, 1.0, 1, "float32", "HQ", vr=True)

    def push(self, samples: npt.NDArray[np.int16], ratio: float) -> npt.NDArray[np.float32]:
        """Resample (n,) int16 and return what is ready; `ratio` is conversation samples per device frame."""
        self._stream.set_io_ratio(ratio, 1.0)
        return self._stream.resample_chunk(int16_to_float(samples))


@dataclasses.dataclass(frozen=True)
class DriveConfig:
    """How the loudspeaker is kept on the conversation's clock."""

    settle_s: float = number(2.0, "An error is corrected within about so long.", 0.1, 60.0, "s")
    max_correction_ppm: float = number(
        1000.0, "By how much the rate may be bent for that; a thousandth is not heard.", 1.0, 1e5, "ppm"
    )
    max_difference_ppm: float = number(
        2000.0, "By how much two crystals may differ; more is a wrong estimate.", 1.0, 1e5, "ppm"
    )
    jump_ms: float = number(20.0, "An error beyond this is corrected by a jump.", 1.0, 1000.0, "ms")

    def __post_init__(self) -> None:
        check(self)


class SpeakerDrive:
    """Decide which conversation samples make the device's next frames. Pure; time is an argument.

    Args:
        rate_hz: The device's nominal rate [Hz].
        make_resampler: Given the nominal ratio.
    """

    def __init__(
        self,
        rate_hz: int,
        config: DriveConfig | None = None,
        make_resampler: Callable[[float], VariableResampler] = VariableResampler,
    ) -> None:
        self.config = config or DriveConfig()
        self.jumps = 0
        """How often an error was mended by a jump; the start is the first."""
        self.error_ms = 0.0
        """How late the sound being written will be heard, negative when early [ms]."""
        self._nominal = SAMPLE_RATE_HZ / rate_hz
        self._make_resampler = make_resampler
        self._clock = SampleClock()
        self._resampler: VariableResampler | None = None
        self._ready: npt.NDArray[np.float32] = np.zeros(0, np.float32)
        self._silent_samples = 0
        self._position = 0.0
        self._written = 0

    @property
    def written_frames(self) -> int:
        """How many frames were rendered."""
        return self._written

    @property
    def rate_difference_ppm(self) -> float:
        """How much faster the device counts than machine time [ppm]."""
        return self._clock.rate_error_ppm

    def observe(self, played_frames: float, monotonic_ns: int) -> None:
        """Learn how many frames had left the loudspeaker at an instant [frames, ns]."""
        self._clock.observe(round(played_frames * self._nominal), monotonic_ns)

    def forget(self) -> None:
        """The device's counter leaped (an underrun, a new start): learn its clock again."""
        self._clock = SampleClock()

    def skip_to(self, frame: int) -> None:
        """Leave out what is before a frame and was not rendered: the device has passed it."""
        self._written = max(self._written, frame)

    def render(self, frames: int, voice: Playback) -> npt.NDArray[np.float32]:
        """Return the next frames for the device, in [-1, 1]; silence as long as a clock is not known."""
        if not (self._clock.is_started and voice.clock.is_started):
            self._written += frames
            return np.zeros(frames, np.float32)
        heard_ns = self._clock.monotonic_ns(self._written * self._nominal)
        error = voice.clock.sample_at(heard_ns) - self._position
        resampler = self._resampler
        if resampler is None or abs(error) > self.config.jump_ms * SAMPLES_PER_MS:
            resampler = self._jump(voice, voice.clock.sample_at(heard_ns))
            error = 0.0
        elif self._silent_samples >= _RESAMPLER_MEMORY:
            error -= self._shift_silence(round(error), resampler, voice)
        self.error_ms = 1000 * error / SAMPLE_RATE_HZ
        return self._resampled(frames, self._ratio(error, voice.clock), resampler, voice)

    def _jump(self, voice: Playback, wanted: float) -> VariableResampler:
        self.jumps += 1
        voice.give_from(round(wanted))
        first, _ = voice.give(0)
        self._position = float(first)
        self._ready = np.zeros(0, np.float32)
        self._resampler = self._make_resampler(self._nominal)
        if first > wanted:  # so much was given already: wait for it in silence
            self._ready = np.zeros(round((first - wanted) / self._nominal), np.float32)
            self._position = wanted
        return self._resampler

    def _shift_silence(self, samples: int, resampler: VariableResampler, voice: Playback) -> int:
        """Leave out or add silence, which nobody hears; return by how much the position moved [samples]."""
        if samples > 0:
            _, sound = voice.give(samples)
            if sound.any():  # speech begins here: no sample of it is left out
                self._push(sound, self._nominal, resampler)
                return 0
        else:
            self._ready = np.concatenate([self._ready, np.zeros(round(-samples / self._nominal), np.float32)])
        self._position += samples
        return samples

    def _ratio(self, error: float, user_clock: SampleClock) -> float:
        """Return conversation samples per device frame."""
        cfg = self.config
        device, user = self._clock.rate_error_ppm, user_clock.rate_error_ppm
        difference_ppm = ((1 + user * 1e-6) / (1 + device * 1e-6) - 1) * 1e6
        correction_ppm = error / (cfg.settle_s * SAMPLE_RATE_HZ) * 1e6
        return self._nominal * (
            1
            + 1e-6 * _clamped(difference_ppm, cfg.max_difference_ppm)
            + 1e-6 * _clamped(correction_ppm, cfg.max_correction_ppm)
        )

    def _resampled(
        self, frames: int, ratio: float, resampler: VariableResampler, voice: Playback
    ) -> npt.NDArray[np.float32]:
        while self._ready.size < frames:
            missing = math.ceil((frames - self._ready.size) * ratio) + 1
            self._push(voice.give(missing)[1], ratio, resampler)
        out, self._ready = self._ready[:frames], self._ready[frames:]
        self._position += frames * ratio
        self._written += frames
        return out

    def _push(self, sound: npt.NDArray[np.int16], ratio: float, resampler: VariableResampler) -> None:
        self._silent_samples = 0 if sound.any() else self._silent_samples + sound.size
        self._ready = np.concatenate([self._ready, resampler.push(sound, ratio)])


def _clamped(value: float, limit: float) -> float:
    return max(-limit, min(limit, value))


class Loudspeaker:
    """Write what playback gives to an output device, from a thread.

    Args:
        config: Which device, rate and buffer.
        voice: What is played: its `clock`, `give` and `give_from` are used, under `lock`.
        lock: Held while the voice is asked.
        clock, sleep: Machine time [ns] and waiting [s]; replaced in tests.
        portaudio: The `sounddevice` module, or what stands in for it in tests; None imports it on opening.
    """

    def __init__(
        self,
        config: PlaybackConfig,
        voice: Playback,
        lock: contextlib.AbstractContextManager[object],
        *,
        clock: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
        portaudio: Any = None,
    ) -> None:
        self.underruns = 0
        """How often the device had nothing to play."""
        self._voice, self._lock = voice, lock
        self._clock, self._sleep = clock, sleep
        self._device = DeviceStream(
            "output", config.device, config.speaker_rate_hz, config.speaker_buffer_ms / 1000, portaudio
        )
        self._drive: SpeakerDrive | None = None
        self._capacity = 0
        self._behind_frames = 0.0
        self._was_full = False
        self._moved_ns = 0

    def open(self) -> str:
        """Open the device, and return one line that describes it.

        Raises:
            OSError: There is no such device or it cannot be opened; the message says what to do.
        """
        self._device.open(lambda available: 1)
        rate_hz = self._device.rate_hz
        with self._device.in_use():
            self._capacity = int(self._device.stream.write_available)
            latency_s = float(self._device.stream.latency)
        self._drive = SpeakerDrive(rate_hz)
        self._was_full = False
        self._moved_ns = self._clock()
        self._behind_frames = max(0.0, latency_s * rate_hz - self._capacity)
        return f"{self._device.name}: {rate_hz} Hz, {1000 * latency_s:.0f} ms until it is heard"

    def write(self) -> None:
        """Wait until the device has room, and fill it; call it in a loop.

        Raises:
            OSError: The device is gone.
        """
        stream, drive = self._device.stream, self._drive
        assert drive is not None
        with self._device.in_use():
            room = self._wait_for_room(stream, drive)
            if not room:
                return
            with self._lock:
                sound = float_to_int16(drive.render(room, self._voice))
            if stream.write(sound.tobytes()):
                self.underruns += 1
                self._was_full = False
                drive.forget()

    def report(self) -> Report:
        """Say how well the device keeps the conversation's time."""
        report = Report(values={"loudspeaker": self._device.name, "speaker_underruns": self.underruns})
        if self._drive is not None:
            report.values["speaker_error_ms"] = self._drive.error_ms
            report.values["speaker_rate_ppm"] = self._drive.rate_difference_ppm
            report.values["speaker_jumps"] = max(0, self._drive.jumps - 1)
        if self.underruns:
            report.worsen(
                Level.WARN, f"the loudspeaker ran dry {self.underruns} times; is the machine too busy?"
            )
        return report

    def close(self) -> None:
        """Release the device; safe more than once."""
        self._device.close()

    def _wait_for_room(self, stream: Any, drive: SpeakerDrive) -> int:
        """Return how many frames the device takes, 0 when it took none within a tenth of a second.

        Its counter tells the time only once it was full and makes room again. What it takes before fills
        buffers that it does not report, and a sound server begins to play as much as two seconds later.
        """
        deadline_ns = self._clock() + NS_PER_S // 10
        least = max(1, self._capacity // 6)
        while True:
            room = int(stream.write_available)
            now_ns = self._clock()
            if room >= least:
                self._moved_ns = now_ns
                if self._was_full:
                    held = self._capacity - room
                    drive.observe(drive.written_frames - held - self._behind_frames, now_ns)
                return room
            self._was_full = True
            if now_ns - self._moved_ns > _PATIENCE_NS:
                raise OSError(f"{self._device.name} has vanished: it took nothing for 3 s")
            if now_ns > deadline_ns:
                return 0
            self._sleep(_POLL_S)
