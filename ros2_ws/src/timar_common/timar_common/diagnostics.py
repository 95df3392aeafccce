"""What a room says about its health, without ROS."""

from __future__ import annotations

import collections
import dataclasses
import enum

import numpy as np


class Level(enum.IntEnum):
    """As in diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2


@dataclasses.dataclass
class Report:
    """One component's health: a level, a sentence, and numbers by name."""

    level: Level = Level.OK
    message: str = "running"
    values: dict[str, object] = dataclasses.field(default_factory=dict)

    def worsen(self, level: Level, message: str) -> None:
        """Raise the level; the message of the worst (and first) finding stays."""
        if level > self.level:
            self.level, self.message = level, message


class Percentiles:
    """Percentiles over the newest measurements, bounded in memory."""

    def __init__(self, capacity: int = 1024) -> None:
        self._values: collections.deque[float] = collections.deque(maxlen=capacity)

    def add(self, value: float) -> None:
        """Take one measurement in."""
        self._values.append(value)

    def summary(self) -> dict[str, float]:
        """Return p50, p95 and p99 of the newest measurements; empty when there is none."""
        if not self._values:
            return {}
        p50, p95, p99 = np.percentile(np.array(self._values), [50, 95, 99])
        return {"p50": float(p50), "p95": float(p95), "p99": float(p99)}
