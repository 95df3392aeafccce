"""Whether what comes from a microphone can be a room at all: dead, stuck, clipped, or off its zero. Pure."""

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


@dataclasses.dataclass(frozen=True)
class _Part:
    """What is kept of a tenth of a second."""

    samples: int
    total: int
    clipped: int
    lowest: int
    highest: int


class InputHealth:
    """Look at the newest seconds of a microphone's sound."""

    def __init__(self, config: HealthConfig) -> None:
        self.config = config
        self._parts: collections.deque[_Part] = collections.deque()
        self._samples = 0

    def push(self, samples: npt.NDArray[np.int16]) -> None:
        """Take sound in, int16 at 16 kHz."""
        if not samples.size:
            return
        # A resampler rings at a clipped peak, so "full scale" has a little room below.
        clipped = int(np.count_nonzero((samples >= 32_700) | (samples <= -32_700)))
        part = _Part(
            samples.size, int(samples.sum(dtype=np.int64)), clipped, int(samples.min()), int(samples.max())
        )
        self._parts.append(part)
        self._samples += part.samples
        while self._samples - self._parts[0].samples >= self.config.window_s * SAMPLE_RATE_HZ:
            self._samples -= self._parts.popleft().samples

    def report(self) -> Report:
        """Name what is wrong, if a whole window has come."""
        parts = list(self._parts)
        report = Report()
        if self._samples < 0.9 * self.config.window_s * SAMPLE_RATE_HZ:
            return report
        lowest, highest = min(p.lowest for p in parts), max(p.highest for p in parts)
        mean = sum(p.total for p in parts) / self._samples
        clipped = sum(p.clipped for p in parts) / self._samples
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
