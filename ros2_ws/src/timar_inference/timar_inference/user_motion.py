"""The user's head and face by frame, each part valid or unseen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from timar_common.user_motion import (
    EXPRESSION_LIMIT,
    MAX_FRAMES_PER_MESSAGE,
    MOTION_CHANNELS,
    PARTS,
    ROTATION_LIMIT_RAD,
)

Rows = Sequence[float] | npt.NDArray[np.float32]
Flags = Sequence[bool] | npt.NDArray[np.bool_]


def motion_from_rows(
    frames: int,
    expression: Rows,
    jaw: Rows,
    neck: Rows,
    expression_valid: Flags,
    jaw_valid: Flags,
    neck_valid: Flags,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Join the flat arrays of a message into motion vectors and their validity.

    Args:
        frames: How many frames they hold, 1..250.
        expression: frames x 50 coefficients, frame by frame.
        jaw: frames x 3 axis-angle [rad].
        neck: frames x 3 axis-angle [rad].
        expression_valid: One flag per frame; what is not valid may hold anything and reads as 0.
        jaw_valid: One flag per frame.
        neck_valid: One flag per frame.

    Returns:
        (frames, 56) float32 motion and (frames, 3) validity of expression, jaw and neck.

    Raises:
        ValueError: Lengths disagree, or a valid number is not finite or out of its range.
    """
    if not 1 <= frames <= MAX_FRAMES_PER_MESSAGE:
        raise ValueError(f"the message holds {frames} frames, expected 1 to {MAX_FRAMES_PER_MESSAGE}")
    motion = np.zeros((frames, MOTION_CHANNELS), np.float32)
    valid = np.zeros((frames, len(PARTS)), np.bool_)
    sources = {
        "expression": (expression, expression_valid),
        "jaw": (jaw, jaw_valid),
        "neck": (neck, neck_valid),
    }
    for column, (part, (numbers, flags)) in enumerate(sources.items()):
        width = PARTS[part].stop - PARTS[part].start
        if len(numbers) != frames * width or len(flags) != frames:
            raise ValueError(
                f"{part} has {len(numbers)} numbers and {len(flags)} flags for {frames} frames, "
                f"expected {frames * width} and {frames}"
            )
        valid[:, column] = flags
        rows = np.asarray(numbers, np.float32).reshape(frames, width)
        _require_plausible(part, rows[valid[:, column]])
        motion[:, PARTS[part]] = np.where(valid[:, column, None], rows, np.float32(0))
    return motion, valid


def _require_plausible(part: str, rows: npt.NDArray[np.float32]) -> None:
    limit = EXPRESSION_LIMIT if part == "expression" else ROTATION_LIMIT_RAD
    wrong = rows[~(np.abs(rows) <= limit)]
    if wrong.size:
        raise ValueError(
            f"{part} marked as seen holds {wrong.flat[0]}, expected a finite number from {-limit:.4g} to "
            f"{limit:.4g}; mark what was not seen as not valid"
        )


class MotionTrack:
    """Keep the newest frames of one person; the first report of a frame stands.

    That the first one stands, and not the last, makes a recorded conversation repeatable: the log needs to
    say only which frames had come in time.
    """

    def __init__(self) -> None:
        self.late_frames = 0
        self._frames: dict[int, tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]] = {}
        self._oldest_frame = 0

    def push(self, first_frame: int, motion: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]) -> None:
        """Take frames in; those that come after they were needed are left out and counted.

        Args:
            first_frame: Of motion[0] on the conversation's frame counter.
            motion: (n, 56) float32.
            valid: (n, 3) of expression, jaw and neck.
        """
        for frame, (row, seen) in enumerate(zip(motion, valid, strict=True), start=first_frame):
            if frame < self._oldest_frame:
                self.late_frames += 1
            elif frame not in self._frames and seen.any():
                self._frames[frame] = (row.copy(), seen.copy())

    def read(
        self, first_frame: int, end_frame: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]] | tuple[None, None]:
        """Return motion and validity of frames [first_frame, end_frame); None for both when none was seen.

        Returns:
            (n, 56) float32, zeros where unseen, and (n, 3) flags of expression, jaw and neck.
        """
        seen = [frame for frame in range(first_frame, end_frame) if frame in self._frames]
        if not seen:
            return None, None
        motion = np.zeros((end_frame - first_frame, MOTION_CHANNELS), np.float32)
        valid = np.zeros((end_frame - first_frame, len(PARTS)), np.bool_)
        for frame in seen:
            motion[frame - first_frame], valid[frame - first_frame] = self._frames[frame]
        return motion, valid

    def forget_before(self, frame: int) -> None:
        """Drop frames that no turn will need any more."""
        if frame <= self._oldest_frame:
            return
        self._oldest_frame = frame
        for old in [known for known in self._frames if known < frame]:
            del self._frames[old]
