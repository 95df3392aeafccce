"""Motion timeline: the frames known so far, each at its instant, whatever order and revision they came in."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import numpy.typing as npt
from timar_common.clock import FRAMES_PER_SECOND
from timar_common.messages import Message
from timar_common.units import Frames
from timar_common.user_motion import MAX_FRAMES_PER_MESSAGE, MOTION_CHANNELS, PARTS

Array = npt.NDArray[np.float64]

FRAME_NS = 1e9 / FRAMES_PER_SECOND
CONTEXT_FRAMES = 15
"""So many past frames are kept, so that the spline does not feel where they end."""
MAX_FRAMES = 1500
"""So many frames may be known at once; the furthest future is cut."""
MAX_GAP_FRAMES = 50
"""A jump in the frame counter beyond this starts again instead of being bridged."""


@dataclasses.dataclass(frozen=True)
class MotionFrames:
    """Frames that follow each other, as they came: where they belong, when they are due, what they hold."""

    conversation_id: str
    first_frame: Frames
    due_ns: int
    """When the first frame is to be seen, CLOCK_MONOTONIC [ns]."""
    revision: int
    rows: npt.NDArray[Any]
    """(frames, 56) motion; or (frames, A) wanted axis positions [rad]. Rows not finite are unknown."""
    is_preview: bool = False
    """Whether the frames are a guess, good until a message comes about one of them or one before them."""

    @classmethod
    def of(cls, message: Message) -> MotionFrames:
        """Read a timar_msgs/HeadMotion.

        Raises:
            ValueError: Its rate, its number of frames or the length of an array cannot be true.
        """
        if abs(message.fps - FRAMES_PER_SECOND) > 1e-3:
            raise ValueError(f"fps is {message.fps:g}, expected {FRAMES_PER_SECOND:g}")
        frames = int(message.frames)
        if not 1 <= frames <= MAX_FRAMES_PER_MESSAGE:
            raise ValueError(f"frames is {frames}, expected 1 to {MAX_FRAMES_PER_MESSAGE}")
        rows = np.empty((frames, MOTION_CHANNELS))
        for name, columns in PARTS.items():
            values, size = getattr(message, name), columns.stop - columns.start
            if values.size != frames * size:
                raise ValueError(f"{name} has {values.size} numbers, expected {frames} frames x {size}")
            rows[:, columns] = values.reshape(frames, size)
        return cls(
            message.conversation_id,
            Frames(int(message.first_frame)),
            message.header.stamp,
            int(message.revision),
            rows,
            bool(getattr(message, "is_preview", False)),  # Bags of earlier releases have no such field.
        )


@dataclasses.dataclass
class TimelineCounters:
    """What became of the frames that came."""

    frames: int = 0
    """Taken in, previews apart."""
    preview_frames: int = 0
    """Taken in as previews."""
    refused_frames: int = 0
    """Not finite; their neighbours are joined across them."""
    withdrawn_frames: int = 0
    """Replaced by a higher revision before they were over, previews among them."""
    stale_messages: int = 0
    """Of a lower revision than one already taken in."""
    retimed_runs: int = 0
    """Due more than half a frame away from where the message before had placed them."""
    gap_frames: int = 0
    """Never came before their successors did; their neighbours are joined across them."""


class MotionTimeline:
    """Frames of one conversation, joined by a C2 spline.

    Previews stand at the end only: a message replaces all previews from its first frame on, and a preview
    never replaces a frame that was made. One whose turn never came stays, for it is better than a stop.

    All frames are placed by the newest message's anchor: the conversation's clock is tracked upstream, so the
    newest estimate of it is the best, and frames stay evenly spaced.

    Args:
        axes: A, how many numbers a frame has.
    """

    def __init__(self, axes: int) -> None:
        self.counters = TimelineCounters()
        self._axes = axes
        self.clear()

    def clear(self) -> None:
        """Forget every frame."""
        self._conversation: str | None = None
        self._revision = 0
        self._first = 0
        self._made_until: int | None = None
        self._rows: Array = np.empty((0, self._axes))
        self._anchor = (0, 0)
        self._bridged: Array | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no frame is known."""
        return not len(self._rows)

    @property
    def first_ns(self) -> float:
        """When the first kept frame is due [ns]."""
        return self._time_ns(self._first)

    @property
    def last_ns(self) -> float:
        """When the last known frame is due [ns]."""
        return self._time_ns(self._first + len(self._rows) - 1)

    def add(self, new: MotionFrames, now_ns: int) -> bool:
        """Take frames in.

        Args:
            new: The frames; (frames, A) wanted positions.
            now_ns: CLOCK_MONOTONIC [ns].

        Returns:
            Whether they changed what is known.
        """
        if new.conversation_id != self._conversation:
            self.clear()
            self._conversation, self._revision = new.conversation_id, new.revision
        if new.revision < self._revision:
            self.counters.stale_messages += 1
            return False
        is_known = np.isfinite(new.rows).all(1)  # (frames,)
        self.counters.refused_frames += int((~is_known).sum())
        if new.revision > self._revision:
            self.counters.withdrawn_frames += self._cut(new.first_frame)
            self._revision = new.revision
        # A preview says nothing of frames that were made already.
        skipped = max(0, (self._made_until or 0) - new.first_frame) if new.is_preview else 0
        first, due_ns = new.first_frame + skipped, new.due_ns + round(skipped * FRAME_NS)
        rows, is_known = new.rows[skipped:], is_known[skipped:]
        if not is_known.any():
            return False
        self._cut(first if self._made_until is None else max(first, self._made_until))
        is_moved = abs(due_ns - self._time_ns(first)) > 0.5 * FRAME_NS
        self.counters.retimed_runs += is_moved and not self.is_empty
        self._anchor = (first, due_ns)
        self._insert(first, np.where(is_known[:, None], rows, np.nan))
        if new.is_preview:
            self.counters.preview_frames += int(is_known.sum())
        else:
            self.counters.frames += int(is_known.sum())
            self._made_until = max(self._made_until or 0, first + len(rows))
        self._forget_past(now_ns)
        return True

    def positions(self, times_ns: Array) -> Array:
        """Return wanted positions (K, A) at (K,) rising instants [ns]; beyond the ends the end frames hold.

        Raises:
            RuntimeError: No frame is known.
        """
        if self.is_empty:
            raise RuntimeError("the timeline is empty; ask is_empty first")
        if self._bridged is None:
            self._bridged = _bridged(self._rows)
        last = len(self._rows) - 1
        frames = np.minimum(np.maximum((times_ns - self.first_ns) / FRAME_NS, 0.0), float(last))  # (K,)
        # A spline forgets what is further away; so few frames, and matrices that are kept, are enough.
        low = max(0, int(frames[0]) - CONTEXT_FRAMES)
        high = min(last, int(frames[-1]) + 1 + CONTEXT_FRAMES)
        return natural_spline(self._bridged[low : high + 1], frames - low)

    def _time_ns(self, frame: int) -> float:
        return self._anchor[1] + (frame - self._anchor[0]) * FRAME_NS

    def _cut(self, frame: int) -> int:
        """Forget the frames from one on; return how many there were."""
        kept = max(0, frame - self._first)
        gone = max(0, len(self._rows) - kept)
        if self._made_until is not None:
            self._made_until = min(self._made_until, frame)
        if gone:
            self._keep(slice(kept))
        return gone

    def _insert(self, first: int, rows: Array) -> None:
        end = self._first + len(self._rows)
        if self.is_empty or first - end > MAX_GAP_FRAMES or first + len(rows) < self._first:
            self._first, self._rows, self._made_until = first, rows, None
        else:
            low, high = min(first, self._first), max(first + len(rows), end)
            self.counters.gap_frames += max(0, first - end)
            merged = np.full((high - low, self._axes), np.nan)
            merged[self._first - low : end - low] = self._rows
            target = merged[first - low : first - low + len(rows)]
            target[:] = np.where(np.isnan(rows), target, rows)
            self._first, self._rows = low, merged
        self._keep(slice(MAX_FRAMES))

    def _forget_past(self, now_ns: int) -> None:
        past = int((now_ns - self.first_ns) / FRAME_NS) - CONTEXT_FRAMES
        surplus = min(past, len(self._rows) - 1)
        if surplus > 0:
            self._first += surplus
            self._keep(slice(surplus, None))

    def _keep(self, kept: slice) -> None:
        """Keep some frames; unknown ones at either end of them are no frames."""
        rows = self._rows[kept]
        known = np.flatnonzero(~np.isnan(rows).any(1))
        low, high = (known[0], known[-1] + 1) if known.size else (0, 0)
        self._first += int(low)
        self._rows, self._bridged = rows[low:high], None


def _bridged(rows: Array) -> Array:
    """Return rows with straight lines across unknown ones."""
    missing = np.isnan(rows).any(1)
    if not missing.any():
        return rows
    frames, filled = np.arange(len(rows)), rows.copy()
    for axis in range(rows.shape[1]):
        filled[missing, axis] = np.interp(frames[missing], frames[~missing], rows[~missing, axis])
    return filled


def natural_spline(values: Array, places: Array) -> Array:
    """Return the natural C2 spline through (n, A) values at 0 .. n - 1, at (K,) rising places.

    Source: C. de Boor, "A Practical Guide to Splines", 2001, chapter IV, for unit spacing.
    """
    count = len(values)
    if count < 3:
        return values[0] + places[:, None] * (values[-1] - values[0])
    second = spline_second_derivatives(count) @ values  # (n, A)
    left = np.minimum(places.astype(np.intp), count - 2)  # (K,)
    t = (places - left)[:, None]  # (K, 1)
    u = 1.0 - t
    curved: Array = (
        u * values[left]
        + t * values[left + 1]
        - u * t / 6.0 * ((1.0 + u) * second[left] + (1.0 + t) * second[left + 1])
    )
    return curved


@functools.lru_cache(maxsize=256)
def spline_second_derivatives(count: int) -> Array:
    """Return the matrix (n, n) from values to second derivatives of their natural spline.

    The second derivatives m solve  m[i-1] + 4 m[i] + m[i+1] = 6 (y[i-1] - 2 y[i] + y[i+1]), 0 at the ends.
    """
    inner = count - 2
    differences = 6.0 * (np.eye(inner, count) - 2.0 * np.eye(inner, count, k=1) + np.eye(inner, count, k=2))
    coupled = 4.0 * np.eye(inner) + np.eye(inner, k=1) + np.eye(inner, k=-1)
    matrix = np.zeros((count, count))
    matrix[1:-1] = np.linalg.solve(coupled, differences)
    return matrix
