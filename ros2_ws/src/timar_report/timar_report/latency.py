"""How long the sound takes to the joints, and which part of it is the reaction floor."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from timar_bag.conversation import LoggedDecision, RecordedConversation, RecordedMotion
from timar_bag.voice import RecordedVoice
from timar_common.clock import NOMINAL_NS_PER_SAMPLE, SAMPLE_RATE_HZ
from timar_common.units import samples_of

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class SoundToJoint:
    """Latency of every block of the user's sound that was answered."""

    total_ms: Floats
    """From the capture of a block's last sample to the first joint command that could depend on it [ms]."""
    floor_ms: Floats
    """Of the same blocks: from there to the instant their turn was planned to move the joints [ms]."""
    unanswered: int
    """Blocks of which no turn was generated, or none reached the joints, before the recording ended."""


def reaction_floor_ms(generated: Sequence[LoggedDecision]) -> float | None:
    """Return the longest time that turn length and user lag alone make a sound wait [ms]; None without turns.

    A turn is shown from its first frame on, or from the end of the user's sound it needs if that is later;
    the oldest sample it takes in has waited since. With turns of 5 frames and a margin of 2 that is 280 ms:
    no sound waits longer even for an infinitely fast computer, and none less than the margin. The median over
    the turns is taken, for a first turn or one after a barge-in may be of another length.
    """
    waits = [
        max(samples_of(turn.first_frame), turn.user_end_sample) - turn.user_first_sample for turn in generated
    ]
    return float(np.median(waits)) * 1e3 / SAMPLE_RATE_HZ if waits else None


def sound_to_joint(conversation: RecordedConversation, lead_ns: int) -> SoundToJoint:
    """Follow every block of the user's sound to the first joint command that could depend on it.

    1. A block is captured when its last sample is: the stamp of its first sample plus its length. Blocks that
       are nothing but silence put where sound was lost are left out.
    2. The first generated turn whose user sound reaches to the block's last sample is the first that can know
       it (a skipped turn in between knows it too, but shows nothing).
    3. That turn's HeadMotion is the one of the same conversation, first frame and revision.
    4. The first joint_trajectory that came after this HeadMotion is the first command that can depend on it.
    5. The command acts when it came, or when its first changed point is due if that is later: the time at
       which the turn's first frame is shown, less the lead of the joints (servo delay less loudspeaker
       delay).

    Args:
        conversation: What was recorded.
        lead_ns: How much before a frame is shown its first command takes effect [ns].
    """
    voice, turns = conversation.voices.get("user/audio"), _shown_turns(conversation)
    if voice is None:
        return SoundToJoint(np.zeros(0), np.zeros(0), 0)
    end_sample, capture_ns = _captured(voice)
    due_ns = np.array([motion.stamp_ns - lead_ns for _, motion in turns], np.int64)
    command_ns = _first_command_ns(conversation, turns)
    turn = np.searchsorted(_known_until(turns), end_sample)
    is_answered = turn < len(turns)
    is_answered[is_answered] = command_ns[turn[is_answered]] > 0
    turn, capture_ns = turn[is_answered], capture_ns[is_answered]
    acts_ns = np.maximum(command_ns, due_ns)
    return SoundToJoint(
        total_ms=(acts_ns[turn] - capture_ns) / 1e6,
        floor_ms=(due_ns[turn] - capture_ns) / 1e6,
        unanswered=int((~is_answered).sum()),
    )


def stage_times_ms(conversation: RecordedConversation) -> dict[str, Floats]:
    """Return what each stage between microphone and joint took [ms], in the order sound goes through them.

    Those of the reaction floor, which no faster computer shortens, have a number for each block of user
    sound: ``capture_block`` from the capture of its first sample to the block's arrival, ``turn_fill`` from
    there on the clock to the last sample that its turn waits for. The others have one for each generated
    turn: what the turn log says, ``publish`` for what is left of its compute time (checks, the message,
    handing over), ``retarget`` from the arrival of the motion to that of the first joint command after it.
    """
    turns, generated = _shown_turns(conversation), conversation.generated
    stages: dict[str, Floats] = {"capture_block": np.zeros(0), "turn_fill": np.zeros(0)}
    if (voice := conversation.voices.get("user/audio")) is not None:
        is_real = voice.block_filled < voice.block_samples
        stages["capture_block"] = (voice.block_receive_ns - voice.block_stamp_ns)[is_real] / 1e6
        known_until, (end_sample, _) = _known_until(turns), _captured(voice)
        end_sample = end_sample[end_sample <= known_until[-1]]
        waited = known_until[np.searchsorted(known_until, end_sample)] - end_sample
        stages["turn_fill"] = waited * 1e3 / SAMPLE_RATE_HZ
    for name in ("queue", "speech", "backbone", "head"):
        stages[name] = np.array([getattr(decision, f"{name}_ms") for decision in generated])
    compute = np.array([decision.compute_ms for decision in generated])
    inside = stages["speech"] + stages["backbone"] + stages["head"]
    stages["publish"] = np.maximum(0.0, compute - inside)
    came_ns = np.array([motion.receive_ns for _, motion in turns], np.int64)
    command_ns = _first_command_ns(conversation, turns)
    stages["retarget"] = (command_ns - came_ns)[command_ns > 0] / 1e6
    return stages


def _shown_turns(conversation: RecordedConversation) -> list[tuple[LoggedDecision, RecordedMotion]]:
    """Pair each generated turn with its published motion, in the order of the decisions."""
    motions: dict[tuple[str, int, int], RecordedMotion] = {}
    for motion in conversation.motions:
        motions.setdefault((motion.conversation_id, motion.first_frame, motion.revision), motion)
    keys = [
        (each, (each.conversation_id, each.first_frame, each.revision)) for each in conversation.generated
    ]
    return [(decision, motions[key]) for decision, key in keys if key in motions]


def _known_until(turns: list[tuple[LoggedDecision, RecordedMotion]]) -> Integers:
    """Return the end of the user's sound each turn knew [samples]."""
    # It never goes back, even where a turn was rolled back and generated again.
    return np.maximum.accumulate([decision.user_end_sample for decision, _ in turns] or [0])


def _captured(voice: RecordedVoice) -> tuple[Integers, Integers]:
    """Return for each block that holds real sound its end sample and the time that sample was captured."""
    is_real = voice.block_filled < voice.block_samples
    length_ns = np.rint(voice.block_samples * NOMINAL_NS_PER_SAMPLE).astype(np.int64)
    end_sample = voice.block_first_sample + voice.block_samples
    return end_sample[is_real], (voice.block_stamp_ns + length_ns)[is_real]


def _first_command_ns(
    conversation: RecordedConversation, turns: list[tuple[LoggedDecision, RecordedMotion]]
) -> Integers:
    """Return when the first joint command after each turn's motion came [ns]; 0 where none did."""
    came_ns = np.array([motion.receive_ns for _, motion in turns], np.int64)
    command_ns = np.append(np.sort(conversation.commands.message_receive_ns), 0)
    return command_ns[np.searchsorted(command_ns[:-1], came_ns)]
