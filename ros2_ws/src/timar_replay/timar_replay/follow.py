"""Repeats a recorded turn_log decision by decision and says whether the outcome is what was published."""

from __future__ import annotations

import collections
import copy
import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
from timar_audio.floor import Speaker
from timar_bag.bag import BagMessage
from timar_bag.bag_time import BagTime
from timar_bag.conversation import stamp_ns
from timar_bag.out_bag import OutBag
from timar_common.clock import NOMINAL_NS_PER_SAMPLE, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME
from timar_common.pcm import int16_to_float
from timar_common.stream import SampleStream
from timar_common.user_motion import PARTS, user_motion_from
from timar_inference.decisions import (
    Decision,
    MotionRun,
    Outcome,
    PreviewRequest,
    StartConversation,
    TakeBack,
    TurnRequest,
)
from timar_inference.planned import PlannedSpeech
from timar_inference.runner import Runner
from timar_inference.runtime import Runtime
from timar_inference.user_motion import MotionTrack

from timar_replay.desk import TimedSession, VirtualClock
from timar_replay.replay_settings import ReplaySettings
from timar_replay.replayer import Replayer

PATIENCE_NS = 2_000_000_000
"""A decision's inputs, and the motion it led to, may stand so much after it in the bag [ns]."""
KEPT_SAMPLES = 150 * SAMPLE_RATE_HZ
KEPT_PLANS = 8
KEPT_BLOCKS = 1500
NEVER_NS = 2**62
Key = tuple[str, int, int]


@dataclasses.dataclass
class Agreement:
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
    """Recorded guesses at the frames after a turn, of which the log does not speak."""
    previews_equal: int = 0

    @property
    def is_exact(self) -> bool:
        """Whether there was something to compare and all of it was equal."""
        pairs = [(self.log, self.log_equal), (self.motions, self.motions_equal)]
        pairs.append((self.previews, self.previews_equal))
        return bool(self.log) and all(count == equal for count, equal in pairs)


class Follower(Replayer):
    """Make every recorded decision again, from the inputs the log names.

    What is computed: all motion, and which user samples stood for lost ones and which frames were seen. What
    is copied: the instants (stamps, measured times, lateness), for they were the live machine's.
    """

    def __init__(self, settings: ReplaySettings, runtime: Runtime, time: BagTime, out: OutBag) -> None:
        super().__init__(settings, time, out)
        self._alignment = runtime.alignment
        clock = VirtualClock()
        session = TimedSession(runtime.session, clock, lambda: 0)
        self._session = session
        self._runner = Runner(session, runtime.identity, clock.now_ns)
        self._agreement = Agreement()
        self._decisions: collections.deque[tuple[int, Any]] = collections.deque()
        self._recorded: dict[Key, Any] = {}
        self._previews: dict[Key, Any] = {}
        self._newest_turn: tuple[TurnRequest, PlannedSpeech] | None = None
        self._user = SampleStream(KEPT_SAMPLES)
        self._motion = MotionTrack()
        self._plan = PlannedSpeech(KEPT_SAMPLES)
        self._plans: collections.OrderedDict[int, PlannedSpeech] = collections.OrderedDict()
        self._blocks: collections.deque[tuple[int, int]] = collections.deque(maxlen=KEPT_BLOCKS)
        self._firsts: list[int] = []
        self._conversation_id: str | None = None
        self._sequence: int | None = None
        self._problems: collections.Counter[str] = collections.Counter()
        self._handlers |= {"turn_log": self._on_decision, "agent/motion": self._on_head_motion}

    def take(self, entry: BagMessage, now_ns: int) -> None:
        """Take a message that comes now [monotonic ns]."""
        while self._body.next_tick_ns(now_ns) is not None:
            self._body.tick()
        super().take(entry, now_ns)
        self._repeat(now_ns)

    def finish(self) -> None:
        """Make the decisions that wait, with what there is."""
        self._repeat(NEVER_NS)
        self._guess()
        self._ears.finish(self._time.now_ns)

    def losses(self) -> list[str]:
        """Say what kept the log from being repeated as it was."""
        return [f"{what}{f' ({count} times)' if count > 1 else ''}" for what, count in self._problems.items()]

    def agreement(self) -> dict[str, Any]:
        """Return how the outcome compares with what was published."""
        return {**dataclasses.asdict(self._agreement), "is_exact": self._agreement.is_exact}

    # Messages in.

    def _on_user(self, message: Any, now_ns: int) -> None:
        samples, stamped_ns = self._placed("user/audio", message)
        first = int(message.first_sample)
        self._user.push(first, samples, int(message.filled_samples))
        self._blocks.append((first, stamp_ns(message) + round(samples.size * NOMINAL_NS_PER_SAMPLE)))
        self._hear(Speaker.USER, message, samples, stamped_ns, now_ns)
        self._body.start({}, now_ns)

    def _on_plan(self, message: Any, now_ns: int) -> None:
        revision = int(getattr(message, "revision", 0))
        if revision > self._plan.revision:
            # A turn made just before the change stands in the log just after it.
            self._plans[self._plan.revision] = copy.deepcopy(self._plan)
            while len(self._plans) > KEPT_PLANS:
                self._plans.popitem(last=False)
        self._plan.push(int(message.first_sample), np.asarray(message.samples, np.int16), revision)
        self._plan.keep_within(
            self._user.end_sample - KEPT_SAMPLES // 2, self._user.end_sample + KEPT_SAMPLES
        )

    def _on_motion(self, message: Any, now_ns: int) -> None:
        motion, valid = user_motion_from(message)
        self._motion.push(int(message.first_frame), motion, valid)

    def _on_decision(self, message: Any, now_ns: int) -> None:
        self._decisions.append((now_ns, message))

    def _on_head_motion(self, message: Any, now_ns: int) -> None:
        if getattr(message, "is_preview", False):
            self._agreement.previews += 1
            self._previews[_key(message)] = message
            return
        self._recorded[_key(message)] = message

    # Decisions.

    def _repeat(self, now_ns: int) -> None:
        while self._decisions:
            came_ns, decision = self._decisions[0]
            if now_ns < came_ns + PATIENCE_NS and not self._is_ready(decision):
                return
            self._decisions.popleft()
            self._decide(decision)

    def _is_ready(self, decision: Any) -> bool:
        if decision.decision in (Decision.RESET, Decision.TAKE_BACK):
            return self._user.is_started
        if decision.decision == Decision.GENERATE and _key(decision) not in self._recorded:
            return False
        if int(decision.planned_revision) > self._plan.revision:
            return False
        if any(decision.user_motion_valid):
            first, end = _user_range(decision)
            _, valid = self._motion.read(first, end)
            wanted = np.array(decision.user_motion_valid, np.bool_)
            if valid is None or not np.asarray(valid.any(axis=1))[wanted].all():
                return False
        return self._user.end_sample >= decision.user_end_sample

    def _decide(self, decision: Any) -> None:
        self._guess()
        self._follow_sequence(decision)
        recorded = (
            self._recorded.pop(_key(decision), None) if decision.decision == Decision.GENERATE else None
        )
        if decision.decision == Decision.RESET:
            self._firsts = self._possible_firsts(decision)
            outcome = self._start(decision)
        elif decision.decision == Decision.TAKE_BACK:
            self._recorded.clear()
            self._previews.clear()
            outcome = self._runner.run(
                TakeBack(
                    decision.conversation_id, int(decision.seed), int(decision.first_frame),
                    int(decision.revision), int(decision.planned_revision),
                )
            )  # fmt: skip
        else:
            outcome = self._turn(decision, recorded)
        self._write(decision, outcome, recorded)
        self._motion.forget_before(int(decision.user_first_sample) // SAMPLES_PER_FRAME - 2 * SAMPLE_RATE_HZ)

    def _follow_sequence(self, decision: Any) -> None:
        expected = None if self._sequence is None else self._sequence + 1
        self._sequence = int(decision.sequence)
        is_start = decision.decision == Decision.RESET
        if decision.conversation_id != self._conversation_id and not is_start:
            self._begin_in_the_middle(decision, "the log does not hold the conversation's start")
        elif expected is not None and self._sequence != expected and not is_start:
            self._begin_in_the_middle(decision, "decisions are missing in the log")
        self._conversation_id = decision.conversation_id

    def _begin_in_the_middle(self, decision: Any, why: str) -> None:
        self._problems[f"{why}; what follows starts without its history and cannot be equal"] += 1
        self._firsts = []
        self._start(decision)

    def _start(self, decision: Any) -> Outcome:
        return self._runner.run(
            StartConversation(decision.conversation_id, int(decision.seed), int(decision.first_frame))
        )

    def _possible_firsts(self, decision: Any) -> list[int]:
        """Return the samples the conversation may have begun with, the likeliest first.

        The log says with which turn it began, not with which block: the node may have joined a running
        microphone. The first turn's motion tells (see `_turn`).
        """
        decided_ns = stamp_ns(decision)
        fitting = [
            (first, end_ns)
            for first, end_ns in self._blocks
            if self._alignment.first_turn(first) == decision.first_frame
        ]
        before = [first for first, end_ns in fitting if end_ns <= decided_ns]
        after = [first for first, end_ns in fitting if end_ns > decided_ns]
        return before[::-1] + after

    def _turn(self, decision: Any, recorded: Any) -> Outcome:
        """Make a turn; a conversation's first one with each possible beginning until it is as recorded."""
        firsts, self._firsts = self._firsts or [0], []
        wanted = None if recorded is None else _rows(recorded)
        for first in firsts:
            outcome = self._runner.run(self._request(decision, first))
            if wanted is None or outcome.motion is None or np.array_equal(outcome.motion, wanted):
                break
            if len(firsts) > 1:
                self._take_back(decision)
        else:
            first = firsts[0]
            if len(firsts) > 1:
                outcome = self._runner.run(self._request(decision, first))
        self._firsts = [first]
        self._newest_turn = (self._request(decision, first), self._plan_of(decision))
        return outcome

    def _guess(self) -> None:
        """Make the preview that was recorded after the newest turn, if there was one, and compare it."""
        newest, self._newest_turn = self._newest_turn, None
        if newest is None:
            return
        turn, plan = newest
        recorded = self._previews.pop((turn.conversation_id, turn.end_frame, turn.revision), None)
        if recorded is None:
            return
        first, end = turn.end_frame, turn.end_frame + int(recorded.frames)
        speech = int16_to_float(plan.read(SAMPLES_PER_FRAME * first, SAMPLES_PER_FRAME * end))
        run = self._runner.preview(dataclasses.replace(turn, preview=PreviewRequest(speech, 0, NEVER_NS)))
        if run is not None:
            data = self._write_motion(run, recorded)
            self._agreement.previews_equal += data == self._bytes_of(recorded, "timar_msgs/msg/HeadMotion")

    def _plan_of(self, decision: Any) -> PlannedSpeech:
        return self._plans.get(int(decision.planned_revision), self._plan)

    def _take_back(self, decision: Any) -> None:
        self._runner.run(
            TakeBack(decision.conversation_id, int(decision.seed), int(decision.first_frame), 0, 0)
        )

    def _request(self, decision: Any, first_sample: int) -> TurnRequest:
        first, end = int(decision.user_first_sample), int(decision.user_end_sample)
        heard = np.zeros(end - first, np.int16)
        begin = min(max(first, first_sample), end)
        heard[begin - first :] = self._user.read(begin, end)
        user_first, user_end = _user_range(decision)
        motion, valid = self._seen(decision, user_first, user_end)
        plan = self._plan_of(decision)
        is_sampled = decision.decision == Decision.GENERATE
        return TurnRequest(
            conversation_id=decision.conversation_id,
            seed=int(decision.seed),
            revision=int(decision.revision),
            first_frame=int(decision.first_frame),
            frames=int(decision.frames),
            user_first_frame=user_first,
            user_frames=user_end - user_first,
            user_speech=int16_to_float(heard),
            user_samples_filled=self._user.count_filled(begin, end),
            user_motion=motion,
            user_motion_valid=valid,
            agent_speech=int16_to_float(
                plan.read(int(decision.agent_first_sample), int(decision.agent_end_sample))
            ),
            planned_revision=int(decision.planned_revision),
            ready_ns=0,
            due_ns=0,
            deadline_ns=NEVER_NS,
            useless_ns=NEVER_NS if is_sampled else -NEVER_NS,
            final_until_frame=int(decision.first_frame),
        )

    def _seen(self, decision: Any, first: int, end: int) -> tuple[Any, Any]:
        """Return the user's motion as it was known when the turn was made."""
        flags = np.array(decision.user_motion_valid, np.bool_)
        motion, valid = self._motion.read(first, end)
        if not flags.any() or motion is None or valid is None:
            return None, None
        valid = valid & flags[:, None]
        return np.where(np.asarray(valid.any(axis=1))[:, None], motion, np.float32(0)).astype(
            np.float32
        ), valid

    # Out.

    def _write(self, decision: Any, outcome: Outcome, recorded: Any) -> None:
        make, now_ns = self._out.make, self._time.now_ns
        at_ns = self._time.ros_ns(now_ns)
        shown = outcome.shown
        if shown is not None and recorded is not None:
            self._compare_motion(decision, self._write_motion(shown, recorded), recorded, shown.motion)
        elif shown is not None:
            self._agreement.motions_lost += 1
        copied = {name: getattr(decision, name) for name in COPIED}
        data = self._out.write("turn_log", at_ns, make.turn_log(outcome.entry, decision.header, **copied))
        self._agreement.log += 1
        self._agreement.log_equal += data == self._bytes_of(decision, "timar_msgs/msg/TurnLog")

    def _write_motion(self, run: MotionRun, recorded: Any) -> bytes:
        """Write motion with the instants of the recorded one, move by it, and return its bytes."""
        make, now_ns = self._out.make, self._time.now_ns
        final = int(recorded.final_until_frame)
        message = make.head_motion(
            run, recorded.header, compute_ms=recorded.compute_ms, final_until_frame=final
        )
        data = self._out.write("agent/motion", self._time.ros_ns(now_ns), message)
        due_ns = self._time.stamped("agent/motion", stamp_ns(recorded))
        self._body.move(dataclasses.replace(run, due_ns=due_ns), now_ns)
        return data

    def _compare_motion(
        self, decision: Any, data: bytes, recorded: Any, motion: npt.NDArray[np.float32]
    ) -> None:
        agreement = self._agreement
        agreement.motions += 1
        if data == self._bytes_of(recorded, "timar_msgs/msg/HeadMotion"):
            agreement.motions_equal += 1
            return
        if agreement.first_unequal_frame is None:
            agreement.first_unequal_frame = int(decision.first_frame)
        wanted = _rows(recorded)
        if motion.shape == wanted.shape:
            difference = float(np.abs(motion - wanted).max())
            agreement.largest_difference = max(agreement.largest_difference, difference)

    def _bytes_of(self, message: Any, type_name: str) -> bytes:
        make = self._out.make
        return make.serialize(make.converted(message, type_name), type_name)


COPIED = (
    "sequence", "is_late", "queue_ms", "speech_ms", "backbone_ms", "head_ms", "compute_ms",
)  # fmt: skip
"""Fields of a decision that say how the live machine did, not what was decided."""


def _key(message: Any) -> Key:
    return str(message.conversation_id), int(message.first_frame), int(message.revision)


def _user_range(decision: Any) -> tuple[int, int]:
    return (
        int(decision.user_first_sample) // SAMPLES_PER_FRAME,
        int(decision.user_end_sample) // SAMPLES_PER_FRAME,
    )


def _rows(message: Any) -> npt.NDArray[np.float32]:
    """Return a HeadMotion's (frames, 56) numbers."""
    frames = int(message.frames)
    return np.concatenate(
        [np.asarray(getattr(message, part), np.float32).reshape(frames, -1) for part in PARTS], axis=1
    )
