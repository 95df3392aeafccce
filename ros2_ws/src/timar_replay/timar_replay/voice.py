"""One voice of a bag: where its blocks stand on the conversation clock, and its envelope."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
from timar_common.clock import NOMINAL_NS_PER_SAMPLE, SAMPLE_RATE_HZ

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

HOP_SAMPLES = SAMPLE_RATE_HZ // 100
"""Resolution of the envelope: 10 ms."""
LEVEL_HOPS = 5
FULL_SCALE = 32767.0
SILENCE_DBFS = -60.0
"""Everything softer counts as this [dBFS]."""


@dataclasses.dataclass(frozen=True)
class Voice:
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
    samples_in: int
    """Samples really heard."""
    samples_lost: int
    """Samples that stand as silence: filled in by the sender, or missing between two blocks."""
    samples_repeated: int
    """Samples that came more than once."""

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
        power = np.convolve(self.mean_square, kernel, mode="same")
        return np.asarray(10.0 * np.log10(np.maximum(power, 10 ** (SILENCE_DBFS / 10))), np.float64)


class VoiceTrack:
    """Take the blocks of one voice in, in any order a recorder may have got them."""

    def __init__(self) -> None:
        self._blocks: list[tuple[int, int, int, int, int]] = []
        self._hops: dict[int, tuple[float, float]] = {}
        self._repeated = 0
        self._end: int | None = None

    @property
    def is_started(self) -> bool:
        """Whether a block came."""
        return bool(self._blocks)

    def push(
        self, first_sample: int, samples: npt.NDArray[np.int16], filled: int, stamp_ns: int, receive_ns: int
    ) -> None:
        """Take one block in.

        Raises:
            ValueError: It starts before sample 0, is empty, or has more filled samples than samples.
        """
        if first_sample < 0 or not samples.size or filled > samples.size:
            raise ValueError(
                f"a block of {samples.size} samples, {filled} filled, from {first_sample} on is impossible"
            )
        end = first_sample + samples.size
        known_end = first_sample if self._end is None else self._end
        repeated = min(max(0, known_end - first_sample), samples.size)
        self._repeated += repeated
        if repeated == samples.size:
            return
        self._end = end
        fresh = int(samples.size) - repeated
        self._blocks.append(
            (
                first_sample + repeated,
                fresh,
                min(filled, fresh),
                stamp_ns + round(repeated * NOMINAL_NS_PER_SAMPLE),
                receive_ns,
            )
        )
        self._add_to_envelope(first_sample + repeated, samples[repeated:])

    def finish(self) -> Voice:
        """Return the voice.

        Raises:
            RuntimeError: No block came.
        """
        if not self._blocks:
            raise RuntimeError("a voice without a block has no envelope; ask is_started first")
        first, length, filled, stamp, receive = (
            np.array(column, np.int64) for column in zip(*self._blocks, strict=True)
        )
        gaps = int(np.maximum(first[1:] - (first + length)[:-1], 0).sum())
        first_hop, end_hop = min(self._hops), max(self._hops) + 1
        mean_square = np.zeros(end_hop - first_hop)
        peak = np.zeros(end_hop - first_hop)
        for hop, (square, highest) in self._hops.items():
            mean_square[hop - first_hop] = square / (HOP_SAMPLES * FULL_SCALE**2)
            peak[hop - first_hop] = highest / FULL_SCALE
        return Voice(
            first, length, filled, stamp, receive, first_hop * HOP_SAMPLES, mean_square, peak,
            int(length.sum() - filled.sum()), int(filled.sum()) + gaps, self._repeated,
        )  # fmt: skip

    def _add_to_envelope(self, first_sample: int, samples: npt.NDArray[np.int16]) -> None:
        """Add each hop's part of a block; a hop may be split over two blocks."""
        values = samples.astype(np.float64)
        hop = first_sample // HOP_SAMPLES
        begin = 0
        while begin < values.size:
            end = min(values.size, (hop + 1) * HOP_SAMPLES - first_sample)
            part = values[begin:end]
            square, highest = self._hops.get(hop, (0.0, 0.0))
            self._hops[hop] = (square + float(part @ part), max(highest, float(np.abs(part).max())))
            begin = end
            hop += 1
