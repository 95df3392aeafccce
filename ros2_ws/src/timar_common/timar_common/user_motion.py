"""The UserMotion message: (frames, 56) FLAME motion with validity per part, written and read with checks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from timar_common.clock import FRAMES_PER_SECOND
from timar_common.messages import Header, Message, new

MOTION_CHANNELS = 56
PARTS = {"expression": slice(0, 50), "jaw": slice(50, 53), "neck": slice(53, 56)}
"""Columns of each part in a motion vector; also the order of a validity row."""

MAX_FRAMES_PER_MESSAGE = 250
EXPRESSION_LIMIT = 100.0
"""FLAME coefficients stay within about 5; a number beyond this is not a face."""
ROTATION_LIMIT_RAD = math.pi + 1e-4
"""Half a revolution, with room for float32 rounding."""


def user_motion_message(
    first_frame: int, motion: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_], stamp_ns: int
) -> Message:
    """Return a timar_msgs/UserMotion.

    Args:
        first_frame: Of motion[0] on the conversation's frame counter.
        motion: (n, 56) expression, jaw, neck.
        valid: (n, 3) whether expression, jaw and neck were seen.
        stamp_ns: The instant of the first frame, CLOCK_MONOTONIC [ns].
    """
    fields: dict[str, Any] = {part: motion[:, columns].ravel() for part, columns in PARTS.items()}
    fields |= {f"{part}_valid": valid[:, column].copy() for column, part in enumerate(PARTS)}
    return new(
        "UserMotion",
        header=Header(stamp_ns, "user_head"),
        first_frame=first_frame,
        fps=float(FRAMES_PER_SECOND),
        frames=len(motion),
        **fields,
    )


def user_motion_from(message: Message) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Join the flat arrays of a timar_msgs/UserMotion into motion vectors and their validity.

    Args:
        message: From a component's host, a bag, or rclpy: all that is needed is its fields.

    Returns:
        (frames, 56) float32 motion, zero where not valid, and (frames, 3) validity of expression, jaw, neck.

    Raises:
        ValueError: Its rate is not 25 fps, it starts before frame 0, lengths disagree, or a number that is
            marked as seen is not finite or out of its range.
    """
    frames = int(message.frames)
    if not 1 <= frames <= MAX_FRAMES_PER_MESSAGE:
        raise ValueError(f"the message holds {frames} frames, expected 1 to {MAX_FRAMES_PER_MESSAGE}")
    if message.fps != FRAMES_PER_SECOND:
        raise ValueError(
            f"the user's motion has {message.fps:g} frames a second, expected {FRAMES_PER_SECOND}: "
            "resample it before"
        )
    if message.first_frame < 0:
        raise ValueError(f"the user's motion starts at frame {message.first_frame}, expected 0 or later")
    motion = np.zeros((frames, MOTION_CHANNELS), np.float32)
    valid = np.zeros((frames, len(PARTS)), np.bool_)
    for column, (part, columns) in enumerate(PARTS.items()):
        numbers, flags = getattr(message, part), getattr(message, f"{part}_valid")
        width = columns.stop - columns.start
        if len(numbers) != frames * width or len(flags) != frames:
            raise ValueError(
                f"{part} has {len(numbers)} numbers and {len(flags)} flags for {frames} frames, "
                f"expected {frames * width} and {frames}"
            )
        motion[:, columns] = np.asarray(numbers, np.float32).reshape(frames, width)
        valid[:, column] = flags
        motion[~valid[:, column], columns] = 0  # What was not seen may hold anything.
    check_user_motion(motion, valid)
    return motion, valid


def check_user_motion(motion: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]) -> None:
    """Check that what is marked as seen can be a face.

    Args:
        motion: (n, 56) expression, jaw, neck.
        valid: (n, 3) whether expression, jaw and neck were seen.

    Raises:
        ValueError: A number is not finite or out of its range; the message names frame, part and value.
    """
    for column, (part, columns) in enumerate(PARTS.items()):
        limit = EXPRESSION_LIMIT if part == "expression" else ROTATION_LIMIT_RAD
        rows = motion[:, columns]
        wrong = np.argwhere(~(np.abs(rows) <= limit) & valid[:, column, None])
        if len(wrong):
            frame, channel = wrong[0]
            raise ValueError(
                f"frame {frame}: {part} is {rows[frame, channel]:g}, expected {-limit:.4g} to {limit:.4g}; "
                "mark what was not seen as not valid"
            )
