"""A topic with one publisher: the first that is heard stays in charge while it lives, others are refused.

Two drivers, two robots in one namespace, a process left over from yesterday or a bag player beside a live
microphone all look alike: a second publisher. Publishers are told apart by the gid that ROS 2 gives each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from timar_common.clock import NS_PER_S

RESTART_S = 10.0
"""A refused publisher waits so long after the end of the one in charge, which may be started again [s]."""
DEAD_SILENCE_NS = NS_PER_S
"""A process that is gone has been silent for this long at least [ns]."""
REMOTE_SILENCE_NS = 3 * NS_PER_S
"""A publisher of another machine that was silent for so long counts as gone; DDS itself takes 20 s [ns]."""
_LOOK_EVERY_NS = NS_PER_S // 5
_EPROSIMA = b"\x01\x0f"
_HOST, _PROCESS = slice(0, 4), slice(4, 6)


class PublisherEndpoint(NamedTuple):
    """A publisher as the graph shows it."""

    gid: bytes
    node: str
    """Full name of its node."""


def processes_of(gid: bytes, own_gid: bytes, proc: Path = Path("/proc")) -> list[int] | None:
    """Return the processes of this machine that may own a gid; None for another machine, or where unknown.

    Fast DDS's gid begins with vendor, machine and the lower 16 bits of the process id; others tell nothing.

    Args:
        gid: Of a publisher.
        own_gid: Of a publisher of this process.
        proc: Where the kernel lists processes.
    """
    if gid[:2] != _EPROSIMA or gid[_HOST] != own_gid[_HOST]:
        return None
    low = int.from_bytes(gid[_PROCESS], "little")
    running = (int(folder.name) for folder in proc.iterdir() if folder.name.isdigit())
    return sorted(pid for pid in running if pid & 0xFFFF == low)


def started_ticks(pid: int, proc: Path = Path("/proc")) -> int:
    """Return when a process of this machine was started [clock ticks since boot]; 0 when it is gone."""
    try:
        # The name in brackets may hold spaces; the 20th field behind it is the start.
        return int((proc / str(pid) / "stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return 0


def located(endpoint: PublisherEndpoint, own_gid: bytes) -> str:
    """Return a publisher's node, process and machine, as words for a sentence."""
    pids = processes_of(endpoint.gid, own_gid)
    if pids:
        return f"{endpoint.node} (process {' or '.join(map(str, pids))} of this machine)"
    if pids is not None:
        return f"{endpoint.node} (a process of this machine that has ended)"
    if endpoint.gid[:2] == _EPROSIMA == own_gid[:2]:
        return f"{endpoint.node} (another machine, Fast DDS host {endpoint.gid[2:4].hex()})"
    return f"{endpoint.node} (on which machine is not known)"


class SolePublisher:
    """Decide which messages of a topic count.

    Args:
        look: Returns the topic's publishers.
        own_gid: Returns the gid of a publisher of this process; empty while unknown.
        is_latched: Whether the topic is silent for long by nature, so that silence says nothing.
    """

    def __init__(
        self, look: Callable[[], Iterable[PublisherEndpoint]], own_gid: Callable[[], bytes], is_latched: bool
    ) -> None:
        self.in_charge = b""
        """Gid of the publisher whose messages count; empty before the first message."""
        self.refused: dict[bytes, int] = {}
        """How many messages of each other publisher were left out."""
        self.publishers: dict[bytes, PublisherEndpoint] = {}
        """Who lived when it was last looked, by gid."""
        self._look, self._own_gid, self._is_latched = look, own_gid, is_latched
        self._heard_ns = self._looked_ns = 0
        self._gone_ns: int | None = None
        self._is_ending = False
        """Whether the process in charge is gone and what it said last may still be on its way."""

    def admits(self, gid: bytes, now_ns: int) -> bool:
        """Tell whether a message counts.

        Args:
            gid: Of its publisher; empty where rclpy does not say, as in Humble: then no message counts while
                the topic has two publishers.
            now_ns: CLOCK_MONOTONIC [ns].
        """
        if not gid:
            return len(self.publishers) < 2
        if gid != self.in_charge and not self._takes_charge(gid, now_ns):
            if not self._is_ending:
                self.refused[gid] = self.refused.get(gid, 0) + 1
            return False
        self.in_charge, self._heard_ns, self._gone_ns = gid, now_ns, None
        self.refused.pop(gid, None)
        return True

    def look(self, now_ns: int) -> None:
        """Look who publishes, and whether the one in charge still lives; call it once a second."""
        self._looked_ns = now_ns
        found = {endpoint.gid: endpoint for endpoint in self._look()}
        own_gid = self._own_gid()
        self.publishers = (
            found
            if len(found) < 2 or not own_gid
            else {gid: end for gid, end in found.items() if processes_of(gid, own_gid) != []}
        )
        self.refused = {gid: count for gid, count in self.refused.items() if gid in found}
        if self._lives(found, now_ns):
            self._gone_ns = None
        elif self._gone_ns is None:
            self._gone_ns = now_ns

    def others(self) -> Sequence[PublisherEndpoint]:
        """Return who lives beside the one in charge; before the first message all but one."""
        rest = [endpoint for gid, endpoint in self.publishers.items() if gid != self.in_charge]
        return rest if self.in_charge in self.publishers else rest[1:]

    def _takes_charge(self, gid: bytes, now_ns: int) -> bool:
        if not self.in_charge:
            return True
        if now_ns - self._looked_ns >= _LOOK_EVERY_NS:
            self.look(now_ns)
        if self._gone_ns is None:
            return False
        return gid not in self.refused or now_ns - self._gone_ns > RESTART_S * NS_PER_S

    def _lives(self, found: dict[bytes, PublisherEndpoint], now_ns: int) -> bool:
        self._is_ending = False
        if self.in_charge not in found:
            return False
        silent_ns = now_ns - self._heard_ns
        own_gid = self._own_gid()
        pids = processes_of(self.in_charge, own_gid) if own_gid else None
        if pids is None:
            return self._is_latched or silent_ns < REMOTE_SILENCE_NS
        self._is_ending = not pids
        return bool(pids) or silent_ns < DEAD_SILENCE_NS
