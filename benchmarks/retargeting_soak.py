"""Ten million random, adversarial and non-finite frames: does anything ever break a limit?

OPENBLAS_NUM_THREADS=1 python benchmarks/retargeting_soak.py [--frames 10000000] [--seed 0]

Every plan is checked at every instant: positions, velocities and accelerations of its cubic pieces lie in
the convex hull of their control points, and these are held against the limits. It ends with 1 when one is
broken by more than 1e-6, when anything is not finite, when a plan does not begin in the state of its
predecessor, or when one does not end at rest.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import numpy as np
from harness import RESULTS, parser_of, when, write_figures
from timar_description.find import find_joint_map
from timar_retargeting.arbitration import Mode
from timar_retargeting.config import PlanningConfig
from timar_retargeting.idle_behavior import IdleBehavior, IdleConfig
from timar_retargeting.limits import bezier_control_points
from timar_retargeting.motion_timeline import MotionFrames
from timar_retargeting.neutral_pose import NeutralConfig
from timar_retargeting.retargeting_core import RetargetingCore
from timar_retargeting.robot import load_robot
from timar_retargeting.trajectory_planner import JointPlan

FRAME_NS = 40_000_000
TOLERANCE = 1e-6
Rng = np.random.Generator


def poisoned(rng: Rng, n: int) -> np.ndarray:
    bad = rng.random((n, 56)) < 0.002
    return np.where(bad, rng.choice([np.nan, np.inf, -np.inf]), rng.normal(0, 0.3, (n, 56)))


def resonant(rng: Rng, n: int) -> np.ndarray:
    wave = np.sin(np.arange(n) * rng.uniform(0.01, 3.1))
    shape = np.sign(wave) if rng.random() < 0.5 else wave
    return shape[:, None] * rng.uniform(0, 2, 56)


KINDS: dict[str, Callable[[Rng, int], np.ndarray]] = {
    "like a head": lambda rng, n: np.cumsum(rng.normal(0, 0.02, (n, 56)), axis=0),
    "noise": lambda rng, n: rng.normal(0, 0.5, (n, 56)),
    "jumps": lambda rng, n: rng.choice([-2.0, 2.0], (n, 56)),
    "tiny and huge": lambda rng, n: rng.normal(0, 1, (n, 56)) * 10.0 ** rng.uniform(-12, 37, (n, 56)),
    "resonant": resonant,
    "not finite": poisoned,
    "all NaN": lambda rng, n: np.full((n, 56), np.nan),
}
LENGTHS, OFTEN = np.array([1, 5, 25, 50, 125, 250]), np.array([0.04, 0.16, 0.2, 0.2, 0.2, 0.2])


class Watch:
    """The worst that was seen."""

    def __init__(self, core: RetargetingCore) -> None:
        self.core, self.limits = core, core.robot.limits
        self.worst = {"position_rad": -np.inf, "velocity_rad_s": -np.inf, "acceleration_rad_s2": -np.inf}
        self.plans = self.not_finite = self.seams = self.no_rest = 0
        self._last: JointPlan | None = None

    def see(self, plan: JointPlan | None) -> None:
        """Check a plan at every instant, and the seam from the one before."""
        if plan is None:
            return
        self.plans += 1
        p, v, a = bezier_control_points(plan.curve, plan.step_s)
        self.not_finite += not (np.isfinite(p).all() and np.isfinite(v).all() and np.isfinite(a).all())
        over = {
            "position_rad": max((p - self.limits.upper).max(), (self.limits.lower - p).max()),
            "velocity_rad_s": (np.abs(v) - self.limits.velocity).max(),
            "acceleration_rad_s2": (np.abs(a) - self.limits.acceleration).max(),
        }
        self.worst = {name: max(worst, float(over[name])) for name, worst in self.worst.items()}
        self.no_rest += bool(plan.curve[1:, -1].any())
        if self._last is not None:
            was, begins = self._last.state_at(plan.first_index), plan.state_at(plan.first_index)
            self.seams += not np.array_equal(was, begins)
        self._last = plan

    @property
    def is_good(self) -> bool:
        """Whether every promise was kept."""
        kept = all(worst <= TOLERANCE for worst in self.worst.values())
        return kept and not (self.not_finite or self.seams or self.no_rest)


def soak(frames: int, seed: int) -> tuple[Watch, float]:
    """Feed frames and return what was seen, and the microseconds of retargeting a frame."""
    rng = np.random.default_rng(seed)
    robot = load_robot(find_joint_map())
    core = RetargetingCore(
        robot, PlanningConfig(), IdleBehavior(IdleConfig(), seed), neutral_config=NeutralConfig()
    )
    watch = Watch(core)
    now_ns = zero_ns = 1_000_000_000_000
    watch.see(core.start(robot.offsets_rad, now_ns))
    names, frame, revision, sent, spent_s = list(KINDS), 0, 0, 0, 0.0
    next_word = frames // 20
    while sent < frames:
        count = int(rng.choice(LENGTHS, p=OFTEN))
        motion = KINDS[names[int(rng.integers(len(names)))]](rng, count)
        early_ns = int(rng.uniform(-50, 400) * 1e6)
        now_ns = max(now_ns + 1_000_000, zero_ns + frame * FRAME_NS - early_ns)
        draw = rng.random()
        if draw < 0.15:
            revision, frame = revision + 1, max(0, frame - int(rng.integers(0, 40)))
        elif draw < 0.17:
            now_ns += int(rng.uniform(0, 3e9))
            zero_ns = now_ns - frame * FRAME_NS + int(rng.uniform(0, 0.3e9))
        elif draw < 0.18:
            watch.see(core.stop(now_ns))
            watch.see(core.resume(now_ns))
        elif draw < 0.19:
            watch.see(core.look_at(rng.uniform((0.2, -2.0, -2.0), 2.0), "", now_ns))
            watch.see(core.take_floor(bool(rng.integers(2)), now_ns))
        elif draw < 0.20:
            joint = str(rng.choice(robot.joint_names))
            watch.see(core.move_by_hand({joint: float(rng.normal(0, 2))}, now_ns))
            watch.see(core.resume(now_ns))
        began_s = time.perf_counter()
        due_ns = zero_ns + frame * FRAME_NS + int(rng.normal(0, 2e6))
        plan = core.on_motion(MotionFrames("soak", frame, due_ns, revision, motion, draw > 0.97), now_ns)
        spent_s += time.perf_counter() - began_s
        watch.see(plan)
        watch.see(core.tick(now_ns))
        assert core.mode is not Mode.STOPPED
        frame, sent = frame + count, sent + count
        if sent >= next_word:
            next_word += frames // 20
            print(
                f"{sent:>10} frames, {watch.plans} plans, {'good' if watch.is_good else 'BROKEN'}", flush=True
            )
    return watch, spent_s / sent * 1e6


def main() -> int:
    """Run the soak, print and write what was seen."""
    parser = parser_of(__doc__)
    parser.add_argument("--frames", type=int, default=10_000_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    began_s = time.monotonic()
    watch, cost_us = soak(arguments.frames, arguments.seed)
    result = {
        "when": when(),
        "frames": arguments.frames,
        "seed": arguments.seed,
        "plans": watch.plans,
        "worst_beyond_limit": watch.worst,
        "plans_not_finite": watch.not_finite,
        "plans_not_at_rest_in_the_end": watch.no_rest,
        "seams_not_equal": watch.seams,
        "us_a_frame": round(cost_us, 1),
        "minutes": round((time.monotonic() - began_s) / 60.0, 1),
        "is_good": watch.is_good,
    }
    print(json.dumps(result, indent=2))
    write_figures(RESULTS / "retargeting_soak.json", result)
    return 0 if watch.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
