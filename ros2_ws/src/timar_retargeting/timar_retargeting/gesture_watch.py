"""Follows requested gestures from the request to when they were seen, by the motion that carries them."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Iterator

from timar_common.messages import Message

FRAME_NS = 40_000_000
ANSWER_WITHIN_NS = 2_000_000_000
"""A request that no motion answers this long after it was wanted is given up [ns]."""


class GestureOutcome(enum.IntEnum):
    """What became of a request, as in timar_msgs/MakeGesture."""

    SHOWN = 0
    REFUSED = 1
    CANCELED = 2
    INTERRUPTED = 3


@dataclasses.dataclass(frozen=True)
class GestureResult:
    """The end of a request."""

    gesture_id: str
    outcome: GestureOutcome
    message: str
    first_frame: int = -1
    visible_from_ns: int = 0
    """When its first frame was seen, monotonic; 0: it was not [ns]."""
    visible_until_ns: int = 0


@dataclasses.dataclass
class _Watched:
    """A request on its way."""

    give_up_ns: int
    first_frame: int = -1
    from_ns: int = 0
    until_ns: int = 0
    is_canceled: bool = False


class GestureWatch:
    """Requests that wait or are seen; times are arguments, monotonic [ns]."""

    def __init__(self) -> None:
        self._watched: dict[str, _Watched] = {}

    def __contains__(self, gesture_id: str) -> bool:
        return gesture_id in self._watched

    def add(self, gesture_id: str, wanted_ns: int, now_ns: int) -> None:
        """Follow a request that is wanted at an instant; 0: as soon as possible."""
        self._watched[gesture_id] = _Watched(max(wanted_ns, now_ns) + ANSWER_WITHIN_NS)

    def cancel(self, gesture_id: str) -> None:
        """Note that a request was taken back; it ends as CANCELED unless it is seen."""
        if gesture_id in self._watched:
            self._watched[gesture_id].is_canceled = True

    def stage(self, gesture_id: str, now_ns: int) -> tuple[bool, int]:
        """Return whether a request is being seen, and its first frame, -1 while that is not known."""
        watched = self._watched[gesture_id]
        return watched.first_frame >= 0 and watched.from_ns <= now_ns, watched.first_frame

    def on_motion(self, motion: Message, now_ns: int) -> Iterator[GestureResult]:
        """Take motion in: where gestures begin, which requests are refused, and which turns come anew."""
        if motion.is_preview:
            return
        for watched in self._watched.values():
            if watched.first_frame >= motion.first_frame and watched.from_ns > now_ns:
                watched.first_frame = -1  # Its turn is made again, and tells of it again.
        for gesture in motion.gestures:
            known = self._watched.get(str(gesture.gesture_id))
            if known is None:
                continue
            if gesture.refused_because:
                yield self._end(str(gesture.gesture_id), GestureOutcome.REFUSED, str(gesture.refused_because))
                continue
            known.first_frame = int(gesture.first_frame)
            known.from_ns = motion.header.stamp + (known.first_frame - int(motion.first_frame)) * FRAME_NS
            known.until_ns = known.from_ns + int(gesture.frames) * FRAME_NS

    def tick(self, is_following: bool, why_not: str, now_ns: int) -> Iterable[GestureResult]:
        """Return the requests that are over.

        Args:
            is_following: Whether the head follows motion.
            why_not: What it does instead.
            now_ns: Now.
        """
        results = []
        for gesture_id, watched in list(self._watched.items()):
            is_placed = watched.first_frame >= 0
            has_begun = is_placed and watched.from_ns <= now_ns
            if is_placed and watched.until_ns <= now_ns:
                results.append(self._end(gesture_id, GestureOutcome.SHOWN, ""))
            elif has_begun and not is_following:
                watched.until_ns = now_ns
                results.append(self._end(gesture_id, GestureOutcome.INTERRUPTED, f"the head is {why_not}"))
            elif watched.is_canceled and not is_placed:
                results.append(self._end(gesture_id, GestureOutcome.CANCELED, "it was taken back"))
            elif not is_placed and now_ns >= watched.give_up_ns:
                reason = "no motion carried it: does inference run, and does sound of the user come?"
                results.append(self._end(gesture_id, GestureOutcome.REFUSED, reason))
        return results

    def end_all(self, now_ns: int) -> list[GestureResult]:
        """Give up everything: the node stops."""
        for watched in self._watched.values():
            watched.until_ns = min(watched.until_ns, now_ns)
        reason = "the node was deactivated"
        return [
            self._end(gesture_id, GestureOutcome.INTERRUPTED, reason) for gesture_id in list(self._watched)
        ]

    def _end(self, gesture_id: str, outcome: GestureOutcome, message: str) -> GestureResult:
        watched = self._watched.pop(gesture_id)
        if outcome in (GestureOutcome.SHOWN, GestureOutcome.INTERRUPTED) and watched.first_frame >= 0:
            seen = (watched.first_frame, watched.from_ns, watched.until_ns)
            return GestureResult(gesture_id, outcome, message, *seen)
        return GestureResult(gesture_id, outcome, message)
