"""A communicative head gesture: nod, shake, tilt, look away or look back."""

from __future__ import annotations

import dataclasses
import enum
import math

FRAMES_PER_SECOND = 25
SIZES_RAD = (0.01, 0.5)
"""Smallest and largest size of a gesture [rad]."""
SPEEDS_HZ = (0.2, 5.0)
"""Slowest and fastest stroke [strokes/s]."""
MAX_COUNT = 12
MAX_HOLD_S = 30.0
MAX_SPEED_RAD_S = 4.0
"""Highest mean angular speed of a stroke [rad/s]."""


class GestureKind(enum.IntEnum):
    """Kinds, numbered as in timar_msgs/Gesture."""

    NOD = 0
    SHAKE = 1
    TILT = 2
    LOOK_AWAY = 3
    LOOK_BACK = 4

    @property
    def is_look(self) -> bool:
        """Whether it turns the head away from the partner or back."""
        return self in (GestureKind.LOOK_AWAY, GestureKind.LOOK_BACK)

    @property
    def words(self) -> str:
        """Its name for people."""
        return self.name.lower().replace("_", " ")


@dataclasses.dataclass(frozen=True)
class Gesture:
    """One gesture on the conversation's frame counter.

    A stroke goes out from where the head is and comes back. A nod and a shake consist of `count` strokes; a
    tilt and a look away go out, stay, and come back; a look back ends a look away.

    Raises:
        ValueError: It cannot be; the message says which value and what was expected.
    """

    kind: GestureKind
    first_frame: int
    """Where the head begins to move."""
    count: int = 1
    """Strokes of a nod or shake; 1 for the others."""
    size_rad: float = 0.08
    """From where the head is to the turning point of the largest stroke, on both sides in a shake [rad]."""
    speed_hz: float = 2.0
    """Strokes a second; one way out or back takes 0.5 / speed_hz s [strokes/s]."""
    side: int = 1
    """1: a nod begins down, a shake or look to its left, a tilt to its right shoulder; -1: the other way."""
    hold_s: float = 0.0
    """How long a tilt or look away stays out [s]."""
    variation: int = 0
    """Seed of how its strokes differ from each other."""

    def __post_init__(self) -> None:
        _require("count", self.count, 1, MAX_COUNT if self._has_strokes else 1, f"of a {self.kind.words}")
        _require("size", self.size_rad, *SIZES_RAD, "rad")
        _require("speed", self.speed_hz, *SPEEDS_HZ, "strokes/s")
        _require("hold", self.hold_s, 0.0, MAX_HOLD_S, "s")
        if self.side not in (-1, 1):
            raise ValueError(f"the side of a {self.kind.words} is {self.side}, expected 1 or -1")
        if self.angular_speed_rad_s > MAX_SPEED_RAD_S:
            raise ValueError(
                f"a {self.kind.words} of {self.size_rad:g} rad at {self.speed_hz:g} strokes/s needs "
                f"{self.angular_speed_rad_s:.1f} rad/s, more than {MAX_SPEED_RAD_S:g}; "
                "make it smaller or slower"
            )

    @property
    def angular_speed_rad_s(self) -> float:
        """Mean angular speed on the way out [rad/s]."""
        return 2.0 * self.size_rad * self.speed_hz * (2.0 if self.kind is GestureKind.SHAKE else 1.0)

    @property
    def duration_s(self) -> float:
        """From where it begins to where the head is back [s]."""
        return self.count / self.speed_hz + self.hold_s

    @property
    def frames(self) -> int:
        """Its length, rounded up [frames]."""
        return max(1, math.ceil(self.duration_s * FRAMES_PER_SECOND - 1e-9))

    @property
    def end_frame(self) -> int:
        """One past its last frame."""
        return self.first_frame + self.frames

    @property
    def _has_strokes(self) -> bool:
        return self.kind in (GestureKind.NOD, GestureKind.SHAKE)


def _require(name: str, value: float, low: float, high: float, unit: str) -> None:
    slack = 1e-6 * high  # Messages carry float32.
    if not (math.isfinite(value) and low - slack <= value <= high + slack):
        raise ValueError(f"the {name} is {value:g}, expected {low:g} to {high:g} {unit}".rstrip())
