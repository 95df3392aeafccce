"""Serve a robot's simulated servos and judge what they are told: goals beyond the limits, goals that jump.

python benchmarks/watched_bus.py    # prints the port; reads the lines of `timar bus simulate`, and "judge"

A process of its own, as the real bus is: it outlives a driver that is killed, and sees where the next one
begins.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time

import numpy as np
from timar_common.processes import end_with_parent
from timar_description.find import find_urdf
from timar_driver.driver import read_driven_joints
from timar_driver.hardware_file import BusDescription, hardware_file_of, read_hardware
from timar_driver.pty_bus import PtyBus
from timar_driver.simulated_bus import SimulatedBus, simulated_bus

CYCLE_S = 0.01
"""The driver's: a goal may come by so much late, and the next one in time [s]."""
AWAY_S = 1.0
"""Without a goal for so long the driver was away: the next one is judged from where the joints stand [s]."""
PRIORITY = 30


@dataclasses.dataclass
class Judgement:
    """The worst that the servos were told."""

    goals: int = 0
    """Group writes of goals."""
    beyond_limits: int = 0
    """Goals further beyond a joint's limits than a tick."""
    starts: int = 0
    """How often a driver began to send goals."""
    jump_rad: float = 0.0
    """By how much a goal lay further from its predecessor than the joint's limit of speed allows."""
    start_jump_rad: float = 0.0
    """The same for the first goal of a driver, from where the joint stood."""
    jumped: str = ""
    """The joint of the largest of all jumps."""


class GoalWatch:
    """Judge every group write of goals.

    Args:
        description: The servos of the bus.
        bus: The bus; its `on_goal` becomes this.
    """

    def __init__(self, description: BusDescription, bus: SimulatedBus) -> None:
        self.judgement = Judgement()
        self._servos = [bus.servos[spec.servo_id] for spec in description.servos]
        self._names = description.joint_names
        self._limits = description.limits
        self._zero = np.array([spec.zero_tick for spec in description.servos], float)
        self._ticks_per_rad = np.array([spec.ticks_per_rad for spec in description.servos])
        self._tick_rad = 1.0 / np.abs(self._ticks_per_rad)
        self._goals: np.ndarray | None = None
        self._last_ns = 0
        bus.on_goal = self._see

    def _rad(self, ticks: list[float]) -> np.ndarray:
        return (np.array(ticks) - self._zero) / self._ticks_per_rad

    def _see(self, now_ns: int) -> None:
        goals, seen = self._rad([servo.get("goal_position") for servo in self._servos]), self.judgement
        since_s = (now_ns - self._last_ns) * 1e-9
        is_start = self._goals is None or since_s > AWAY_S
        before = self._rad([servo.position for servo in self._servos]) if is_start else self._goals
        allowed = self._limits.velocity * ((0.0 if is_start else since_s) + CYCLE_S) + self._tick_rad
        over = np.abs(goals - before) - allowed
        worst = int(np.argmax(over))
        if over[worst] > max(seen.jump_rad, seen.start_jump_rad):
            seen.jumped = self._names[worst]
        if is_start:
            seen.starts += 1
            seen.start_jump_rad = max(seen.start_jump_rad, float(over[worst]))
        else:
            seen.jump_rad = max(seen.jump_rad, float(over[worst]))
        outside = np.maximum(goals - self._limits.upper, self._limits.lower - goals) > self._tick_rad
        seen.beyond_limits += int(outside.sum())
        seen.goals += 1
        self._goals, self._last_ns = goals, now_ns


def main() -> int:
    """Serve until standard input ends."""
    end_with_parent()
    urdf = find_urdf()
    description = read_hardware(hardware_file_of(urdf), *read_driven_joints(urdf)).servo_bus()
    bus = simulated_bus(description)
    watch = GoalWatch(description, bus)
    with PtyBus(bus, description.baud, PRIORITY) as pty:
        sys.stdout.write(f"{pty.path}\n")
        sys.stdout.flush()
        for line in sys.stdin:
            with pty.lock:
                if line.strip() == "judge":
                    answer = json.dumps(dataclasses.asdict(watch.judgement))
                else:
                    answer = bus.obey(line.split(), time.monotonic_ns())
            sys.stdout.write(answer + "\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
