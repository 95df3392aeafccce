"""The motion as it was really visible: each frame at the instant it was due, if it had come by then."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
from timar_common.clock import FRAMES_PER_SECOND, NS_PER_S
from timar_common.messages import stamp_ns
from timar_common.user_motion import MOTION_CHANNELS, PARTS

FRAME_NS = NS_PER_S // FRAMES_PER_SECOND
ENOUGH_FRAMES = 4096
MOST_FRAMES = 24 * 3600 * FRAMES_PER_SECOND


@dataclasses.dataclass
class ShownCounters:
    """What became of the frames that were published."""

    frames: int = 0
    late_frames: int = 0
    """Came after they were due; somebody who watched did not see them."""
    withdrawn_frames: int = 0
    """Generated again by a later message of the same frames."""
    rejected_messages: int = 0
    """Lengths that do not fit, or numbers that are not finite."""


class ShownMotion:
    """Collect published motion by frame, as a watcher saw it.

    A message counts for its frames that are due when it arrives or later; a later message replaces an
    earlier one from its first frame on. Beside it stands the motion as it was generated, whenever it came:
    that is the one the published scores speak of.
    """

    def __init__(self) -> None:
        self.counters = ShownCounters()
        self._shown = FrameRows()
        self._made = FrameRows()

    def append(self, receive_ns: int, message: Any) -> None:
        """Take a timar_msgs/HeadMotion in, in order of arrival [ns, ROS time].

        Raises:
            ValueError: Its lengths do not fit, or a number is not finite; it is counted.
        """
        try:
            rows = _rows(message)
        except ValueError:
            self.counters.rejected_messages += 1
            raise
        frames, first = len(rows), int(message.first_frame)
        due_ns = stamp_ns(message) + FRAME_NS * np.arange(frames, dtype=np.int64)
        in_time = int(np.searchsorted(due_ns, receive_ns))
        self._shown.put(first + in_time, rows[in_time:])
        if not getattr(message, "is_preview", False):
            self.counters.frames += frames
            self.counters.late_frames += in_time
            self.counters.withdrawn_frames += self._made.put(first, rows)

    @property
    def end_frame(self) -> int:
        """One past the last frame that was ever published."""
        return max(self._shown.end, self._made.end)

    def track(self, frames: int | None = None) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Return (T, 56) motion as shown and (T,) which frames were shown.

        A head that gets nothing new stays where it is, so an unshown frame holds the last shown one; before
        the first one stands zero.
        """
        return self._shown.track(self.end_frame if frames is None else frames)

    def as_generated(
        self, frames: int | None = None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Return (T, 56) motion as generated, late or not, and (T,) for which frames there is any."""
        return self._made.track(self.end_frame if frames is None else frames)


class FrameRows:
    """Rows of 56 numbers by frame, growing."""

    def __init__(self) -> None:
        self.end = 0
        self.rows: npt.NDArray[np.float32] = np.zeros((ENOUGH_FRAMES, MOTION_CHANNELS), np.float32)
        self.is_known: npt.NDArray[np.bool_] = np.zeros(ENOUGH_FRAMES, np.bool_)

    def reach(self, end: int) -> None:
        """Make room for the frames before `end`.

        Raises:
            ValueError: No conversation is that long.
        """
        if end > MOST_FRAMES:
            raise ValueError(f"motion reaches frame {end}, expected a conversation of at most {MOST_FRAMES}")
        if end > len(self.is_known):
            # In place, for an hour of motion is not to be held twice; so nobody may keep a view of them.
            size = max(end, len(self.is_known) * 5 // 4)
            self.rows.resize((size, MOTION_CHANNELS), refcheck=False)
            self.is_known.resize(size, refcheck=False)
        self.end = max(self.end, end)

    def put(self, first: int, rows: npt.NDArray[np.float32]) -> int:
        """Write rows, forget what stood after them, and return how many known rows were replaced."""
        if not len(rows):
            return 0
        end, before = first + len(rows), self.end
        self.reach(end)
        replaced = int(self.is_known[first:before].sum())
        self.is_known[first:before] = False
        self.rows[first:end], self.is_known[first:end] = rows, True
        return replaced

    def add(self, first: int, rows: npt.NDArray[np.float32], is_known: npt.NDArray[np.bool_]) -> None:
        """Write rows where nothing is known yet, and note which of them are."""
        end = first + len(rows)
        self.reach(end)
        is_fresh = ~self.is_known[first:end]
        self.rows[first:end][is_fresh] = rows[is_fresh]
        self.is_known[first:end] |= is_known

    def track(self, frames: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Return (T, 56) rows, an unknown one holding the last known one, and (T,) which are known."""
        rows, known = self.whole(frames)
        last = np.maximum.accumulate(np.where(known, np.arange(frames), -1))
        return np.where(last[:, None] >= 0, rows[last], np.float32(0)), known

    def whole(self, frames: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Return (T, 56) rows as they were written, and (T,) which are known."""
        rows, known = np.zeros((frames, MOTION_CHANNELS), np.float32), np.zeros(frames, np.bool_)
        count = min(frames, self.end)
        rows[:count], known[:count] = self.rows[:count], self.is_known[:count]
        return rows, known


def _rows(message: Any) -> npt.NDArray[np.float32]:
    """Return a HeadMotion's (frames, 56) numbers; raise ValueError when they cannot be true."""
    frames = int(message.frames)
    parts = {name: np.asarray(getattr(message, name), np.float32) for name in PARTS}
    if frames < 1 or any(part.size != frames * (PARTS[n].stop - PARTS[n].start) for n, part in parts.items()):
        sizes = [f"{part.size} {name}" for name, part in parts.items()]
        raise ValueError(
            f"{', '.join(sizes[:-1])} and {sizes[-1]} numbers do not make {frames} frames of 50, 3 and 3"
        )
    if message.first_frame < 0:
        raise ValueError(f"motion starts at frame {message.first_frame}, expected 0 or later")
    rows = np.concatenate([part.reshape(frames, -1) for part in parts.values()], axis=1)
    if not np.isfinite(rows).all():
        raise ValueError("the motion holds a number that is not finite")
    return rows
