"""The agent's speech before it is heard."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt


@dataclasses.dataclass(frozen=True)
class _Segment:
    first_sample: int
    samples: npt.NDArray[np.int16]

    @property
    def end_sample(self) -> int:
        return self.first_sample + self.samples.size


class PlannedSpeech:
    """Keep planned samples by their index on the conversation clock; silence where nothing is planned.

    A chunk of a higher revision first withdraws everything planned at or after its first sample. A chunk of
    the same revision adds to the plan, or repeats a part of it. One of a lower revision comes from a plan
    that is no longer valid, and is left out and counted.

    Args:
        capacity: How many samples may be planned at once [samples].
    """

    def __init__(self, capacity: int) -> None:
        if capacity <= 0:
            raise ValueError(f"a plan needs a capacity above 0 samples, got {capacity}")
        self.stale_chunks = 0
        self._capacity = capacity
        self._revision: int | None = None
        self._segments: list[_Segment] = []

    @property
    def revision(self) -> int:
        """Revision of the plan; 0 before anything was planned."""
        return self._revision or 0

    @property
    def planned_samples(self) -> int:
        """How many samples are held [samples]."""
        return sum(segment.samples.size for segment in self._segments)

    def push(self, first_sample: int, samples: npt.NDArray[np.int16], revision: int) -> None:
        """Take a chunk in.

        Args:
            first_sample: Its index on the conversation clock, >= 0.
            samples: (n,) int16; none withdraws only.
            revision: Of the plan it belongs to, >= 0.

        Raises:
            ValueError: The chunk is not one row of int16, has a negative place or revision, or is more than
                the plan can hold; nothing has changed then.
        """
        if samples.ndim != 1 or samples.dtype != np.int16:
            raise ValueError(
                f"planned speech is one row of int16, got {samples.dtype} of shape {samples.shape}"
            )
        if first_sample < 0 or revision < 0:
            raise ValueError(
                f"planned speech starts at sample {first_sample} with revision {revision}, expected 0 or more"
            )
        if self._revision is not None and revision < self._revision:
            self.stale_chunks += 1
            return
        is_new_plan = self._revision is None or revision > self._revision
        kept = self._outside(first_sample, None if is_new_plan else first_sample + samples.size)
        planned = sum(segment.samples.size for segment in kept) + samples.size
        if planned > self._capacity:
            raise ValueError(
                f"{planned} samples of speech are planned at once, at most {self._capacity} are kept; "
                "plan less far ahead"
            )
        if samples.size:
            kept.append(_Segment(first_sample, samples.copy()))
            if len(kept) > 1 and kept[-2].end_sample > first_sample:
                kept.sort(key=lambda segment: segment.first_sample)
        self._segments = kept
        self._revision = revision

    def read(self, first_sample: int, end_sample: int) -> npt.NDArray[np.int16]:
        """Return the plan for samples [first_sample, end_sample).

        Raises:
            ValueError: The range is reversed.
        """
        if end_sample < first_sample:
            raise ValueError(f"the range [{first_sample}, {end_sample}) is reversed")
        out = np.zeros(end_sample - first_sample, np.int16)
        for segment in self._segments:
            low, high = max(first_sample, segment.first_sample), min(end_sample, segment.end_sample)
            if low < high:
                source = segment.samples[low - segment.first_sample : high - segment.first_sample]
                out[low - first_sample : high - first_sample] = source
        return out

    def keep_within(self, first_sample: int, end_sample: int) -> None:
        """Forget what lies wholly outside [first_sample, end_sample)."""
        self._segments = [
            segment
            for segment in self._segments
            if segment.end_sample > first_sample and segment.first_sample < end_sample
        ]

    def forget_revision(self) -> None:
        """Take the next chunk's revision as it comes: the planner may have restarted."""
        self._revision = None

    def _outside(self, first_sample: int, end_sample: int | None) -> list[_Segment]:
        """Return the segments without the range; one without an end reaches to the end of the plan."""
        kept = []
        for segment in self._segments:
            if segment.end_sample <= first_sample or (
                end_sample is not None and segment.first_sample >= end_sample
            ):
                kept.append(segment)
                continue
            if segment.first_sample < first_sample:
                kept.append(
                    _Segment(segment.first_sample, segment.samples[: first_sample - segment.first_sample])
                )
            if end_sample is not None and segment.end_sample > end_sample:
                kept.append(_Segment(end_sample, segment.samples[end_sample - segment.first_sample :]))
        return kept
