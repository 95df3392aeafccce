"""What guessing the frames after each turn is worth to the jaw and the neck, and what it costs.

The shipped model talks through the example conversation in simulated time, every turn arriving so much
before it is due; a core follows what it is shown, and is compared with one that had known all final frames
long before.

OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python benchmarks/preview_tracking.py --engine onnx
OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python benchmarks/preview_tracking.py --turn-frames 25
"""

from __future__ import annotations

import dataclasses
import time

import numpy as np
from harness import example_voice, parser_of, when
from timar_common.messages import Header, Message, new
from timar_description.find import find_joint_map
from timar_inference.config import InferenceConfig
from timar_inference.inference_component import InferenceComponent
from timar_replay.bag_host import BagHost
from timar_retargeting.config import PlanningConfig
from timar_retargeting.idle_behavior import IdleBehavior, IdleConfig
from timar_retargeting.motion_timeline import MotionFrames
from timar_retargeting.retargeting_core import RetargetingCore
from timar_retargeting.robot import load_robot

START_NS = 1_000_000_000_000
FRAME_NS, STEP_NS, BLOCK, CHUNK = 40_000_000, 20_000_000, 320, 3200
PREVIEW_AFTER_MS = 15.0
"""How long after its turn a preview comes."""
JOINTS = ("jaw", "neck_yaw", "neck_pitch", "neck_roll")
FAST_HZ = 2.0
"""Lip movement is faster than this."""


@dataclasses.dataclass
class Shown:
    """Everything a head published, and what it took."""

    turns: list[MotionFrames]
    previews: list[MotionFrames]
    turn_ms: float
    preview_ms: float


def talk(engine: str, turn_frames: int, preview_frames: int, preview_by: str, seconds: float) -> Shown:
    """Hold the conversation in the time that computing takes here."""
    previews = {"preview_frames": preview_frames, "preview_by": preview_by}
    config = InferenceConfig(engine=engine, turn_frames=turn_frames, late_policy="partial", **previews)
    component = InferenceComponent(config)
    shown = Shown([], [], 0.0, 0.0)

    def take(topic: str, at_ns: int, message: Message) -> None:
        if topic == "agent/motion":
            (shown.previews if message.is_preview else shown.turns).append(MotionFrames.of(message))

    host = BagHost([component], take)
    user, agent = (example_voice(speaker, seconds) for speaker in (1, 2))
    host.start(START_NS)
    for first in range(0, len(agent), CHUNK):
        samples = agent[first : first + CHUNK]
        chunk = new("PlannedAudio", sample_rate=16_000, first_sample=first, samples=samples)
        host.deliver("agent/audio_planned", chunk, START_NS)
    for first in range(0, len(user) - BLOCK, BLOCK):
        sound = {"sample_rate": 16_000, "first_sample": first, "samples": user[first : first + BLOCK]}
        block = new("AudioChunk", header=Header(START_NS + first * 62_500), **sound)
        host.deliver("user/audio", block, START_NS + (first + BLOCK) * 62_500)
    measured = component.runner.measurements()
    shown.turn_ms, shown.preview_ms = measured["compute_p50_ms"], measured.get("preview_p50_ms", 0.0)
    return shown


def follow(shown: Shown, early_ms: float | None, uses_previews: bool) -> tuple[dict[int, np.ndarray], float]:
    """Return what was commanded by grid index, and the plans' median processor time [ms].

    Args:
        shown: What was published.
        early_ms: How much before it is due a turn comes [ms]; None: a second earlier, so that nothing bends.
        uses_previews: Whether previews are followed too.
    """
    robot = load_robot(find_joint_map())
    core = RetargetingCore(robot, PlanningConfig(), IdleBehavior(IdleConfig(enabled=False)))
    core.warm_up()
    start_ns = shown.turns[0].due_ns - 500_000_000
    plans, costs_ms = [core.start(robot.offsets_rad, start_ns)], []
    previews = {run.first_frame: run for run in shown.previews} if uses_previews else {}
    for index, turn in enumerate(shown.turns):
        end_frame = turn.first_frame + len(turn.rows)
        # "Long before": every turn comes with a second of final frames after it.
        ahead = shown.turns[index + 1 : index + 6] if early_ms is None else []
        known = [turn, *ahead, *([previews[end_frame]] if end_frame in previews else [])]
        now_ns = turn.due_ns - int((60.0 if early_ms is None else early_ms) * 1e6)
        for run in known:
            began_s = time.process_time()
            plan = core.on_motion(run, now_ns + int(run.is_preview * PREVIEW_AFTER_MS * 1e6))
            costs_ms.append(1e3 * (time.process_time() - began_s))
            plans += [plan] if plan is not None else []
    commanded: dict[int, np.ndarray] = {}
    for plan in plans:
        commanded |= {plan.first_index + row: p for row, p in enumerate(plan.positions)}
    return commanded, float(np.median(costs_ms))


def errors(
    found: dict[int, np.ndarray], wanted: dict[int, np.ndarray], joint: int
) -> tuple[float, float, float]:
    """Return the RMS error as a share of the motion: of all, above FAST_HZ, in the median second."""
    steps = sorted(set(found) & set(wanted))[100:-100]
    series = np.array([[found[k][joint], wanted[k][joint]] for k in steps])
    error, motion = series[:, 0] - series[:, 1], series[:, 1] - series[:, 1].mean()
    shares = [np.sqrt(np.mean(error**2) / np.mean(motion**2))]
    is_fast = np.fft.rfftfreq(len(steps), STEP_NS * 1e-9) >= FAST_HZ
    power = [np.sum(np.abs(np.fft.rfft(signal)[is_fast]) ** 2) for signal in (error, motion)]
    second = 1_000_000_000 // STEP_NS
    whole = error[: len(error) // second * second].reshape(-1, second)
    typical = np.median(np.sqrt(np.mean(whole**2, axis=1))) / np.sqrt(np.mean(motion**2))
    return float(shares[0]), float(np.sqrt(power[0] / power[1])), float(typical)


def main() -> None:
    """Print one row per preview and arrival."""
    parser = parser_of(__doc__)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--turn-frames", type=int, default=5)
    arguments = parser.parse_args()
    print(when())
    names = list(load_robot(find_joint_map()).joint_names)
    print(f"RMS error / RMS motion, all, above {FAST_HZ:g} Hz, in the median second: {', '.join(JOINTS)}")
    turn = arguments.turn_frames
    kinds = [(0, "turn"), *((frames, "turn") for frames in sorted({2, 3, 5, 10, turn}))]
    for preview_frames, by in (*kinds, (3, "head"), (5, "head"), (turn, "head")):
        shown = talk(arguments.engine, turn, preview_frames, by, arguments.seconds)
        wanted, _ = follow(shown, None, uses_previews=False)
        for early_ms in (120.0, 60.0, 40.0, 20.0):
            found, plan_ms = follow(shown, early_ms, uses_previews=preview_frames > 0)
            shares = [errors(found, wanted, names.index(joint)) for joint in JOINTS]
            row = "  ".join(" ".join(f"{100 * share:5.1f}%" for share in of_joint) for of_joint in shares)
            case = f"preview {preview_frames:2d} frames by {by}, {early_ms:3.0f} ms early"
            print(f"{case}: {row}   plan {plan_ms:.2f} ms")
        print(f"  processor time: turn {shown.turn_ms:.1f} ms, preview {shown.preview_ms:.1f} ms")


if __name__ == "__main__":
    main()
