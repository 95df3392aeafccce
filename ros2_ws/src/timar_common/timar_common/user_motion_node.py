"""The message of user/motion, for every node that tells it."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np

from timar_common.base_node import BaseNode, message_type
from timar_common.clock import FRAMES_PER_SECOND
from timar_common.user_motion import PARTS, SeenFrames


def user_motion_message(node: BaseNode, frames: SeenFrames, first_ns: int) -> Any:
    """Return a timar_msgs/UserMotion.

    Args:
        node: Whose clock stamps it.
        frames: What was seen.
        first_ns: The instant of its first frame, CLOCK_MONOTONIC [ns].
    """
    rows = {
        part: array("f", np.ascontiguousarray(frames.motion[:, place], np.float32).tobytes())
        for part, place in PARTS.items()
    }
    flags = {f"{part}_valid": frames.valid[:, column].tolist() for column, part in enumerate(PARTS)}
    return message_type("timar_msgs/msg/UserMotion")(
        header=node.header(first_ns, "user_head"),
        first_frame=frames.first_frame,
        fps=float(FRAMES_PER_SECOND),
        frames=len(frames.motion),
        **rows,
        **flags,
    )
