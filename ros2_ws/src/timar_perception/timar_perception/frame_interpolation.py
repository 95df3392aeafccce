"""Interpolation of head observations, at the times of images, to frames at 25 fps on the conversation clock.

Frame f is the face at the instant of sample 640 f. It lies between two images and is known when the later
one was processed: nothing is predicted. So it comes up to one image interval later than an image of its own
would, 33 ms at 30 images a second and 17 ms on average.
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation, Slerp
from timar_common.clock import SAMPLE_RATE_HZ, SAMPLES_PER_FRAME
from timar_common.user_motion import MAX_FRAMES_PER_MESSAGE, MOTION_CHANNELS, PARTS

Array = npt.NDArray[np.float64]

_COINCIDES_SAMPLES = 16
"""An image no further than 1 ms from a frame's instant shows it by itself [samples]."""


@dataclasses.dataclass(frozen=True)
class HeadObservation:
    """What one image shows of the face that is tracked; None: unseen."""

    neck: Array | None = None
    """(3,) rotation vector in FLAME axes [rad]."""
    jaw_rad: float | None = None
    """Opening [rad]."""
    expression: Array | None = None
    """(50,) FLAME coefficients."""


UNSEEN = HeadObservation()


class FrameRun(NamedTuple):
    """Consecutive frames that are known now."""

    first_frame: int
    """On the conversation's frame counter."""
    motion: npt.NDArray[np.float32]
    """(n, 56) expression, jaw, neck; zero where unseen."""
    valid: npt.NDArray[np.bool_]
    """(n, 3) whether expression, jaw and neck were seen."""


class FrameInterpolator:
    """Turn observations into frames, each given once and in order.

    Args:
        max_gap_ms: Between observations further apart frames are unseen [ms].
        timeout_ms: A frame this old that no observation has covered is given as unseen [ms].

    Raises:
        ValueError: One of them is not positive.
    """

    def __init__(self, max_gap_ms: int, timeout_ms: int) -> None:
        if not (max_gap_ms > 0 and timeout_ms > 0):
            raise ValueError(
                f"a gap of {max_gap_ms} ms and a timeout of {timeout_ms} ms, expected more than 0"
            )
        self.frames_seen = 0
        self.frames_unseen = 0
        """Frames of which no part was seen."""
        self._max_gap = max_gap_ms * SAMPLE_RATE_HZ / 1000
        self._timeout = timeout_ms * SAMPLE_RATE_HZ / 1000
        self.reset()

    def reset(self) -> None:
        """Forget everything: a new conversation counts from 0 again."""
        self._next_frame: int | None = None
        self._last: tuple[float, HeadObservation] | None = None

    def interrupt(self) -> None:
        """Forget the last observation: no frame is interpolated from it to the next one."""
        self._last = None

    def append(self, sample: float, observation: HeadObservation) -> list[FrameRun]:
        """Take an observation and return the frames that are known by it.

        Args:
            sample: Its instant on the conversation clock [samples]; later than the one before.
            observation: What was seen.

        Raises:
            ValueError: It is not later than the one before; nothing has changed then.
        """
        if not math.isfinite(sample):
            raise ValueError(f"an image was taken at sample {sample}, expected a finite number")
        if self._last is not None and sample <= self._last[0]:
            raise ValueError(
                f"an image was taken at sample {sample:.0f}, the last one at {self._last[0]:.0f}; "
                "expected growing times"
            )
        last, self._last = self._last or (sample, UNSEEN), (sample, observation)
        if self._next_frame is None:
            self._next_frame = max(0, math.ceil((sample - _COINCIDES_SAMPLES) / SAMPLES_PER_FRAME))
        end = math.floor((sample + _COINCIDES_SAMPLES) / SAMPLES_PER_FRAME) + 1
        frames = range(self._next_frame, end)
        return self._number([self._at(SAMPLES_PER_FRAME * frame, last, self._last) for frame in frames])

    def expire(self, now_sample: float) -> list[FrameRun]:
        """Return as unseen the frames that are too old to be covered by an observation any more."""
        end = math.floor((now_sample - self._timeout) / SAMPLES_PER_FRAME) + 1
        if self._next_frame is None:
            self._next_frame = max(0, end)
        return self._number([UNSEEN] * (end - self._next_frame))

    def _number(self, observations: list[HeadObservation]) -> list[FrameRun]:
        """Number the next frames, in runs that a message can hold."""
        runs = []
        for start in range(0, len(observations), MAX_FRAMES_PER_MESSAGE):
            run = _rows(self._next_frame or 0, observations[start : start + MAX_FRAMES_PER_MESSAGE])
            seen = int(run.valid.any(axis=1).sum())
            self.frames_seen += seen
            self.frames_unseen += len(run.valid) - seen
            self._next_frame = run.first_frame + len(run.valid)
            runs.append(run)
        return runs

    def _at(
        self, sample: int, before: tuple[float, HeadObservation], after: tuple[float, HeadObservation]
    ) -> HeadObservation:
        """Return what is known of an instant between two observations, or next to one."""
        for observed, observation in (after, before):
            if abs(sample - observed) <= _COINCIDES_SAMPLES:
                return observation
        length = after[0] - before[0]
        if length > self._max_gap or not before[0] <= sample <= after[0]:
            return UNSEEN
        fraction = (sample - before[0]) / length
        one, two = before[1], after[1]
        return HeadObservation(
            neck=_slerp(one.neck, two.neck, fraction),
            jaw_rad=_lerp(one.jaw_rad, two.jaw_rad, fraction),
            expression=_lerp(one.expression, two.expression, fraction),
        )


_Number = TypeVar("_Number", float, Array)


def _lerp(one: _Number | None, two: _Number | None, fraction: float) -> _Number | None:
    return None if one is None or two is None else one + fraction * (two - one)


def _slerp(one: Array | None, two: Array | None, fraction: float) -> Array | None:
    if one is None or two is None:
        return None
    return np.asarray(Slerp([0.0, 1.0], Rotation.from_rotvec([one, two]))(fraction).as_rotvec())


def _rows(first_frame: int, observations: list[HeadObservation]) -> FrameRun:
    motion = np.zeros((len(observations), MOTION_CHANNELS), np.float32)
    valid = np.zeros((len(observations), len(PARTS)), np.bool_)
    for row, observation in enumerate(observations):
        jaw = None if observation.jaw_rad is None else (observation.jaw_rad, 0.0, 0.0)
        parts = {"expression": observation.expression, "jaw": jaw, "neck": observation.neck}
        for column, (part, columns) in enumerate(PARTS.items()):
            if parts[part] is not None:
                motion[row, columns] = parts[part]
                valid[row, column] = True
    return FrameRun(first_frame, motion, valid)
