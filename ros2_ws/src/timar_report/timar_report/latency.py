"""How long the sound takes to the joints, and which part of it is the floor."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from timar_bag.conversation import GENERATE, Conversation, Decision, Motion
from timar_bag.voice import Voice
from timar_common.clock import NOMINAL_NS_PER_SAMPLE, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class SoundToJoint:
    """Latency of every block of the user's sound that was answered."""

    total_ms: Floats
    """From the capture of a block's last sample to the first joint command that could depend on it [ms]."""
    floor_ms: Floats
    """Of the same blocks: from there to the instant their turn was planned to move the joints [ms]."""
    capture_ns: Integers
    """ROS time at which each of these blocks was complete [ns]."""
    unanswered: int
    """Blocks of which no turn was generated, or none reached the joints, before the recording ended."""


def percentiles(values: npt.ArrayLike) -> dict[str, float | None]:
    """Return p50, p95 and p99; each None when there is no value."""
    array = np.asarray(values, np.float64)
    if not array.size:
        return {"p50": None, "p95": None, "p99": None}
    return dict(zip(("p50", "p95", "p99"), np.percentile(array, (50, 95, 99)).tolist(), strict=True))


def floor_ms(decisions: Sequence[Decision]) -> float | None:
    """Return the longest time that turn length and user lag alone make a sound wait [ms]; None without turns.

    A turn is shown from its first frame on, or from the end of the user's sound it needs if that is later;
    the oldest sample it takes in has waited since. With turns of 5 frames and a margin of 2 that is 280 ms:
    no sound waits longer even for an infinitely fast computer, and none less than the margin. The median over
    the turns is taken, for a first turn or one after a barge-in may be of another length.
    """
    waits = [
        max(d.first_frame * SAMPLES_PER_FRAME, d.user_end_sample) - d.user_first_sample
        for d in decisions
        if d.kind == GENERATE
    ]
    return float(np.median(waits)) * 1e3 / SAMPLE_RATE_HZ if waits else None


def sound_to_joint(conversation: Conversation, lead_ns: int) -> SoundToJoint:
    """Follow every block of the user's sound to the first joint command that could depend on it.

    1. A block is captured when its last sample is: the stamp of its first sample plus its length. Blocks that
       are nothing but silence put where sound was lost are left out.
    2. The first generated turn whose user sound reaches to the block's last sample is the first that can know
       it (a turn committed unsampled in between knows it too, but shows nothing).
    3. That turn's HeadMotion is the one of the same conversation, first frame and revision.
    4. The first joint_trajectory that came after this HeadMotion is the first command that can depend on it.
    5. The command acts when it came, or when its first changed point is due if that is later: the time at
       which the turn's first frame is shown, less the lead of the joints (servo delay less loudspeaker
       delay).

    Args:
        conversation: What was recorded.
        lead_ns: How much before a frame is shown its first command takes effect [ns].
    """
    voice = conversation.voices.get("user/audio")
    turns = _shown_turns(conversation)
    if voice is None:
        return SoundToJoint(np.zeros(0), np.zeros(0), np.zeros(0, np.int64), 0)
    end_sample, capture_ns = _captured(voice)
    # The end of what is known never goes back, even where a turn was taken back and generated anew.
    known_until = np.maximum.accumulate([decision.user_end_sample for decision, _ in turns] or [0])
    command_ns = np.sort(conversation.commands.message_receive_ns)
    acts_ns, due_ns = _effects([motion for _, motion in turns], command_ns, lead_ns)
    turn = np.searchsorted(known_until, end_sample)
    is_answered = turn < len(turns)
    is_answered[is_answered] = acts_ns[turn[is_answered]] > 0
    turn, capture_ns = turn[is_answered], capture_ns[is_answered]
    return SoundToJoint(
        total_ms=(acts_ns[turn] - capture_ns) / 1e6,
        floor_ms=(due_ns[turn] - capture_ns) / 1e6,
        capture_ns=capture_ns,
        unanswered=int((~is_answered).sum()),
    )


FLOOR_STAGES = ("capture_block", "turn_fill")


def stage_times_ms(conversation: Conversation) -> dict[str, Floats]:
    """Return what each stage between microphone and joint took [ms], in the order sound goes through them.

    Those of the floor, which no faster computer shortens, have a number for each block of user sound:
    ``capture_block`` from the capture of its first sample to the block's arrival, ``turn_fill`` from there on
    the clock to the last sample that its turn waits for. The others have one for each generated turn: what
    the turn log says, ``publish`` for what is left of its compute time (checks, the message, handing over),
    ``retarget`` from the arrival of the motion to that of the first joint command after it.
    """
    turns = _shown_turns(conversation)
    stages: dict[str, Floats] = {name: np.zeros(0) for name in FLOOR_STAGES}
    voice = conversation.voices.get("user/audio")
    if voice is not None:
        is_real = voice.block_filled < voice.block_samples
        stages["capture_block"] = (voice.block_receive_ns - voice.block_stamp_ns)[is_real] / 1e6
        end_sample, _ = _captured(voice)
        known_until = np.maximum.accumulate([decision.user_end_sample for decision, _ in turns] or [0])
        end_sample = end_sample[end_sample <= known_until[-1]]
        waited = known_until[np.searchsorted(known_until, end_sample)] - end_sample
        stages["turn_fill"] = waited * 1e3 / SAMPLE_RATE_HZ
    generated = [decision for decision in conversation.decisions if decision.kind == GENERATE]
    for name in ("queue", "speech", "backbone", "head"):
        stages[name] = np.array([getattr(decision, f"{name}_ms") for decision in generated])
    inside = [each.compute_ms - each.speech_ms - each.backbone_ms - each.head_ms for each in generated]
    stages["publish"] = np.maximum(0.0, inside)
    came_ns = np.array([motion.receive_ns for _, motion in turns], np.int64)
    command_ns = np.sort(conversation.commands.message_receive_ns)
    place = np.searchsorted(command_ns, came_ns)
    is_followed = place < command_ns.size
    stages["retarget"] = (command_ns[place[is_followed]] - came_ns[is_followed]) / 1e6
    return stages


def _shown_turns(conversation: Conversation) -> list[tuple[Decision, Motion]]:
    """Pair each generated turn with its published motion, in the order of the decisions."""
    motions: dict[tuple[str, int, int], Motion] = {}
    for motion in conversation.motions:
        motions.setdefault((motion.conversation_id, motion.first_frame, motion.revision), motion)
    pairs = []
    for decision in conversation.decisions:
        key = (decision.conversation_id, decision.first_frame, decision.revision)
        if decision.kind == GENERATE and key in motions:
            pairs.append((decision, motions[key]))
    return pairs


def _captured(voice: Voice) -> tuple[Integers, Integers]:
    """Return for each block that holds real sound its end sample and the time that sample was captured."""
    is_real = voice.block_filled < voice.block_samples
    length_ns = np.rint(voice.block_samples * NOMINAL_NS_PER_SAMPLE).astype(np.int64)
    end_sample = voice.block_first_sample + voice.block_samples
    return end_sample[is_real], (voice.block_stamp_ns + length_ns)[is_real]


def _effects(motions: list[Motion], command_ns: Integers, lead_ns: int) -> tuple[Integers, Integers]:
    """Return for each motion when it acts on the joints (0: never), and when it was planned to [ns]."""
    due_ns = np.array([motion.shown_ns - lead_ns for motion in motions], np.int64)
    came_ns = np.array([motion.receive_ns for motion in motions], np.int64)
    place = np.searchsorted(command_ns, came_ns)
    has_command = place < command_ns.size
    acts_ns = np.zeros(len(motions), np.int64)
    acts_ns[has_command] = np.maximum(command_ns[place[has_command]], due_ns[has_command])
    return acts_ns, due_ns
