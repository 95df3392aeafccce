"""Requests for gestures: checked and placed on the frame counter, or refused with a reason."""

from __future__ import annotations

import dataclasses

import numpy as np
from timar_common.messages import Message, constants, new
from timar_model.gestures.dials import HeadDials
from timar_model.gestures.drawing import usual_gesture, variation_of
from timar_model.gestures.gesture import FRAMES_PER_SECOND, Gesture, GestureKind
from timar_model.gestures.gesture_layer import RequestedGesture

MAX_AHEAD_FRAMES = 60 * FRAMES_PER_SECOND
"""A gesture can be asked for this far ahead."""
MAX_LATE_FRAMES = FRAMES_PER_SECOND // 2
"""One that was wanted this long ago is made as soon as possible; later it would answer something else."""


@dataclasses.dataclass(frozen=True)
class RefusedGesture:
    """A request that cannot be done."""

    gesture_id: str
    kind: int
    reason: str


class GestureRequests:
    """Requests that are accepted and not over, and those refused and not yet reported."""

    def __init__(self) -> None:
        self._waiting: list[RequestedGesture] = []
        self._refused: list[RefusedGesture] = []
        self._count = 0

    def add(
        self, wanted: Message, wanted_frame: int | None, next_frame: int | None, dials: HeadDials, seed: int
    ) -> str:
        """Take a request.

        Args:
            wanted: Its timar_msgs/Gesture.
            wanted_frame: Where it shall begin; None: as soon as possible.
            next_frame: First frame of the next turn; None before the user's first sound.
            dials: What a gesture is like that leaves it to the head.
            seed: Of the conversation.

        Returns:
            Why it was refused; empty when it was not.
        """
        self._count += 1
        gesture_id = str(wanted.gesture_id) or f"request-{self._count}"
        try:
            gesture = self._placed(wanted, wanted_frame, next_frame, dials, seed)
            self._require_free(gesture, gesture_id)
        except ValueError as error:
            self._refused.append(RefusedGesture(gesture_id, int(wanted.kind), str(error)))
            return str(error)
        self._waiting.append(RequestedGesture(gesture, gesture_id))
        return ""

    def withdraw(self, gesture_id: str, next_frame: int) -> None:
        """Take a request back, unless it begins before the next turn."""
        self._waiting = [
            request
            for request in self._waiting
            if request.gesture_id != gesture_id or request.gesture.first_frame < next_frame
        ]

    def known(self, first_frame: int, end_frame: int) -> tuple[RequestedGesture, ...]:
        """Return the requests that begin in [first_frame, end_frame)."""
        return tuple(r for r in self._waiting if first_frame <= r.gesture.first_frame < end_frame)

    def take_refused(self) -> tuple[RefusedGesture, ...]:
        """Return what was refused since the last call."""
        refused, self._refused = tuple(self._refused), []
        return refused

    def forget_before(self, frame: int) -> None:
        """Drop what is over before a frame that no rollback reaches."""
        self._waiting = [r for r in self._waiting if r.gesture.end_frame > frame]

    def restart(self) -> None:
        """Refuse what waits: its conversation is over."""
        for request in self._waiting:
            reason = "the conversation ended before it was over"
            self._refused.append(RefusedGesture(request.gesture_id, int(request.gesture.kind), reason))
        self._waiting = []

    def _placed(
        self, wanted: Message, wanted_frame: int | None, next_frame: int | None, dials: HeadDials, seed: int
    ) -> Gesture:
        try:
            kind = GestureKind(int(wanted.kind))
        except ValueError:
            known = ", ".join(f"{kind.value} ({kind.words})" for kind in GestureKind)
            raise ValueError(f"the kind is {wanted.kind}, expected one of {known}") from None
        if next_frame is None:
            raise ValueError("no sound of the user has come yet, so no motion is made")
        frame = next_frame if wanted_frame is None else wanted_frame
        if frame < next_frame - MAX_LATE_FRAMES:
            late_s = (next_frame - frame) / FRAMES_PER_SECOND
            raise ValueError(f"it was wanted {late_s:.1f} s before the next frame that can still be made")
        if frame > next_frame + MAX_AHEAD_FRAMES:
            ahead_s = (frame - next_frame) / FRAMES_PER_SECOND
            raise ValueError(f"it is wanted in {ahead_s:.0f} s, expected at most 60")
        return _gesture(wanted, kind, max(frame, next_frame), dials, seed)

    def _require_free(self, gesture: Gesture, gesture_id: str) -> None:
        for request in self._waiting:
            other = request.gesture
            if request.gesture_id == gesture_id:
                raise ValueError(f"gesture_id {gesture_id!r} is asked for already")
            overlaps = gesture.first_frame < other.end_frame and other.first_frame < gesture.end_frame
            if overlaps and not (gesture.kind.is_look or other.kind.is_look):
                raise ValueError(
                    f"a {other.kind.words} that was asked for is under way from frame {other.first_frame} to "
                    f"{other.end_frame}, and this would begin at {gesture.first_frame}"
                )


def _gesture(wanted: Message, kind: GestureKind, frame: int, dials: HeadDials, seed: int) -> Gesture:
    """Return the gesture of a request; what it leaves to the head follows the dials.

    Raises:
        ValueError: A value that it names cannot be.
    """
    head = usual_gesture(kind, frame, dials, seed)
    return dataclasses.replace(
        head,
        side=int(wanted.side) or head.side,
        count=int(wanted.count) or head.count,
        # As the log carries them, so that following it makes the same motion.
        size_rad=float(np.float32(wanted.size_rad or head.size_rad)),
        speed_hz=float(np.float32(wanted.speed_hz or head.speed_hz)),
        hold_s=float(np.float32(wanted.hold_s or head.hold_s)),
    )


def gesture_message(gesture: Gesture, gesture_id: str) -> Message:
    """Return a gesture that is shown as timar_msgs/Gesture; one without an id was drawn."""
    numbers = constants("Gesture")
    return new(
        "Gesture",
        gesture_id=gesture_id,
        kind=int(gesture.kind),
        source=numbers["REQUESTED" if gesture_id else "DRAWN"],
        first_frame=gesture.first_frame,
        frames=gesture.frames,
        count=gesture.count,
        size_rad=gesture.size_rad,
        speed_hz=gesture.speed_hz,
        hold_s=gesture.hold_s,
        side=gesture.side,
    )


def refusal_message(refused: RefusedGesture) -> Message:
    """Return a refused request as timar_msgs/Gesture."""
    return new(
        "Gesture",
        gesture_id=refused.gesture_id,
        kind=refused.kind,
        source=constants("Gesture")["REQUESTED"],
        refused_because=refused.reason,
    )


def requested_from(message: Message, seed: int) -> RequestedGesture | RefusedGesture:
    """Return an entry of a turn log's gestures as it was."""
    if message.refused_because:
        return RefusedGesture(str(message.gesture_id), int(message.kind), str(message.refused_because))
    frame = int(message.first_frame)
    gesture = Gesture(
        GestureKind(int(message.kind)),
        frame,
        int(message.count),
        float(message.size_rad),
        float(message.speed_hz),
        int(message.side),
        float(message.hold_s),
        variation_of(seed, frame),
    )
    return RequestedGesture(gesture, str(message.gesture_id))
