"""Clock offset to another machine by request and reply, with a bound on its error.

The other machine stamps a reply between this machine's sending and receiving, however long each way took.
So every exchange bounds the offset from both sides (Cristian 1989), and several together bound it by the
quickest way there and the quickest way back (Marzullo 1984). Half the distance of the bounds is the largest
possible error.
"""

from __future__ import annotations

import collections
import dataclasses
from typing import NamedTuple

from timar_common.clock import NS_PER_S
from timar_common.config import Positive, check
from timar_common.diagnostics import Percentiles


@dataclasses.dataclass(frozen=True)
class PeerClockConfig:
    """How often the other machine is asked, and what is believed."""

    burst: int = 20
    """So many exchanges in quick succession make the clock known, and again when it was set or away."""
    burst_period_s: Positive = 0.05
    """Between two of them [s]."""
    period_s: Positive = 1.0
    """Between two requests after that [s]."""
    kept: int = 32
    """The newest exchanges that bound the offset."""
    drift_ppm: Positive = 200.0
    """By how much the two clocks' rates may differ, slewing by NTP included [ppm]."""
    max_round_trip_s: Positive = 1.0
    """A reply that took longer says nothing [s]."""
    max_way_ms: Positive = 400.0
    """No more time than this is allowed for the way there and back, whatever it was measured to be [ms]."""
    away_after_s: Positive = 3.0
    """A machine that has not replied for so long is away [s]."""

    def __post_init__(self) -> None:
        check(self)


class _Exchange(NamedTuple):
    sent_ns: int
    peer_ns: int
    received_ns: int


class PeerClock:
    """Another machine's ROS time, as a function of this machine's monotonic time. Times are arguments.

    One thread asks and takes; any thread may read.

    Args:
        config: How often is asked.
    """

    def __init__(self, config: PeerClockConfig | None = None) -> None:
        self.config = config or PeerClockConfig()
        self.is_started = False
        """Whether the offset is known."""
        self.error_ns = 0
        """The largest error that the offset can have [ns]."""
        self.steps = 0
        """How often the other clock was set."""
        self.strays = 0
        """Replies to nothing that was asked, or too late."""
        self.round_trips_ms = Percentiles(256)
        self._exchanges: collections.deque[_Exchange] = collections.deque(maxlen=self.config.kept)
        self._open: collections.deque[int] = collections.deque(maxlen=self.config.kept)
        self._burst_left = self.config.burst
        self._offset_ns = 0
        self._asked_ns: int | None = None
        self._replied_ns: int | None = None

    def ask(self, now_ns: int) -> bool:
        """Tell whether a request is to be sent now, stamped with this instant; to be called often."""
        # Who does not answer is asked at leisure.
        is_quick = self._burst_left > 0 and not self.is_away(now_ns)
        period_s = self.config.burst_period_s if is_quick else self.config.period_s
        if self._asked_ns is not None and now_ns - self._asked_ns < period_s * NS_PER_S:
            return False
        self._asked_ns = now_ns
        self._open.append(now_ns)
        return True

    def take(self, sent_ns: int, peer_ns: int, received_ns: int) -> bool:
        """Take a reply in.

        Args:
            sent_ns: When its request was sent, by this machine's clock [ns].
            peer_ns: When it was answered, by the other machine's [ns].
            received_ns: When the reply came, by this machine's [ns].

        Returns:
            Whether it completes a burst: offset and round trip are known now, or known anew.
        """
        round_trip_ns = received_ns - sent_ns
        if sent_ns not in self._open or round_trip_ns > self.config.max_round_trip_s * NS_PER_S:
            self.strays += 1
            return False
        self._open.remove(sent_ns)
        if self.is_started and self.is_away(received_ns):
            self._begin_burst()
        self._replied_ns = received_ns
        self.round_trips_ms.add(round_trip_ns * 1e-6)
        self._exchanges.append(_Exchange(sent_ns, peer_ns, received_ns))
        low_ns, high_ns = self._bounds(received_ns)
        if low_ns > high_ns:
            self.steps += self.is_started
            self._begin_burst()
            self._exchanges = collections.deque([self._exchanges[-1]], self.config.kept)
            low_ns, high_ns = self._bounds(received_ns)
        was_in_burst = self._burst_left > 0
        self._burst_left = max(0, self._burst_left - 1)
        is_complete = was_in_burst and not self._burst_left
        self.is_started |= is_complete
        if self.is_started:
            self._offset_ns, self.error_ns = (low_ns + high_ns) // 2, (high_ns - low_ns + 1) // 2
        return is_complete

    def ros_ns(self, monotonic_ns: int) -> int:
        """Return the other machine's ROS time at an instant of this one's monotonic time [ns]."""
        return monotonic_ns + self._offset_ns

    def is_away(self, now_ns: int) -> bool:
        """Tell whether the other machine has not replied for too long, or never did."""
        return self._replied_ns is None or now_ns - self._replied_ns > self.config.away_after_s * NS_PER_S

    @property
    def way_ms(self) -> float:
        """The time there and back to allow for: 99th percentile since the last burst began, bounded [ms]."""
        return min(self.round_trips_ms.summary().get("p99", 0.0), self.config.max_way_ms)

    def _begin_burst(self) -> None:
        self._burst_left = self.config.burst
        self.round_trips_ms = Percentiles(256)

    def _bounds(self, now_ns: int) -> tuple[int, int]:
        """Return between what the offset lies [ns]; an older exchange bounds it less, for clocks drift."""
        slack = [round((now_ns - one.received_ns) * self.config.drift_ppm * 1e-6) for one in self._exchanges]
        low = max(one.peer_ns - one.received_ns - s for one, s in zip(self._exchanges, slack, strict=True))
        high = min(one.peer_ns - one.sent_ns + s for one, s in zip(self._exchanges, slack, strict=True))
        return low, high
