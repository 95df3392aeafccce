"""What a block of conversation sound from a topic may be."""

from __future__ import annotations

from timar_common.clock import SAMPLE_RATE_HZ


def check_block(sample_rate_hz: int, first_sample: int, samples: int, filled_samples: int) -> None:
    """Refuse a block that cannot be sound of the conversation.

    Args:
        sample_rate_hz: Rate it claims [Hz].
        first_sample: Place of its first sample on the conversation clock [samples].
        samples: How many it has.
        filled_samples: How many of them it says are silence that stands for lost sound.

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
