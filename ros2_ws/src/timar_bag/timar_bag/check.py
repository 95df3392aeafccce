"""Checks a bag: topics, counts, gaps on the sample clock, stamps and rates."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from timar_common.clock import NOMINAL_NS_PER_SAMPLE, SAMPLE_RATE_HZ

from timar_bag.conversation import RecordedConversation, read_conversation
from timar_bag.voice import RecordedVoice

STEP_MS = 50.0
"""A stamp that moves by this much more or less than its samples says that the clock jumped."""
RATE_TOLERANCE_PPM = 1000.0
"""No sound card is this far off; a stream that is has the wrong rate or the wrong stamps."""
SHORTEST_RATE_S = 2.0
"""A shorter stream says nothing about its rate."""


def check_bag(bag: Path, namespace: str | None = None) -> tuple[RecordedConversation, list[str]]:
    """Read a whole bag and find what is wrong with it.

    Args:
        bag: A rosbag2 folder or file.
        namespace: The robot's; found by itself unless the bag holds several robots.

    Returns:
        What the bag holds, and one sentence for each problem; none for a sound bag.

    Raises:
        FileNotFoundError: There is no bag.
        ValueError: Nothing in it can be read, or it holds no message.
    """
    conversation = read_conversation(bag, namespace)
    problems = list(conversation.issues)
    problems += [
        f"{topic.backwards} messages of {name} come before their predecessor"
        for name, topic in conversation.topics.items()
        if topic.backwards
    ]
    problems += [
        f"{topic}: {what}" for topic, voice in conversation.voices.items() for what in _faults(voice)
    ]
    return conversation, problems


def _faults(voice: RecordedVoice) -> Iterator[str]:
    gaps, filled = voice.gaps, int(voice.block_filled.sum())
    passed_ns = np.diff(voice.block_stamp_ns)
    expected_ns = np.diff(voice.block_first_sample) * NOMINAL_NS_PER_SAMPLE
    jumps = int((np.abs(passed_ns - expected_ns) > STEP_MS * 1e6).sum())
    if gaps.any():
        yield f"{gaps.sum()} samples are missing in {np.count_nonzero(gaps)} gaps"
    if filled:
        yield f"{filled} samples are silence that stands for lost sound"
    if voice.samples_repeated:
        yield f"{voice.samples_repeated} samples came more than once, or went back on the clock"
    if jumps:
        yield f"{jumps} stamps jump by more than {STEP_MS:g} ms against the samples"
    if voice.wrong_rate_blocks:
        yield f"{voice.wrong_rate_blocks} blocks say another rate than {SAMPLE_RATE_HZ} Hz"
    if expected_ns.sum() >= SHORTEST_RATE_S * 1e9 and passed_ns.sum() > 0 and not jumps:
        ppm = (expected_ns.sum() / passed_ns.sum() - 1.0) * 1e6
        if abs(ppm) > RATE_TOLERANCE_PPM:
            yield f"its samples run {ppm:+.0f} ppm against its stamps, more than any sound card"
