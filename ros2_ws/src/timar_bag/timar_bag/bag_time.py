"""The bag's own time as the monotonic time that cores ask for, whatever its clocks did."""

from __future__ import annotations

BEGIN_NS = 1_000_000_000
"""Monotonic time of the first message [ns]; small, for cores keep time in doubles."""
STEP_NS = 500_000_000
"""A message that came so long before its predecessor says that the recorder's clock was set back [ns]."""
TWO_CLOCKS_NS = 1_000_000_000
"""A stamp further from its arrival than this is another clock's [ns]."""


class BagTime:
    """Times of arrival to a time that never goes back, and stamps to the same scale."""

    def __init__(self) -> None:
        self.steps = 0
        """How often the recorder's clock was set back."""
        self._base_ns: int | None = None
        self._now_ns = BEGIN_NS
        self._shifts: dict[str, int] = {}
        self._shifted: dict[str, int] = {}

    @property
    def now_ns(self) -> int:
        """Monotonic time of the newest message [ns]."""
        return self._now_ns

    def arrive(self, receive_ns: int) -> int:
        """Take the ROS time of a message's arrival and return the monotonic one [ns]."""
        if self._base_ns is None:
            self._base_ns = receive_ns - BEGIN_NS
        if receive_ns - self._base_ns < self._now_ns - STEP_NS:
            self.steps += 1
            self._base_ns = receive_ns - self._now_ns
        self._now_ns = max(self._now_ns, receive_ns - self._base_ns)
        return self._now_ns

    def ros_ns(self, monotonic_ns: int) -> int:
        """Write a monotonic time as ROS time [ns]."""
        return monotonic_ns + self._base()

    def monotonic_ns(self, ros_ns: int) -> int:
        """Read a ROS time as a monotonic one [ns]."""
        return ros_ns - self._base()

    def stamped(self, topic: str, stamp_ns: int, length_ns: int = 0) -> int:
        """Return the monotonic time a stamp means, for a message that came just now.

        Stamps of another clock (a machine without NTP, a bag put together from two) are moved so that what is
        stamped ends with its arrival, and keep their own distances from then on.

        Args:
            topic: Whose clock it is.
            stamp_ns: ROS time of the message's begin [ns].
            length_ns: How long what it holds lasts; it cannot have come before its end [ns].
        """
        time_ns = stamp_ns - self._base() + self._shifts.get(topic, 0)
        if abs(self._now_ns - time_ns - length_ns) > TWO_CLOCKS_NS:
            self._shifted[topic] = self._shifted.get(topic, 0) + 1
            self._shifts[topic] = self._now_ns - length_ns - (stamp_ns - self._base())
            time_ns = self._now_ns - length_ns
        return time_ns

    def issues(self) -> list[str]:
        """Return what was wrong with the clocks, one sentence each."""
        found = [
            f"{topic}: stamps are of another clock, {-self._shifts[topic] / 1e9:+.3f} s from the times of "
            f"arrival; they were moved{f' ({count} times)' if count > 1 else ''}"
            for topic, count in sorted(self._shifted.items())
        ]
        if self.steps:
            found.append(f"the recorder's clock was set back {self.steps} times; time went on without it")
        return found

    def _base(self) -> int:
        if self._base_ns is None:
            raise RuntimeError("no message has come yet, so there is no time; call arrive() first")
        return self._base_ns
