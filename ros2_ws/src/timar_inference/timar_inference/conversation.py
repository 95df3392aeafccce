"""The conversation as the model must see it: which turn is next, of what it is made, and whether in time."""

from __future__ import annotations

import collections
import dataclasses

import numpy as np
import numpy.typing as npt
from timar_common.clock import NS_PER_S, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME, SampleClock
from timar_common.pcm import int16_to_float
from timar_common.stream import SampleStream

from timar_inference.alignment import Alignment
from timar_inference.config import WHOLE_TURN, InferenceConfig
from timar_inference.decisions import Job, PreviewRequest, StartConversation, TakeBack, TurnRequest
from timar_inference.planned import PlannedSpeech
from timar_inference.user_motion import MotionTrack

MAX_BLOCK_SAMPLES = SAMPLE_RATE_HZ
ARRIVALS_KEPT = 8_192
"""Blocks whose arrival is remembered, for the queue's share of the latency; more than any gap allowed."""
LEAPS_BELIEVED = 5
"""So many blocks in a row must agree that time has leapt."""


@dataclasses.dataclass
class InputCounters:
    """What came in over all conversations of this node."""

    samples_received: int = 0
    samples_lost: int = 0
    samples_repeated: int = 0
    motion_frames_unused: int = 0
    """User motion that came too late, or before the first sound."""


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


class Conversation:
    """Hold both voices and the user's motion by their place on one clock, and hand out turns in order.

    Every turn is handed out exactly once, without a gap, in order (unless it is taken back, and then again);
    none is handed out before its inputs are complete, and none holds a user sample from its margin or later.
    Times are arguments: monotonic [ns].

    Args:
        config: How late turns, changed plans and broken indices are treated.
        alignment: Turn length and margin.
        name: Prefix of the conversation ids; each new conversation adds its number.
    """

    def __init__(self, config: InferenceConfig, alignment: Alignment, name: str) -> None:
        self.config = config
        self.alignment = alignment
        self.clock = SampleClock()
        self._name = name
        self._number = 0
        self._past = InputCounters()
        self._plan = PlannedSpeech(2 * round(config.plan_horizon_s * SAMPLE_RATE_HZ))
        self._max_gap = round(config.max_gap_s * SAMPLE_RATE_HZ)
        self._capacity = self._max_gap + 30 * SAMPLE_RATE_HZ
        whole_turn = config.preview_frames == WHOLE_TURN
        self._preview_frames = alignment.turn_frames if whole_turn else config.preview_frames
        self._begin()

    def _begin(self) -> None:
        self.clock = SampleClock()
        self._user = SampleStream(self._capacity, self._max_gap)
        self._motion = MotionTrack()
        self._arrivals: collections.deque[tuple[int, int]] = collections.deque(maxlen=ARRIVALS_KEPT)
        self._issued: collections.deque[_Issued] = collections.deque()
        self._start: StartConversation | None = None
        self._take_back: TakeBack | None = None
        self._next_frame: int | None = None
        self._previous_frames = self.alignment.turn_frames
        self._revision = 0
        self._taken_back_ns = 0
        self._leaps = 0

    # What it tells.

    @property
    def conversation_id(self) -> str:
        """Name of the conversation going on; changes at every restart."""
        return f"{self._name}-{self._number}"

    @property
    def seed(self) -> int:
        """Seed of this conversation's noise."""
        return self.config.seed + self._number

    @property
    def next_frame(self) -> int | None:
        """First frame of the next turn; None before the user's first sound."""
        return self._next_frame

    @property
    def plan_revision(self) -> int:
        """Revision of the planned speech."""
        return self._plan.revision

    @property
    def stale_plan_chunks(self) -> int:
        """Chunks of planned speech that belonged to an older plan and were left out."""
        return self._plan.stale_chunks

    def counters(self) -> InputCounters:
        """Return what came in so far, over all conversations."""
        past, now = self._past, self._user.counters
        return InputCounters(
            past.samples_received + now.received,
            past.samples_lost + now.lost,
            past.samples_repeated + now.repeated,
            past.motion_frames_unused + self._motion.late_frames,
        )

    # What comes in.

    def push_user(
        self,
        first_sample: int,
        samples: npt.NDArray[np.int16],
        *,
        sample_rate_hz: int,
        stamp_ns: int,
        now_ns: int,
        filled_samples: int = 0,
    ) -> None:
        """Take a block of the user's sound in.

        Args:
            first_sample: Its place on the conversation clock, >= 0.
            samples: (n,) int16, 1..16000 of them.
            sample_rate_hz: 16000.
            stamp_ns: When its first sample was heard, monotonic [ns].
            now_ns: When it arrived, monotonic [ns].
            filled_samples: How many of them stand for lost sound.

        Raises:
            ValueError: The block cannot be true (the message says what and why); nothing has changed then.
        """
        _require_rate(sample_rate_hz)
        if samples.ndim != 1 or samples.dtype != np.int16 or not 1 <= samples.size <= MAX_BLOCK_SAMPLES:
            raise ValueError(
                f"a block of sound is {samples.dtype} of shape {samples.shape}, expected one row of 1 to "
                f"{MAX_BLOCK_SAMPLES} int16"
            )
        if first_sample < 0:
            raise ValueError(f"a block starts at sample {first_sample}, expected 0 or later")
        if not 0 <= filled_samples <= samples.size:
            raise ValueError(
                f"{filled_samples} of {samples.size} samples are said to be filled, expected a part"
            )
        self._require_near_now(stamp_ns, now_ns)
        self._require_no_jump(first_sample, samples.size)
        is_first = not self._user.is_started
        self._user.push(first_sample, samples, filled_samples)
        self._observe(first_sample, stamp_ns)
        self._arrivals.append((self._user.end_sample, now_ns))
        if is_first:
            self._next_frame = self.alignment.first_turn(first_sample)
            self._start = StartConversation(self.conversation_id, self.seed, self._next_frame)

    def push_plan(
        self,
        first_sample: int,
        samples: npt.NDArray[np.int16],
        *,
        sample_rate_hz: int,
        revision: int,
        now_ns: int,
    ) -> None:
        """Take a chunk of the agent's planned speech in.

        Args:
            first_sample: Its place on the conversation clock, >= 0.
            samples: (n,) int16; none only withdraws.
            sample_rate_hz: 16000.
            revision: A higher one withdraws everything planned at or after `first_sample`.
            now_ns: When it arrived, monotonic [ns].

        Raises:
            ValueError: The chunk cannot be true; nothing has changed then.
        """
        _require_rate(sample_rate_hz)
        horizon = round(self.config.plan_horizon_s * SAMPLE_RATE_HZ)
        if self._user.is_started and first_sample + samples.size > self._user.end_sample + horizon:
            raise ValueError(
                f"speech is planned until sample {first_sample + samples.size} while the user was heard "
                f"until {self._user.end_sample}; expected at most {horizon} samples more: see plan_horizon_s"
            )
        made_from, made_until = self._range_unseen(now_ns)
        before = self._plan.read(made_from, made_until)
        self._plan.push(first_sample, samples, revision)
        changed = np.flatnonzero(before != self._plan.read(made_from, made_until))
        if changed.size and self.config.plan_change == "take_back":
            self._withdraw_from((made_from + int(changed[0])) // SAMPLES_PER_FRAME, now_ns)

    def push_motion(
        self, first_frame: int, motion: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]
    ) -> None:
        """Take frames of the user's motion in; `user_motion_from` has checked their numbers.

        Args:
            first_frame: On the conversation's frame counter, >= 0.
            motion: (n, 56) float32.
            valid: (n, 3): expression, jaw, neck.

        Raises:
            ValueError: They lie too far from the sound; nothing has changed then.
        """
        if not self._user.is_started:
            self._past.motion_frames_unused += len(motion)
            return
        distance = first_frame - self._user.end_sample // SAMPLES_PER_FRAME
        if abs(distance) > self._max_gap // SAMPLES_PER_FRAME:
            raise ValueError(
                f"the user's motion starts at frame {first_frame}, {abs(distance)} frames away from the "
                f"sound; expected at most {self._max_gap // SAMPLES_PER_FRAME}: they count from another clock"
            )
        self._motion.push(first_frame, motion, valid)

    def restart(self) -> None:
        """End this conversation; the next one starts with the user's next sound.

        Speech that is already planned stays planned. A counter that starts anew is accepted afterwards.
        """
        self._past = self.counters()
        self._number += 1
        self._plan.forget_revision()
        self._begin()

    # What comes out.

    def next_job(self, now_ns: int) -> Job | None:
        """Return what is to be done next, or None while inputs are missing."""
        if self._start is not None:
            start, self._start = self._start, None
            return start
        if self._take_back is not None:
            take_back, self._take_back = self._take_back, None
            return take_back
        return self._next_turn(now_ns)

    def frame_at(self, now_ns: int) -> int | None:
        """Return the frame that is seen now; None before the user's first sound."""
        if not self.clock.is_started:
            return None
        return int(self.clock.sample_at(now_ns) // SAMPLES_PER_FRAME) - self.alignment.delay_frames

    def _next_turn(self, now_ns: int) -> TurnRequest | None:
        if self._next_frame is None:
            return None
        first_frame, frames = self._next_frame, self.alignment.turn_frames
        user_first, user_end = self.alignment.user_range(first_frame, self._previous_frames)
        if self._user.end_sample < SAMPLES_PER_FRAME * user_end:
            return None
        due_ns = self._due_ns(first_frame)
        self._forget(now_ns, user_first)
        self._issued.append(_Issued(first_frame, frames, user_first, self._previous_frames, due_ns))
        self._next_frame = first_frame + frames
        self._previous_frames = frames
        publication_ns = round(self.config.publication_ms * 1e6)
        is_partial = self.config.late_policy == "partial"
        user_speech, filled = self._heard(SAMPLES_PER_FRAME * user_first, SAMPLES_PER_FRAME * user_end)
        motion, valid = self._motion.read(user_first, user_end)
        planned = self._planned(first_frame, frames)
        return TurnRequest(
            conversation_id=self.conversation_id,
            seed=self.seed,
            revision=self._revision,
            first_frame=first_frame,
            frames=frames,
            user_first_frame=user_first,
            user_frames=user_end - user_first,
            user_speech=int16_to_float(user_speech),
            user_samples_filled=filled,
            user_motion=motion,
            user_motion_valid=valid,
            agent_speech=planned,
            planned_revision=self._plan.revision,
            ready_ns=self._ready_ns(SAMPLES_PER_FRAME * user_end, now_ns),
            due_ns=due_ns,
            deadline_ns=due_ns - publication_ns,
            useless_ns=(self._due_ns(first_frame + frames) if is_partial else due_ns) - publication_ns,
            final_until_frame=self._final_until(now_ns),
            preview=self._preview(first_frame + frames, frames),
        )

    # Its parts.

    def _observe(self, sample: int, stamp_ns: int) -> None:
        """Follow the stamps, but not one that leaps: when the ROS clock steps, the blocks under way do so."""
        is_leap = (
            self.clock.is_started
            and abs(stamp_ns - self.clock.monotonic_ns(sample)) > self.clock.config.jump_ms * 1e6
        )
        self._leaps = self._leaps + 1 if is_leap else 0
        if self._leaps in range(1, LEAPS_BELIEVED):
            return
        self.clock.observe(sample, stamp_ns)

    def _due_ns(self, frame: int) -> int:
        return self.clock.monotonic_ns(SAMPLES_PER_FRAME * (frame + self.alignment.delay_frames))

    def _planned(self, first_frame: int, frames: int) -> npt.NDArray[np.float32]:
        first_sample = SAMPLES_PER_FRAME * first_frame
        return int16_to_float(self._plan.read(first_sample, first_sample + SAMPLES_PER_FRAME * frames))

    def _preview(self, first_frame: int, user_frames: int) -> PreviewRequest | None:
        """Return what is known of the frames after a turn; the next turn takes `user_frames` of the user."""
        if not self._preview_frames:
            return None
        _, user_end = self.alignment.user_range(first_frame, user_frames)
        return PreviewRequest(
            agent_speech=self._planned(first_frame, self._preview_frames),
            due_ns=self._due_ns(first_frame),
            by_ns=self.clock.monotonic_ns(SAMPLES_PER_FRAME * user_end),
        )

    def _ready_ns(self, end_sample: int, now_ns: int) -> int:
        """Return when the last input of a turn came: the sound before `end_sample`, or what took it back."""
        while self._arrivals and self._arrivals[0][0] < end_sample:
            self._arrivals.popleft()
        arrival_ns = self._arrivals[0][1] if self._arrivals else now_ns
        return max(arrival_ns, self._taken_back_ns)

    def _heard(self, first_sample: int, end_sample: int) -> tuple[npt.NDArray[np.int16], int]:
        """Return the user's samples and how many of them stand for lost sound.

        What is no longer kept, because the engine stood still for so long, reads as lost.
        """
        gone = min(max(0, self._user.end_sample - self._capacity - first_sample), end_sample - first_sample)
        samples = np.zeros(end_sample - first_sample, np.int16)
        samples[gone:] = self._user.read(first_sample + gone, end_sample)
        return samples, gone + self._user.count_filled(first_sample + gone, end_sample)

    def _range_unseen(self, now_ns: int) -> tuple[int, int]:
        """Return the agent samples [first, end) of the turns handed out of which no frame was seen yet."""
        for turn in self._issued:
            if turn.due_ns > now_ns:
                return SAMPLES_PER_FRAME * turn.first_frame, SAMPLES_PER_FRAME * self._issued[-1].end_frame
        return 0, 0

    def _withdraw_from(self, frame: int, now_ns: int) -> None:
        """Take back the turn that holds an unseen `frame`, and the turns after it."""
        first = next(turn for turn in self._issued if turn.end_frame > frame)
        while self._issued and self._issued[-1].first_frame >= first.first_frame:
            self._issued.pop()
        self._revision += 1
        self._taken_back_ns = now_ns
        self._next_frame, self._previous_frames = first.first_frame, first.previous_frames
        self._take_back = TakeBack(
            self.conversation_id, self.seed, first.first_frame, self._revision, self._plan.revision
        )

    def _forget(self, now_ns: int, next_user_frame: int) -> None:
        """Drop what no turn can need: neither the next one nor one that may be taken back."""
        while self._issued and self._issued[0].due_ns <= now_ns:
            self._issued.popleft()
        oldest = self._issued[0] if self._issued else None
        self._motion.forget_before(oldest.user_first_frame if oldest else next_user_frame)
        next_frame = oldest.first_frame if oldest else self._next_frame
        horizon = round(self.config.plan_horizon_s * SAMPLE_RATE_HZ)
        self._plan.keep_within(
            SAMPLES_PER_FRAME * (next_frame or 0), self._user.end_sample + horizon + MAX_BLOCK_SAMPLES
        )

    def _final_until(self, now_ns: int) -> int:
        """Return the frame before which nothing will be taken back any more."""
        if self.config.plan_change == "take_back":
            for turn in self._issued:
                if turn.due_ns > now_ns:
                    return turn.first_frame
        return self._issued[-1].end_frame

    def _require_near_now(self, stamp_ns: int, now_ns: int) -> None:
        age_s = (now_ns - stamp_ns) / NS_PER_S
        if not -1.0 <= age_s <= self.config.max_stamp_error_s:
            raise ValueError(
                f"a block of sound is stamped {age_s:.3f} s before now, expected 0 to "
                f"{self.config.max_stamp_error_s:g}; do both ends use the same clock (use_sim_time)?"
            )

    def _require_no_jump(self, first_sample: int, size: int) -> None:
        if not self._user.is_started:
            return
        ahead = first_sample - self._user.end_sample
        behind = -(ahead + size)
        if ahead > self._max_gap or behind > self.config.max_reorder_s * SAMPLE_RATE_HZ:
            raise ValueError(
                f"a block of sound starts at sample {first_sample} while {self._user.end_sample} was "
                "expected; has the microphone's counter started anew? reset_conversation accepts the new one"
            )


def _require_rate(sample_rate_hz: int) -> None:
    if sample_rate_hz != SAMPLE_RATE_HZ:
        raise ValueError(
            f"sound comes at {sample_rate_hz} Hz, expected {SAMPLE_RATE_HZ}: resample it at its source"
        )
