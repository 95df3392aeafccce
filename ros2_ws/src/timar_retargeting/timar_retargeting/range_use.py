"""How much of each joint's range a stretch of motion uses, and what its limits cost."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from timar_common import motion_file
from timar_common.messages import with_monotonic_header
from timar_common.motion_file import JAW, NECK
from timar_common.units import Frames
from timar_common.user_motion import MOTION_CHANNELS

from timar_retargeting.idle_behavior import IdleBehavior
from timar_retargeting.motion_timeline import MotionFrames
from timar_retargeting.retargeting_core import RetargetingCore
from timar_retargeting.robot import RobotDescription

Array = npt.NDArray[np.float64]

FRAME_NS = 40_000_000
TURN, EARLY_NS = 25, 500_000_000


@dataclasses.dataclass(frozen=True)
class RangeUse:
    """What one joint did."""

    joint: str
    lower_rad: float
    upper_rad: float
    lowest_rad: float
    highest_rad: float
    usual_low_rad: float
    """1 % of the time it was below."""
    usual_high_rad: float
    """1 % of the time it was above."""
    velocity_share: float
    """Highest velocity, as a share of its limit."""
    acceleration_share: float
    bent_share: float
    """Share of the time in which a soft limit held it back, stops by design apart."""
    smoothed_plans: float
    """Share of plans in which fast motion was made smaller."""

    @property
    def used_share(self) -> float:
        """The usual range, as a share of the whole."""
        return (self.usual_high_rad - self.usual_low_rad) / (self.upper_rad - self.lower_rad)

    def advice(self) -> str:
        """Return what to change in the YAML; empty when nothing."""
        if self.bent_share > 0.2:
            return "often beyond its limits: lower its gains"
        if self.smoothed_plans > 0.2:
            return "too fast for its limits: lower its gains or bandwidth_hz"
        if self.used_share < 0.02:
            return "hardly moves: raise its gains, or leave it"
        return ""


def range_use(robot: RobotDescription, motion: Array, seed: int = 0) -> tuple[RangeUse, ...]:
    """Let a robot follow motion, idle behavior included, and return what each joint did.

    Args:
        robot: Its description.
        motion: (frames, 56), 25 a second; frames that are not finite are bridged.
        seed: Of idle behavior.

    Raises:
        ValueError: The motion has another shape, or not one second of frames.
    """
    if motion.ndim != 2 or motion.shape[1] != MOTION_CHANNELS or len(motion) < TURN:
        raise ValueError(f"motion has shape {motion.shape}, expected ({TURN} or more, {MOTION_CHANNELS})")
    core = RetargetingCore(robot, idle=IdleBehavior(seed=seed))
    zero_ns = 1_000_000_000_000
    plans = [core.start(robot.offsets_rad, zero_ns - 2_000_000_000)]
    for first in range(0, len(motion), TURN):
        due_ns = zero_ns + first * FRAME_NS
        run = MotionFrames("check", Frames(first), due_ns, 0, motion[first : first + TURN])
        plan = core.on_motion(run, due_ns - EARLY_NS)
        plans += [plan] if plan is not None else []
    commanded: dict[int, Array] = {}
    for plan in plans:
        commanded |= {plan.first_index + k: plan.curve[:, k] for k in range(plan.curve.shape[1])}
    p, v, a = np.stack(list(commanded.values()), axis=1)  # (3, K, J)
    low, high = np.percentile(p, [1.0, 99.0], axis=0)
    limits, report = robot.limits, core.planner.report
    # At a stop that is reached by design the bend holds nothing back.
    soft_lower = np.array([-np.inf if "lower" in j.stops else j.soft_lower_rad for j in robot.joints])
    soft_upper = np.array([np.inf if "upper" in j.stops else j.soft_upper_rad for j in robot.joints])
    return tuple(
        RangeUse(
            name,
            float(limits.lower[j]),
            float(limits.upper[j]),
            float(p[:, j].min()),
            float(p[:, j].max()),
            float(low[j]),
            float(high[j]),
            float(np.abs(v[:, j]).max() / limits.velocity[j]),
            float(np.abs(a[:, j]).max() / limits.acceleration[j]),
            float(np.mean((p[:, j] < soft_lower[j]) | (p[:, j] > soft_upper[j]))),
            float(report.smoothed[j] / report.plans),
        )
        for j, name in enumerate(robot.joint_names)
    )


def example_motion(seconds: float, seed: int = 0) -> Array:
    """Return lively motion (frames, 56) of a synthetic speaker: gestures of neck, syllables of the jaw."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * 25)) / 25.0
    motion = np.zeros((len(t), MOTION_CHANNELS))
    for column, size in zip(range(NECK.start, NECK.stop), (0.09, 0.13, 0.05), strict=True):
        for hz in rng.uniform(0.1, 1.6, 6):
            motion[:, column] += size / 2.4 * np.sin(2 * np.pi * hz * t + rng.uniform(0, 2 * np.pi))
    talks = np.sin(2 * np.pi * 0.08 * t + rng.uniform(0, 6)) > -0.3
    syllables = np.abs(np.sin(2 * np.pi * 2.1 * t)) * (0.6 + 0.4 * np.sin(2 * np.pi * 0.37 * t))
    motion[:, JAW.start] = 0.14 * talks * syllables
    return motion


def read_motion(path: Path) -> Array:
    """Read motion (frames, 56) from a bag's agent/motion, or from an npz.

    Args:
        path: A rosbag2 folder or .mcap file; or an .npz with ``motion`` (frames, 56), or with ``exp``
            (frames, 50) and ``pose`` (frames, 6: neck, jaw), as the DualTalk data set has them.

    Raises:
        ValueError: Nothing of the kind is in it.
        OSError: It cannot be read.
    """
    if path.suffix != ".npz":
        return _read_bag(path)
    with np.load(path, allow_pickle=False) as arrays:
        if "motion" in arrays:
            return np.asarray(arrays["motion"], np.float64)
    track = motion_file.read_motion(path)
    motion = track.vector.astype(np.float64)
    motion[~np.all(track.valid, axis=1)] = np.nan
    return motion


def _read_bag(path: Path) -> Array:
    from rosbags.highlevel import AnyReader, AnyReaderError
    from rosbags.rosbag2 import ReaderError

    frames: dict[int, Array] = {}
    folder = path.parent if path.is_file() else path
    try:
        with AnyReader([folder]) as reader:
            wanted = [c for c in reader.connections if c.topic.endswith("agent/motion")]
            for connection, _, raw in reader.messages(connections=wanted):
                message: Any = reader.deserialize(raw, connection.msgtype)
                run = MotionFrames.of(with_monotonic_header(message, int))
                if not run.is_preview:
                    frames |= {run.first_frame + number: row for number, row in enumerate(run.rows)}
    except (AnyReaderError, ReaderError, FileNotFoundError) as error:
        raise ValueError(f"{path} cannot be read as a bag: {error}") from error
    if not frames:
        raise ValueError(f"{path} holds no message on agent/motion; record with record:=true")
    first = min(frames)
    motion = np.full((max(frames) - first + 1, MOTION_CHANNELS), np.nan)
    motion[[frame - first for frame in frames]] = list(frames.values())
    return motion
