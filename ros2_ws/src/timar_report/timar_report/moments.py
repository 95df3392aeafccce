"""The worst moments of a conversation, each at its time in the bag."""

from __future__ import annotations

import dataclasses

import numpy as np
from timar_bag.conversation import GENERATE
from timar_common.clock import FRAMES_PER_SECOND, SAMPLES_PER_FRAME

from timar_report.score import WINDOW_FRAMES, WINDOWS, Score

PER_KIND = 2
AT_LEAST_TIMES_MEDIAN = 1.5
"""A window is worth a look when it is so much worse than the usual one."""


@dataclasses.dataclass(frozen=True)
class Moment:
    """Something worth a look."""

    seconds: float
    """Since the begin of the conversation [s]."""
    bag_ns: int
    """ROS time [ns], as players of bags show it."""
    what: str
    joints_rad: dict[str, float]
    """Where the joints were commanded to be."""


def worst_moments(score: Score) -> list[Moment]:
    """Return the worst windows of every metric that can be worse, and the latest turns, in order of time."""
    found: list[tuple[float, str]] = []
    for name, metric in WINDOWS.items():
        values = score.windows[name]
        known = np.flatnonzero(np.isfinite(values))
        if metric.better == "neither" or not known.size:
            continue
        badness = values if metric.better == "lower" else -values
        usual = float(np.median(np.abs(values[known])))
        for window in known[np.argsort(-badness[known], kind="stable")][:PER_KIND]:
            value = float(values[window])
            is_bad = (
                value > AT_LEAST_TIMES_MEDIAN * usual if metric.better == "lower" else value < 0.5 * usual
            )
            if is_bad and value != 0.0:
                middle_s = (window + 0.5) * WINDOW_FRAMES / FRAMES_PER_SECOND
                found.append((middle_s, f"{metric.doc}: {value:.3g} (usual {usual:.3g})"))
    late = [d for d in score.frames.conversation.decisions if d.kind == GENERATE and d.is_late]
    for decision in sorted(late, key=lambda d: -d.compute_ms)[:PER_KIND]:
        seconds = decision.first_frame / FRAMES_PER_SECOND
        found.append((seconds, f"turn came late: {decision.compute_ms:.0f} ms of compute"))
    return [_moment(score, seconds, what) for seconds, what in sorted(found)]


def _moment(score: Score, seconds: float, what: str) -> Moment:
    conversation = score.frames.conversation
    voice = conversation.voices.get("user/audio") or conversation.voices.get("user/audio_raw")
    bag_ns = conversation.begin_ns + round(seconds * 1e9)
    if voice is not None:
        bag_ns = int(voice.time_ns([seconds * FRAMES_PER_SECOND * SAMPLES_PER_FRAME])[0])
    joints = {}
    commands = conversation.commands
    for name in commands.names:
        time_ns, position = commands.of(name)
        joints[name] = float(
            np.interp(float(bag_ns - time_ns[0]), (time_ns - time_ns[0]).astype(float), position)
        )
    return Moment(seconds, bag_ns, what, joints)
