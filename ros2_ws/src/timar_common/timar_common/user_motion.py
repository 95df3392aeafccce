"""The user's motion by frame, as whoever sees it tells and whoever needs it reads."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Rows = Sequence[float] | npt.NDArray[np.float32]
Flags = Sequence[bool] | npt.NDArray[np.bool_]

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


def motion_from_rows(
    frames: int,
    expression: Rows,
    jaw: Rows,
    neck: Rows,
    expression_valid: Flags,
    jaw_valid: Flags,
    neck_valid: Flags,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Join the flat arrays of a message into motion vectors and their validity.

    Args:
        frames: How many frames they hold, 1..250.
        expression: frames x 50 coefficients, frame by frame.
        jaw: frames x 3 axis-angle [rad].
        neck: frames x 3 axis-angle [rad].
        expression_valid: One flag per frame; what is not valid may hold anything and reads as 0.
        jaw_valid: One flag per frame.
        neck_valid: One flag per frame.

    Returns:
        (frames, 56) float32 motion and (frames, 3) validity of expression, jaw and neck.

    Raises:
        ValueError: Lengths disagree, or a valid number is not finite or out of its range.
    """
    if not 1 <= frames <= MAX_FRAMES_PER_MESSAGE:
        raise ValueError(f"the message holds {frames} frames, expected 1 to {MAX_FRAMES_PER_MESSAGE}")
    motion = np.zeros((frames, MOTION_CHANNELS), np.float32)
    valid = np.zeros((frames, len(PARTS)), np.bool_)
    sources = {
        "expression": (expression, expression_valid),
        "jaw": (jaw, jaw_valid),
        "neck": (neck, neck_valid),
    }
    for column, (part, (numbers, flags)) in enumerate(sources.items()):
        width = PARTS[part].stop - PARTS[part].start
        if len(numbers) != frames * width or len(flags) != frames:
            raise ValueError(
                f"{part} has {len(numbers)} numbers and {len(flags)} flags for {frames} frames, "
                f"expected {frames * width} and {frames}"
            )
        valid[:, column] = flags
        rows = np.asarray(numbers, np.float32).reshape(frames, width)
        _require_plausible(part, rows[valid[:, column]])
        motion[:, PARTS[part]] = np.where(valid[:, column, None], rows, np.float32(0))
    return motion, valid


def _require_plausible(part: str, rows: npt.NDArray[np.float32]) -> None:
    limit = EXPRESSION_LIMIT if part == "expression" else ROTATION_LIMIT_RAD
    wrong = rows[~(np.abs(rows) <= limit)]
    if wrong.size:
        raise ValueError(
            f"{part} marked as seen holds {wrong.flat[0]}, expected a finite number from {-limit:.4g} to "
            f"{limit:.4g}; mark what was not seen as not valid"
        )
