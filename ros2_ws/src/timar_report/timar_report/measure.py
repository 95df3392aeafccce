"""One conversation in numbers, worked out from its bag."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from timar_bag.conversation import (
    COMMIT_UNSAMPLED,
    FLOOR_NAMES,
    GENERATE,
    TAKE_BACK,
    Conversation,
    read_conversation,
)
from timar_common.clock import SAMPLE_RATE_HZ
from timar_retargeting.limit_report import read_limit_values

from timar_report.joints import JointLimit, joint_ranges, longest_lead_ns
from timar_report.latency import SoundToJoint, floor_ms, percentiles, sound_to_joint, stage_times_ms
from timar_report.lips import JawAndLevel, jaw_and_level

RUN_FILE_NAME = "run.json"


@dataclasses.dataclass(frozen=True)
class Measured:
    """A conversation with everything that was worked out from it."""

    conversation: Conversation
    limits: dict[str, JointLimit]
    sound: SoundToJoint
    jaw: JawAndLevel
    numbers: dict[str, Any]
    """What ``summary.json`` holds."""


def measure(
    bag: Path,
    out: Path,
    *,
    limits: Mapping[str, JointLimit] | None = None,
    cpu_cores_used: float | None = None,
    namespace: str | None = None,
) -> Measured:
    """Read a bag and work out every number of its summary.

    Args:
        bag: A rosbag2 folder or file.
        out: Folder of the summary, where a ``run.json`` may hold what only the starter of the graph knows:
            ``cpu_cores_used`` and ``title``.
        limits: Of the robot's joints (see `joints.limits_of`); without them limit hits are null.
        cpu_cores_used: Average over the run; taken from ``run.json`` unless given.
        namespace: The robot's; found by itself unless the bag holds several robots.

    Raises:
        FileNotFoundError: There is no bag.
        ValueError: Nothing in it can be read, or ``run.json`` is damaged.
    """
    return measured_of(read_conversation(bag, namespace), out, limits or {}, cpu_cores_used)


def measured_of(
    conversation: Conversation,
    out: Path,
    limits: Mapping[str, JointLimit],
    cpu_cores_used: float | None = None,
) -> Measured:
    """Work out every number of a conversation that was read already; see `measure`."""
    known_limits = dict(limits)
    sound = sound_to_joint(conversation, longest_lead_ns(known_limits))
    seen = conversation.states if "jaw" in conversation.states.names else conversation.commands
    jaw = jaw_and_level(conversation.voices.get("agent/audio"), seen)
    if cpu_cores_used is None:
        cpu_cores_used = read_run(out).get("cpu_cores_used")
    numbers = {
        **_required(conversation, known_limits, sound, jaw),
        "cpu_cores_used": cpu_cores_used,
        "bag": _written_path(conversation.bag, out),
        "engine": _listed(decision.engine for decision in conversation.decisions),
        "model": _listed(decision.model_sha256 for decision in conversation.decisions),
        "extra": _extra(conversation, sound, jaw),
    }
    return Measured(conversation, known_limits, sound, jaw, _finite(numbers))


def read_run(folder: Path) -> dict[str, Any]:
    """Return what the starter of the graph wrote beside the summary; empty when it wrote nothing.

    Raises:
        ValueError: The file is there and is no JSON object.
    """
    path = folder / RUN_FILE_NAME
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); remove it or let the demo write it anew") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected an object")
    return content


def _required(
    conversation: Conversation, limits: Mapping[str, JointLimit], sound: SoundToJoint, jaw: JawAndLevel
) -> dict[str, Any]:
    decisions = conversation.decisions
    generated = [decision for decision in decisions if decision.kind == GENERATE]
    voice = conversation.voices.get("user/audio_raw") or conversation.voices.get("user/audio")
    compute = [d.compute_ms for d in generated] or [motion.compute_ms for motion in conversation.motions]
    return {
        "turns": sum(decision.kind in (GENERATE, COMMIT_UNSAMPLED) for decision in decisions),
        "duration_s": voice.duration_s if voice else (conversation.end_ns - conversation.begin_ns) / 1e9,
        "latency_ms": {
            "floor": floor_ms(decisions),
            "compute": percentiles(compute),
            "microphone_to_joint": percentiles(sound.total_ms),
        },
        "audio": {
            "samples_in": voice.samples_in if voice else 0,
            "samples_lost": voice.samples_lost if voice else 0,
        },
        "late_turns": sum(decision.is_late for decision in generated),
        "joints": joint_ranges(conversation.commands, limits),
        "correlation": {"jaw_agent_level": jaw.correlation},
    }


def _extra(conversation: Conversation, sound: SoundToJoint, jaw: JawAndLevel) -> dict[str, Any]:
    decisions = conversation.decisions
    generated = [decision for decision in decisions if decision.kind == GENERATE]
    return {
        "generated_turns": len(generated),
        "unsampled_turns": sum(decision.kind == COMMIT_UNSAMPLED for decision in decisions),
        "previews": conversation.previews,
        "take_backs": sum(decision.kind == TAKE_BACK for decision in decisions),
        "user_samples_filled": sum(decision.user_samples_filled for decision in generated),
        "stages_ms": {stage: percentiles(times) for stage, times in stage_times_ms(conversation).items()},
        "floor_per_block_ms": percentiles(sound.floor_ms),
        "over_floor_per_block_ms": percentiles(sound.total_ms - sound.floor_ms),
        "blocks": {"answered": int(sound.total_ms.size), "unanswered": sound.unanswered},
        "limits": read_limit_values(conversation.limit_values),
        "jaw_lag_ms": jaw.lag_ms,
        "jaw_agent_level_at_lag": jaw.correlation_at_lag,
        "floor_s": _floor_shares(conversation),
        "audio": {
            topic: {
                "samples_in": voice.samples_in,
                "samples_lost": voice.samples_lost,
                "samples_repeated": voice.samples_repeated,
            }
            for topic, voice in conversation.voices.items()
        },
        "messages": dict(sorted(conversation.counts.items())),
        "recorded_s": (conversation.end_ns - conversation.begin_ns) / 1e9,
        "losses": conversation.losses,
    }


def _floor_shares(conversation: Conversation) -> dict[str, float]:
    """Return how long each state of the floor lasted [s]."""
    voice = conversation.voices.get("user/audio_raw") or conversation.voices.get("user/audio")
    shares = dict.fromkeys(FLOOR_NAMES, 0.0)
    changes = conversation.floor
    ends = [change.since_sample for change in changes[1:]]
    ends.append(max(voice.end_sample if voice else 0, changes[-1].since_sample) if changes else 0)
    for change, end in zip(changes, ends, strict=False):
        if change.state < len(FLOOR_NAMES):
            shares[FLOOR_NAMES[change.state]] += (end - change.since_sample) / SAMPLE_RATE_HZ
    return shares


def _listed(values: Any) -> str | None:
    """Return the distinct values, the most frequent first; None when there is none."""
    return ", ".join(value for value, _ in Counter(values).most_common()) or None


def _written_path(bag: Path, out: Path) -> str:
    """Return the bag's path, relative when it lies below the summary, so that the folder can be moved."""
    bag, out = bag.absolute(), out.absolute()
    return str(bag.relative_to(out)) if bag.is_relative_to(out) else str(bag)


def _finite(value: Any) -> Any:
    """Replace what JSON cannot say (NaN, infinity) by null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
