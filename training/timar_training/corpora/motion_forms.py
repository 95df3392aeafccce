"""Forms in which motion files come: rate, units, rotations and gaps are recognised, named and converted.

A file is read as it is (`timar_common.motion_file`) or not at all; what this module finds is what
`timar data check` reports, and what its ``--fix`` converts. Nothing that has two meanings is converted.
"""

from __future__ import annotations

import dataclasses
import math
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import signal
from scipy.spatial.transform import Rotation
from timar_common.clock import FRAMES_PER_SECOND
from timar_common.motion_file import EXPRESSION, JAW, NECK, PART_SIZES, MotionTrack
from timar_common.user_motion import MOTION_CHANNELS

Array = npt.NDArray[np.float64]

USUAL_RATES_HZ = (24.0, 30_000 / 1001, 30.0, 50.0, 60_000 / 1001, 60.0, 100.0, 120.0, 240.0)
RATE_KEYS = ("fps", "rate_hz", "framerate", "mocap_frame_rate")
"""Names under which files keep their rate, ours first."""
LENGTH_TOLERANCE_S, LENGTH_TOLERANCE = 0.2, 0.005
"""A file is as long as its sound within this many seconds and this share of it."""
LARGEST_ANGLE_RAD = 1.6
"""No neck turns further from straight ahead (92°)."""
LOW_PASS_HZ = 10.0
"""Heads move below this; what is faster would be folded down by a lower rate [Hz]."""
MATRIX_TOLERANCE = 0.02
_VALUES_OF_JOINT = {3: "axis-angle", 4: "quaternions", 9: "rotation matrices"}


@dataclasses.dataclass(frozen=True)
class Remark:
    """What is wrong with a file."""

    severity: str
    """"error": it cannot be used as it is; "warning": it can, but look at it."""
    message: str
    is_fixable: bool = False
    """Whether it can be converted without a guess."""


@dataclasses.dataclass(frozen=True)
class CapturedMotion:
    """The motion of one person at the rate at which it was recorded."""

    rate_hz: float
    vector: Array
    """(T, 56) expression, jaw, neck; anything where it is not valid."""
    valid: npt.NDArray[np.bool_]
    """(T, 3) whether expression, jaw and neck of the frame were seen."""

    def at_frame_rate(self) -> MotionTrack:
        """Return it at 25 frames a second: rotations as rotations, low-passed where the rate falls."""
        count = round(len(self.vector) / self.rate_hz * FRAMES_PER_SECOND)
        if self.rate_hz == FRAMES_PER_SECOND:
            at = np.arange(len(self.vector), dtype=np.float64)
        else:
            at = np.minimum(np.arange(count) * (self.rate_hz / FRAMES_PER_SECOND), len(self.vector) - 1)
        valid = self.valid[np.floor(at).astype(int)] & self.valid[np.ceil(at).astype(int)]
        parts = [
            self._resampled(part, self.valid[:, number], at) if self.valid[:, number].any()
            else np.zeros((len(at), part.stop - part.start))
            for number, part in enumerate((EXPRESSION, JAW, NECK))
        ]  # fmt: skip
        vector = np.concatenate(parts, axis=1)
        seen = np.repeat(valid, PART_SIZES, axis=1)
        return MotionTrack(np.where(seen, vector, 0.0).astype(np.float32), valid)

    def _resampled(self, part: slice, seen: npt.NDArray[np.bool_], at: Array) -> Array:
        known = np.flatnonzero(seen)
        values = self.vector[known, part]
        if self.rate_hz == FRAMES_PER_SECOND:
            return self.vector[:, part]
        is_rotation = part != EXPRESSION
        if is_rotation:
            # One sign along time, for q and -q are the same rotation.
            values = Rotation.from_rotvec(values).as_quat()
            flips = np.where((values[1:] * values[:-1]).sum(axis=1) < 0, -1.0, 1.0)
            values[1:] *= np.cumprod(flips)[:, None]
        every = np.arange(len(self.vector))
        whole = np.stack([np.interp(every, known, column) for column in values.T], axis=1)
        if self.rate_hz > 1.2 * FRAMES_PER_SECOND:
            sections = signal.butter(4, LOW_PASS_HZ, fs=self.rate_hz, output="sos")
            whole = signal.sosfiltfilt(sections, whole, axis=0, padlen=min(30, len(whole) - 1))
        found = np.stack([np.interp(at, every, column) for column in whole.T], axis=1)
        return Rotation.from_quat(found).as_rotvec() if is_rotation else found


def rate_by_length(frames: int, duration_s: float) -> float:
    """Return the rate at which so many frames last as long as their sound.

    Args:
        frames: Of the motion.
        duration_s: Of the sound, > 0 [s].

    Returns:
        25 unless another usual rate fits and 25 does not [Hz].
    """
    tolerance_s = max(LENGTH_TOLERANCE_S, LENGTH_TOLERANCE * duration_s)
    if abs(frames / FRAMES_PER_SECOND - duration_s) <= tolerance_s:
        return float(FRAMES_PER_SECOND)
    nearest = min(USUAL_RATES_HZ, key=lambda rate_hz: abs(frames / rate_hz - duration_s))
    if abs(frames / nearest - duration_s) <= min(tolerance_s, 0.02 * duration_s):
        return nearest
    return float(FRAMES_PER_SECOND)


def inspect_motion(path: Path, duration_s: float | None) -> tuple[CapturedMotion, list[Remark]]:
    """Read a motion file in any form that can be understood.

    Args:
        path: An npz with ``exp`` and ``pose``.
        duration_s: Of the sound beside it; None where it is not known [s].

    Returns:
        The motion, and what keeps it from being used as it is.

    Raises:
        ValueError: It cannot be understood; the message says why.
    """
    arrays = _arrays(path)
    remarks: list[Remark] = []
    expression = _expression(path, arrays["exp"], remarks)
    neck, jaw = _rotations(path, arrays["pose"], remarks)
    if len(expression) != len(neck):
        raise ValueError(f"{path.name}: exp has {len(expression)} frames, pose {len(neck)}; expected as many")
    given = np.asarray(arrays.get("valid", np.ones((len(neck), 3))), np.bool_)
    if given.shape != (len(neck), 3):
        raise ValueError(f"{path.name}: valid has the shape {given.shape}, expected ({len(neck)}, 3)")
    vector = np.concatenate([expression, np.zeros_like(neck) if jaw is None else jaw, neck], axis=1)
    valid = _finite(path, vector, given, remarks)
    if jaw is None:
        valid[:, 1] = False
    vector = np.where(np.repeat(valid, PART_SIZES, axis=1), vector, 0.0)
    vector = _in_radians(path, vector, valid, remarks)
    rate_hz = _rate(path, arrays, len(neck), duration_s, remarks)
    length_s = len(neck) / rate_hz
    if duration_s is not None and abs(length_s - duration_s) > 1.0 / FRAMES_PER_SECOND:
        message = f"{path.name} holds {length_s:.2f} s of motion, its voice {duration_s:.2f} s"
        remarks.append(Remark("warning", f"{message}; what one side lacks is unseen", is_fixable=True))
    return CapturedMotion(rate_hz, vector, valid), remarks


def _arrays(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    key = ""
    try:
        with np.load(path, allow_pickle=False) as file:
            for key in file.files:
                arrays[key] = np.asarray(file[key])
    except (ValueError, OSError, EOFError, TypeError, AttributeError, KeyError, zipfile.BadZipFile) as error:
        if key and "allow_pickle" in str(error):
            raise ValueError(
                f"{path.name}: {key} holds Python objects, which would run code when they are read; "
                "write it again as an array of float32"
            ) from error
        raise ValueError(f"{path.name} cannot be read as npz ({error}); copy or export it again") from error
    for key in ("exp", "pose"):
        if key not in arrays:
            raise ValueError(
                f"{path.name} has no array {key!r}, only {sorted(arrays)}; "
                "expected exp (T, 50) and pose (T, 6)"
            )
        if arrays[key].size == 0:
            raise ValueError(f"{path.name} holds no frame of motion: {key} is empty")
        if arrays[key].dtype.kind not in "fiu":
            raise ValueError(
                f"{path.name}: {key} is an array of {arrays[key].dtype}, expected numbers; "
                "write it again as float32"
            )
    return arrays


def _expression(path: Path, array: npt.NDArray[np.generic], remarks: list[Remark]) -> Array:
    values = _frames_first(path, "exp", array, (50, 100), remarks)
    if values.ndim != 2 or values.shape[1] not in (50, 100):
        raise ValueError(
            f"{path.name}: exp has the shape {array.shape}, expected (T, 50) or FLAME's (T, 100)"
        )
    if values.shape[1] == 100:
        message = "100 coefficients of expression; FLAME orders them, so that the first 50 are ours"
        remarks.append(Remark("error", f"{path.name} holds {message}", is_fixable=True))
    return values[:, :50]


def _rotations(
    path: Path, array: npt.NDArray[np.generic], remarks: list[Remark]
) -> tuple[Array, Array | None]:
    """Return neck and jaw as (T, 3) axis-angle; the jaw None where the file has the neck alone."""
    values = _frames_first(path, "pose", array, (6,), remarks)
    flat = values.reshape(len(values), -1)
    width = flat.shape[1]
    joints, size = next(
        ((j, width // j) for j in (2, 1) if width % j == 0 and width // j in _VALUES_OF_JOINT), (0, 0)
    )
    if width == 12 or (width == 6 and _are_columns(flat)):
        raise ValueError(
            f"{path.name}: pose {array.shape} holds rotations of six values; whether these are rows or "
            "columns of a matrix cannot be told, so convert them to axis-angle (T, 6), neck before jaw"
        )
    if not joints:
        raise ValueError(
            f"{path.name}: pose has the shape {array.shape}, expected (T, 6): axis-angle, neck before jaw"
        )
    if values.shape != (len(values), 6):
        form = f"{_VALUES_OF_JOINT[size]} of {'neck and jaw' if joints == 2 else 'the neck alone'}"
        remarks.append(
            Remark("error", f"{path.name} holds {form}, expected axis-angle (T, 6)", is_fixable=True)
        )
    of_joint = flat.reshape(len(flat), joints, size)
    rotations = [_axis_angle(path, of_joint[:, joint]) for joint in range(joints)]
    return rotations[0], rotations[1] if joints == 2 else None


def _axis_angle(path: Path, values: Array) -> Array:
    """Return (T, 3) from axis-angle, quaternions (T, 4) or matrices (T, 9); what is not finite stays so."""
    if values.shape[1] == 3:
        return values
    found = np.full((len(values), 3), np.nan)
    rows = np.isfinite(values).all(axis=1)
    given = values[rows]
    if values.shape[1] == 9:
        matrices = given.reshape(-1, 3, 3)
        if np.abs(matrices @ matrices.transpose(0, 2, 1) - np.eye(3)).max(initial=0.0) > MATRIX_TOLERANCE:
            raise ValueError(
                f"{path.name}: the matrices of pose are no rotations; expected axis-angle (T, 6)"
            )
        found[rows] = Rotation.from_matrix(matrices).as_rotvec()
        return found
    if np.abs(np.linalg.norm(given, axis=1) - 1.0).max(initial=0.0) > MATRIX_TOLERANCE:
        raise ValueError(f"{path.name}: the four values of pose are no unit quaternions; expected (T, 6)")
    real = np.abs(given).mean(axis=0)
    # A head looks ahead most of the time: its rotations are near 1, and the real part stands out.
    if max(real[0], real[3]) < 0.7 or abs(real[0] - real[3]) < 0.2:
        raise ValueError(
            f"{path.name}: whether the quaternions of pose begin or end with the real part cannot be told; "
            "convert them to axis-angle (T, 6)"
        )
    found[rows] = Rotation.from_quat(given[:, [1, 2, 3, 0]] if real[0] > real[3] else given).as_rotvec()
    return found


def _frames_first(
    path: Path, name: str, array: npt.NDArray[np.generic], widths: tuple[int, ...], remarks: list[Remark]
) -> Array:
    if array.ndim == 0:
        raise ValueError(f"{path.name}: {name} is a single value, expected an array with a row a frame")
    values = np.asarray(array, np.float64)
    if values.ndim == 2 and values.shape[0] in widths and values.shape[1] not in widths:
        message = f"{name} lies across, {array.shape}: expected a row a frame"
        remarks.append(Remark("error", f"{path.name}: {message}", is_fixable=True))
        return values.T
    return values


def _are_columns(flat: Array) -> bool:
    """Return whether six values a row are two orthonormal vectors, as rotations of six values are."""
    rows = flat[np.isfinite(flat).all(axis=1)]
    if not len(rows):
        return False
    first, second = rows[:, :3], rows[:, 3:]
    wrong = np.abs([(first**2).sum(1) - 1, (second**2).sum(1) - 1, (first * second).sum(1)]).max(axis=0)
    return bool(np.mean(wrong < MATRIX_TOLERANCE) > 0.95)


def _finite(
    path: Path, vector: Array, given: npt.NDArray[np.bool_], remarks: list[Remark]
) -> npt.NDArray[np.bool_]:
    """Return which parts of which frames are seen and finite."""
    parts = (EXPRESSION, JAW, NECK)
    finite = np.stack([np.isfinite(vector[:, part]).all(axis=1) for part in parts], axis=1)  # (T, 3)
    if (wrong := (given & ~finite).any(axis=1)).any():
        frames = np.flatnonzero(wrong)
        runs = 1 + int((np.diff(frames) > 1).sum())
        message = (
            f"numbers that are not finite in {len(frames)} frames ({runs} runs), first in frame {frames[0]}"
        )
        remarks.append(Remark("error", f"{path.name} holds {message}; mark them in `valid`", is_fixable=True))
    return given & finite


def _in_radians(path: Path, vector: Array, valid: npt.NDArray[np.bool_], remarks: list[Remark]) -> Array:
    """Return the vector with its angles in radians around 0."""
    angles = vector[:, JAW.start : NECK.stop]  # (T, 6), jaw and neck
    peak = float(np.abs(angles).max(initial=0.0))
    if peak <= LARGEST_ANGLE_RAD:
        return vector
    angles = angles.copy()
    if 2 * math.pi < peak <= 360.0:
        remarks.append(Remark("error", f"{path.name} holds an angle of {peak:.1f}: degrees", is_fixable=True))
        angles, peak = np.radians(angles), math.radians(peak)
    if peak > LARGEST_ANGLE_RAD:
        for column in range(angles.shape[1]):
            seen = valid[:, 1 + column // 3]
            whole = np.unwrap(angles[seen, column])
            if len(whole):
                angles[seen, column] = whole - 2 * math.pi * np.round(np.median(whole) / (2 * math.pi))
        before, peak = peak, float(np.abs(angles).max(initial=0.0))
        if peak <= LARGEST_ANGLE_RAD:
            message = f"angles that jump by a whole turn (up to {before:.2f} rad)"
            remarks.append(Remark("error", f"{path.name} holds {message}", is_fixable=True))
    if peak > LARGEST_ANGLE_RAD:
        raise ValueError(
            f"{path.name} holds an angle of {peak:.2f} rad ({math.degrees(peak):.0f}°), further than a head "
            "turns; expected radians from straight ahead, in the frame of the body and not of a camera behind"
        )
    return np.concatenate([vector[:, : JAW.start], angles, vector[:, NECK.stop : MOTION_CHANNELS]], axis=1)


def _rate(
    path: Path,
    arrays: dict[str, npt.NDArray[np.generic]],
    frames: int,
    duration_s: float | None,
    remarks: list[Remark],
) -> float:
    """Return the rate that a file says, else the one at which it is as long as its sound."""
    key = next((key for key in RATE_KEYS if key in arrays), None)
    if key is not None:
        value = arrays[key]
        if value.size != 1 or value.dtype.kind not in "fiu" or not 1.0 <= float(value.ravel()[0]) <= 1000.0:
            raise ValueError(f"{path.name}: {key} is {value!r}, expected frames a second from 1 to 1000")
        rate_hz, why = float(value.ravel()[0]), f"as its {key} says"
    elif duration_s is not None and duration_s > 0:
        rate_hz, why = rate_by_length(frames, duration_s), f"for its {frames} frames last {duration_s:.2f} s"
    else:
        return float(FRAMES_PER_SECOND)
    if rate_hz != FRAMES_PER_SECOND:
        message = f"{path.name} has {rate_hz:.5g} frames a second, {why}; expected 25"
        remarks.append(Remark("error", message, is_fixable=True))
    return rate_hz
