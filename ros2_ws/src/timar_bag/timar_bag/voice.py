"""One voice of a bag: where its blocks stand on the conversation clock, and its envelope."""

from __future__ import annotations

import array
import dataclasses
import operator

import numpy as np
import numpy.typing as npt
from timar_common.clock import NOMINAL_NS_PER_SAMPLE, SAMPLE_RATE_HZ
from timar_common.pcm import FULL_SCALE

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

HOP_SAMPLES = SAMPLE_RATE_HZ // 100
"""Resolution of the envelope: 10 ms."""
LEVEL_HOPS = 5
LONGEST_GAP_SAMPLES = 3600 * SAMPLE_RATE_HZ
"""A jump forward beyond this is a broken index and no gap."""
SILENCE_DBFS = -60.0
"""Everything softer counts as this [dBFS]."""


@dataclasses.dataclass(frozen=True)
class RecordedVoice:
    """One voice without its sound.

    Block arrays hold one entry for each block that brought something new, in order of the clock; envelope
    arrays one for each hop of 10 ms, the first beginning at `envelope_first_sample`.
    """

    block_first_sample: Integers
    block_samples: Integers
    block_filled: Integers
    """How many of a block's samples stand for lost sound."""
    block_stamp_ns: Integers
    """ROS time of a block's first sample [ns]."""
    block_receive_ns: Integers
    envelope_first_sample: int
    mean_square: Floats
    """Of each hop, full scale = 1."""
    peak: Floats
    """Largest magnitude in each hop, full scale = 1."""
    samples_repeated: int
    """Samples that came more than once."""
    wrong_rate_blocks: int
    """Blocks that say another rate than 16 kHz."""

    @property
    def gaps(self) -> Integers:
        """Samples missing between each block and its successor."""
        return self.block_first_sample[1:] - (self.block_first_sample + self.block_samples)[:-1]

    @property
    def samples_in(self) -> int:
        """Samples really heard."""
        return int(self.block_samples.sum() - self.block_filled.sum())

    @property
    def samples_lost(self) -> int:
        """Samples that stand as silence: filled in by the sender, or missing between two blocks."""
        return int(self.block_filled.sum() + self.gaps.sum())

    @property
    def end_sample(self) -> int:
        """One past the last sample."""
        return int(self.block_first_sample[-1] + self.block_samples[-1])

    @property
    def duration_s(self) -> float:
        """From the first sample to the last [s]."""
        return (self.end_sample - int(self.block_first_sample[0])) / SAMPLE_RATE_HZ

    def time_ns(self, samples: npt.ArrayLike) -> Integers:
        """Return the ROS time of samples [ns], by the stamps; beyond the ends at the nominal rate."""
        at = np.asarray(samples, np.float64)
        known = self.block_first_sample.astype(np.float64)
        # Doubles cannot hold nanoseconds since 1970 exactly, so everything is relative to the first stamp.
        first_ns = int(self.block_stamp_ns[0])
        inside = np.interp(at, known, (self.block_stamp_ns - first_ns).astype(np.float64))
        before = np.minimum(at - known[0], 0.0) * NOMINAL_NS_PER_SAMPLE
        after = np.maximum(at - known[-1], 0.0) * NOMINAL_NS_PER_SAMPLE
        return first_ns + np.rint(inside + before + after).astype(np.int64)

    @property
    def hop_samples(self) -> Floats:
        """(H,) middle of each hop on the conversation clock [samples]."""
        hops = np.arange(self.mean_square.size, dtype=np.float64)
        return self.envelope_first_sample + (hops + 0.5) * HOP_SAMPLES

    def level_dbfs(self) -> Floats:
        """Return the level around each hop: root mean square over 50 ms, at least -60 dBFS."""
        # An odd number of hops, so that the window is centred: half a hop would show as lag.
        kernel = np.ones(LEVEL_HOPS) / LEVEL_HOPS
        return decibels(np.convolve(self.mean_square, kernel, mode="same"))


def decibels(power: Floats) -> Floats:
    """Return powers (full scale = 1) as levels [dBFS], at least `SILENCE_DBFS`."""
    return np.asarray(10.0 * np.log10(np.maximum(power, 10 ** (SILENCE_DBFS / 10))), np.float64)


class VoiceTrack:
    """Take the blocks of one voice in, as they were recorded; memory grows by 16 bytes for every 10 ms."""

    def __init__(self) -> None:
        # One column each for first sample, length, filled, stamp and arrival.
        self._columns = tuple(array.array("q") for _ in range(5))
        self._square = array.array("d")
        self._peak = array.array("d")
        self._first_hop = self._end = self._repeated = self._wrong_rate = 0
        # Samples that follow each other and are not in the envelope yet.
        self._pending: list[npt.NDArray[np.int16]] = []
        self._pending_first = self._pending_end = 0

    @property
    def is_started(self) -> bool:
        """Whether a block came."""
        return bool(self._columns[0])

    def append(
        self,
        first_sample: int,
        samples: npt.NDArray[np.int16],
        filled: int,
        stamp_ns: int,
        receive_ns: int,
        sample_rate_hz: int = SAMPLE_RATE_HZ,
    ) -> None:
        """Take one block in.

        Raises:
            ValueError: It starts before sample 0 or far behind its predecessor, is empty, or has more filled
                samples than samples.
        """
        size = int(samples.size)
        if first_sample < 0 or not size or filled > size:
            raise ValueError(
                f"a block of {size} samples, {filled} filled, from {first_sample} on is impossible"
            )
        if not self.is_started:
            self._end = first_sample
            self._first_hop = first_sample // HOP_SAMPLES
        if first_sample - self._end > LONGEST_GAP_SAMPLES:
            raise ValueError(
                f"a block from {first_sample} on comes after sample {self._end}, which is no gap"
            )
        repeated = min(max(0, self._end - first_sample), size)
        self._repeated += repeated
        self._wrong_rate += sample_rate_hz != SAMPLE_RATE_HZ
        if repeated == size:
            return
        begin, fresh = first_sample + repeated, size - repeated
        # Which of a block's samples are filled is not known; they count as spread evenly over it.
        filled -= filled * repeated // size
        begin_ns = stamp_ns + round(repeated * NOMINAL_NS_PER_SAMPLE)
        for column, value in zip(self._columns, (begin, fresh, filled, begin_ns, receive_ns), strict=True):
            column.append(value)
        self._end = begin + fresh
        if begin != self._pending_end or begin - self._pending_first >= SAMPLE_RATE_HZ:
            self._add_to_envelope()
            self._pending_first = begin
        self._pending.append(samples[repeated:])
        self._pending_end = self._end

    def finish(self) -> RecordedVoice:
        """Return the voice.

        Raises:
            RuntimeError: No block came.
        """
        if not self.is_started:
            raise RuntimeError("a voice without a block has no envelope; ask is_started first")
        self._add_to_envelope()
        first, samples, filled, stamp_ns, receive_ns = (np.array(c, np.int64) for c in self._columns)
        return RecordedVoice(
            block_first_sample=first,
            block_samples=samples,
            block_filled=filled,
            block_stamp_ns=stamp_ns,
            block_receive_ns=receive_ns,
            envelope_first_sample=self._first_hop * HOP_SAMPLES,
            mean_square=np.array(self._square) / (HOP_SAMPLES * float(FULL_SCALE) ** 2),
            peak=np.array(self._peak) / FULL_SCALE,
            samples_repeated=self._repeated,
            wrong_rate_blocks=self._wrong_rate,
        )

    def _add_to_envelope(self) -> None:
        """Add what waits; a hop may be split over two such stretches, and lost hops stay silent."""
        if not self._pending:
            return
        values, first = np.concatenate(self._pending).astype(np.float64), self._pending_first
        self._pending.clear()
        first_hop, end_hop = first // HOP_SAMPLES, -(-(first + values.size) // HOP_SAMPLES)
        begins = np.maximum(np.arange(first_hop, end_hop) * HOP_SAMPLES - first, 0)
        index = first_hop - self._first_hop
        for column, add, found in (
            (self._square, operator.add, np.add.reduceat(values * values, begins)),
            (self._peak, max, np.maximum.reduceat(np.abs(values), begins)),
        ):
            column.frombytes(bytes(8 * max(0, index - len(column))))
            if index < len(column):
                column[index], found = add(column[index], float(found[0])), found[1:]
            column.frombytes(found.tobytes())
