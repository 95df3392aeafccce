"""Repeats a recorded turn log decision by decision, and compares the outcome with what was published.

Each entry of the log carries an input cursor: the messages of each input that had been seen when the decision
was issued. So every turn is made again from exactly what it was made from.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

import numpy as np
from timar_common.clock import SAMPLES_PER_FRAME
from timar_common.component import Component, Output, Publish
from timar_common.messages import Message, converted, encode, full_name
from timar_common.units import Frames
from timar_common.user_motion import PARTS
from timar_inference.config import InferenceConfig
from timar_inference.conversation_inputs import ConversationInputs
from timar_inference.gesture_requests import RefusedGesture, requested_from
from timar_inference.inference_component import INPUTS
from timar_inference.runtime import Runtime
from timar_inference.turn_jobs import (
    Decision,
    PreviewRequest,
    Rollback,
    StartConversation,
    TurnJob,
    TurnRequest,
)
from timar_inference.turn_runner import TurnRunner
from timar_inference.turn_scheduler import turn_request
from timar_model.gestures.dials import HeadDials
from timar_model.gestures.gesture_layer import GestureLayer, RequestedGesture

from timar_replay.virtual_worker import VirtualTime

RECORDED_LOG, RECORDED_MOTION = "recorded/turn_log", "recorded/agent/motion"
"""Under these names the follower gets what the bag holds of its own outputs."""
PATIENCE_NS = 2_000_000_000
"""A decision's inputs, and the motion it led to, may come so much after it in the bag [ns]."""
NEVER_NS = 2**62
KEPT_FRAMES = Frames(50)
"""User motion is kept so long after it was used; a rollback needs it again."""
COPIED = (
    "header", "sequence", "is_late", "queue_ms", "speech_ms", "backbone_ms", "head_ms", "compute_ms",
)  # fmt: skip
"""Fields of a decision that say how the live machine did, not what was decided."""
NO_CURSOR = "the turn log has no input cursor (an older recording): exact following is not possible"
Key = tuple[str, int, int]


@dataclasses.dataclass
class LogAgreement:
    """How repeated motion and log compare with the recorded ones, message by message."""

    motions: int = 0
    motions_equal: int = 0
    """Byte for byte, the whole message."""
    motions_lost: int = 0
    """Decisions whose motion the bag lacks."""
    log: int = 0
    log_equal: int = 0
    largest_difference: float = 0.0
    """Between any two numbers of motion."""
    first_unequal_frame: int | None = None
    previews: int = 0
    """Recorded predictions of the frames after a turn, of which the log does not speak."""
    previews_equal: int = 0

    @property
    def is_exact(self) -> bool:
        """Whether there was something to compare and all of it was equal."""
        pairs = [(self.log, self.log_equal), (self.motions, self.motions_equal)]
        pairs.append((self.previews, self.previews_equal))
        return bool(self.log) and all(count == equal for count, equal in pairs)

    def content(self) -> dict[str, Any]:
        """Return it as it is written into a report."""
        return {**dataclasses.asdict(self), "is_exact": self.is_exact}


class LogFollower(Component):
    """Stand in for the inference component and make every recorded decision again.

    What is computed: all motion, and which user samples stood for lost ones and which frames were seen. What
    is copied: the instants (stamps, measured times, lateness), for they were the live machine's.
    """

    NAME: ClassVar[str] = "inference"
    Config: ClassVar[type] = InferenceConfig
    inputs = (*INPUTS, RECORDED_LOG, RECORDED_MOTION)
    outputs = ("agent/motion", "turn_log")

    def __init__(self, config: InferenceConfig, runtime: Runtime) -> None:
        self.agreement = LogAgreement()
        self.problems: collections.Counter[str] = collections.Counter()
        """What kept the log from being repeated as it was."""
        self._inputs = ConversationInputs(config)
        layer = GestureLayer(runtime.gestures)
        self._runner = TurnRunner(runtime.session, runtime.identity, config.preview_by, layer)
        self._time = VirtualTime(iter(lambda: 0, 1))
        self._pending = {topic: _InputReader() for topic in INPUTS}
        self._decisions: collections.deque[tuple[int, Message]] = collections.deque()
        self._recorded: dict[Key, Message] = {}
        self._previews: dict[Key, Message] = {}
        self._newest_turn: TurnRequest | None = None
        self._conversation_id: str | None = None
        self._sequence: int | None = None

    def handle(self, topic: str, message: Message, now_ns: int) -> Iterable[Output]:
        """Take an input, or what the bag holds of the log and the motion; repeat what can be repeated."""
        if topic == RECORDED_LOG:
            self._decisions.append((now_ns, message))
        elif topic == RECORDED_MOTION:
            kept = self._previews if getattr(message, "is_preview", False) else self._recorded
            self.agreement.previews += kept is self._previews
            kept[_key(message)] = message
        else:
            self._pending[topic].messages.append((now_ns, message))
        return list(self._repeat(now_ns))

    def stop(self, now_ns: int) -> Iterable[Output]:
        """Make the decisions that wait, with what there is."""
        return list(self._repeat(NEVER_NS))

    def issues(self) -> list[str]:
        """Say what kept the log from being repeated as it was, one sentence each."""
        return [f"{what}{f' ({count} times)' if count > 1 else ''}" for what, count in self.problems.items()]

    def _repeat(self, now_ns: int) -> Iterator[Output]:
        yield from self._predict()
        while self._decisions:
            came_ns, decision = self._decisions[0]
            if now_ns < came_ns + PATIENCE_NS and not self._is_ready(decision):
                return
            self._decisions.popleft()
            yield from self._decide(decision)
            yield from self._predict()

    def _is_ready(self, decision: Message) -> bool:
        """Tell whether what the decision was made from, and the motion it led to, has come."""
        if decision.decision == Decision.GENERATE and _key(decision) not in self._recorded:
            return False
        cursor = _cursor(decision)
        if not cursor:
            return self._pending["user/audio"].reaches(int(decision.user_end_sample), self._inputs)
        return all(self._pending[topic].has(count, stamp_ns) for topic, count, stamp_ns in cursor)

    def _decide(self, decision: Message) -> Iterator[Output]:
        self._follow_sequence(decision)
        is_generated = decision.decision == Decision.GENERATE
        recorded = self._recorded.pop(_key(decision), None) if is_generated else None
        if decision.decision == Decision.RESET:
            self._inputs.restart()
        self._take_inputs(decision)
        yield from self._run(self._job(decision), decision, recorded)
        if is_generated and recorded is None:
            self.agreement.motions_lost += 1

    def _follow_sequence(self, decision: Message) -> None:
        expected = None if self._sequence is None else self._sequence + 1
        self._sequence = int(decision.sequence)
        is_start = decision.decision == Decision.RESET
        if decision.conversation_id != self._conversation_id and not is_start:
            self._begin_in_the_middle(decision, "the log does not hold the conversation's start")
        elif expected is not None and self._sequence != expected and not is_start:
            self._begin_in_the_middle(decision, "decisions are missing in the log")
        self._conversation_id = decision.conversation_id

    def _begin_in_the_middle(self, decision: Message, why: str) -> None:
        self.problems[f"{why}; what follows starts without its history and cannot be equal"] += 1
        start = StartConversation(decision.conversation_id, int(decision.seed), int(decision.first_frame))
        collections.deque(self._runner.run(start, self._time, lambda: True), maxlen=0)

    def _take_inputs(self, decision: Message) -> None:
        """Push what the decision had seen into the inputs."""
        cursor: list[tuple[str, int | None, int]] = [*_cursor(decision)]
        if not cursor:
            self.problems.setdefault(NO_CURSOR, 1)
            cursor = [(topic, None, 0) for topic in INPUTS]
        taken: list[tuple[int, str, Message]] = []
        expected: dict[str, int | None] = {}
        for topic, count, stamp_ns in cursor:
            messages, expected[topic] = self._pending[topic].take(count, stamp_ns)
            taken += [(now_ns, topic, message) for now_ns, message in messages]
        accepted: collections.Counter[str] = collections.Counter()
        starts_ns = _start_of_conversation(taken, decision)
        for now_ns, topic, message in sorted(taken, key=lambda entry: entry[0]):
            is_earlier = topic != "agent/audio_planned" and now_ns < starts_ns
            accepted[topic] += is_earlier or self._push(topic, message, now_ns)
        for topic, count in expected.items():
            if count not in (None, accepted[topic]):
                self.problems[f"messages of {topic} that a turn had seen are missing in the bag"] += 1

    def _push(self, topic: str, message: Message, now_ns: int) -> bool:
        """Push a message into the inputs; return whether it was accepted, as it was or was not live."""
        try:
            if topic == "user/audio":
                self._inputs.push_user(message, now_ns)
            elif topic == "agent/audio_planned":
                self._inputs.push_plan(message)
            else:
                self._inputs.push_motion(message)
        except ValueError as error:
            self.problems[f"{topic}: {' '.join(str(error).split())}"] += 1
            return False
        return True

    def _job(self, decision: Message) -> TurnJob:
        conversation_id, seed = decision.conversation_id, int(decision.seed)
        first_frame, revision = int(decision.first_frame), int(decision.revision)
        if decision.decision == Decision.RESET:
            return StartConversation(conversation_id, seed, first_frame)
        if decision.decision == Decision.ROLLBACK:
            self._recorded.clear()
            self._previews.clear()
            planned_revision = int(decision.planned_revision)
            return Rollback(conversation_id, seed, first_frame, revision, planned_revision)
        user_first = int(decision.user_first_sample) // SAMPLES_PER_FRAME
        user_end = int(decision.user_end_sample) // SAMPLES_PER_FRAME
        requests = [requested_from(entry, seed) for entry in getattr(decision, "gestures", ())]
        self._inputs.intent = int(getattr(decision, "intent", 0))
        request = turn_request(
            self._inputs,
            conversation_id=conversation_id,
            seed=seed,
            revision=revision,
            first_frame=first_frame,
            frames=int(decision.frames),
            user_first_frame=user_first,
            user_frames=user_end - user_first,
            ready_ns=0,
            due_ns=0,
            deadline_ns=NEVER_NS,
            useless_ns=NEVER_NS if decision.decision == Decision.GENERATE else -NEVER_NS,
            final_until_frame=first_frame,
            requested=tuple(entry for entry in requests if isinstance(entry, RequestedGesture)),
            refused=tuple(entry for entry in requests if isinstance(entry, RefusedGesture)),
            dials=_dials(decision),
        )
        self._inputs.forget_before(Frames(user_first - KEPT_FRAMES), Frames(first_frame - KEPT_FRAMES))
        self._newest_turn = request
        return request

    def _predict(self) -> Iterator[Output]:
        """Make the preview that was recorded after the newest turn, and compare it."""
        turn = self._newest_turn
        if turn is None:
            return
        recorded = self._previews.pop((turn.conversation_id, turn.end_frame, turn.revision), None)
        if recorded is None:
            return
        speech = self._inputs.agent_speech(turn.end_frame, int(recorded.frames))
        wanted = dataclasses.replace(turn, preview=PreviewRequest(speech, 0, NEVER_NS))
        made = self._runner.preview(wanted, self._time)
        if made is not None:
            _copy_instants(made, recorded)
            self.agreement.previews_equal += _bytes_of(made) == _bytes_of(recorded)
            yield Publish("agent/motion", made)

    def _run(self, job: TurnJob, decision: Message, recorded: Message | None) -> Iterator[Output]:
        for topic, message in self._runner.run(job, self._time, lambda: True):
            if topic == "turn_log":
                for name in (*COPIED, "inputs", "conversation_first_sample"):
                    if hasattr(decision, name):
                        setattr(message, name, getattr(decision, name))
                self.agreement.log += 1
                self.agreement.log_equal += _bytes_of(message) == _bytes_of(decision)
            elif recorded is not None:
                _copy_instants(message, recorded)
                self._compare(message, recorded)
            yield Publish(topic, message)

    def _compare(self, made: Message, recorded: Message) -> None:
        self.agreement.motions += 1
        if _bytes_of(made) == _bytes_of(recorded):
            self.agreement.motions_equal += 1
            return
        if self.agreement.first_unequal_frame is None:
            self.agreement.first_unequal_frame = int(made.first_frame)
        for part in PARTS:
            ours, theirs = getattr(made, part), getattr(recorded, part)
            if ours.shape == theirs.shape:
                difference = float(np.abs(ours - theirs).max(initial=0.0))
                self.agreement.largest_difference = max(self.agreement.largest_difference, difference)


class _InputReader:
    """Messages of one input in the order of the bag, taken up to where a cursor points."""

    def __init__(self) -> None:
        self.messages: collections.deque[tuple[int, Message]] = collections.deque()
        """Not yet taken, with the times they came [ns]."""
        self._seen = 0
        """The cursor's count at the newest decision."""

    def has(self, count: int, stamp_ns: int) -> bool:
        """Tell whether the message the cursor points to has come."""
        return count == self._seen or self._find(stamp_ns) is not None

    def reaches(self, end_sample: int, inputs: ConversationInputs) -> bool:
        """Tell whether sound up to a sample has come, where there is no cursor."""
        newest = self.messages[-1][1] if self.messages else None
        end = inputs.user.end_sample if newest is None else int(newest.first_sample) + newest.samples.size
        return end >= end_sample

    def take(self, count: int | None, stamp_ns: int) -> tuple[list[tuple[int, Message]], int | None]:
        """Take the messages up to the one the cursor points to; all that came where there is no cursor.

        Args:
            count: How many the node had handled.
            stamp_ns: ROS time in the header of the newest of them [ns].

        Returns:
            The messages, and how many of them the node must have accepted; None where that is not known, for
            the first decision may have seen messages from before the recording.
        """
        if count is None:
            taken = list(self.messages)
            self.messages.clear()
            return taken, None
        is_first, wanted = self._seen == 0, count - self._seen
        self._seen = count
        if wanted <= 0:
            return [], None
        index = self._find(stamp_ns, wanted)
        taken = [] if index is None else [self.messages.popleft() for _ in range(index + 1)]
        return taken, None if is_first and taken else wanted

    def _find(self, stamp_ns: int, wanted: int = 0) -> int | None:
        """Return the index of a stamp's message; of several, the one the count asks for, else the last."""
        found = [k for k, (_, message) in enumerate(self.messages) if message.header.wire_ns == stamp_ns]
        if not found:
            return None
        return wanted - 1 if wanted - 1 in found else found[-1]


def _start_of_conversation(taken: list[tuple[int, str, Message]], decision: Message) -> int:
    """Return when the block came with which the conversation starts that is started here, else 0 [ns].

    The user's sound and motion before it belong to an earlier conversation.
    """
    if decision.decision != Decision.RESET:
        return 0
    first_sample = int(getattr(decision, "conversation_first_sample", 0))
    return max(
        (
            now_ns
            for now_ns, topic, message in taken
            if topic == "user/audio" and int(message.first_sample) == first_sample
        ),
        default=0,
    )


def _cursor(decision: Message) -> list[tuple[str, int, int]]:
    """Return topic, count and newest stamp [ns] of each input the decision had seen."""
    return [
        (entry.topic, int(entry.messages), entry.newest_stamp.sec * 10**9 + entry.newest_stamp.nanosec)
        for entry in getattr(decision, "inputs", ())
        if entry.topic in INPUTS
    ]


def _dials(decision: Message) -> HeadDials | None:
    """Return the dials of a decision; None in a log from before there were any."""
    dials = getattr(decision, "dials", None)
    if dials is None or not dials.nod_speed:  # A log that was read by a newer definition holds zeros.
        return None
    return HeadDials(**{field.name: getattr(dials, field.name) for field in dataclasses.fields(HeadDials)})


def _copy_instants(made: Message, recorded: Message) -> None:
    for name in ("header", "compute_ms", "final_until_frame"):
        setattr(made, name, getattr(recorded, name))


def _key(message: Message) -> Key:
    return str(message.conversation_id), int(message.first_frame), int(message.revision)


def _bytes_of(message: Message) -> bytes:
    name = message.__msgtype__
    ours = converted(message, full_name(name))
    return encode(ours, _no_conversion)


_no_conversion: Callable[[int], int] = int
