"""How closely the joints are commanded to follow, by preview, and what a frame costs.

OPENBLAS_NUM_THREADS=1 python benchmarks/retargeting_tracking.py
"""

from __future__ import annotations

import time

import numpy as np
from harness import when
from timar_description.find import find_joint_map
from timar_retargeting.config import PlanningConfig
from timar_retargeting.idle_behavior import IdleBehavior, IdleConfig
from timar_retargeting.motion_timeline import MotionFrames
from timar_retargeting.retargeting_core import RetargetingCore
from timar_retargeting.robot import load_robot

FRAME_NS = 40_000_000
STEP_NS = 20_000_000
SECONDS = 12.0
CASES = ((1.0, 0.2), (2.0, 0.1), (4.0, 0.04))


def track(frequency_hz: float, amplitude_rad: float, turn: int, early_ms: float) -> tuple[float, float]:
    """Return the neck's RMS error as a share of its motion, and microseconds a turn (median)."""
    robot = load_robot(find_joint_map())
    core = RetargetingCore(robot, PlanningConfig(), IdleBehavior(IdleConfig(enabled=True)))
    core.warm_up()
    yaw = robot.joint_names.index("neck_yaw")
    start_ns = 1_000_000_000_000
    zero_ns = start_ns + 500_000_000
    plans, costs_us = [core.start(robot.offsets_rad, start_ns)], []
    for first in range(0, int(SECONDS * 25), turn):
        motion = np.zeros((turn, 56))
        motion[:, 54] = amplitude_rad * np.sin(2 * np.pi * frequency_hz * (first + np.arange(turn)) / 25.0)
        due_ns = zero_ns + first * FRAME_NS
        began_s = time.perf_counter()
        plan = core.on_motion(MotionFrames("bench", first, due_ns, 0, motion), due_ns - int(early_ms * 1e6))
        costs_us.append((time.perf_counter() - began_s) * 1e6)
        plans += [plan] if plan is not None else []
    commanded = {}
    for plan in plans:
        commanded |= {plan.first_index + row: p[yaw] for row, p in enumerate(plan.positions)}
    seen_s = {k: (k * STEP_NS - zero_ns) * 1e-9 + robot.leads_s[yaw] for k in commanded}
    chosen = [k for k, seen in seen_s.items() if 2.0 < seen < SECONDS - 1.0]
    sway = robot.mapper.gains(("sway_yaw",))[0, yaw] * core.idle.signals(np.array(chosen) * 0.02)["sway_yaw"]
    phase = 2 * np.pi * frequency_hz * np.array([seen_s[k] for k in chosen])
    wanted = amplitude_rad * np.sin(phase) + sway
    error = np.array([commanded[k] for k in chosen]) - wanted
    return float(np.sqrt(np.mean(error**2)) / (amplitude_rad / np.sqrt(2))), float(np.median(costs_us))


def main() -> None:
    """Print one row per frequency and preview."""
    print(when())
    print("frequency  turn      early    RMS error / RMS motion   us a turn   us a frame, 12 joints")
    for frequency_hz, amplitude_rad in CASES:
        for turn, early_ms in ((25, 500), (5, 300), (5, 60), (5, 40), (5, 20), (5, 0)):
            error, cost_us = track(frequency_hz, amplitude_rad, turn, early_ms)
            case = f"{frequency_hz:4.0f} Hz  {turn:3d} frames  {early_ms:4.0f} ms"
            print(f"{case}  {error:18.1%}  {cost_us:13.0f}  {cost_us / turn:13.0f}")


if __name__ == "__main__":
    main()
