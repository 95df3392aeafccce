"""A bag as what the graph hears: its inputs in order, with what it lacks made up for as far as can be."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator

from timar_audio.floor import Speaker

from timar_bag.bag import BagMessage, BagReader
from timar_bag.conversation import GENERATE
from timar_bag.foreign import TARGETS, ForeignVoices
from timar_bag.truth import KNOWN_TOPICS, TRUTH_EVENTS, TRUTH_MOTION

HEARD = (
    "user/audio_raw", "user/audio", "agent/speech", "agent/audio_planned", "agent/audio", "user/motion",
    "look_at", "joint_targets",
)  # fmt: skip
"""What capture, playback and everything outside the graph publish: a graph without them is deaf."""
INPUTS = (*HEARD, TRUTH_MOTION, TRUTH_EVENTS)
"""What the replay takes from the bag and writes again as it was."""
AHEAD_NS = 2_000_000_000
"""Where the bag lacks the plan, the agent's speech is taken to have been planned so long before."""


class Source:
    """A bag's messages in order, with what it lacks made up for as far as can be."""

    def __init__(self, reader: BagReader, user_sound: str = "", agent_sound: str = "") -> None:
        self.path = reader.path
        self.notes: list[str] = []
        """One sentence for each thing that was made up for."""
        self._reader = reader
        self._foreign: ForeignVoices | None = None
        self._named = (user_sound, agent_sound)
        is_ours = reader.has_messages("user/audio") or reader.has_messages("user/audio_raw")
        if user_sound or not is_ours:
            self._foreign = ForeignVoices(reader, user_sound, agent_sound)
            self.notes += self._foreign.notes()
        self._is_raw = not self._foreign_topics and not reader.has_messages("user/audio") and is_ours
        if self._is_raw:
            self.notes.append("the bag has no user/audio; user/audio_raw was taken in its place")
        self.has_joint_states = self.has("joint_states")
        if not self.has("agent/audio_planned") and self.has("agent/audio"):
            self.notes.append(
                "the bag has no agent/audio_planned; what was heard of the agent is taken to have been "
                f"planned {AHEAD_NS / 1e9:g} s before"
            )
        if not self.has("agent/audio") and not self.has("agent/audio_planned"):
            self.notes.append("the bag has no sound of the agent; it is taken to have been silent")
        self._old = {
            name for name in reader.topics if name in KNOWN_TOPICS and not reader.has_current_definition(name)
        }

    def has(self, topic: str) -> bool:
        """Tell whether there will be messages of a topic, recorded or made up for, but for the plan."""
        if topic in (TARGETS[speaker] for speaker in self._foreign_topics.values()):
            return True
        return self._reader.has_messages(topic) or (topic == "user/audio" and self._is_raw)

    def messages(
        self, topics: Collection[str], decoded: Collection[str] | None = None
    ) -> Iterator[tuple[BagMessage, bytes | None]]:
        """Yield the messages of some topics in order, with the bytes they were recorded as.

        Bytes are None where they are not those of the topic's type today: the message is made up, or was
        recorded by another definition.

        Args:
            topics: Names as in the table of topics.
            decoded: Those of which the message is wanted beside its bytes; None: all.
        """
        needed = None if decoded is None else {*decoded, *self._old, *self._foreign_topics}
        if needed is not None and self._is_raw:
            needed.add("user/audio_raw")
        if self._foreign is not None:
            # Its ears have heard what was read before.
            self._foreign = ForeignVoices(self._reader, *self._named)
        found = self._messages(self._reader, {*topics, *self._foreign_topics}, needed, self._foreign)
        if (
            "agent/audio_planned" in topics
            and not self.has("agent/audio_planned")
            and self.has("agent/audio")
        ):
            found = heapq.merge(found, self._ahead(), key=lambda pair: pair[0].receive_ns)
        yield from found

    def losses(self) -> list[str]:
        """Say which foreign messages were left out; complete when all was read."""
        refused = self._foreign.refused if self._foreign is not None else {}
        return [f"messages of {topic} were left out: {why}" for topic, why in refused.items()]

    @property
    def _foreign_topics(self) -> dict[str, Speaker]:
        return self._foreign.by_topic if self._foreign is not None else {}

    def _messages(
        self,
        reader: BagReader,
        topics: Collection[str],
        needed: Collection[str] | None,
        foreign: ForeignVoices | None,
    ) -> Iterator[tuple[BagMessage, bytes | None]]:
        """Yield recorded messages, foreign sound as blocks of ours."""
        for entry, data in reader.messages_with_bytes(topics, needed):
            if foreign is not None and entry.topic in foreign.by_topic:
                for block in foreign.read(entry):
                    yield block, None
                continue
            kept = None if entry.topic in self._old else data
            yield entry, kept
            if self._is_raw and entry.topic == "user/audio_raw":
                yield entry._replace(topic="user/audio"), kept

    def recorded_compute_ms(self) -> list[float]:
        """Return the compute times of the recorded turns [ms]; none where there is no log."""
        if "turn_log" not in self._reader.topics:
            return []
        with BagReader(self.path, self._reader.namespace) as again:
            return [
                float(entry.message.compute_ms)
                for entry in again.messages({"turn_log"})
                if entry.message.decision == GENERATE
            ]

    def _ahead(self) -> Iterator[tuple[BagMessage, bytes | None]]:
        """Yield the heard sound of the agent as if it had been planned before."""
        with BagReader(self.path, self._reader.namespace) as again:
            foreign = None if self._foreign is None else ForeignVoices(again, *self._named)
            for entry, _ in self._messages(again, {"agent/audio", *self._foreign_topics}, None, foreign):
                if entry.topic == "agent/audio":
                    yield BagMessage("agent/audio_planned", entry.receive_ns - AHEAD_NS, entry.message), None
