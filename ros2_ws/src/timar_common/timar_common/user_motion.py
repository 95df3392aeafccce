"""The user's motion by frame, as whoever sees it tells and whoever needs it reads."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt

MOTION_CHANNELS = 56
PARTS = {"expression": slice(0, 50), "jaw": slice(50, 53), "neck": slice(53, 56)}
"""Where each part stands in a motion vector; also the order of a validity row."""

MAX_FRAMES_PER_MESSAGE = 250
EXPRESSION_LIMIT = 100.0
"""FLAME coefficients stay within about 5; a number beyond this is not a face."""
ROTATION_LIMIT_RAD = math.pi + 1e-4
"""Half a turn, with room for float32 rounding."""


@dataclasses.dataclass(frozen=True)
class SeenFrames:
    """Frames that follow each other and are known now."""

    first_frame: int
    """On the conversation's frame counter."""
    motion: npt.NDArray[np.float32]
    """(n, 56) expression, jaw, neck; anything where it was not seen."""
    valid: npt.NDArray[np.bool_]
    """(n, 3) whether expression, jaw and neck were seen."""
