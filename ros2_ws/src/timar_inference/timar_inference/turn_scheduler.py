"""Turn scheduling: which turn is next, whether its inputs are complete, until when it is of use."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any

import numpy as np
from timar_common.clock import SAMPLES_PER_FRAME, SampleClock
from timar_common.messages import Message
from timar_common.restarts import Belongs, ConversationWatch
from timar_common.units import Frames, Samples, frames_of, samples_of
from timar_model.gestures.dials import HeadDials
from timar_model.gestures.gesture_layer import AHEAD_FRAMES, LayerInputs, RequestedGesture

from timar_inference.alignment import Alignment
from timar_inference.config import MARGIN_DEFAULT, WHOLE_TURN, InferenceConfig
from timar_inference.conversation_inputs import ConversationInputs
from timar_inference.gesture_requests import GestureRequests
from timar_inference.turn_jobs import PreviewRequest, Rollback, StartConversation, TurnJob, TurnRequest

ARRIVALS_KEPT = 8_192
"""Blocks whose arrival is kept, for the queue's share of the latency; more than any gap allowed."""
JUMP_CONFIRMATIONS = 5
"""So many blocks in a row must agree that time has jumped."""


@dataclasses.dataclass(frozen=True)
class _Issued:
    """A turn handed out, until it is seen."""

    first_frame: int
    frames: int
    user_first_frame: int
    previous_frames: int
    due_ns: int

    @property
    def end_frame(self) -> int:
        return self.first_frame + self.frames


class TurnScheduler:
    """Keep both voices and the user's motion on one clock, and hand out turns in order.

    Every turn is handed out exactly once, without a gap, in order (unless it is rolled back, and then again);
    none is handed out before its inputs are complete, and none holds a user sample from its margin or later.
    Times are arguments: monotonic [ns].

    Args:
        config: How late turns, changed plans and broken indices are treated.
        alignment: Turn length and margin.
        name: Prefix of the conversation ids; each new conversation adds its number.
    """

    def __init__(self, config: InferenceConfig, alignment: Alignment, name: str) -> None:
        self.config = config
        self.alignment = self._alignment = alignment
        self.way_ms = 0.0
        """To another machine's sound and joints and back [ms]; the next conversation leaves time for it."""
        self._adds_way = config.margin_frames == MARGIN_DEFAULT
        self.inputs = ConversationInputs(config)
        self._gestures = GestureRequests()
        self._name = name
        self._number = 0
        is_whole_turn = config.preview_frames == WHOLE_TURN
        self._preview_frames = alignment.turn_frames if is_whole_turn else config.preview_frames
        self._begin()

    def _begin(self) -> None:
        self.clock = SampleClock()
        self._watch = ConversationWatch()
        self._arrivals: collections.deque[tuple[int, int]] = collections.deque(maxlen=ARRIVALS_KEPT)
        self._issued: collections.deque[_Issued] = collections.deque()
        self._start: StartConversation | None = None
        self._rollback: Rollback | None = None
        self._next_frame: int | None = None
        self._previous_frames = self.alignment.turn_frames
        self._revision = 0
        self._rolled_back_ns = 0
        self._jumps_in_a_row = 0

    @property
    def conversation_id(self) -> str:
        """Name of the conversation going on; changes at every restart."""
        return f"{self._name}-{self._number}"

    @property
    def outage_ns(self) -> int:
        """Sound lost when capture was started again the last time [ns]."""
        return self._watch.outage_ns

    @property
    def lost_in_restarts_ns(self) -> int:
        """Sound lost whenever capture was started again [ns]."""
        return self._watch.lost_ns

    @property
    def seed(self) -> int:
        """Seed of this conversation's noise."""
        return self.config.seed + self._number

    @property
    def next_frame(self) -> int | None:
        """First frame of the next turn; None before the user's first sound."""
        return self._next_frame

    # What comes in.

    def push_user(self, message: Message, now_ns: int) -> Belongs:
        """Take a block of the user's sound that arrives now; see `ConversationInputs.push_user`.

        A block of a counter that restarted begins a new conversation; one of the old counter is left out. So
        does one after a gap too long to fill, if it came when it must: a bad index alone is refused.
        """
        first_sample = int(message.first_sample)
        is_later = self.inputs.is_far_ahead(first_sample) and self._watch.agrees(
            first_sample, message.header.stamp
        )
        self.inputs.check_user(message, now_ns, may_leap=is_later)
        if is_later:
            self.restart()
        belongs = self._watch.observe(first_sample, message.samples.size, message.header.stamp)
        if belongs is Belongs.OLD:
            return belongs
        if belongs is Belongs.NEW:
            watch = self._watch
            self.restart()
            self._watch = watch  # Blocks of the old counter may still come.
        user = self.inputs.user
        is_first = not user.is_started
        self.inputs.push_user(message, now_ns)
        self._observe(first_sample, message.header.stamp)
        self._arrivals.append((user.end_sample, now_ns))
        if is_first:
            self.alignment = self._alignment.with_way(self.way_ms if self._adds_way else 0.0)
            self._next_frame = self.alignment.first_turn(first_sample)
            self._start = StartConversation(self.conversation_id, self.seed, self._next_frame)
        return Belongs.LATER if is_later else belongs

    def push_plan(self, message: Message, now_ns: int) -> None:
        """Take a chunk of planned speech that arrives now; see `ConversationInputs.push_plan`.

        Where it changes what a turn that is not seen yet was made from, that turn is rolled back.
        """
        made_from, made_until = self._range_unseen(now_ns)
        plan = self.inputs.plan
        before = plan.read(made_from, made_until)
        self.inputs.push_plan(message)
        changed = np.flatnonzero(before != plan.read(made_from, made_until))
        if changed.size and self.config.plan_change == "rollback":
            self._roll_back_from(frames_of(Samples(made_from + int(changed[0]))), now_ns)

    def push_gesture(self, message: Message) -> str:
        """Take a timar_msgs/GestureRequest; return why it was refused, empty when it was not."""
        if message.is_withdrawn:
            self._gestures.withdraw(str(message.gesture.gesture_id), self._next_frame or 0)
            return ""
        wanted_ns, wanted_frame = message.header.stamp, None
        if wanted_ns and self.clock.is_started:
            sample = self.clock.sample_at(wanted_ns)
            wanted_frame = -int(-sample // SAMPLES_PER_FRAME) - self.alignment.delay_frames
        dials = self.config.dials()
        return self._gestures.add(message.gesture, wanted_frame, self._next_frame, dials, self.seed)

    def restart(self) -> None:
        """End this conversation; the next one starts with the user's next sound."""
        self.inputs.restart()
        self._gestures.restart()
        self._number += 1
        self._begin()

    # What comes out.

    def next_job(self, now_ns: int) -> TurnJob | None:
        """Return what is to be done next, or None while inputs are missing."""
        if self._start is not None:
            start, self._start = self._start, None
            return start
        if self._rollback is not None:
            rollback, self._rollback = self._rollback, None
            return rollback
        return self._next_turn(now_ns)

    def _next_turn(self, now_ns: int) -> TurnRequest | None:
        if self._next_frame is None:
            return None
        first_frame, frames = self._next_frame, self.alignment.turn_frames
        user_first, user_end = self.alignment.user_range(first_frame, self._previous_frames)
        if not self.inputs.has_user_until(Frames(user_end)):
            return None
        due_ns = self._due_ns(first_frame)
        self._forget(now_ns, user_first)
        self._issued.append(_Issued(first_frame, frames, user_first, self._previous_frames, due_ns))
        self._next_frame = first_frame + frames
        self._previous_frames = frames
        publication_ns = round((self.config.publication_ms + self.way_ms / 2) * 1e6)
        is_partial = self.config.late_policy == "partial"
        return turn_request(
            self.inputs,
            conversation_id=self.conversation_id,
            seed=self.seed,
            revision=self._revision,
            first_frame=first_frame,
            frames=frames,
            user_first_frame=user_first,
            user_frames=user_end - user_first,
            ready_ns=self._ready_ns(samples_of(Frames(user_end)), now_ns),
            due_ns=due_ns,
            deadline_ns=due_ns - publication_ns,
            useless_ns=(self._due_ns(first_frame + frames) if is_partial else due_ns) - publication_ns,
            final_until_frame=self._final_until(now_ns),
            next_ready_ns=self._next_ready_ns(first_frame + frames, frames),
            requested=self._gestures.known(first_frame, first_frame + frames + AHEAD_FRAMES),
            refused=self._gestures.take_refused(),
            dials=self.config.dials(),
            preview=self._preview(first_frame + frames, frames),
        )

    # Its parts.

    def _observe(self, sample: int, stamp_ns: int) -> None:
        """Follow the stamps, but not one that jumps: when the ROS clock steps, blocks under way do so."""
        is_jump = (
            self.clock.is_started
            and abs(stamp_ns - self.clock.monotonic_ns(sample)) > self.clock.config.jump_ms * 1e6
        )
        self._jumps_in_a_row = self._jumps_in_a_row + 1 if is_jump else 0
        if self._jumps_in_a_row in range(1, JUMP_CONFIRMATIONS):
            return
        self.clock.observe(sample, stamp_ns)

    def _due_ns(self, frame: int) -> int:
        return self.clock.monotonic_ns(samples_of(Frames(frame + self.alignment.delay_frames)))

    def _preview(self, first_frame: int, user_frames: int) -> PreviewRequest | None:
        """Return what is known of the frames after a turn; the next turn takes `user_frames` of the user."""
        if not self._preview_frames:
            return None
        return PreviewRequest(
            agent_speech=self.inputs.agent_speech(first_frame, self._preview_frames),
            due_ns=self._due_ns(first_frame),
            by_ns=self._next_ready_ns(first_frame, user_frames),
        )

    def _next_ready_ns(self, first_frame: int, user_frames: int) -> int:
        _, user_end = self.alignment.user_range(first_frame, user_frames)
        return self.clock.monotonic_ns(samples_of(Frames(user_end)))

    def _ready_ns(self, end_sample: Samples, now_ns: int) -> int:
        """Return when the last input of a turn came: sound before `end_sample`, or what rolled it back."""
        while self._arrivals and self._arrivals[0][0] < end_sample:
            self._arrivals.popleft()
        arrival_ns = self._arrivals[0][1] if self._arrivals else now_ns
        return max(arrival_ns, self._rolled_back_ns)

    def _range_unseen(self, now_ns: int) -> tuple[int, int]:
        """Return the agent samples [first, end) of the turns handed out of which no frame was seen yet."""
        for turn in self._issued:
            if turn.due_ns > now_ns:
                return samples_of(Frames(turn.first_frame)), samples_of(Frames(self._issued[-1].end_frame))
        return 0, 0

    def _roll_back_from(self, frame: int, now_ns: int) -> None:
        """Roll back the turn that holds an unseen `frame`, and the turns after it."""
        first = next(turn for turn in self._issued if turn.end_frame > frame)
        while self._issued and self._issued[-1].first_frame >= first.first_frame:
            self._issued.pop()
        self._revision += 1
        self._rolled_back_ns = now_ns
        self._next_frame, self._previous_frames = first.first_frame, first.previous_frames
        self._rollback = Rollback(
            self.conversation_id, self.seed, first.first_frame, self._revision, self.inputs.plan.revision
        )

    def _forget(self, now_ns: int, next_user_frame: int) -> None:
        """Drop what no turn can need: neither the next one nor one that may be rolled back."""
        while self._issued and self._issued[0].due_ns <= now_ns:
            self._issued.popleft()
        oldest = self._issued[0] if self._issued else None
        user_frame = oldest.user_first_frame if oldest else next_user_frame
        agent_frame = oldest.first_frame if oldest else self._next_frame or 0
        self.inputs.forget_before(Frames(user_frame), Frames(agent_frame))
        self._gestures.forget_before(agent_frame)

    def _final_until(self, now_ns: int) -> int:
        """Return the frame before which nothing will be rolled back any more."""
        if self.config.plan_change == "rollback":
            for turn in self._issued:
                if turn.due_ns > now_ns:
                    return turn.first_frame
        return self._issued[-1].end_frame


def turn_request(
    inputs: ConversationInputs,
    *,
    first_frame: int,
    frames: int,
    user_first_frame: int,
    user_frames: int,
    requested: tuple[RequestedGesture, ...],
    dials: HeadDials | None,
    **when: Any,
) -> TurnRequest:
    """Return a turn's request with its arrays cut from the inputs.

    Args:
        inputs: Where the arrays are.
        first_frame: Of the turn.
        frames: Its length.
        user_first_frame: First frame of the user's block.
        user_frames: Its length.
        requested: Gestures that are asked for in the turn and in the second after it.
        dials: Of the head; None lays nothing over the model's motion.
        when: The other fields of `TurnRequest`.
    """
    user_end = user_first_frame + user_frames
    user_speech, filled = inputs.user_speech(
        samples_of(Frames(user_first_frame)), samples_of(Frames(user_end))
    )
    motion, valid = inputs.motion.read(user_first_frame, user_end)
    agent_speech = inputs.agent_speech(first_frame, frames)
    layer = None
    if dials is not None:
        ahead = inputs.agent_speech(first_frame + frames, frames + AHEAD_FRAMES)
        layer = LayerInputs(
            first_frame, agent_speech, ahead, user_speech, motion, valid, inputs.intent, requested, dials
        )
    return TurnRequest(
        first_frame=first_frame,
        frames=frames,
        user_first_frame=user_first_frame,
        user_frames=user_frames,
        user_speech=user_speech,
        user_samples_filled=filled,
        user_motion=motion,
        user_motion_valid=valid,
        agent_speech=agent_speech,
        planned_revision=inputs.plan.revision,
        layer=layer,
        **when,
    )
