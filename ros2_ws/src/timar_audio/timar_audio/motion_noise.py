"""Servo noise model: the level of the head's own motion in the microphone, predicted from joint speeds.

A servo's noise grows with its speed. A calibration moves each joint while nobody speaks and fits, for every
joint, how much power its speed adds to the microphone's; from then on a frame is speech only when it is
louder than what the joints' speeds predict for that instant.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from timar_common.clock import NS_PER_S
from timar_common.yaml_map import read_yaml_map

from timar_audio.levels import SILENCE_DBFS

LEAST_MARGIN_DB = 3.0
"""A frame of speech is at least so much louder than the prediction [dB]."""
LEAST_FRAMES = 200
"""Fewer frames of 20 ms than these calibrate nothing."""
_HELD_S = 0.15
"""Sound and joint states come on different ways: the loudest prediction of so long counts [s]."""
_QUANTILE = 0.95
_ROUNDS = 10


@dataclasses.dataclass(frozen=True)
class JointNoise:
    """What one joint's speed adds to the power in the microphone, full scale being 1."""

    per_speed: float
    """Power per speed [1/(rad/s)]."""
    per_speed_squared: float
    """Power per square of the speed [1/(rad/s)^2]."""


@dataclasses.dataclass(frozen=True)
class MotionNoise:
    """A calibrated head."""

    joints: Mapping[str, JointNoise]
    margin_db: float
    """By how much the noise went beyond the prediction in 5 % of the frames, at least 3 [dB]."""
    noise_floor_dbfs: float
    """Noise floor without motion [dBFS]."""

    def level_dbfs(self, speeds: Mapping[str, float]) -> float:
        """Return the level that the joints' speeds predict, noise floor left out; -120 when they rest.

        Args:
            speeds: By joint [rad/s]; unknown ones make no noise.
        """
        power = 0.0
        for name, speed in speeds.items():
            noise = self.joints.get(name)
            if noise is not None and math.isfinite(speed):
                power += noise.per_speed * abs(speed) + noise.per_speed_squared * speed * speed
        return max(SILENCE_DBFS, 10.0 * math.log10(max(power, 1e-12)))


def fit_motion_noise(
    names: Sequence[str], speeds: npt.NDArray[np.float64], levels_dbfs: npt.NDArray[np.float64]
) -> MotionNoise:
    """Fit how speeds make noise: least squares of power without negative parts, errors by their share.

    Args:
        names: Of the joints.
        speeds: (n, joints) of each at each frame of sound [rad/s].
        levels_dbfs: (n,) level of the frame [dBFS].

    Raises:
        ValueError: There is too little to learn from: frames, or joints that moved.
    """
    if levels_dbfs.size < LEAST_FRAMES or speeds.shape != (levels_dbfs.size, len(names)):
        raise ValueError(
            f"{levels_dbfs.size} frames of sound and speeds of shape {speeds.shape} came, expected at least "
            f"{LEAST_FRAMES} frames and as many rows of {len(names)} joints"
        )
    if not np.isfinite(speeds).all() or not np.isfinite(levels_dbfs).all():
        raise ValueError("a speed or a level is not finite; does the driver report speeds?")
    moved = np.abs(speeds).max(axis=0) > 0.02
    if not moved.any():
        raise ValueError(
            "no joint moved faster than 0.02 rad/s; is the driver running, and the head free to move?"
        )
    power = 10.0 ** (levels_dbfs / 10.0)
    absolute = np.abs(speeds[:, moved])
    features = np.column_stack([np.ones(power.size), absolute, absolute**2])
    scale = features.max(axis=0)
    solution = _fit_power(features / scale, power) / scale
    count = int(moved.sum())
    found = [name for name, has_moved in zip(names, moved, strict=True) if has_moved]
    joints = {
        name: JointNoise(float(solution[1 + i]), float(solution[1 + count + i]))
        for i, name in enumerate(found)
    }
    beyond_db = levels_dbfs - 10.0 * np.log10(np.maximum(features @ solution, 1e-12))
    margin_db = max(LEAST_MARGIN_DB, float(np.quantile(beyond_db, _QUANTILE)))
    return MotionNoise(joints, margin_db, 10.0 * math.log10(max(float(solution[0]), 1e-12)))


def _fit_power(features: npt.NDArray[np.float64], power: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return weights, none negative, whose sum of features is the power.

    Noise scatters by as much as it is loud, so a frame's error counts relative to the louder of what was
    heard and what is predicted: one whose speed belongs to its neighbour then spoils no more than itself.
    """
    # Only a calibration needs it, and it takes the sound process 0.7 s to import.
    from scipy.optimize import nnls

    solution, _ = nnls(features, power)
    for _ in range(_ROUNDS):
        weights = 1.0 / np.maximum(np.maximum(power, features @ solution), 1e-12)
        solution, _ = nnls(features * weights[:, None], power * weights)
    fitted: npt.NDArray[np.float64] = solution
    return fitted


class MotionGate:
    """Say below which level sound is only the head's own motion, at any instant."""

    def __init__(self, noise: MotionNoise) -> None:
        self.noise = noise
        self._levels: collections.deque[tuple[int, float]] = collections.deque()

    def observe(self, speeds: Mapping[str, float], monotonic_ns: int) -> None:
        """Take the joints' speeds in [rad/s], and when they were measured, CLOCK_MONOTONIC [ns]."""
        self._levels.append((monotonic_ns, self.noise.level_dbfs(speeds)))
        while self._levels and self._levels[0][0] < monotonic_ns - NS_PER_S:
            self._levels.popleft()

    def is_known(self, monotonic_ns: int) -> bool:
        """Whether the joints' speeds at an instant have come."""
        return bool(self._levels) and self._levels[-1][0] >= monotonic_ns

    def noise_floor_dbfs(self, monotonic_ns: int) -> float:
        """Return the level that sound heard at an instant must reach to be speech [dBFS]."""
        held_ns = round(_HELD_S * NS_PER_S)
        near = [level for at_ns, level in self._levels if abs(at_ns - monotonic_ns) <= held_ns]
        loudest = max(near, default=SILENCE_DBFS)
        return SILENCE_DBFS if loudest <= SILENCE_DBFS else loudest + self.noise.margin_db


def speeds_of(names: Sequence[str], velocities: Sequence[float]) -> dict[str, float]:
    """Pair a joint state's names and velocities.

    Raises:
        ValueError: It has no velocities, or not one for each joint.
    """
    if len(velocities) != len(names):
        raise ValueError(
            f"joint_states has {len(velocities)} velocities for {len(names)} joints; the driver must report "
            "speeds for the motion gate"
        )
    return dict(zip(names, velocities, strict=True))


def to_yaml(noise: MotionNoise) -> str:
    """Return a calibration as YAML."""
    lines = [
        "# Noise of the head's own joints in its microphone; made by: timar audio calibrate-motion-noise",
        f"margin_db: {noise.margin_db:.2f}",
        f"noise_floor_dbfs: {noise.noise_floor_dbfs:.1f}",
        "joints:  # power at full scale 1: per speed [1/(rad/s)], and per its square",
    ]
    for name, joint in noise.joints.items():
        numbers = f"per_speed: {joint.per_speed:.3e}, per_speed_squared: {joint.per_speed_squared:.3e}"
        lines.append(f"  {name}: {{{numbers}}}")
    return "\n".join(lines) + "\n"


def read_motion_noise(path: Path) -> MotionNoise:
    """Read what `to_yaml` wrote.

    Raises:
        ValueError: A key is missing, unknown or impossible; the message names file and line.
        OSError: The file cannot be read.
    """
    top = read_yaml_map(path)
    margin_db = top.number("margin_db", minimum=0.0, maximum=60.0)
    key = "noise_floor_dbfs"
    if "floor_dbfs" in list(top.keys()):  # the name of an earlier release
        key = "floor_dbfs"
        warnings.warn(f"{path}: floor_dbfs is now called noise_floor_dbfs", FutureWarning, stacklevel=2)
    noise_floor_dbfs = top.number(key, minimum=SILENCE_DBFS, maximum=0.0)
    joints_map = top.child("joints")
    top.refuse_rest()
    joints = {}
    names = joints_map.keys()
    for name in names:
        entry = joints_map.child(name)
        joints[name] = JointNoise(
            entry.number("per_speed", minimum=0.0), entry.number("per_speed_squared", minimum=0.0)
        )
        entry.refuse_rest()
    return MotionNoise(joints, margin_db, noise_floor_dbfs)
