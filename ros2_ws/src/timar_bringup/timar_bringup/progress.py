"""What a person watching the demo wants to know now, from the topics, without ROS."""

from __future__ import annotations

import math
from collections.abc import Sequence

from timar_common.clock import SAMPLE_RATE_HZ

FLOORS = ("nobody", "user", "head", "both")
MOVED_RAD = 1e-3
"""A joint that is this far from where it was first seen has moved."""


class Progress:
    """Take what the topics say and answer with one line.

    Every time is monotonic [ns], given by the caller.
    """

    def __init__(self) -> None:
        self.turns = 0
        self.late_turns = 0
        self.unsampled_turns = 0
        self.compute_ms = 0.0
        self.floor = FLOORS[0]
        self.began_ns: int | None = None
        """When the conversation's first sample was heard, as far as can be told."""
        self.moved_ns: int | None = None
        """When a joint was first seen to have moved."""
        self.joints_rad: dict[str, float] = {}
        self._rest_rad: dict[str, float] = {}

    def take_turn(
        self, now_ns: int, user_end_sample: int, compute_ms: float, *, is_late: bool, is_sampled: bool
    ) -> None:
        """Take a turn in that was generated, or committed unsampled."""
        self.turns += 1
        self.late_turns += is_late
        self.unsampled_turns += not is_sampled
        if is_sampled:
            self.compute_ms = compute_ms
        began_ns = now_ns - round(user_end_sample * 1e9 / SAMPLE_RATE_HZ)
        # A turn is decided after its sound; the earliest guess is the best one.
        self.began_ns = began_ns if self.began_ns is None else min(self.began_ns, began_ns)

    def take_floor(self, state: int) -> None:
        """Take in who holds the floor; a state of a later version reads as nobody."""
        self.floor = FLOORS[state] if 0 <= state < len(FLOORS) else FLOORS[0]

    def take_joints(self, now_ns: int, names: Sequence[str], positions_rad: Sequence[float]) -> None:
        """Take in where the joints are; what is not finite is left out."""
        for name, position_rad in zip(names, positions_rad, strict=False):
            if not math.isfinite(position_rad):
                continue
            self.joints_rad[name] = position_rad
            rest_rad = self._rest_rad.setdefault(name, position_rad)
            if self.moved_ns is None and abs(position_rad - rest_rad) > MOVED_RAD:
                self.moved_ns = now_ns

    def elapsed_s(self, now_ns: int) -> float:
        """Return how long the conversation has been going on [s]; 0 before it begins."""
        return 0.0 if self.began_ns is None else max(0.0, (now_ns - self.began_ns) / 1e9)

    def line(self, now_ns: int, duration_s: float) -> str:
        """Return the state in one line."""
        if self.began_ns is None:
            return "waiting for the nodes to find each other"
        degrees = {name: math.degrees(angle) for name, angle in self.joints_rad.items()}
        neck = " ".join(f"{degrees.get(f'neck_{axis}', 0.0):+5.1f}" for axis in ("yaw", "pitch", "roll"))
        parts = (
            f"{min(self.elapsed_s(now_ns), duration_s):5.1f} of {duration_s:.0f} s",
            f"floor: {self.floor:<6}",
            f"jaw {degrees.get('jaw', 0.0):4.1f}°",
            f"neck {neck}°",
            f"turn {self.turns}: {self.compute_ms:.0f} ms",
            f"late {self.late_turns}, unsampled {self.unsampled_turns}",
        )
        return " | ".join(parts)
