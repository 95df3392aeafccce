"""Scores a conversation as it was shown: against the recorded motion where there is one, and without it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage, signal
from timar_bag.conversation import (
    AGENT,
    COMMIT_SKIPPED,
    END,
    GENERATE,
    START,
    USER,
    SpeechTurnEvent,
)
from timar_common.clock import FRAMES_PER_SECOND, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME
from timar_common.correlation import correlation, lagged_correlation
from timar_common.user_motion import PARTS
from timar_model.metrics import clip_metrics

from timar_report.frames import ConversationFrames, Flags, Floats, Motion32, read_frames
from timar_report.joints import JointLimit, range_use
from timar_report.statistics import (
    finite,
    mean,
    nearest_distance,
    root_mean_square,
)
from timar_report.summary import measure

Indices = npt.NDArray[np.intp]

JAW, NECK = PARTS["jaw"], PARTS["neck"]
PART_KEYS = {"exp": PARTS["expression"], "jaw": JAW, "pose": NECK}
"""Parts of a motion vector by the names of the published scores."""
ROLES = {"speaking": "agent", "listening": "user", "overlap": "both", "idle": "idle"}
"""The agent's part in the conversation, by the state of the floor."""

WINDOW_FRAMES = 50
"""Windows of two seconds are what two runs are compared by."""
STILL_RAD_S = 0.02
"""A head slower than this stands still."""
LONGEST_LAG_FRAMES = 10
NOD_DEPTH_RAD = 0.03
NOD_APART_FRAMES = 8
NOD_AFTER_S = (-0.2, 1.0)
"""A nod so long after the end of the partner's phrase answers it."""
BEAT_SIGMA_S = 0.1
ONSET_DB = 6.0
FEWEST_FRAMES = 50
LABEL_NEAR_SAMPLES = SAMPLE_RATE_HZ


@dataclasses.dataclass(frozen=True)
class ConversationScore:
    """One conversation's score."""

    frames: ConversationFrames
    limits: dict[str, JointLimit]
    numbers: dict[str, Any]
    """Nested, finite or None; what ``score.json`` holds."""
    windows: dict[str, Floats]
    """(W,) per metric of `WINDOWS`; NaN where it is not known."""


def score_bag(bag: Path, limits: Mapping[str, JointLimit], namespace: str | None = None) -> ConversationScore:
    """Score a recorded or replayed conversation.

    Args:
        bag: A rosbag2 folder or file; of a damaged one, what can be read.
        limits: Of the robot's joints; see `joints.limits_of`.
        namespace: The robot's; found by itself unless the bag holds several robots.

    Raises:
        FileNotFoundError: There is no bag.
        ValueError: Nothing in it can be read.
    """
    frames = read_frames(bag, namespace)
    numbers = dict(measure(frames.conversation, bag.parent, limits).numbers)
    counters, latency = frames.conversation.shown.counters, numbers["latency_ms"]
    parts = latency["floor"], latency["compute"]["p95"]
    latency["floor_and_compute"] = None if None in parts else sum(parts)
    numbers |= {
        "frames": {
            "all": len(frames),
            "shown": int(frames.is_shown.sum()),
            "late": counters.late_frames,
            "withdrawn": counters.withdrawn_frames,
            "refused_messages": counters.rejected_messages,
        },
        "motion": motion_scores(frames, np.ones(len(frames), np.bool_)),
        "lips": lip_scores(frames),
        "nods": nod_scores(frames),
        "beats": beat_scores(frames),
        "body": range_use(frames.conversation.commands, limits),
        "labels": label_scores(frames),
        "by_floor": {role: role_scores(frames, role) for role in ROLES},
        **truth_scores(frames),
    }
    return ConversationScore(frames, dict(limits), finite(numbers), window_scores(frames))


# Without a ground truth.


def motion_scores(frames: ConversationFrames, chosen: Flags) -> dict[str, float | None]:
    """Return how lively and how smooth the shown head is over some frames."""
    # A difference counts where all its frames are chosen and shown: a jump over a hole is no motion.
    good = chosen & frames.is_shown
    speed, jerk = _neck_derivative(frames.shown, 1), _neck_derivative(frames.shown, 3)
    speed = speed[good[1:] & good[:-1]]
    jerk = jerk[good[3:] & good[2:-1] & good[1:-2] & good[:-3]] if len(good) > 3 else jerk[:0]
    jaw = frames.shown[good, JAW.start]
    return {
        "seconds": float(chosen.sum() / FRAMES_PER_SECOND),
        "neck_speed_rad_s": mean(speed),
        "still_share": mean(speed < STILL_RAD_S),
        "neck_jerk_rad_s3": root_mean_square(jerk),
        "jaw_range_rad": float(np.ptp(np.percentile(jaw, [5, 95]))) if jaw.size else None,
        "shown_share": mean(frames.is_shown[chosen]),
    }


def _neck_derivative(motion: npt.NDArray[np.floating], order: int) -> Floats:
    """Return (T - order,) magnitude of a derivative of the neck's rotation [rad/s^order]."""
    steps = np.diff(motion[:, NECK].astype(np.float64), n=order, axis=0)
    return np.asarray(np.linalg.norm(steps, axis=1) * FRAMES_PER_SECOND**order)


def role_scores(frames: ConversationFrames, role: str) -> dict[str, Any]:
    """Return the scores of the frames in which the agent has some part in the conversation."""
    chosen = frames.has_floor(ROLES[role])
    scores: dict[str, Any] = dict(motion_scores(frames, chosen))
    if frames.agent_level_dbfs is not None:
        jaw = frames.shown[:, JAW.start].astype(np.float64)
        scores["lip_correlation"] = correlation(frames.agent_level_dbfs, jaw, chosen & frames.is_shown)
    turns = [
        turn
        for turn in frames.conversation.decisions
        if len(frames) and chosen[min(turn.first_frame, len(frames) - 1)]
    ]
    scores["late_turns"] = sum(turn.decision == GENERATE and turn.is_late for turn in turns)
    scores["unsampled_turns"] = sum(turn.decision == COMMIT_SKIPPED for turn in turns)
    if frames.truth is not None:
        known = chosen & frames.is_true & frames.is_shown
        scores |= _squared_errors(frames.shown[known], frames.truth[known])
        if known.sum() >= FEWEST_FRAMES:
            scores["as_shown"] = _against_truth(frames, frames.shown, known)
    return scores


def lip_scores(frames: ConversationFrames) -> dict[str, float | None]:
    """Return how the shown jaw goes with the agent's heard voice, and how far it comes after it."""
    level, found = frames.agent_level_dbfs, None
    if level is not None and frames.is_shown.sum() >= FEWEST_FRAMES:
        jaw = frames.shown[:, JAW.start].astype(np.float64)
        found = lagged_correlation(level, jaw, frames.is_shown, LONGEST_LAG_FRAMES)
    if found is None:
        return dict.fromkeys(("correlation", "lag_ms", "correlation_at_lag"))
    # A frame is shown at its begin, and its level is that of the 40 ms from there on.
    lag_ms = (found[1] - 0.5) * 1e3 / FRAMES_PER_SECOND
    return {"correlation": found[0], "lag_ms": lag_ms, "correlation_at_lag": found[2]}


def nod_scores(frames: ConversationFrames) -> dict[str, float | None]:
    """Return how many nods the listening head makes, and whether they answer ends of the user's phrases."""
    listening = frames.has_floor("user")
    nods = find_nods(frames)
    nods = nods[listening[nods]]
    ends = np.flatnonzero(frames.speaking[USER][:-1] & ~frames.speaking[USER][1:]) + 1
    minutes = listening.sum() / FRAMES_PER_SECOND / 60
    is_near = np.zeros(len(frames), np.bool_)
    low, high = (round(seconds * FRAMES_PER_SECOND) for seconds in NOD_AFTER_S)
    for end in ends:
        is_near[max(end + low, 0) : end + high + 1] = True
    has_both = len(ends) > 0 and listening.any()
    return {
        "count": float(len(nods)),
        "per_minute": float(len(nods) / minutes) if minutes else None,
        "phrase_ends": float(len(ends)),
        "answering_share": mean(is_near[nods]) if has_both else None,
        "chance_share": mean(is_near[listening]) if has_both else None,
    }


def find_nods(frames: ConversationFrames) -> Indices:
    """Return the frames at which the shown head is lowest in a nod."""
    if len(frames) < FEWEST_FRAMES:
        return np.zeros(0, np.intp)
    pitch = frames.shown[:, NECK.start].astype(np.float64)
    quick = pitch - ndimage.gaussian_filter1d(pitch, 1.0 * FRAMES_PER_SECOND)
    peaks, _ = signal.find_peaks(quick, prominence=NOD_DEPTH_RAD, distance=NOD_APART_FRAMES)
    return np.asarray(peaks, np.intp)


def beat_scores(frames: ConversationFrames) -> dict[str, float | None]:
    """Return how well the speaking head's beats fall on the onsets of its voice, 0 to 1."""
    level = frames.agent_level_dbfs
    if level is None or len(frames) < FEWEST_FRAMES:
        return {"alignment": None, "beats": 0.0, "onsets": 0.0}
    rise = np.maximum(np.diff(level, prepend=level[:1]), 0.0)
    onsets, _ = signal.find_peaks(rise, height=ONSET_DB, distance=3)
    speed = np.linalg.norm(np.diff(frames.shown[:, NECK].astype(np.float64), axis=0, prepend=0), axis=1)
    smooth = ndimage.gaussian_filter1d(speed, 1.0)
    beats, _ = signal.find_peaks(-smooth, distance=4)
    beats = beats[frames.speaking[AGENT][beats] & frames.is_shown[beats]]
    alignment = None
    if len(beats) and len(onsets):
        distance_s = nearest_distance(beats, onsets) / FRAMES_PER_SECOND
        alignment = float(np.exp(-np.square(distance_s / BEAT_SIGMA_S) / 2).mean())
    return {"alignment": alignment, "beats": float(len(beats)), "onsets": float(len(onsets))}


def label_scores(frames: ConversationFrames) -> dict[str, float | None]:
    """Return how voice activity and speech turns agree with labels made by hand, where the bag has them."""
    labels, events = frames.conversation.labels, frames.conversation.events
    if not labels:
        unknown = ("vad_balanced_accuracy", "start_error_ms", "end_error_ms", "missed_share")
        return {"labels": 0.0, **dict.fromkeys(unknown)}
    errors_ms: dict[str, list[float]] = {"first_sample": [], "end_sample": []}
    missed = 0
    for label in labels:
        for kind, field in ((START, "first_sample"), (END, "end_sample")):
            wanted = getattr(label, field)
            found = [getattr(e, field) for e in events if (e.speaker, e.kind) == (label.speaker, kind)]
            error = min((abs(one - wanted) for one in found), default=math.inf)
            if error <= LABEL_NEAR_SAMPLES:
                errors_ms[field].append(error * 1e3 / SAMPLE_RATE_HZ)
            elif kind == START:
                missed += not _is_inside_turn(events, label.speaker, wanted)
    accuracy = [_vad_accuracy(frames, speaker) for speaker in (USER, AGENT)]
    return {
        "labels": float(len(labels)),
        "vad_balanced_accuracy": mean([value for value in accuracy if value is not None]),
        "start_error_ms": mean(errors_ms["first_sample"]),
        "end_error_ms": mean(errors_ms["end_sample"]),
        "missed_share": missed / len(labels),
    }


def _vad_accuracy(frames: ConversationFrames, speaker: int) -> float | None:
    truth = np.zeros(len(frames), np.bool_)
    for label in frames.conversation.labels:
        if label.speaker == speaker:
            truth[label.first_sample // SAMPLES_PER_FRAME : label.end_sample // SAMPLES_PER_FRAME] = True
    if not truth.any() or truth.all():
        return None
    found = frames.speaking[speaker]
    return float((found[truth].mean() + (~found[~truth]).mean()) / 2)


def _is_inside_turn(events: list[SpeechTurnEvent], speaker: int, sample: int) -> bool:
    return any(
        event.speaker == speaker and event.first_sample <= sample <= event.end_sample for event in events
    )


# Against the ground truth.


def truth_scores(frames: ConversationFrames) -> dict[str, Any]:
    """Return the published scores, of the motion as shown and as generated; empty without a ground truth."""
    # From the first shown frame on there is a head to be seen, if only a resting one.
    is_visible = np.maximum.accumulate(frames.is_shown)
    scores = {}
    for name, motion, known in (
        ("as_shown", frames.shown, frames.is_true & is_visible),
        ("as_generated", frames.made, frames.is_true & frames.is_made),
    ):
        if frames.truth is not None and known.sum() >= FEWEST_FRAMES:
            scores[name] = _against_truth(frames, motion, known)
    return scores


def _against_truth(frames: ConversationFrames, motion: Motion32, known: Flags) -> dict[str, float]:
    """Return the published scores of some frames; the partner counts where they mostly saw one."""
    truth, partner = frames.truth, None
    if truth is None:
        raise ValueError("there is no ground truth to score against")
    if frames.user is not None and frames.is_seen[known].mean() > 0.5:
        known = known & frames.is_seen
        partner = frames.user[known]
    return {"frames": int(known.sum()), **clip_metrics(motion[known], truth[known], partner)}


def _squared_errors(motion: npt.NDArray[np.floating], truth: Motion32) -> dict[str, float | None]:
    error = np.square(motion - truth)
    return {f"mse_{name}": mean(error[:, columns]) for name, columns in PART_KEYS.items()}


# Windows: what two runs are compared by.


class WindowMetric(NamedTuple):
    """One number per window."""

    doc: str
    better: str
    """lower, higher, or neither where a change is only a change."""


WINDOWS: dict[str, WindowMetric] = {
    "unshown_share": WindowMetric("share of frames that were not shown in time", "lower"),
    "neck_jerk_rad_s3": WindowMetric("root mean square jerk of the neck [rad/s^3]", "lower"),
    "neck_speed_rad_s": WindowMetric("mean speed of the neck [rad/s]", "neither"),
    "listening_speed_rad_s": WindowMetric("mean speed of the neck while listening [rad/s]", "neither"),
    "lip_correlation": WindowMetric("correlation of jaw and own voice at the same instant", "higher"),
    "silent_jaw_rad": WindowMetric("root mean square jaw speed while the agent is silent [rad/s]", "lower"),
    "mse_exp": WindowMetric("squared error of expression against the recorded motion", "lower"),
    "mse_jaw": WindowMetric("squared error of the jaw against the recorded motion", "lower"),
    "mse_pose": WindowMetric("squared error of the neck against the recorded motion", "lower"),
}


def window_scores(frames: ConversationFrames) -> dict[str, Floats]:
    """Return (W,) numbers per metric, for windows of two seconds from frame 0 on; NaN where unknown."""
    count = len(frames) // WINDOW_FRAMES
    scores = {name: np.full(count, np.nan) for name in WINDOWS}
    for window in range(count):
        part = slice(window * WINDOW_FRAMES, (window + 1) * WINDOW_FRAMES)
        for name, value in _window(frames, part).items():
            scores[name][window] = math.nan if value is None else value
    return scores


def _window(frames: ConversationFrames, part: slice) -> dict[str, float | None]:
    shown, is_shown = frames.shown[part].astype(np.float64), frames.is_shown[part]
    found: dict[str, float | None] = {"unshown_share": float((~is_shown).mean())}
    if not is_shown.any():
        return found
    speed, jaw, speaks = _neck_derivative(shown, 1), shown[:, JAW.start], frames.speaking[AGENT][part]
    found["neck_speed_rad_s"] = mean(speed)
    found["neck_jerk_rad_s3"] = root_mean_square(_neck_derivative(shown, 3))
    found["listening_speed_rad_s"] = mean(speed[frames.has_floor("user")[part][1:]])
    found["silent_jaw_rad"] = root_mean_square((np.diff(jaw) * FRAMES_PER_SECOND)[~speaks[1:]])
    if frames.agent_level_dbfs is not None and speaks.mean() > 0.3:
        found["lip_correlation"] = correlation(frames.agent_level_dbfs[part], jaw, is_shown)
    if frames.truth is not None:
        known = frames.is_true[part] & is_shown
        found |= _squared_errors(shown[known], frames.truth[part][known])
    return found
