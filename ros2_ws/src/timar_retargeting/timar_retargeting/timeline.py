"""The frames known so far, each at its instant, whatever order and revision they came in."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class FrameRun:
    """A run of frames as it came: where it belongs, when it is due, what it wants."""

    conversation_id: str
    first_frame: int
    due_ns: int
    """When the first frame is to be seen, CLOCK_MONOTONIC [ns]."""
    revision: int
    targets: Array
    """(frames, J) wanted positions [rad]; a row that is not finite is an unknown frame."""
    is_preview: bool = False
    """Whether the frames are a guess, good until any word comes about one of them or one before them."""


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
    """Due more than half a frame away from where the run before had placed them."""
    gap_frames: int = 0
    """Never came before their successors did; their neighbours are joined across them."""


class Timeline:
    """Frames of one conversation, joined by a C2 spline.

    Previews stand at the end only: a run replaces all previews from its first frame on, and a preview never
    replaces a frame that was made. One whose turn never came stays, for it is better than a stop.

    All frames are placed by the newest message's anchor: the conversation's clock is tracked upstream, so the
    newest word about it is the best, and frames stay evenly spaced.

    Args:
        joints: J.
        frames_per_second: Of the motion.
        context_frames: How many past frames are kept, so that the spline does not feel where they end.
        max_frames: How many frames may be known at once; the furthest future is cut.
        max_gap_frames: A jump in the frame counter beyond this starts anew instead of being bridged.
    """

    def __init__(
        self,
        joints: int,
        frames_per_second: float = 25.0,
        context_frames: int = 15,
        max_frames: int = 1500,
        max_gap_frames: int = 50,
    ) -> None:
        self.counters = TimelineCounters()
        self._joints = joints
        self._frame_ns = 1e9 / frames_per_second
        self._context, self._max_frames, self._max_gap = context_frames, max_frames, max_gap_frames
        self.clear()

    def clear(self) -> None:
        """Forget every frame."""
        self._conversation: str | None = None
        self._revision = 0
        self._first = 0
        self._made_until: int | None = None
        self._targets: Array = np.empty((0, self._joints))
        self._anchor = (0, 0)
        self._filled: Array | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no frame is known."""
        return not len(self._targets)

    @property
    def first_ns(self) -> float:
        """When the first kept frame is due [ns]."""
        return self._time_ns(self._first)

    @property
    def last_ns(self) -> float:
        """When the last known frame is due [ns]."""
        return self._time_ns(self._first + len(self._targets) - 1)

    def add(self, run: FrameRun, now_ns: int) -> bool:
        """Take a run of frames in.

        Args:
            run: The frames; (frames, J) targets.
            now_ns: CLOCK_MONOTONIC [ns].

        Returns:
            Whether it changed what is known.
        """
        if run.conversation_id != self._conversation:
            self.clear()
            self._conversation, self._revision = run.conversation_id, run.revision
        if run.revision < self._revision:
            self.counters.stale_messages += 1
            return False
        is_known: npt.NDArray[np.bool_] = np.asarray(np.isfinite(run.targets).all(1))
        self.counters.refused_frames += int((~is_known).sum())
        if run.revision > self._revision:
            self.counters.withdrawn_frames += self._cut(run.first_frame)
            self._revision = run.revision
        run, is_known = self._without_made(run, is_known)
        if not is_known.any():
            return False
        self._cut(run.first_frame if self._made_until is None else max(run.first_frame, self._made_until))
        is_moved = abs(run.due_ns - self._time_ns(run.first_frame)) > 0.5 * self._frame_ns
        self.counters.retimed_runs += is_moved and not self.is_empty
        self._anchor = (run.first_frame, run.due_ns)
        self._insert(run.first_frame, np.where(is_known[:, None], run.targets, np.nan))
        if run.is_preview:
            self.counters.preview_frames += int(is_known.sum())
        else:
            self.counters.frames += int(is_known.sum())
            self._made_until = max(self._made_until or 0, run.first_frame + len(run.targets))
        self._forget_past(now_ns)
        self._filled = None
        return True

    def positions(self, times_ns: Array) -> Array:
        """Return wanted positions (K, J) at (K,) rising instants [ns]; beyond the ends the end frames hold.

        Raises:
            RuntimeError: No frame is known.
        """
        if self.is_empty:
            raise RuntimeError("the timeline is empty; ask is_empty first")
        if self._filled is None:
            self._filled = self._bridged()
        last = len(self._targets) - 1
        places = np.minimum(np.maximum((times_ns - self.first_ns) / self._frame_ns, 0.0), float(last))
        # A spline forgets what is further away; so few frames, and matrices that are kept, are enough.
        low = max(0, int(places[0]) - self._context)
        high = min(last, int(places[-1]) + 1 + self._context)
        return _spline(self._filled[low : high + 1], places - low)

    def _time_ns(self, frame: int) -> float:
        return self._anchor[1] + (frame - self._anchor[0]) * self._frame_ns

    def _without_made(
        self, run: FrameRun, is_known: npt.NDArray[np.bool_]
    ) -> tuple[FrameRun, npt.NDArray[np.bool_]]:
        """Leave out of a preview the frames that were made already."""
        made = max(0, (self._made_until or 0) - run.first_frame) if run.is_preview else 0
        if not made:
            return run, is_known
        due_ns = run.due_ns + round(made * self._frame_ns)
        return dataclasses.replace(
            run, first_frame=run.first_frame + made, due_ns=due_ns, targets=run.targets[made:]
        ), is_known[made:]

    def _cut(self, frame: int) -> int:
        """Forget the frames from one on; return how many there were."""
        kept = max(0, frame - self._first)
        gone = max(0, len(self._targets) - kept)
        if self._made_until is not None:
            self._made_until = min(self._made_until, frame)
        if gone:
            self._targets = self._targets[:kept]
            self._trim()
        return gone

    def _insert(self, first: int, targets: Array) -> None:
        end = self._first + len(self._targets)
        if self.is_empty or first - end > self._max_gap or first + len(targets) < self._first:
            self._first, self._targets, self._made_until = first, targets, None
        else:
            low, high = min(first, self._first), max(first + len(targets), end)
            self.counters.gap_frames += max(0, first - end)
            merged = np.full((high - low, self._joints), np.nan)
            merged[self._first - low : end - low] = self._targets
            place = merged[first - low : first - low + len(targets)]
            merged[first - low : first - low + len(targets)] = np.where(np.isnan(targets), place, targets)
            self._first, self._targets = low, merged
        self._targets = self._targets[: self._max_frames]
        self._trim()

    def _forget_past(self, now_ns: int) -> None:
        past = int((now_ns - self.first_ns) / self._frame_ns) - self._context
        surplus = min(past, len(self._targets) - 1)
        if surplus > 0:
            self._first += surplus
            self._targets = self._targets[surplus:]
            self._trim()

    def _trim(self) -> None:
        """Unknown frames at either end are no frames."""
        known = np.flatnonzero(~np.isnan(self._targets).any(1))
        low, high = (known[0], known[-1] + 1) if known.size else (0, 0)
        self._first += int(low)
        self._targets = self._targets[low:high]
        self._filled = None

    def _bridged(self) -> Array:
        missing = np.isnan(self._targets).any(1)
        if not missing.any():
            return self._targets
        places = np.arange(len(self._targets))
        filled = self._targets.copy()
        for joint in range(self._joints):
            filled[missing, joint] = np.interp(
                places[missing], places[~missing], self._targets[~missing, joint]
            )
        return filled


def _spline(values: Array, places: Array) -> Array:
    """Return the natural C2 spline through (n, J) values at places 0 .. n - 1, at (K,) places."""
    count = len(values)
    if count < 3:
        return values[0] + places[:, None] * (values[-1] - values[0])
    bends = bends_of(count) @ values
    left = np.minimum(places.astype(np.intp), count - 2)
    t = (places - left)[:, None]
    u = 1.0 - t
    here, there, bend_here, bend_there = values[left], values[left + 1], bends[left], bends[left + 1]
    curved: Array = u * here + t * there - u * t / 6.0 * ((1.0 + u) * bend_here + (1.0 + t) * bend_there)
    return curved


@functools.lru_cache(maxsize=256)
def bends_of(count: int) -> Array:
    """Return the matrix (n, n) from values to second derivatives of their natural spline."""
    inner = count - 2
    differences = np.zeros((inner, count))
    rows = np.arange(inner)
    differences[rows, rows], differences[rows, rows + 1], differences[rows, rows + 2] = 6.0, -12.0, 6.0
    matrix = np.zeros((count, count))
    coupled = 4.0 * np.eye(inner) + np.eye(inner, k=1) + np.eye(inner, k=-1)
    matrix[1:-1] = np.linalg.solve(coupled, differences)
    return matrix
