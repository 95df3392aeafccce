"""Blocks of audio on the conversation clock: their shape, their message, and which of them are accepted."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
from timar_common.clock import SAMPLE_RATE_HZ
from timar_common.messages import Header, Message, new
from timar_common.restarts import Belongs, ConversationWatch

MAX_JUMP_SAMPLES = 60 * SAMPLE_RATE_HZ
"""A block further ahead of its stream than this has a broken index [samples]."""


@dataclasses.dataclass(frozen=True)
class AudioBlock:
    """A block of audio at its position on the conversation clock."""

    first_sample: int
    """Position of samples[0] on the conversation clock [samples]."""
    samples: npt.NDArray[np.int16]
    """(n,) at 16 kHz, n > 0."""
    monotonic_ns: int
    """When samples[0] was captured or heard, CLOCK_MONOTONIC [ns]."""
    filled_samples: int = 0
    """How many of them are silence put where audio was lost [samples]."""

    def message(self, frame_id: str) -> Message:
        """Return it as an AudioChunk."""
        return new(
            "AudioChunk",
            header=Header(self.monotonic_ns, frame_id),
            sample_rate=SAMPLE_RATE_HZ,
            first_sample=self.first_sample,
            filled_samples=self.filled_samples,
            samples=self.samples,
        )


def check_block(sample_rate_hz: int, first_sample: int, samples: int, filled_samples: int) -> None:
    """Reject a block that cannot be audio of the conversation.

    Args:
        sample_rate_hz: Rate it claims [Hz].
        first_sample: Position of its first sample on the conversation clock [samples].
        samples: How many it has.
        filled_samples: How many of them it says are silence that stands for lost audio.

    Raises:
        ValueError: A value is impossible; the message names it and what was expected.
    """
    if sample_rate_hz != SAMPLE_RATE_HZ:
        raise ValueError(f"sample_rate is {sample_rate_hz} Hz, expected {SAMPLE_RATE_HZ}")
    if first_sample < 0:
        raise ValueError(f"first_sample is {first_sample}, expected 0 or later")
    if not 0 < samples <= SAMPLE_RATE_HZ:
        raise ValueError(f"a block has {samples} samples, expected 1..{SAMPLE_RATE_HZ}")
    if filled_samples > samples:
        raise ValueError(f"filled_samples is {filled_samples}, expected at most the block's {samples}")


class BlockFilter:
    """Checks blocks as they come and tells to which conversation each belongs."""

    def __init__(self) -> None:
        self._watch = ConversationWatch()
        self._ends: dict[str, int] = {}

    @property
    def restarts(self) -> int:
        """How often the sample counter restarted."""
        return self._watch.restarts

    @property
    def outage_ns(self) -> int:
        """Sound lost at the newest restart [ns]."""
        return self._watch.outage_ns

    def accept(self, topic: str, message: Message) -> Belongs:
        """Check an AudioChunk and tell whether it is of this, a new or an old conversation.

        Raises:
            ValueError: It cannot be true; nothing has changed then.
        """
        check_block(message.sample_rate, message.first_sample, message.samples.size, message.filled_samples)
        first, end = message.first_sample, message.first_sample + message.samples.size
        # Before the watch sees it: it would take the blocks after a broken index for a restarted counter.
        if topic in self._ends and first - self._ends[topic] > MAX_JUMP_SAMPLES:
            raise ValueError(
                f"a block starts at sample {first}, {first - self._ends[topic]} after the end of the last "
                f"one; at most {MAX_JUMP_SAMPLES} are believed: reset the conversation to start again"
            )
        belongs = self._watch.observe(first, message.samples.size, message.header.stamp)
        if belongs is Belongs.NEW:
            self._ends = {}
        if belongs is not Belongs.OLD:
            self._ends[topic] = max(end, self._ends.get(topic, 0))
        return belongs
