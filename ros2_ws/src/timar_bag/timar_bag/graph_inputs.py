"""A bag as the inputs of a graph: messages in order, with what the bag lacks substituted where it can be."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator

from timar_bag.bag import BagMessage, BagReader
from timar_bag.conversation import GENERATE
from timar_bag.external_sound import TARGETS, ExternalSound, find_external_sound
from timar_bag.ground_truth import GROUND_TRUTH_LABELS, GROUND_TRUTH_MOTION, KNOWN_TOPICS

HEARD = (
    "user/audio_raw", "user/audio", "user/words", "agent/speech", "agent/audio_planned", "agent/audio",
    "agent/utterance_ends", "user/motion", "look_at", "joint_targets", "agent/intent_request", "gesture",
    "external/joint_trajectory",
)  # fmt: skip
"""What capture, playback and everything outside the graph publish: a graph without them is deaf."""
INPUTS = (*HEARD, GROUND_TRUTH_MOTION, GROUND_TRUTH_LABELS)
"""What the replay takes from the bag and writes again as it was."""
AHEAD_NS = 2_000_000_000
"""Where the bag lacks the plan, the agent's speech is taken to have been planned so long before."""


class GraphInputs:
    """A bag's messages in order, with what it lacks substituted where it can be.

    Args:
        reader: The open bag.
        user_sound: Topic of the user's voice in a bag of other packages' nodes; empty: ours, or the only one.
        agent_sound: Likewise of the head's own voice; empty: ours, or none.
        sound_layout: What plain bytes of theirs mean where nothing in the bag says so, as
            `timar_audio.external_audio.Layout.parse` reads it.

    Raises:
        ValueError: A topic that was named holds no sound, there are several and none was named, or nothing
            says what its bytes mean.
    """

    def __init__(
        self, reader: BagReader, user_sound: str = "", agent_sound: str = "", sound_layout: str = ""
    ) -> None:
        self.path = reader.path
        self._reader = reader
        self._rejected: dict[str, str] = {}
        is_ours = reader.has_messages("user/audio") or reader.has_messages("user/audio_raw")
        is_external = bool(user_sound) or not is_ours
        self._layout = sound_layout
        self._external = (
            find_external_sound(reader, user_sound, agent_sound, self._layout) if is_external else {}
        )
        self.notes = [f"{topic} was taken as {TARGETS[who]}" for topic, who in self._external.items()]
        """One sentence for each thing that was substituted."""
        self._is_raw = is_ours and not self._external and not reader.has_messages("user/audio")
        if self._is_raw:
            self.notes.append("the bag has no user/audio; user/audio_raw was taken in its place")
        self.has_joint_states = self.has("joint_states")
        self._is_plan_missing = self.has("agent/audio") and not self.has("agent/audio_planned")
        if self._is_plan_missing:
            self.notes.append(
                "the bag has no agent/audio_planned; what was heard of the agent is taken to have been "
                f"planned {AHEAD_NS / 1e9:g} s before"
            )
        elif not self.has("agent/audio_planned"):
            self.notes.append("the bag has no sound of the agent; it is taken to have been silent")
        self._old = {
            name for name in reader.topics if name in KNOWN_TOPICS and not reader.has_current_definition(name)
        }

    def has(self, topic: str) -> bool:
        """Return whether there will be messages of a topic, recorded or substituted, but for the plan."""
        is_substituted = topic in (TARGETS[speaker] for speaker in self._external.values())
        is_substituted |= topic == "user/audio" and self._is_raw
        return is_substituted or self._reader.has_messages(topic)

    def messages(
        self, topics: Collection[str], decoded: Collection[str] | None = None
    ) -> Iterator[tuple[BagMessage, bytes | None]]:
        """Yield the messages of some topics in order, with the bytes they were recorded as.

        Bytes are None where they are not those of the topic's type today: the message is substituted, or was
        recorded by another definition.

        Args:
            topics: Names as in the table of topics.
            decoded: Those of which the message is wanted beside its bytes; None: all.
        """
        if decoded is not None:
            decoded = {*decoded, *self._old, *self._external, *(["user/audio_raw"] if self._is_raw else [])}
        found = self._messages(self._reader, topics, decoded)
        if self._is_plan_missing and "agent/audio_planned" in topics:
            found = heapq.merge(found, self._plan(), key=lambda pair: pair[0].receive_ns)
        yield from found

    def issues(self) -> list[str]:
        """Return why messages of external sound were left out; complete when all was read."""
        return [f"messages of {topic} were left out: {why}" for topic, why in self._rejected.items()]

    def recorded_compute_ms(self) -> list[float]:
        """Return the compute times of the recorded turns [ms]; none where there is no log."""
        if "turn_log" not in self._reader.topics:
            return []
        with BagReader(self.path, self._reader.namespace) as again:
            logged = [entry.message for entry in again.messages({"turn_log"})]
        return [float(message.compute_ms) for message in logged if message.decision == GENERATE]

    def _messages(
        self, reader: BagReader, topics: Collection[str], decoded: Collection[str] | None
    ) -> Iterator[tuple[BagMessage, bytes | None]]:
        """Yield recorded messages, external sound as blocks of ours."""
        external = ExternalSound(reader, self._external, self._layout, self._rejected)
        for entry, data in reader.messages_with_bytes({*topics, *self._external}, decoded):
            if entry.topic in self._external:
                for block in external.read(entry):
                    yield block, None
                continue
            kept = None if entry.topic in self._old else data
            yield entry, kept
            if self._is_raw and entry.topic == "user/audio_raw":
                yield entry._replace(topic="user/audio"), kept

    def _plan(self) -> Iterator[tuple[BagMessage, bytes | None]]:
        """Yield the heard sound of the agent as if it had been planned before."""
        with BagReader(self.path, self._reader.namespace) as again:
            for entry, _ in self._messages(again, {"agent/audio"}, None):
                if entry.topic == "agent/audio":
                    yield BagMessage("agent/audio_planned", entry.receive_ns - AHEAD_NS, entry.message), None
