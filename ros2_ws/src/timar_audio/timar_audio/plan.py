"""Playback plan: speech that was planned and not yet heard, by position on the conversation clock."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt


@dataclasses.dataclass(frozen=True)
class PlannedChunk:
    """Speech soon to be heard; without samples, a mere cut."""

    first_sample: int
    """Position of samples[0] on the conversation clock [samples]."""
    revision: int
    """A higher one withdraws everything planned at and after first_sample."""
    samples: npt.NDArray[np.int16]
    """(n,) at 16 kHz."""


class SpeechPlan:
    """Speech that was planned and not yet heard, by place; where nothing is planned there is silence."""

    def __init__(self) -> None:
        self.revision = 0
        self._chunks: list[tuple[int, npt.NDArray[np.int16]]] = []

    @property
    def planned_samples(self) -> int:
        """How much is planned [samples]."""
        return sum(samples.size for _, samples in self._chunks)

    def add(self, first_sample: int, samples: npt.NDArray[np.int16]) -> PlannedChunk:
        """Plan speech after everything planned so far, and return what to announce.

        Raises:
            ValueError: It would overlap what is planned already.
        """
        if self._chunks:
            last_first, last = self._chunks[-1]
            if first_sample < last_first + last.size:
                raise ValueError(
                    f"speech at sample {first_sample} overlaps what is planned until "
                    f"{last_first + last.size}; cut the plan first"
                )
        self._chunks.append((first_sample, samples))
        return PlannedChunk(first_sample, self.revision, samples)

    def cut(self, first_sample: int, fade_samples: int = 0) -> PlannedChunk:
        """Withdraw everything at and after a sample, and return what to announce.

        Args:
            first_sample: Where the cut is [samples].
            fade_samples: So much of what was planned from there stays, fading to silence [samples].
        """
        self.revision += 1
        fading = self._faded(first_sample, fade_samples)
        self._chunks = [
            (first, samples[: first_sample - first])
            for first, samples in self._chunks
            if first < first_sample
        ]
        if fading.size:
            self._chunks.append((first_sample, fading))
        return PlannedChunk(first_sample, self.revision, fading)

    def replace(self, first_sample: int, samples: npt.NDArray[np.int16]) -> PlannedChunk:
        """Withdraw everything at and after a sample, plan other sound there and return what to announce."""
        self.cut(first_sample)
        return self.add(first_sample, samples)

    def read(self, first_sample: int, end_sample: int) -> npt.NDArray[np.int16]:
        """Return the sound of [first_sample, end_sample) as it is planned now."""
        out = np.zeros(end_sample - first_sample, np.int16)
        for first, samples in self._chunks:
            low, high = max(first, first_sample), min(first + samples.size, end_sample)
            if low < high:
                out[low - first_sample : high - first_sample] = samples[low - first : high - first]
        return out

    def take(self, first_sample: int, end_sample: int) -> npt.NDArray[np.int16]:
        """Return the sound of [first_sample, end_sample) and forget everything before its end."""
        out = self.read(first_sample, end_sample)
        self._chunks = [(first, s) for first, s in self._chunks if first + s.size > end_sample]
        return out

    def _faded(self, first_sample: int, fade_samples: int) -> npt.NDArray[np.int16]:
        """Return a raised cosine's fall over what is planned, empty when that is silence."""
        ahead = self.read(first_sample, first_sample + fade_samples)
        if not ahead.any():
            return np.zeros(0, np.int16)
        gain = 0.5 + 0.5 * np.cos(np.pi * (np.arange(fade_samples) + 0.5) / fade_samples)
        return np.rint(ahead * gain).astype(np.int16)
