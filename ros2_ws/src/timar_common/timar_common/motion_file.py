"""Recorded head motion and its files: FLAME vectors by frame, in DualTalk's npz format.

=========  ========  =====================================================================================
``exp``    (T, 50)   FLAME expression coefficients
``pose``   (T, 6)    axis-angle [rad]; **neck in [0:3], jaw in [3:6]**: the other way round than in our vector
``valid``  (T, 3)    optional, ours: which of expression, jaw and neck were seen; absent means all of them
``fps``    ()        optional: 25, the rate of every motion here; another one is refused
=========  ========  =====================================================================================
"""

from __future__ import annotations

import dataclasses
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from timar_common.atomic import replacing_file
from timar_common.clock import FRAMES_PER_SECOND
from timar_common.user_motion import MOTION_CHANNELS, PARTS

EXPRESSION, JAW, NECK = PARTS["expression"], PARTS["jaw"], PARTS["neck"]
PART_SIZES = tuple(part.stop - part.start for part in PARTS.values())
"""Values of expression, jaw and neck."""
_REMEDY = "`timar data check FOLDER --fix NEW` converts a folder"


@dataclasses.dataclass(frozen=True)
class MotionTrack:
    """The motion of one side of a conversation at 25 frames a second."""

    vector: npt.NDArray[np.float32]
    """(T, 56) expression, jaw, neck; 0 where it is not valid."""
    valid: npt.NDArray[np.bool_]
    """(T, 3) whether expression, jaw and neck of the frame were seen."""

    @classmethod
    def unseen(cls, frames: int) -> MotionTrack:
        """Return the motion of a side nobody saw."""
        return cls(np.zeros((frames, MOTION_CHANNELS), np.float32), np.zeros((frames, 3), np.bool_))

    def fitted_to(self, frames: int) -> MotionTrack:
        """Return it cut, or continued as unseen, to a number of frames."""
        rest = MotionTrack.unseen(max(0, frames - len(self.vector)))
        return MotionTrack(
            np.concatenate([self.vector[:frames], rest.vector]),
            np.concatenate([self.valid[:frames], rest.valid]),
        )


def read_motion(path: Path) -> MotionTrack:
    """Read a motion file as vectors in our order.

    Raises:
        ValueError: It is no npz, an array is missing or has a wrong shape or type, or a number is not finite.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: np.asarray(file[key]) for key in file.files}
    except (ValueError, OSError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read as npz ({error}); expected arrays exp and pose") from error
    rate = arrays.get("fps", np.array(FRAMES_PER_SECOND))
    if rate.dtype.kind not in "fiu" or not np.all(rate == FRAMES_PER_SECOND):
        raise ValueError(f"{path} says {rate} frames a second, expected {FRAMES_PER_SECOND}; {_REMEDY}")
    for key, width in (("exp", 50), ("pose", 6)):
        if key not in arrays:
            raise ValueError(
                f"{path} has no array {key!r}, only {sorted(arrays)}; expected exp (T, 50) and pose (T, 6)"
            )
        array = arrays[key]
        if array.ndim != 2 or array.shape[1] != width or array.dtype.kind not in "fiu":
            raise ValueError(
                f"{path}: {key} has the shape {array.shape} of {array.dtype}, expected numbers (T, {width})"
            )
        if not np.isfinite(array).all():
            raise ValueError(
                f"{path}: {key} holds a number that is not finite; mark the frames in `valid` instead"
            )
    expression, pose = arrays["exp"], arrays["pose"]
    if len(expression) != len(pose):
        raise ValueError(
            f"{path}: exp has {len(expression)} frames but pose has {len(pose)}, expected the same"
        )
    valid = np.asarray(arrays.get("valid", np.ones((len(pose), 3))), np.bool_)
    if valid.shape != (len(pose), 3):
        raise ValueError(f"{path}: valid has the shape {valid.shape}, expected ({len(pose)}, 3)")
    vector = np.concatenate([expression, pose[:, 3:6], pose[:, 0:3]], axis=1).astype(np.float32)
    return MotionTrack(np.where(np.repeat(valid, PART_SIZES, axis=1), vector, np.float32(0.0)), valid)


def write_motion(path: Path, track: MotionTrack) -> None:
    """Write motion in DualTalk's order, with our `valid` array, whole or not at all."""
    pose = np.concatenate([track.vector[:, NECK], track.vector[:, JAW]], axis=1)
    with replacing_file(path) as scratch, scratch.open("wb") as file:
        np.savez_compressed(file, exp=track.vector[:, EXPRESSION], pose=pose, valid=track.valid)
