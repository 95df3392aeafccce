"""A bag as what the graph hears: its inputs in order, with what it lacks made up for as far as can be."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator

from timar_replay.bag import BagMessage, BagReader
from timar_replay.conversation import GENERATE
from timar_replay.truth import KNOWN_TOPICS, TRUTH_EVENTS, TRUTH_MOTION

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

    def __init__(self, reader: BagReader) -> None:
        self.path = reader.path
        self.notes: list[str] = []
        """One sentence for each thing that was made up for."""
        self._reader = reader
        self.user_topic = "user/audio" if reader.has_messages("user/audio") else "user/audio_raw"
        if self.user_topic != "user/audio":
            self.notes.append("the bag has no user/audio; user/audio_raw was taken in its place")
        self._has_plan = reader.has_messages("agent/audio_planned")
        self._has_agent = reader.has_messages("agent/audio")
        self.has_joint_states = reader.has_messages("joint_states")
        if not self._has_plan and self._has_agent:
            self.notes.append(
                "the bag has no agent/audio_planned; what was heard of the agent is taken to have been "
                f"planned {AHEAD_NS / 1e9:g} s before"
            )
        if not self._has_agent and not self._has_plan:
            self.notes.append("the bag has no sound of the agent; it is taken to have been silent")
        self._old = {
            name for name in reader.topics if name in KNOWN_TOPICS and not reader.has_current_definition(name)
        }

    def messages(self, topics: Collection[str]) -> Iterator[tuple[BagMessage, bytes | None]]:
        """Yield the messages of some topics in order, with the bytes they were recorded as.

        Bytes are None where they are not those of the topic's type today: the message is made up, or was
        recorded by another definition.
        """
        main: Iterator[tuple[BagMessage, bytes | None]] = iter(self._reader.messages_with_bytes(topics))
        if self._has_plan or not self._has_agent:
            found = main
        else:
            found = heapq.merge(main, self._ahead(), key=lambda pair: pair[0].receive_ns)
        for entry, data in found:
            kept = None if entry.topic in self._old else data
            yield entry, kept
            if entry.topic == self.user_topic and self.user_topic != "user/audio":
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
            for entry in again.messages({"agent/audio"}):
                yield BagMessage("agent/audio_planned", entry.receive_ns - AHEAD_NS, entry.message), None
