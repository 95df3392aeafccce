"""From pictures at their own times to frames at 25 a second on the conversation clock. Pure.

Frame f is the face at the instant of sample 640 f. It lies between two pictures and is told when the later
one was looked at: nothing is foretold. So it comes up to one picture's distance later than a picture of its
own would, 33 ms at 30 pictures a second and 17 ms on average.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation, Slerp
from timar_common.clock import SAMPLE_RATE_HZ, SAMPLES_PER_FRAME
from timar_common.user_motion import MAX_FRAMES_PER_MESSAGE, MOTION_CHANNELS, PARTS, SeenFrames

Array = npt.NDArray[np.float64]

_NEXT_TO_SAMPLES = 16
"""A picture no further than 1 ms from a frame's instant shows it by itself [samples]."""


@dataclasses.dataclass(frozen=True)
class Sighting:
    """What one picture tells of the face that is followed; None: unseen."""

    neck: Array | None = None
    """(3,) rotation vector in FLAME axes [rad]."""
    jaw_rad: float | None = None
    """Opening [rad]."""
    expression: Array | None = None
    """(50,) FLAME numbers."""


UNSEEN = Sighting()


class FrameMaker:
    """Turn sightings into frames, each told once and in order.

    Args:
        max_gap_ms: Between sightings further apart frames are unseen [ms].
        give_up_ms: A frame so old that no sighting has told of is told as unseen [ms].
    """

    def __init__(self, max_gap_ms: int, give_up_ms: int) -> None:
        self.frames_seen = 0
        self.frames_unseen = 0
        """Frames of which no part was seen."""
        self._max_gap = max_gap_ms * SAMPLE_RATE_HZ / 1000
        self._give_up = give_up_ms * SAMPLE_RATE_HZ / 1000
        self.restart()

    def restart(self) -> None:
        """Begin anew: the conversation's counter did, or the camera's time."""
        self._next_frame: int | None = None
        self._before: tuple[float, Sighting] | None = None

    def lose_sight(self) -> None:
        """Forget the last sighting: the next one does not go on from it. Frames told stay told."""
        self._before = None

    def push(self, sample: float, sighting: Sighting) -> list[SeenFrames]:
        """Take a sighting in and return the frames that are known by it.

        Args:
            sample: Its instant on the conversation clock [samples]; later than the one before.
            sighting: What was seen.

        Raises:
            ValueError: It is not later than the one before; nothing has changed then.
        """
        if not math.isfinite(sample):
            raise ValueError(f"a picture was taken at sample {sample}, expected a finite place")
        if self._before is not None and sample <= self._before[0]:
            raise ValueError(
                f"a picture was taken at sample {sample:.0f}, the last one at {self._before[0]:.0f}; "
                "expected growing times"
            )
        before, self._before = self._before or (sample, UNSEEN), (sample, sighting)
        if self._next_frame is None:
            self._next_frame = max(0, math.ceil((sample - _NEXT_TO_SAMPLES) / SAMPLES_PER_FRAME))
        end = math.floor((sample + _NEXT_TO_SAMPLES) / SAMPLES_PER_FRAME) + 1
        first = self._next_frame
        return self._tell(
            [
                self._between(before, (sample, sighting), SAMPLES_PER_FRAME * frame)
                for frame in range(first, end)
            ]
        )

    def give_up(self, now_sample: float) -> list[SeenFrames]:
        """Return as unseen the frames that are too old to be told of any more."""
        end = math.floor((now_sample - self._give_up) / SAMPLES_PER_FRAME) + 1
        if self._next_frame is None:
            self._next_frame = max(0, end)
        return self._tell([UNSEEN] * (end - self._next_frame))

    def _tell(self, sightings: list[Sighting]) -> list[SeenFrames]:
        """Number the next frames, in runs that a message can hold."""
        runs = []
        for start in range(0, len(sightings), MAX_FRAMES_PER_MESSAGE):
            run = _rows(self._next_frame or 0, sightings[start : start + MAX_FRAMES_PER_MESSAGE])
            seen = int(run.valid.any(axis=1).sum())
            self.frames_seen += seen
            self.frames_unseen += len(run.valid) - seen
            self._next_frame = run.first_frame + len(run.valid)
            runs.append(run)
        return runs

    def _between(
        self, before: tuple[float, Sighting], after: tuple[float, Sighting], sample: int
    ) -> Sighting:
        """Return what is known of an instant between two sightings, or next to one."""
        for place, sighting in (after, before):
            if abs(sample - place) <= _NEXT_TO_SAMPLES:
                return sighting
        length = after[0] - before[0]
        if length > self._max_gap or not before[0] <= sample <= after[0]:
            return UNSEEN
        share = (sample - before[0]) / length
        one, two = before[1], after[1]
        return Sighting(
            neck=_turned(one.neck, two.neck, share),
            jaw_rad=_mixed(one.jaw_rad, two.jaw_rad, share),
            expression=_mixed(one.expression, two.expression, share),
        )


_Number = TypeVar("_Number", float, Array)


def _mixed(one: _Number | None, two: _Number | None, share: float) -> _Number | None:
    return None if one is None or two is None else one + share * (two - one)


def _turned(one: Array | None, two: Array | None, share: float) -> Array | None:
    if one is None or two is None:
        return None
    return np.asarray(Slerp([0.0, 1.0], Rotation.from_rotvec([one, two]))(share).as_rotvec())


def _rows(first_frame: int, sightings: list[Sighting]) -> SeenFrames:
    motion = np.zeros((len(sightings), MOTION_CHANNELS), np.float32)
    valid = np.zeros((len(sightings), len(PARTS)), np.bool_)
    for place, sighting in enumerate(sightings):
        jaw = None if sighting.jaw_rad is None else (sighting.jaw_rad, 0.0, 0.0)
        parts = {"expression": sighting.expression, "jaw": jaw, "neck": sighting.neck}
        for column, (part, columns) in enumerate(PARTS.items()):
            if parts[part] is not None:
                motion[place, columns] = parts[part]
                valid[place, column] = True
    return SeenFrames(first_frame, motion, valid)
