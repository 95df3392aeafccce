"""Scores a conversation as it was shown: against the recorded motion where there is one, and without it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage, signal
from timar_bag.conversation import COMMIT_UNSAMPLED, FLOOR_NAMES, GENERATE, SpeechTurnEvent
from timar_common.clock import FRAMES_PER_SECOND, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME
from timar_model.metrics import clip_metrics

from timar_report.frames import AGENT, END, START, USER, Floats, Frames, read_frames
from timar_report.joints import AT_LIMIT_RAD, JointLimit
from timar_report.measure import measured_of

Places = npt.NDArray[np.intp]

EXPRESSION, JAW, NECK = slice(0, 50), slice(50, 53), slice(53, 56)
PARTS = {"exp": EXPRESSION, "jaw": JAW, "pose": NECK}
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
class Score:
    """One conversation's score."""

    frames: Frames
    limits: dict[str, JointLimit]
    numbers: dict[str, Any]
    """Nested, finite or None; what ``score.json`` holds."""
    windows: dict[str, Floats]
    """(W,) per metric of `WINDOWS`; NaN where it cannot be told."""


def score_bag(bag: Path, limits: Mapping[str, JointLimit], namespace: str | None = None) -> Score:
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
    measured = measured_of(frames.conversation, bag.parent, limits)
    numbers = {
        **measured.numbers,
        "frames": {
            "all": len(frames),
            "shown": int(frames.is_shown.sum()),
            "late": frames.counters.late_frames,
            "withdrawn": frames.counters.withdrawn_frames,
            "refused_messages": frames.counters.refused_messages,
        },
        "motion": motion_scores(frames, np.ones(len(frames), np.bool_)),
        "lips": lip_scores(frames),
        "nods": nod_scores(frames),
        "beats": beat_scores(frames),
        "body": body_scores(frames, limits),
        "labels": label_scores(frames),
        "by_floor": {role: role_scores(frames, role) for role in ROLES},
        **truth_scores(frames),
    }
    numbers["latency_ms"]["floor_and_compute"] = _sum(
        numbers["latency_ms"]["floor"], numbers["latency_ms"]["compute"]["p95"]
    )
    return Score(frames, dict(limits), finite(numbers), window_scores(frames))


# Without a truth.


def motion_scores(frames: Frames, chosen: npt.NDArray[np.bool_]) -> dict[str, float | None]:
    """Return how lively and how smooth the shown head is over some frames."""
    neck = frames.shown[:, NECK].astype(np.float64)
    # A difference counts where all its frames are chosen and shown: a jump over a hole is no motion.
    good = chosen & frames.is_shown
    speed = np.linalg.norm(np.diff(neck, axis=0), axis=1) * FRAMES_PER_SECOND
    speed = speed[good[1:] & good[:-1]]
    jerk = np.linalg.norm(np.diff(neck, n=3, axis=0), axis=1) * FRAMES_PER_SECOND**3
    jerk = jerk[good[3:] & good[2:-1] & good[1:-2] & good[:-3]] if len(good) > 3 else jerk[:0]
    jaw = frames.shown[good, JAW.start]
    return {
        "seconds": float(chosen.sum() / FRAMES_PER_SECOND),
        "neck_speed_rad_s": _mean(speed),
        "still_share": _mean(speed < STILL_RAD_S),
        "neck_jerk_rad_s3": _root_mean_square(jerk),
        "jaw_range_rad": float(np.ptp(np.percentile(jaw, [5, 95]))) if jaw.size else None,
        "shown_share": _mean(frames.is_shown[chosen]),
    }


def role_scores(frames: Frames, role: str) -> dict[str, Any]:
    """Return the scores of the frames in which the agent has some part in the conversation."""
    state = FLOOR_NAMES.index(ROLES[role])
    chosen = frames.floor == state
    scores: dict[str, Any] = dict(motion_scores(frames, chosen))
    level = frames.level_dbfs.get("agent/audio")
    if level is not None:
        jaw = frames.shown[:, JAW.start].astype(np.float64)
        scores["lip_correlation"] = _correlation_at(jaw, level, chosen & frames.is_shown, 0)
    turns = [
        decision
        for decision in frames.conversation.decisions
        if len(frames) and frames.floor[min(decision.first_frame, len(frames) - 1)] == state
    ]
    scores["late_turns"] = sum(turn.kind == GENERATE and turn.is_late for turn in turns)
    scores["unsampled_turns"] = sum(turn.kind == COMMIT_UNSAMPLED for turn in turns)
    if frames.truth is not None:
        known = chosen & frames.is_true & frames.is_shown
        for part, columns in PARTS.items():
            error = np.square(frames.shown[known][:, columns] - frames.truth[known][:, columns])
            scores[f"mse_{part}"] = _mean(error)
        if known.sum() >= FEWEST_FRAMES:
            scores["as_shown"] = _against_truth(frames, frames.shown, known)
    return scores


def lip_scores(frames: Frames) -> dict[str, float | None]:
    """Return how the shown jaw goes with the agent's heard voice, and how far it comes after it."""
    nothing: dict[str, float | None] = dict.fromkeys(("correlation", "lag_ms", "correlation_at_lag"))
    level = frames.level_dbfs.get("agent/audio")
    if level is None or frames.is_shown.sum() < FEWEST_FRAMES:
        return nothing
    jaw = frames.shown[:, JAW.start].astype(np.float64)
    lags = range(-LONGEST_LAG_FRAMES, LONGEST_LAG_FRAMES + 1)
    values = np.array([_correlation_at(jaw, level, frames.is_shown, lag) for lag in lags])
    if not np.isfinite(values).all():
        return nothing
    best = int(values.argmax())
    offset = 0.0
    if 0 < best < len(values) - 1:
        left, middle, right = values[best - 1 : best + 2]
        bend = left - 2 * middle + right
        offset = 0.5 * (left - right) / bend if bend < 0 else 0.0
    return {
        "correlation": float(values[LONGEST_LAG_FRAMES]),
        # A frame is shown at its begin, and its level is that of the 40 ms from there on.
        "lag_ms": float((lags[best] + offset - 0.5) * 1e3 / FRAMES_PER_SECOND),
        "correlation_at_lag": float(values[best]),
    }


def nod_scores(frames: Frames) -> dict[str, float | None]:
    """Return how many nods the listening head makes, and whether they answer ends of the user's phrases."""
    listening = frames.floor == FLOOR_NAMES.index("user")
    nods = find_nods(frames)
    nods = nods[listening[nods]]
    ends = np.flatnonzero(frames.speaking[USER][:-1] & ~frames.speaking[USER][1:]) + 1
    minutes = listening.sum() / FRAMES_PER_SECOND / 60
    scores: dict[str, float | None] = {
        "count": float(len(nods)),
        "per_minute": float(len(nods) / minutes) if minutes else None,
        "phrase_ends": float(len(ends)),
        "answering_share": None,
        "chance_share": None,
    }
    if len(ends) and listening.any():
        low, high = (round(seconds * FRAMES_PER_SECOND) for seconds in NOD_AFTER_S)
        near = np.zeros(len(frames), np.bool_)
        for end in ends:
            near[max(end + low, 0) : end + high + 1] = True
        scores["chance_share"] = _mean(near[listening])
        scores["answering_share"] = _mean(near[nods])
    return scores


def find_nods(frames: Frames) -> Places:
    """Return the frames at which the shown head is lowest in a nod."""
    if len(frames) < FEWEST_FRAMES:
        return np.zeros(0, np.intp)
    pitch = frames.shown[:, NECK.start].astype(np.float64)
    quick = pitch - ndimage.gaussian_filter1d(pitch, 1.0 * FRAMES_PER_SECOND)
    peaks, _ = signal.find_peaks(quick, prominence=NOD_DEPTH_RAD, distance=NOD_APART_FRAMES)
    return np.asarray(peaks, np.intp)


def beat_scores(frames: Frames) -> dict[str, float | None]:
    """Return how well the speaking head's beats fall on the onsets of its voice, 0 to 1."""
    level = frames.level_dbfs.get("agent/audio")
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


def nearest_distance(places: Places, others: Places) -> Places:
    """Return how far each place is from the nearest of some others, which rise and are not empty."""
    after = np.searchsorted(others, places)
    before, after = others[np.maximum(after - 1, 0)], others[np.minimum(after, len(others) - 1)]
    return np.asarray(np.minimum(np.abs(places - before), np.abs(places - after)))


def body_scores(frames: Frames, limits: Mapping[str, JointLimit]) -> dict[str, float | None]:
    """Return how much of their range the joints use, and how often they stand at a limit."""
    commands = frames.conversation.commands
    shares, clipped = [], []
    for name, limit in limits.items():
        _, position = commands.of(name)
        if position.size:
            low, high = np.percentile(position, [1, 99])
            shares.append((high - low) / (limit.upper_rad - limit.lower_rad))
            at = (position <= limit.lower_rad + AT_LIMIT_RAD) | (position >= limit.upper_rad - AT_LIMIT_RAD)
            clipped.append(at.mean())
    return {"range_share": _mean(shares), "clipped_share": _mean(clipped)}


def label_scores(frames: Frames) -> dict[str, float | None]:
    """Return how voice activity and speech turns agree with labels made by hand, where the bag has them."""
    if not frames.labels:
        unknown = ("vad_balanced_accuracy", "start_error_ms", "end_error_ms", "missed_share")
        return {"labels": 0.0, **dict.fromkeys(unknown)}
    accuracy = [_vad_accuracy(frames, speaker) for speaker in (USER, AGENT)]
    starts, ends, missed = [], [], 0
    for label in frames.labels:
        of_speaker = [event for event in frames.conversation.events if event.speaker == label.speaker]
        start = _nearest([e.first_sample for e in of_speaker if e.kind == START], label.first_sample)
        end = _nearest([e.end_sample for e in of_speaker if e.kind == END], label.end_sample)
        if end <= LABEL_NEAR_SAMPLES:
            ends.append(end * 1e3 / SAMPLE_RATE_HZ)
        if start <= LABEL_NEAR_SAMPLES:
            starts.append(start * 1e3 / SAMPLE_RATE_HZ)
        elif not _is_inside_turn(frames.conversation.events, label.speaker, label.first_sample):
            missed += 1
    return {
        "labels": float(len(frames.labels)),
        "vad_balanced_accuracy": _mean([value for value in accuracy if value is not None]),
        "start_error_ms": _mean(starts),
        "end_error_ms": _mean(ends),
        "missed_share": missed / len(frames.labels),
    }


def _nearest(samples: list[int], sample: int) -> float:
    """Return how far the nearest of some samples is away; infinity without any."""
    return min((abs(one - sample) for one in samples), default=math.inf)


def _vad_accuracy(frames: Frames, speaker: int) -> float | None:
    truth = np.zeros(len(frames), np.bool_)
    for label in frames.labels:
        if label.speaker == speaker:
            truth[label.first_sample // SAMPLES_PER_FRAME : label.end_sample // SAMPLES_PER_FRAME] = True
    if not truth.any() or truth.all():
        return None
    said = frames.speaking[speaker]
    return float((said[truth].mean() + (~said[~truth]).mean()) / 2)


def _is_inside_turn(events: list[SpeechTurnEvent], speaker: int, sample: int) -> bool:
    return any(
        event.speaker == speaker and event.first_sample <= sample <= event.end_sample for event in events
    )


# Against a truth.


def truth_scores(frames: Frames) -> dict[str, Any]:
    """Return the published scores, of the motion as shown and as generated; empty without a truth."""
    if frames.truth is None:
        return {}
    scores: dict[str, Any] = {}
    for name, motion, known in (
        ("as_shown", frames.shown, frames.is_true & (frames.is_shown | _after_first(frames.is_shown))),
        ("as_generated", frames.made, frames.is_true & frames.is_made),
    ):
        if known.sum() >= FEWEST_FRAMES:
            scores[name] = _against_truth(frames, motion, known)
    return scores


def _against_truth(
    frames: Frames, motion: npt.NDArray[np.float32], known: npt.NDArray[np.bool_]
) -> dict[str, float]:
    """Return the published scores of some frames; the partner counts where they mostly saw one."""
    truth, partner = frames.truth, None
    if truth is None:
        raise ValueError("there is no truth to score against")
    if frames.user is not None and frames.is_seen[known].mean() > 0.5:
        known = known & frames.is_seen
        partner = frames.user[known]
    return {"frames": int(known.sum()), **clip_metrics(motion[known], truth[known], partner)}


def _after_first(is_shown: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the frames from the first shown one on: there is a head to be seen, if only a resting one."""
    return np.asarray(np.maximum.accumulate(is_shown))


# Windows: what two runs are compared by.


@dataclasses.dataclass(frozen=True)
class Metric:
    """One number per window."""

    doc: str
    better: str
    """lower, higher, or neither where a change is only a change."""


WINDOWS: dict[str, Metric] = {
    "unshown_share": Metric("share of frames that were not shown in time", "lower"),
    "neck_jerk_rad_s3": Metric("root mean square jerk of the neck [rad/s^3]", "lower"),
    "neck_speed_rad_s": Metric("mean speed of the neck [rad/s]", "neither"),
    "listening_speed_rad_s": Metric("mean speed of the neck while listening [rad/s]", "neither"),
    "lip_correlation": Metric("correlation of jaw and own voice at the same instant", "higher"),
    "silent_jaw_rad": Metric("root mean square jaw speed while the agent is silent [rad/s]", "lower"),
    "mse_exp": Metric("squared error of expression against the recorded motion", "lower"),
    "mse_jaw": Metric("squared error of the jaw against the recorded motion", "lower"),
    "mse_pose": Metric("squared error of the neck against the recorded motion", "lower"),
}


def window_scores(frames: Frames) -> dict[str, Floats]:
    """Return (W,) numbers per metric, for windows of two seconds from frame 0 on; NaN where unknown."""
    count = len(frames) // WINDOW_FRAMES
    scores = {name: np.full(count, np.nan) for name in WINDOWS}
    level = frames.level_dbfs.get("agent/audio")
    for window in range(count):
        part = slice(window * WINDOW_FRAMES, (window + 1) * WINDOW_FRAMES)
        found = _window(frames, part, None if level is None else level[part])
        for name, value in found.items():
            scores[name][window] = math.nan if value is None else value
    return scores


def _window(frames: Frames, part: slice, level: Floats | None) -> dict[str, float | None]:
    shown, is_shown = frames.shown[part].astype(np.float64), frames.is_shown[part]
    found: dict[str, float | None] = {"unshown_share": float((~is_shown).mean())}
    if not is_shown.any():
        return found
    step = np.linalg.norm(np.diff(shown[:, NECK], axis=0), axis=1) * FRAMES_PER_SECOND
    jerk = np.linalg.norm(np.diff(shown[:, NECK], n=3, axis=0), axis=1) * FRAMES_PER_SECOND**3
    is_listening = frames.floor[part] == FLOOR_NAMES.index("user")
    found["neck_speed_rad_s"] = _mean(step)
    found["neck_jerk_rad_s3"] = _root_mean_square(jerk)
    found["listening_speed_rad_s"] = _mean(step[is_listening[1:]])
    jaw = shown[:, JAW.start]
    speaks = frames.speaking[AGENT][part]
    found["silent_jaw_rad"] = _root_mean_square((np.diff(jaw) * FRAMES_PER_SECOND)[~speaks[1:]])
    if level is not None and speaks.mean() > 0.3:
        found["lip_correlation"] = _correlation_at(jaw, level, is_shown, 0)
    if frames.truth is not None:
        known = frames.is_true[part] & is_shown
        truth = frames.truth[part]
        for name, columns in PARTS.items():
            found[f"mse_{name}"] = _mean(np.square(shown[known][:, columns] - truth[known][:, columns]))
    return found


def finite(value: Any) -> Any:
    """Replace what JSON cannot say (NaN, infinity) by None, everywhere."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def flat(numbers: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Return every number of a nested score by its dotted name; what is None or no number is left out."""
    found: dict[str, float] = {}
    for key, value in numbers.items():
        name = f"{prefix}.{key}" if prefix else key
        if isinstance(value, Mapping):
            found |= flat(value, name)
        elif isinstance(value, (int, float)):
            found[name] = float(value)
    return found


def _correlation_at(jaw: Floats, level: Floats, known: npt.NDArray[np.bool_], lag: int) -> float:
    """Return the correlation of the level with the jaw `lag` frames later; NaN when one is constant."""
    late = slice(max(lag, 0), len(jaw) + min(lag, 0))
    early = slice(max(-lag, 0), len(jaw) - max(lag, 0))
    use = known[late]
    one, other = jaw[late][use], level[early][use]
    if one.size < 3 or np.ptp(one) < 1e-6 or np.ptp(other) < 1e-6:
        return math.nan
    return float(np.corrcoef(one, other)[0, 1])


def _mean(values: npt.ArrayLike) -> float | None:
    array = np.asarray(values, np.float64)
    return float(array.mean()) if array.size else None


def _root_mean_square(values: Floats) -> float | None:
    return float(np.sqrt(np.square(values).mean())) if values.size else None


def _sum(*values: float | None) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
