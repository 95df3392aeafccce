"""Arbitration: who moves the joints, and who may take them from whom."""

from __future__ import annotations

import enum
from collections.abc import Sequence


class JointHolder(enum.Enum):
    """Who moves the joints; the value is what `joints_held_by` says."""

    NOBODY = "nobody"
    """It is not known where they are."""
    STOPPED = "stopped"
    """The stop service was called: nobody may take them before `resume`."""
    IDLE = "idle"
    """Idle behavior, or the way to neutral: anybody may take them."""
    BY_HAND = "by_hand"
    """`joint_targets`: the view's sliders, or a tool."""
    TRAJECTORY = "trajectory"
    """A trajectory from outside, by topic or action."""
    CONVERSATION = "conversation"
    """Motion of inference."""


class Mode(enum.Enum):
    """What moves the head now."""

    WAITING = "waiting for the first joint states"
    FOLLOWING = "following motion"
    EASING = "easing to neutral"
    IDLE = "idle behavior"
    STOPPED = "stopped by a call of the stop service"
    BY_HAND = "moved by hand"
    TRAJECTORY = "following a trajectory from outside"


HOLDERS = {
    Mode.WAITING: JointHolder.NOBODY,
    Mode.FOLLOWING: JointHolder.CONVERSATION,
    Mode.EASING: JointHolder.IDLE,
    Mode.IDLE: JointHolder.IDLE,
    Mode.STOPPED: JointHolder.STOPPED,
    Mode.BY_HAND: JointHolder.BY_HAND,
    Mode.TRAJECTORY: JointHolder.TRAJECTORY,
}
"""Who holds the joints in each mode."""

PRIORITIES = (JointHolder.BY_HAND, JointHolder.TRAJECTORY, JointHolder.CONVERSATION)
"""Who goes before whom unless a parameter says otherwise: what is told on purpose before what runs anyway."""


def may_take(wanted: JointHolder, held: JointHolder, priorities: Sequence[JointHolder]) -> bool:
    """Return whether somebody may take the joints from their holder: equals may, and nobody from a stop."""
    if held in (JointHolder.NOBODY, JointHolder.STOPPED):
        return False
    return held is JointHolder.IDLE or priorities.index(wanted) <= priorities.index(held)
