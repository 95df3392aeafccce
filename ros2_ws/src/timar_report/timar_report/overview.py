"""The chief numbers of a summary or a score in a few lines, for the terminal and the report."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from timar_report.statistics import flat, written

ROWS = (
    ("turns", "{turns}, {late_turns} late, {extra.unsampled_turns} unsampled"),
    ("sound", "{duration_s} s, {audio.samples_lost} samples lost"),
    (
        "compute",
        "p50 {latency_ms.compute.p50} ms, p95 {latency_ms.compute.p95} ms, p99 {latency_ms.compute.p99} ms",
    ),
    (
        "microphone to joint",
        "p50 {latency_ms.microphone_to_joint.p50} ms, p95 {latency_ms.microphone_to_joint.p95} ms, "
        "p99 {latency_ms.microphone_to_joint.p99} ms (floor {latency_ms.floor} ms)",
    ),
    ("jaw and voice", "correlation {correlation.jaw_agent_level}, lag {extra.jaw_lag_ms} ms"),
    ("limit hits", "{limit_hits}"),
    ("lips as shown", "correlation {lips.correlation}, {lips.lag_ms} ms behind"),
    (
        "neck",
        "{motion.neck_speed_rad_s} rad/s, jerk {motion.neck_jerk_rad_s3} rad/s^3, "
        "still {by_floor.listening.still_share} of listening",
    ),
    ("nods", "{nods.count}, {nods.answering_share} of them after phrases (chance {nods.chance_share})"),
    ("joints", "use {body.range_share} of their range, stand at limits {body.clipped_share} of the time"),
    (
        "against ground truth",
        "FD neck {as_shown.fid_pose}, FD jaw {as_shown.fid_jaw}; squared error neck {as_shown.mse_pose}, "
        "jaw {as_shown.mse_jaw}, expression {as_shown.mse_exp}",
    ),
    (
        "repeated log",
        "{agreement.motions_equal} of {agreement.motions} motions, {agreement.previews_equal} of "
        "{agreement.previews} previews, {agreement.log_equal} of {agreement.log} decisions equal",
    ),
    ("model", "{model} on {engine}, {policy}"),
)  # fmt: skip
"""Each line of the overview; one that asks for a number which these numbers do not have is left out."""


def overview(numbers: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (what, value) of each line; a number that is not known for this conversation reads so."""
    values = flat(numbers)
    values["limit_hits"] = sum(joint["limit_hits"] or 0 for joint in numbers["joints"].values())
    values["model"] = str(values["model"])[:12]
    names = [(what, text, re.findall(r"\{(.*?)\}", text)) for what, text in ROWS]
    return [
        (what, re.sub(r"\{(.*?)\}", lambda match: written(values[match[1]]), text))
        for what, text, asked in names
        if all(name in values for name in asked)
    ]


def overview_text(numbers: Mapping[str, Any]) -> str:
    """Return the overview and what was missing in the bag, one line each."""
    lines = overview(numbers) + [("missing", issue) for issue in numbers["extra"]["losses"]]
    return "".join(f"{what:<20} {value}\n" for what, value in lines)
