"""Sums a recorded conversation up: every number of it, ``summary.json`` and a picture."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from timar_bag.conversation import (
    COMMIT_SKIPPED,
    FLOOR_NAMES,
    ROLLBACK,
    RecordedConversation,
    read_conversation,
)
from timar_common.atomic import write_json
from timar_common.clock import SAMPLE_RATE_HZ
from timar_retargeting.limit_report import read_limit_values

from timar_report.joints import JointLimit, joint_ranges, longest_lead_ns
from timar_report.latency import SoundToJoint, reaction_floor_ms, sound_to_joint, stage_times_ms
from timar_report.lips import JawAndLevel, jaw_and_level
from timar_report.statistics import finite, percentiles

FILE_NAME = "summary.json"
PICTURE_NAME = "summary.png"
RUN_FILE_NAME = "run.json"


@dataclasses.dataclass(frozen=True)
class MeasuredConversation:
    """A conversation with everything that was worked out from it."""

    conversation: RecordedConversation
    limits: dict[str, JointLimit]
    sound: SoundToJoint
    jaw: JawAndLevel
    numbers: dict[str, Any]
    """What ``summary.json`` holds."""


def summarize(
    bag: Path,
    out: Path,
    *,
    limits: Mapping[str, JointLimit] | None = None,
    cpu_cores_used: float | None = None,
    namespace: str | None = None,
    title: str = "",
    has_picture: bool = True,
) -> dict[str, Any]:
    """Write ``summary.json`` and ``summary.png`` for a recorded conversation.

    Args:
        bag: A rosbag2 folder or file.
        out: Folder for both; made if need be. A ``run.json`` in it may hold what only the starter of the run
            knows: ``cpu_cores_used`` and ``title``.
        limits: Of the robot's joints (see `joints.limits_of`); without them limit hits are null.
        cpu_cores_used: Average over the run; taken from ``run.json`` unless given.
        namespace: The robot's; found by itself unless the bag holds several robots.
        title: What was run, for the picture; taken from ``run.json`` unless given.
        has_picture: Whether to draw.

    Returns:
        What was written to ``summary.json``.

    Raises:
        FileNotFoundError: There is no bag.
        ValueError: Nothing in it can be read, or ``run.json`` is damaged.
        OSError: A file cannot be written.
    """
    measured = measure(read_conversation(bag, namespace), out, limits, cpu_cores_used)
    write_json(out / FILE_NAME, measured.numbers)
    if has_picture:
        # Only here, for drawing takes a second to import.
        from timar_report.picture import save_picture

        save_picture(measured, out / PICTURE_NAME, title or str(_read_run(out).get("title", "")))
    return measured.numbers


def measure(
    conversation: RecordedConversation,
    out: Path,
    limits: Mapping[str, JointLimit] | None = None,
    cpu_cores_used: float | None = None,
) -> MeasuredConversation:
    """Work out every number of a conversation's summary.

    Args:
        conversation: What was read of the bag.
        out: Folder of the summary, perhaps with a ``run.json``.
        limits: Of the robot's joints; without them limit hits are null.
        cpu_cores_used: Average over the run; taken from ``run.json`` unless given.

    Raises:
        ValueError: ``run.json`` is damaged.
    """
    known_limits = dict(limits or {})
    sound = sound_to_joint(conversation, longest_lead_ns(known_limits))
    seen = conversation.states if "jaw" in conversation.states.joints else conversation.commands
    jaw = jaw_and_level(conversation.voices.get("agent/audio"), seen)
    if cpu_cores_used is None:
        cpu_cores_used = _read_run(out).get("cpu_cores_used")
    voice, decisions, generated = conversation.raw_user_voice, conversation.decisions, conversation.generated
    compute = [d.compute_ms for d in generated] or [motion.compute_ms for motion in conversation.motions]
    recorded_s = (conversation.end_ns - conversation.begin_ns) / 1e9
    skipped = sum(decision.decision == COMMIT_SKIPPED for decision in decisions)
    numbers = {
        "turns": len(generated) + skipped,
        "duration_s": voice.duration_s if voice else recorded_s,
        "latency_ms": {
            "floor": reaction_floor_ms(generated),
            "compute": percentiles(compute),
            "microphone_to_joint": percentiles(sound.total_ms),
        },
        "audio": {
            "samples_in": voice.samples_in if voice else 0,
            "samples_lost": voice.samples_lost if voice else 0,
        },
        "late_turns": sum(decision.is_late for decision in generated),
        "joints": joint_ranges(conversation.commands, known_limits),
        "correlation": {"jaw_agent_level": jaw.correlation},
        "cpu_cores_used": cpu_cores_used,
        "bag": _written_path(conversation.bag, out),
        "engine": _listed(decision.engine for decision in decisions),
        "model": _listed(decision.model_sha256 for decision in decisions),
        "extra": {
            "generated_turns": len(generated),
            "unsampled_turns": skipped,
            "previews": conversation.previews,
            "take_backs": sum(decision.decision == ROLLBACK for decision in decisions),
            "user_samples_filled": sum(decision.user_samples_filled for decision in generated),
            "stages_ms": {stage: percentiles(ms) for stage, ms in stage_times_ms(conversation).items()},
            "floor_per_block_ms": percentiles(sound.floor_ms),
            "over_floor_per_block_ms": percentiles(sound.total_ms - sound.floor_ms),
            "blocks": {"answered": int(sound.total_ms.size), "unanswered": sound.unanswered},
            "limits": read_limit_values(conversation.limit_values),
            "jaw_lag_ms": jaw.lag_ms,
            "jaw_agent_level_at_lag": jaw.correlation_at_lag,
            "floor_s": _floor_shares(conversation),
            "audio": {
                topic: {
                    name: getattr(heard, name) for name in ("samples_in", "samples_lost", "samples_repeated")
                }
                for topic, heard in conversation.voices.items()
            },
            "messages": conversation.counts,
            "recorded_s": recorded_s,
            "losses": conversation.issues,
        },
    }
    return MeasuredConversation(conversation, known_limits, sound, jaw, finite(numbers))


def _read_run(folder: Path) -> dict[str, Any]:
    """Return what the starter of the graph wrote beside the summary; empty when it wrote nothing."""
    path = folder / RUN_FILE_NAME
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); remove it or let the demo write it again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected an object")
    return content


def _floor_shares(conversation: RecordedConversation) -> dict[str, float]:
    """Return how long each state of the floor lasted [s]."""
    voice, shares = conversation.raw_user_voice, dict.fromkeys(FLOOR_NAMES, 0.0)
    last = conversation.floor[-1].since_sample if conversation.floor else 0
    for first, end, name in conversation.floor_stretches(max(voice.end_sample if voice else 0, last)):
        shares[name] += (end - first) / SAMPLE_RATE_HZ
    return shares


def _listed(values: Any) -> str | None:
    """Return the distinct values, the most frequent first; None when there is none."""
    return ", ".join(value for value, _ in Counter(values).most_common()) or None


def _written_path(bag: Path, out: Path) -> str:
    """Return the bag's path, relative when it lies below the summary, so that the folder can be moved."""
    bag, out = bag.absolute(), out.absolute()
    return str(bag.relative_to(out)) if bag.is_relative_to(out) else str(bag)
