"""What is watched while faults happen: what flows, what the plans ask of the joints, sound, memory, files."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from timar_common.restarts import Belongs, ConversationWatch
from timar_description.find import find_joint_map
from timar_retargeting.robot import load_robot

RATE_HZ = 16_000
TOLERANCE = 1e-3


class Flow:
    """Something that comes again and again: remembers when it was silent for too long.

    Args:
        name: What comes.
        allowed_s: The longest silence that is none [s].
    """

    def __init__(self, name: str, allowed_s: float) -> None:
        self.name, self.allowed_s = name, allowed_s
        self.count = 0
        self.gaps: list[tuple[float, float]] = []
        """Silences, from the last one before to the first one after [s]."""
        self._last_s: float | None = None

    def take(self, now_s: float) -> None:
        """Note that it came."""
        if self._last_s is not None and now_s - self._last_s > self.allowed_s:
            self.gaps.append((self._last_s, now_s))
        self._last_s = now_s
        self.count += 1

    def is_flowing(self, now_s: float) -> bool:
        """Tell whether it is not silent."""
        return self._last_s is not None and now_s - self._last_s <= self.allowed_s

    def back_after(self, since_s: float) -> float | None:
        """Return when the last silence ended that reached beyond an instant; None for none [s]."""
        ends = [end_s for _, end_s in self.gaps[-20:] if end_s > since_s]
        return ends[-1] if ends else None


class PlanWatch:
    """Hold published joint trajectories against the robot's limits."""

    def __init__(self) -> None:
        robot = load_robot(find_joint_map())
        self._names, self._limits = tuple(robot.joint_names), robot.limits
        self.plans = 0
        self.violations: collections.Counter[str] = collections.Counter()
        self.jerk = 0.0
        """The largest from point to point; the robot has no limit of it [rad/s^3]."""

    def take(self, message: Any) -> None:
        """Check every point: position, velocity, mean acceleration from point to point, rest at the end."""
        if not message.points:
            return
        order = [message.joint_names.index(name) for name in self._names]
        positions = np.array([point.positions for point in message.points])[:, order]
        velocities = np.array([point.velocities for point in message.points])[:, order]
        at_s = np.array([p.time_from_start.sec + 1e-9 * p.time_from_start.nanosec for p in message.points])
        steps_s = np.diff(at_s)[:, None]
        accelerations = np.diff(velocities, axis=0) / steps_s
        jerks = np.abs(np.diff(accelerations, axis=0) / steps_s[1:])
        self.jerk = max(self.jerk, float(jerks.max(initial=0.0)))
        limits, more = self._limits, 1.0 + TOLERANCE
        found = {
            "not finite": not (np.isfinite(positions).all() and np.isfinite(velocities).all()),
            "position": (positions > limits.upper + TOLERANCE).any()
            or (positions < limits.lower - TOLERANCE).any(),
            "velocity": (np.abs(velocities) > more * limits.velocity + TOLERANCE).any(),
            "acceleration": (np.abs(accelerations) > more * limits.acceleration + TOLERANCE).any(),
            "no rest at the end": bool(np.abs(velocities[-1]).max() > TOLERANCE),
        }
        self.plans += 1
        self.violations.update(name for name, is_so in found.items() if is_so)


_REPORTED = re.compile(r"capture was started again, ([\d.]+) s of sound are lost")


class SoundWatch:
    """Account for the user's sound: heard, filled, missing, or lost while capture was away."""

    def __init__(self) -> None:
        self.heard = self.filled = self.missing = 0
        self.conversations = 0
        self.outages_s: list[float] = []
        """From the last sound before capture went to the first one when it was back, by its stamps [s]."""
        self.reported_s: list[list[float]] = []
        """What the nodes' logs said of each [s]."""
        self._watch = ConversationWatch()
        self._end: int | None = None
        self._first_ns = self._last_ns = 0

    @property
    def unaccounted_s(self) -> float:
        """Sound between the first and the last that was heard of which nobody knows [s]."""
        counted_s = (self.heard + self.missing) / RATE_HZ + sum(self.outages_s)
        return (self._last_ns - self._first_ns) * 1e-9 - counted_s

    def take(self, first_sample: int, samples: int, filled: int, stamp_ns: int) -> None:
        """Take a block in, stamped when its first sample was heard."""
        belongs = self._watch.observe(first_sample, samples, stamp_ns)
        if belongs is Belongs.OLD:
            return
        if belongs is Belongs.NEW:
            self.outages_s.append(self._watch.outage_ns * 1e-9)
            self.reported_s.append([])
            self._end = None
        if self._end is None:
            self.conversations += 1
        else:
            self.missing += max(0, first_sample - self._end)
        self._end = first_sample + samples
        self._last_ns = stamp_ns + round(samples / RATE_HZ * 1e9)
        self._first_ns = self._first_ns or stamp_ns
        self.heard += samples
        self.filled += filled

    def read_line(self, line: str) -> None:
        """Take a line of the graph's log in."""
        found = _REPORTED.search(line)
        if found and self.reported_s:
            self.reported_s[-1].append(float(found.group(1)))

    def errors_s(self) -> list[float]:
        """Return by how much each report of an outage is off; infinite where nobody reported one [s]."""
        pairs = zip(self.outages_s, self.reported_s, strict=True)
        return [
            max((abs(one - measured) for one in reported), default=float("inf"))
            for measured, reported in pairs
        ]


class ProcessUsage:
    """Memory and open files of processes over time."""

    def __init__(self) -> None:
        self.began_s = time.monotonic()
        self.rows: list[tuple[float, str, float, float, int]] = []
        """Time, process, age [s], resident memory [MB], descriptors."""
        self._since: dict[int, float] = {}

    def sample(self, pids: Mapping[str, int]) -> None:
        """Read them all."""
        now_s = time.monotonic()
        for name, pid in pids.items():
            born_s = self._since.setdefault(pid, now_s)
            with contextlib.suppress(OSError, StopIteration):
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                memory_mb = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1e3
                files = len(os.listdir(f"/proc/{pid}/fd"))
                self.rows.append((now_s - self.began_s, name, now_s - born_s, memory_mb, files))

    def of(self, process: str, from_s: float, to_s: float, least_age_s: float = 30.0) -> tuple[float, float]:
        """Return the median memory [MB] and descriptors of a process, once it is warm, in a span of time."""
        found = [
            row[3:]
            for row in self.rows
            if row[1] == process and row[2] >= least_age_s and from_s <= row[0] < to_s
        ]
        if not found:
            return float("nan"), float("nan")
        memory_mb, files = np.median(np.array(found), axis=0)
        return float(memory_mb), float(files)

    def names(self) -> list[str]:
        """Return the processes seen."""
        return sorted({row[1] for row in self.rows})


@dataclasses.dataclass(frozen=True)
class Recovery:
    """What followed a fault."""

    kind: str
    hit: str
    took_s: float
    """From the fault, from its lifting, or from the end of the silence allowed, until all flows again [s]."""
    last: str
    """What came back last."""
    is_back: bool


def recovery(
    fault_kind: str, hit: str, began_s: float, counts_from_s: float, flows: Iterable[Flow], now_s: float
) -> Recovery:
    """Judge what followed a fault, once time enough has passed for what flows to have stopped."""
    flows = list(flows)
    silent = [flow.name for flow in flows if not flow.is_flowing(now_s)]
    back = {flow.name: at_s for flow in flows if (at_s := flow.back_after(began_s)) is not None}
    if silent:
        return Recovery(fault_kind, hit, now_s - counts_from_s, ", ".join(silent), False)
    last = max(back, key=back.__getitem__, default="")
    return Recovery(fault_kind, hit, max(0.0, back.get(last, 0.0) - counts_from_s), last, True)
