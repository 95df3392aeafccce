"""Sound addressed by its place on the conversation clock, whatever happened to the blocks on their way."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt


@dataclasses.dataclass
class StreamCounters:
    """What a stream has seen, in samples."""

    received: int = 0
    """New samples taken in."""
    lost: int = 0
    """Samples that never came before their successors did; they read as silence."""
    repeated: int = 0
    """Samples that came again, or after silence had taken their place; they were left out."""


class SampleStream:
    """Keep the newest stretch of one voice, readable by sample index.

    A gap between blocks is filled with silence of its length, a block that comes twice or too late is left
    out; both are counted, and no sample ever changes its place.

    Args:
        capacity: How many of the newest samples are kept [samples].
        max_gap: A jump forward beyond this is refused as a broken index and not filled [samples].
    """

    def __init__(self, capacity: int, max_gap: int = 60 * 16_000) -> None:
        if capacity <= 0:
            raise ValueError(f"a stream needs a capacity above 0 samples, got {capacity}")
        self.counters = StreamCounters()
        self._ring: npt.NDArray[np.int16] = np.zeros(capacity, np.int16)
        self._filled: npt.NDArray[np.bool_] = np.zeros(capacity, np.bool_)
        self._first: int | None = None
        self._end = 0
        self._max_gap = max_gap

    @property
    def is_started(self) -> bool:
        """Whether a block has arrived."""
        return self._first is not None

    @property
    def first_sample(self) -> int:
        """Index of the first sample that ever came."""
        return 0 if self._first is None else self._first

    @property
    def end_sample(self) -> int:
        """One past the newest sample known."""
        return self._end

    def gap_before(self, first_sample: int) -> int:
        """Return how many samples are missing between the newest one and a block; below 0 where they overlap.

        Raises:
            ValueError: The index is negative, or the gap is longer than `max_gap`.
        """
        if first_sample < 0:
            raise ValueError(f"a block starts at sample {first_sample}, expected 0 or later")
        gap = 0 if self._first is None else first_sample - self._end
        if gap > self._max_gap:
            raise ValueError(
                f"a block starts at sample {first_sample}, {gap} after the end of the last one; at most "
                f"{self._max_gap} can be filled with silence: reset the conversation to start again"
            )
        return gap

    def push(self, first_sample: int, samples: npt.NDArray[np.int16], filled_samples: int = 0) -> int:
        """Take a block in.

        Args:
            first_sample: Place of its first sample on the conversation clock, >= 0.
            samples: (n,) int16.
            filled_samples: How many of them the sender already put in as silence. Their places within the
                block are not told, so they count as spread evenly over it: sums over any partition are exact.

        Returns:
            How many samples of silence were put before it because sound was lost.

        Raises:
            ValueError: The index is negative or jumps further forward than `max_gap`, the block is not one
                row of int16, or more samples are filled than there are.
        """
        if samples.ndim != 1 or samples.dtype != np.int16:
            raise ValueError(f"a block is one row of int16, got {samples.dtype} of shape {samples.shape}")
        if not 0 <= filled_samples <= samples.size:
            raise ValueError(
                f"{filled_samples} of {samples.size} samples are said to be filled, expected a part"
            )
        gap = self.gap_before(first_sample)
        if self._first is None:
            self._first = self._end = first_sample
        if gap > 0:
            self._write(np.zeros(gap, np.int16), True)
            self.counters.lost += gap
        repeated = min(max(0, -gap), samples.size)
        self.counters.repeated += repeated
        fresh = samples[repeated:]
        if fresh.size:
            is_even = filled_samples in (0, samples.size)
            flags = filled_samples > 0 if is_even else _spread(filled_samples, samples.size)[repeated:]
            self._write(fresh, flags)
            self.counters.received += fresh.size
        return max(0, gap)

    def read(self, first_sample: int, end_sample: int) -> npt.NDArray[np.int16]:
        """Return samples [first_sample, end_sample); silence where nothing was heard yet or before the start.

        Raises:
            ValueError: The range is reversed, or begins before what is still kept.
        """
        return self._gather(self._ring, first_sample, end_sample)

    def count_filled(self, first_sample: int, end_sample: int) -> int:
        """Return how many samples of the range are silence that stands for lost sound."""
        return int(self._gather(self._filled, first_sample, end_sample).sum())

    def _gather(self, ring: npt.NDArray, first_sample: int, end_sample: int) -> npt.NDArray:
        if end_sample < first_sample:
            raise ValueError(f"the range [{first_sample}, {end_sample}) is reversed")
        out = np.zeros(end_sample - first_sample, ring.dtype)
        low = max(first_sample, self.first_sample)
        high = min(end_sample, self._end)
        if low >= high:
            return out
        oldest = self._end - ring.size
        if low < oldest:
            raise ValueError(f"sample {low} is no longer kept, the oldest one is {oldest}")
        place = low - first_sample
        for stretch in _stretches(low, high, ring.size):
            length = stretch.stop - stretch.start
            out[place : place + length] = ring[stretch]
            place += length
        return out

    def _write(self, samples: npt.NDArray[np.int16], is_filled: npt.NDArray[np.bool_] | bool) -> None:
        end = self._end + samples.size
        kept = samples[-self._ring.size :]
        if not isinstance(is_filled, bool):
            is_filled = is_filled[-self._ring.size :]
        place = 0
        for stretch in _stretches(end - kept.size, end, self._ring.size):
            length = stretch.stop - stretch.start
            self._ring[stretch] = kept[place : place + length]
            self._filled[stretch] = (
                is_filled if isinstance(is_filled, bool) else is_filled[place : place + length]
            )
            place += length
        self._end = end


def _spread(filled: int, size: int) -> npt.NDArray[np.bool_]:
    """Return `size` flags of which exactly `filled` are true, spread evenly."""
    return np.diff(np.arange(size + 1) * filled // size) > 0


def _stretches(first: int, end: int, size: int) -> tuple[slice, ...]:
    """Return where samples [first, end) lie in a ring: one stretch, or two where it wraps around."""
    begin, length = first % size, end - first
    if begin + length <= size:
        return (slice(begin, begin + length),)
    return slice(begin, size), slice(0, begin + length - size)
