"""Places captured audio on the conversation clock: blocks with index and time, gaps filled with silence."""

from __future__ import annotations

import collections

import numpy as np
import numpy.typing as npt
from timar_common.clock import SAMPLE_RATE_HZ, SAMPLES_PER_MS, SampleClock
from timar_common.diagnostics import Level, Report

from timar_audio.blocks import AudioBlock
from timar_audio.levels import level_dbfs, peak_dbfs
from timar_audio.sources import Sound


class Capture:
    """Cut a source's sound into blocks on the conversation clock.

    The source's counter, observed against machine time, drives a `SampleClock`. Where the source lost sound
    (it says so, or its counter stays behind by more than the clock's jump), the clock tells how much unless
    the source itself does, and silence takes its place: what follows keeps its true time.

    Args:
        block_samples: Length of a block [samples].
        max_fill_s: A hole longer than this is rejected as a broken clock and not filled [s].
    """

    def __init__(self, block_samples: int, max_fill_s: float = 60.0) -> None:
        self.clock = SampleClock()
        self.overflows = 0
        """How often the source said it lost sound."""
        self.samples_in = 0
        """Samples the source gave [samples]."""
        self.samples_lost = 0
        """Samples of silence put where sound was lost [samples]."""
        self._block = block_samples
        self._max_fill = round(max_fill_s * SAMPLE_RATE_HZ)
        self._samples: npt.NDArray[np.int16] = np.zeros(0, np.int16)
        self._is_fill: npt.NDArray[np.bool_] = np.zeros(0, np.bool_)
        self._next_sample = 0
        self._offset = 0
        """Position of the source's sample 0 on the conversation clock, less what it lost since."""
        self._drop = 0
        self._is_reopened = False
        self._last_second: collections.deque[npt.NDArray[np.int16]] = collections.deque(
            maxlen=max(1, SAMPLE_RATE_HZ // block_samples)
        )

    def push(self, sound: Sound) -> list[AudioBlock]:
        """Take in what the source gave and return the blocks that are full.

        Raises:
            ValueError: The source's clock is broken: a hole longer than `max_fill_s`.
        """
        self.overflows += sound.has_overflowed
        missing = self._place_reopened(sound) if self._is_reopened else self._missing(sound)
        if missing:
            self._fill(missing)
            self._offset += missing
        self._fill(sound.lost_samples)
        self.clock.observe(round(sound.counter) + self._offset, sound.monotonic_ns)
        dropped = min(self._drop, sound.samples.size)
        self._drop -= dropped
        self._append(sound.samples[dropped:], is_fill=False)
        self.samples_in += sound.samples.size
        return self._full_blocks()

    def fill_until(self, monotonic_ns: int) -> list[AudioBlock]:
        """Carry the clock on with silence while the source is gone; what sounds next is of a new source.

        Raises:
            ValueError: Time leaped by more than `max_fill_s`.
        """
        if not self.clock.is_started:
            return []
        self._is_reopened = True
        missing = round(self.clock.sample_at(monotonic_ns)) - self._end
        if missing > self._max_fill:
            raise self._too_long(missing)
        if missing > 0:
            self._fill(missing)
        return self._full_blocks()

    def report(self) -> Report:
        """Say level, rate and losses of the last second."""
        last_second = np.concatenate([np.zeros(0, np.int16), *self._last_second.copy()])
        report = Report(
            values={
                "samples_in": self.samples_in,
                "samples_lost": self.samples_lost,
                "overflows": self.overflows,
                "level_dbfs": level_dbfs(last_second),
                "peak_dbfs": peak_dbfs(last_second),
                "rate_error_ppm": self.clock.rate_error_ppm,
            }
        )
        if self.samples_lost:
            lost_ms = 1000 * self.samples_lost / SAMPLE_RATE_HZ
            report.worsen(Level.WARN, f"{lost_ms:.0f} ms of sound lost in {self.overflows} overflows")
        return report

    def _missing(self, sound: Sound) -> int:
        """Return how many samples were lost before this sound."""
        if not self.clock.is_started:
            return 0
        behind = self.clock.sample_at(sound.monotonic_ns) - (sound.counter + self._offset)
        jump = self.clock.config.jump_ms * SAMPLES_PER_MS
        if not (sound.has_overflowed or behind > jump):
            return 0
        if behind > self._max_fill:
            raise self._too_long(behind)
        return max(0, round(behind))

    def _place_reopened(self, sound: Sound) -> int:
        """Place a source that begins to count again, and return how much silence lies before it."""
        self._is_reopened = False
        self._offset = round(self.clock.sample_at(sound.monotonic_ns) - sound.counter)
        before = self._offset - self._end
        self._drop = max(0, -before)
        if before > self._max_fill:
            raise self._too_long(before)
        self._fill(max(0, before))
        return 0

    @property
    def _end(self) -> int:
        """One past the newest sample that was placed."""
        return self._next_sample + self._samples.size

    def _too_long(self, samples: float) -> ValueError:
        return ValueError(
            f"the source's counter stays {samples / SAMPLE_RATE_HZ:.1f} s behind machine time; at most "
            f"{self._max_fill / SAMPLE_RATE_HZ:.0f} s are filled: reset the conversation to start again"
        )

    def _fill(self, samples: int) -> None:
        self._append(np.zeros(samples, np.int16), is_fill=True)
        self.samples_lost += samples

    def _append(self, samples: npt.NDArray[np.int16], *, is_fill: bool) -> None:
        self._samples = np.concatenate([self._samples, samples])
        self._is_fill = np.concatenate([self._is_fill, np.full(samples.size, is_fill)])

    def _full_blocks(self) -> list[AudioBlock]:
        blocks = []
        while self._samples.size >= self._block:
            samples, self._samples = self._samples[: self._block], self._samples[self._block :]
            is_fill, self._is_fill = self._is_fill[: self._block], self._is_fill[self._block :]
            self._last_second.append(samples)
            blocks.append(
                AudioBlock(
                    self._next_sample,
                    samples,
                    self.clock.monotonic_ns(self._next_sample),
                    int(is_fill.sum()),
                )
            )
            self._next_sample += self._block
        return blocks
