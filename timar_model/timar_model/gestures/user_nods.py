"""Finds nods in a user's head motion, frame by frame."""

from __future__ import annotations

import collections

import numpy as np
import numpy.typing as npt

WINDOW_FRAMES = 12
"""About half a second: a stroke down and up fits in."""
MIN_STROKE_RAD = 0.03
"""Pitch must go down and come back up by this much within the window, or the other way round."""


class NodDetector:
    """Tell of each frame whether the head is in a nod: its pitch turned round after a stroke either way."""

    def __init__(self) -> None:
        self._pitch: collections.deque[float] = collections.deque(maxlen=WINDOW_FRAMES)

    def step(self, neck: npt.NDArray[np.floating] | None) -> bool:
        """Take the neck's rotation vector (3,) of the next frame, None where it was not seen."""
        if neck is None:
            self._pitch.clear()
            return False
        self._pitch.append(float(neck[0]))
        pitch = np.array(self._pitch)
        down, up = pitch.argmax(), pitch.argmin()
        return bool(
            min(pitch[down] - pitch[: down + 1].min(), pitch[down] - pitch[-1]) >= MIN_STROKE_RAD
            or min(pitch[: up + 1].max() - pitch[up], pitch[-1] - pitch[up]) >= MIN_STROKE_RAD
        )
