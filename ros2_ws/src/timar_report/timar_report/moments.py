"""Finds the worst moments of a conversation, each with its time in the bag."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from timar_common.clock import FRAMES_PER_SECOND, SAMPLES_PER_FRAME

from timar_report.score import WINDOW_FRAMES, WINDOWS, ConversationScore

PER_KIND = 2
AT_LEAST_TIMES_MEDIAN = 1.5
"""A window is worth a look when it is so much worse than the usual one."""


class WorstMoment(NamedTuple):
    """Something worth a look."""

    seconds: float
    """Since the begin of the conversation [s]."""
    bag_ns: int
    """ROS time [ns], as players of bags show it."""
    what: str
    joints_rad: dict[str, float]
    """Where the joints were commanded to be."""


def worst_moments(score: ConversationScore) -> list[WorstMoment]:
    """Return the worst windows of every metric that can be worse, and the latest turns, in order of time."""
    found: list[tuple[float, str]] = []
    for name, metric in WINDOWS.items():
        values = score.windows[name]
        known = np.flatnonzero(np.isfinite(values))
        if metric.better == "neither" or not known.size:
            continue
        usual = float(np.median(np.abs(values[known])))
        is_lower = metric.better == "lower"
        worst = known[np.argsort((-values if is_lower else values)[known], kind="stable")][:PER_KIND]
        for window in worst:
            value = float(values[window])
            is_bad = value > AT_LEAST_TIMES_MEDIAN * usual if is_lower else value < 0.5 * usual
            if is_bad and value != 0.0:
                middle_s = (window + 0.5) * WINDOW_FRAMES / FRAMES_PER_SECOND
                found.append((middle_s, f"{metric.doc}: {value:.3g} (usual {usual:.3g})"))
    late = [decision for decision in score.frames.conversation.generated if decision.is_late]
    for decision in sorted(late, key=lambda each: -each.compute_ms)[:PER_KIND]:
        seconds = decision.first_frame / FRAMES_PER_SECOND
        found.append((seconds, f"turn came late: {decision.compute_ms:.0f} ms of compute"))
    return [_moment(score, seconds, what) for seconds, what in sorted(found)]


def _moment(score: ConversationScore, seconds: float, what: str) -> WorstMoment:
    conversation = score.frames.conversation
    bag_ns = conversation.begin_ns + round(seconds * 1e9)
    if conversation.user_voice is not None:
        bag_ns = int(conversation.user_voice.time_ns([seconds * FRAMES_PER_SECOND * SAMPLES_PER_FRAME])[0])
    joints = {}
    for name, (time_ns, position, _) in conversation.commands.joints.items():
        since = (time_ns - time_ns[0]).astype(float)
        joints[name] = float(np.interp(float(bag_ns - time_ns[0]), since, position))
    return WorstMoment(seconds, bag_ns, what, joints)
