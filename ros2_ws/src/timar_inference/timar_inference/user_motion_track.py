"""The user's head and face by frame, each part valid or unseen."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from timar_common.user_motion import MOTION_CHANNELS, PARTS


class UserMotionTrack:
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
