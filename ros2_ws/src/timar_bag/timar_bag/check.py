"""Is a bag sound: topics, counts, gaps on the sample clock, stamps and rates."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from timar_common.clock import NOMINAL_NS_PER_SAMPLE, SAMPLE_RATE_HZ

from timar_bag.bag import BagReader
from timar_bag.conversation import NEEDED, VOICES, stamp_ns

STEP_MS = 50.0
"""A stamp that moves by this much more or less than its samples says that the clock jumped."""
RATE_TOLERANCE_PPM = 1000.0
"""No sound card is this far off; a stream that is has the wrong rate or the wrong stamps."""
SHORTEST_RATE_S = 2.0
"""A shorter stream says nothing about its rate."""


@dataclasses.dataclass
class TopicReport:
    """What one topic of a bag holds."""

    name: str
    type_name: str
    messages: int = 0
    first_ns: int = 0
    last_ns: int = 0
    """Times of arrival [ns]."""

    @property
    def rate_hz(self) -> float | None:
        """Messages per second; None for fewer than two."""
        span_ns = self.last_ns - self.first_ns
        return (self.messages - 1) * 1e9 / span_ns if span_ns > 0 else None


@dataclasses.dataclass(frozen=True)
class BagReport:
    """What a bag holds, and what is wrong with it."""

    namespace: str
    topics: list[TopicReport]
    problems: list[str]
    """One sentence each; empty for a sound bag."""


def check_bag(bag: Path, namespace: str | None = None) -> BagReport:
    """Read a whole bag and tell what is wrong with it.

    Args:
        bag: A rosbag2 folder or file.
        namespace: The robot's; found by itself unless the bag holds several robots.

    Raises:
        FileNotFoundError: There is no bag.
        ValueError: Nothing in it can be read.
    """
    streams = {topic: _StreamCheck(topic) for topic in VOICES}
    problems: list[str] = []
    with BagReader(bag, namespace) as reader:
        topics = {name: TopicReport(name, topic.type_name) for name, topic in reader.topics.items()}
        backwards: dict[str, int] = {}
        for name, receive_ns, message in reader.messages():
            report = topics[name]
            if not report.messages:
                report.first_ns = receive_ns
            elif receive_ns < report.last_ns:
                backwards[name] = backwards.get(name, 0) + 1
            report.messages += 1
            report.last_ns = max(report.last_ns, receive_ns)
            if name in streams:
                streams[name].take(message)
        problems += reader.losses
    problems += [
        f"{name} has no message" for name in NEEDED if name not in topics or not topics[name].messages
    ]
    problems += [
        f"{count} messages of {name} come before their predecessor" for name, count in backwards.items()
    ]
    for stream in streams.values():
        problems += stream.problems()
    return BagReport(reader.namespace, sorted(topics.values(), key=lambda topic: topic.name), problems)


class _StreamCheck:
    """Follow one voice along the sample clock."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._end = -1
        self._first: tuple[int, int] | None = None
        self._last: tuple[int, int] = (0, 0)
        self._gaps = self._lost = self._filled = self._repeated = self._jumps = self._wrong_rate = 0

    def take(self, message: Any) -> None:
        first, count = int(message.first_sample), len(message.samples)
        here = (first, stamp_ns(message))
        self._wrong_rate += message.sample_rate != SAMPLE_RATE_HZ
        self._filled += int(message.filled_samples)
        if self._first is None:
            self._first = here
        else:
            self._gaps += first > self._end
            self._lost += max(0, first - self._end)
            self._repeated += max(0, min(self._end - first, count))
            expected_ns = self._last[1] + (first - self._last[0]) * NOMINAL_NS_PER_SAMPLE
            self._jumps += abs(here[1] - expected_ns) > STEP_MS * 1e6
        self._end = max(self._end, first + count)
        self._last = here

    def problems(self) -> list[str]:
        if self._first is None:
            return []
        found = []
        if self._gaps:
            found.append(f"{self._lost} samples are missing in {self._gaps} gaps")
        if self._filled:
            found.append(f"{self._filled} samples are silence that stands for lost sound")
        if self._repeated:
            found.append(f"{self._repeated} samples came more than once, or went back on the clock")
        if self._jumps:
            found.append(f"{self._jumps} stamps jump by more than {STEP_MS:g} ms against the samples")
        if self._wrong_rate:
            found.append(f"{self._wrong_rate} blocks say another rate than {SAMPLE_RATE_HZ} Hz")
        ppm = self._rate_error_ppm()
        if ppm is not None and abs(ppm) > RATE_TOLERANCE_PPM and not self._jumps:
            found.append(f"its samples run {ppm:+.0f} ppm against its stamps, more than any sound card")
        return [f"{self._topic}: {what}" for what in found]

    def _rate_error_ppm(self) -> float | None:
        first = self._first or (0, 0)
        samples, time_ns = self._last[0] - first[0], self._last[1] - first[1]
        if samples < SHORTEST_RATE_S * SAMPLE_RATE_HZ or time_ns <= 0:
            return None
        return (samples * NOMINAL_NS_PER_SAMPLE / time_ns - 1.0) * 1e6
