"""What a turn is made from: both voices and the user's motion, by their index on the conversation clock."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
from timar_common.clock import NS_PER_S, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME
from timar_common.messages import Message
from timar_common.pcm import int16_to_float
from timar_common.stream import SampleStream
from timar_common.units import Frames, Samples, frames_of, samples_of
from timar_common.user_motion import user_motion_from

from timar_inference.config import InferenceConfig
from timar_inference.planned_speech import PlannedSpeech
from timar_inference.user_motion_track import UserMotionTrack

MAX_BLOCK_SAMPLES = SAMPLE_RATE_HZ


@dataclasses.dataclass
class InputCounters:
    """What came in over all conversations of a node."""

    samples_received: int = 0
    samples_lost: int = 0
    samples_repeated: int = 0
    motion_frames_unused: int = 0
    """User motion that came too late, or before the first sound."""


class ConversationInputs:
    """Keep the voices and the user's motion, and cut them into the inputs of a turn.

    The scheduler fills it as messages come; following a recorded turn log fills it up to the log's input
    cursor. Both then read the same arrays.

    Args:
        config: Which blocks are refused, and how far speech may be planned.
    """

    def __init__(self, config: InferenceConfig) -> None:
        self.config = config
        self.max_gap = Samples(round(config.max_gap_s * SAMPLE_RATE_HZ))
        self.plan_horizon = Samples(round(config.plan_horizon_s * SAMPLE_RATE_HZ))
        self.plan = PlannedSpeech(2 * self.plan_horizon)
        self.intent = 0
        """Of the agent, as in timar_msgs/AgentIntent: the newest."""
        self._capacity = self.max_gap + 30 * SAMPLE_RATE_HZ
        self._past = InputCounters()
        self._begin()

    def _begin(self) -> None:
        self.user = SampleStream(self._capacity, self.max_gap)
        self.motion = UserMotionTrack()

    def restart(self) -> None:
        """Forget the user: the next conversation starts with the next block, whatever its index.

        Speech that is already planned stays planned.
        """
        self._past = self.counters()
        self.plan.forget_revision()
        self._begin()

    def counters(self) -> InputCounters:
        """Return what came in so far, over all conversations."""
        past, now = self._past, self.user.counters
        return InputCounters(
            past.samples_received + now.received,
            past.samples_lost + now.lost,
            past.samples_repeated + now.repeated,
            past.motion_frames_unused + self.motion.late_frames,
        )

    # What comes in.

    def check_user(self, message: Message, now_ns: int, *, may_leap: bool = False) -> None:
        """Check a block of the user's sound (timar_msgs/AudioChunk).

        Args:
            message: The block.
            now_ns: When it arrives, CLOCK_MONOTONIC [ns].
            may_leap: Accept one after a gap too long to fill: it begins a new conversation.

        Raises:
            ValueError: The block cannot be true; the message says what and why.
        """
        samples, first_sample = message.samples, int(message.first_sample)
        _require_rate(message.sample_rate)
        if not 1 <= samples.size <= MAX_BLOCK_SAMPLES:
            raise ValueError(
                f"a block of sound has {samples.size} samples, expected 1 to {MAX_BLOCK_SAMPLES}"
            )
        if first_sample < 0:
            raise ValueError(f"a block starts at sample {first_sample}, expected 0 or later")
        if not 0 <= message.filled_samples <= samples.size:
            raise ValueError(
                f"{message.filled_samples} of {samples.size} samples are said to be filled, expected a part"
            )
        self._require_near_now(message.header.stamp, now_ns)
        if not may_leap and self.is_far_ahead(first_sample):
            raise ValueError(
                f"a block of sound starts at sample {first_sample} while {self.user.end_sample} was "
                "expected, more than max_gap_s ahead; reset_conversation accepts it"
            )

    def is_far_ahead(self, first_sample: int) -> bool:
        """Tell whether a block starts too far after the newest one for the gap to be filled."""
        return self.user.is_started and first_sample - self.user.end_sample > self.max_gap

    def push_user(self, message: Message, now_ns: int) -> None:
        """Take a block of the user's sound (timar_msgs/AudioChunk).

        Raises:
            ValueError: The block cannot be true (the message says what and why); nothing has changed then.
        """
        self.check_user(message, now_ns)
        first_sample, samples = int(message.first_sample), message.samples
        behind = self.user.end_sample - first_sample - samples.size
        if self.user.is_started and behind > self.config.max_reorder_s * SAMPLE_RATE_HZ:
            raise ValueError(
                f"a block of sound starts at sample {first_sample} while {self.user.end_sample} was "
                "expected, longer ago than max_reorder_s; reset_conversation accepts it"
            )
        self.user.push(first_sample, samples, int(message.filled_samples))

    def push_plan(self, message: Message) -> None:
        """Take a chunk of the agent's planned speech (timar_msgs/PlannedAudio).

        Raises:
            ValueError: The chunk cannot be true; nothing has changed then.
        """
        _require_rate(message.sample_rate)
        end_sample = int(message.first_sample) + message.samples.size
        if self.user.is_started and end_sample > self.user.end_sample + self.plan_horizon:
            raise ValueError(
                f"speech is planned until sample {end_sample} while the user was heard until "
                f"{self.user.end_sample}; expected at most {self.plan_horizon} samples more: "
                "see plan_horizon_s"
            )
        self.plan.push(int(message.first_sample), message.samples, int(message.revision))

    def push_motion(self, message: Message) -> None:
        """Take frames of the user's motion (timar_msgs/UserMotion).

        Raises:
            ValueError: Its numbers, rate or index cannot be true; nothing has changed then.
        """
        motion, valid = user_motion_from(message)
        first_frame = int(message.first_frame)
        if not self.user.is_started:
            self._past.motion_frames_unused += len(motion)
            return
        distance = Frames(first_frame - frames_of(Samples(self.user.end_sample)))
        if abs(distance) > frames_of(self.max_gap):
            raise ValueError(
                f"the user's motion starts at frame {first_frame}, {abs(distance)} frames away from the "
                f"sound; expected at most {frames_of(self.max_gap)}: they count from another clock"
            )
        self.motion.push(first_frame, motion, valid)

    # What a turn takes.

    def has_user_until(self, end_frame: Frames) -> bool:
        """Tell whether the user was heard to the end of the frame before `end_frame`."""
        return self.user.end_sample >= samples_of(end_frame)

    def user_speech(self, first: Samples, end: Samples) -> tuple[npt.NDArray[np.float32], int]:
        """Return the user's samples [first, end) in [-1, 1), and how many of them stand for lost sound.

        What is no longer kept, because the engine stood still for so long, reads as lost.
        """
        gone = min(max(0, self.user.end_sample - self._capacity - first), end - first)
        samples = np.zeros(end - first, np.int16)
        samples[gone:] = self.user.read(first + gone, end)
        return int16_to_float(samples), gone + self.user.count_filled(first + gone, end)

    def agent_speech(self, first_frame: int, frames: int) -> npt.NDArray[np.float32]:
        """Return the planned speech of some frames, (640 frames,) in [-1, 1)."""
        first = SAMPLES_PER_FRAME * first_frame
        return int16_to_float(self.plan.read(first, first + SAMPLES_PER_FRAME * frames))

    def forget_before(self, user_frame: Frames, agent_frame: Frames) -> None:
        """Drop user motion and planned speech that no turn will need any more."""
        self.motion.forget_before(user_frame)
        until = self.user.end_sample + self.plan_horizon + MAX_BLOCK_SAMPLES
        self.plan.keep_within(samples_of(agent_frame), until)

    def _require_near_now(self, stamp_ns: int, now_ns: int) -> None:
        age_s = (now_ns - stamp_ns) / NS_PER_S
        if not -1.0 <= age_s <= self.config.max_stamp_error_s:
            raise ValueError(
                f"a block of sound is stamped {age_s:.3f} s before now, expected 0 to "
                f"{self.config.max_stamp_error_s:g}; do both ends use the same clock (use_sim_time)?"
            )


def _require_rate(sample_rate_hz: int) -> None:
    if sample_rate_hz != SAMPLE_RATE_HZ:
        raise ValueError(
            f"sound comes at {sample_rate_hz} Hz, expected {SAMPLE_RATE_HZ}: resample it at its source"
        )
