"""Detects that the microphone's sample counter restarted: a block is of this, a new or an old conversation.

The conversation's counter begins at 0 with capture. When capture alone is started again the counter restarts,
and by the index alone every new block would look like a repetition of an old one.
"""

from __future__ import annotations

import enum

from timar_common.clock import NOMINAL_NS_PER_SAMPLE, NS_PER_S


class Belongs(enum.Enum):
    """Which conversation a block is of."""

    THIS = "this"
    NEW = "new"
    OLD = "old"
    LATER = "later"
    """Of this counter, after so long a gap that it counts as a new conversation."""


class ConversationWatch:
    """Tell a counter that restarted from blocks that are late or come twice.

    A late or repeated block tells the time at which its sound was heard, so the instant at which its counter
    stood at 0 is that of all others. A new counter's 0 is later than the sound of the old one; where a busy
    machine's clock is set right under way, it moves by far less.

    Args:
        tolerance_s: By how much that instant may move from block to block [s].
    """

    def __init__(self, tolerance_s: float = 0.5) -> None:
        self.restarts = 0
        """How often the counter restarted."""
        self.outage_ns = 0
        """Sound lost at the newest restart, from the old counter's last sample to the new one's 0 [ns]."""
        self.lost_ns = 0
        """Sound lost at all restarts [ns]."""
        self._tolerance_ns = round(tolerance_s * NS_PER_S)
        self._origin_ns: int | None = None
        self._end = 0
        self._since_ns = 0

    def agrees(self, first_sample: int, first_ns: int) -> bool:
        """Tell whether a block far ahead came when its counter must have got there: then sound was lost.

        Args:
            first_sample: Place of its first sample on the conversation clock [samples].
            first_ns: When its first sample was heard, CLOCK_MONOTONIC [ns].
        """
        if self._origin_ns is None:
            return False
        gap_ns = (first_sample - self._end) * NOMINAL_NS_PER_SAMPLE
        origin_ns = first_ns - round(first_sample * NOMINAL_NS_PER_SAMPLE)
        return abs(origin_ns - self._origin_ns) <= self._tolerance_ns + 1e-3 * max(0.0, gap_ns)

    def observe(self, first_sample: int, samples: int, first_ns: int) -> Belongs:
        """Take a block's place and time in, and say where it belongs; NEW is the first of its conversation.

        Args:
            first_sample: Place of its first sample on the conversation clock [samples].
            samples: Its length [samples].
            first_ns: When its first sample was heard, CLOCK_MONOTONIC [ns].
        """
        origin_ns = first_ns - round(first_sample * NOMINAL_NS_PER_SAMPLE)
        if self._origin_ns is None:
            self._follow(first_sample + samples, origin_ns)
            return Belongs.THIS
        moved_ns = origin_ns - self._origin_ns
        heard_ns = round(self._end * NOMINAL_NS_PER_SAMPLE)
        # Half of it: others may carry the old counter on until they know.
        if moved_ns > max(self._tolerance_ns, heard_ns // 2) and first_sample < self._end:
            self.restarts += 1
            end_ns = self._origin_ns + heard_ns
            self.outage_ns = max(0, origin_ns - end_ns)
            self.lost_ns += self.outage_ns
            self._since_ns = first_ns
            self._end = 0
            self._follow(first_sample + samples, origin_ns)
            return Belongs.NEW
        if self.restarts and moved_ns < -self._tolerance_ns and first_ns < self._since_ns + 2 * NS_PER_S:
            return Belongs.OLD
        if first_sample + samples > self._end:
            self._follow(first_sample + samples, origin_ns)
        return Belongs.THIS

    def _follow(self, end_sample: int, origin_ns: int) -> None:
        self._end, self._origin_ns = end_sample, origin_ns
