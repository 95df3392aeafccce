"""Detects dead, stuck, clipped and DC-biased microphone input."""

from __future__ import annotations

import collections
import dataclasses

import numpy as np
import numpy.typing as npt
from timar_common.clock import SAMPLE_RATE_HZ
from timar_common.config import check, number
from timar_common.diagnostics import Level, Report
from timar_common.pcm import FULL_SCALE


@dataclasses.dataclass(frozen=True)
class HealthConfig:
    """When a microphone is called ill."""

    window_s: float = number(2.0, "Sound that is looked at.", 0.5, 60.0, "s")
    clipped_share: float = number(
        0.002, "Share of samples at full scale from which the sound is clipped.", 0.0, 1.0
    )
    offset_dbfs: float = number(-30.0, "Mean from which the microphone is off its zero.", -90.0, 0.0, "dBFS")

    def __post_init__(self) -> None:
        check(self)


class InputHealth:
    """Look at the newest seconds of a microphone's audio."""

    def __init__(self, config: HealthConfig) -> None:
        self.config = config
        self._window = round(config.window_s * SAMPLE_RATE_HZ)
        self._parts: collections.deque[npt.NDArray[np.int16]] = collections.deque()
        self._samples = 0

    def push(self, samples: npt.NDArray[np.int16]) -> None:
        """Take audio in, int16 at 16 kHz."""
        if not samples.size:
            return
        self._parts.append(samples)
        self._samples += samples.size
        while self._samples - self._parts[0].size >= self._window:
            self._samples -= self._parts.popleft().size

    def report(self) -> Report:
        """Name what is wrong, if a whole window has come."""
        report = Report()
        newest = np.concatenate([np.zeros(0, np.int16), *self._parts.copy()])
        if newest.size < 0.9 * self._window:
            return report
        lowest, highest, mean = int(newest.min()), int(newest.max()), float(newest.mean())
        # A resampler rings at a clipped peak, so "full scale" has a little room below.
        clipped = float(((newest >= 32_700) | (newest <= -32_700)).mean())
        report.values = {"input_offset": mean / FULL_SCALE, "input_clipped_share": clipped}
        if lowest == highest == 0:
            report.worsen(
                Level.ERROR,
                "the microphone gives nothing but zeros; is it muted, switched off, or the wrong channel?",
            )
        elif lowest == highest:
            report.worsen(Level.ERROR, f"the microphone is stuck at {lowest}; plug it in again or replace it")
        if clipped > self.config.clipped_share:
            report.worsen(
                Level.WARN,
                f"{100 * clipped:.1f} % of the microphone's samples are clipped; turn its gain down",
            )
        if abs(mean) > FULL_SCALE * 10 ** (self.config.offset_dbfs / 20):
            report.worsen(
                Level.WARN,
                f"the microphone's mean is {mean / FULL_SCALE:.3f} of full scale, not 0; check its cable",
            )
        return report
