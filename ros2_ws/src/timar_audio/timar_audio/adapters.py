"""Adapters to other packages without ROS: parameters, utterances cut at pauses, ROS4HRI's tracked voice."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from timar_common.clock import SAMPLE_RATE_HZ
from timar_common.config import check, number, option

from timar_audio.external_audio import Layout


@dataclasses.dataclass(frozen=True)
class AudioCommonConfig:
    """The adapter to either audio_common_msgs; a topic left empty is left out."""

    user_topic: str = option("", "Where the user's sound is published for others.")
    agent_topic: str = option("", "Where the head's own voice is published for others, as it is heard.")
    speech_topic: str = option("", "Topic of another package's synthesiser, whose sound the head says.")
    speech_layout: str = option(
        "",
        "What its plain bytes mean where no audio_info says so: format, rate in Hz, channels, such as "
        "S16LE,22050,1.",
    )
    utterance_gap_ms: int = number(
        500, "Their sound has no end: so long without more of it ends an utterance.", 50, 10_000, "ms"
    )

    def __post_init__(self) -> None:
        check(self)
        Layout.parse(self.speech_layout)
        topics = [name for name in (self.user_topic, self.agent_topic, self.speech_topic) if name]
        if len(set(topics)) < len(topics):
            raise ValueError(
                f"user_topic {self.user_topic!r}, agent_topic {self.agent_topic!r} and speech_topic "
                f"{self.speech_topic!r} must differ: the head would hear or say itself"
            )

    @property
    def has_work(self) -> bool:
        """Whether any topic has a name."""
        return bool(self.user_topic or self.agent_topic or self.speech_topic)


@dataclasses.dataclass(frozen=True)
class Ros4HriConfig:
    """The adapter to ROS4HRI's voice topics."""

    humans: str = option("/humans", "Namespace of ROS4HRI's topics, as REP-155 names it.")
    forget_after_s: float = number(
        10.0,
        "A voice that is silent for so long is no longer tracked; the next has another id.",
        0.5,
        3600.0,
        "s",
    )
    repeat_ms: int = number(
        200, "is_speaking is repeated so often, for who subscribes after the id became known.", 20, 5000, "ms"
    )

    def __post_init__(self) -> None:
        check(self)


class SpeechPart(NamedTuple):
    """What one message of agent/speech holds."""

    utterance_id: str
    rate_hz: int
    samples: npt.NDArray[np.int16]
    is_last: bool


class UtteranceSplitter:
    """Cut a synthesiser's audio, which has no ends, into utterances at its pauses.

    Args:
        prefix: Of the utterances' ids; another one after each start, for no id is used twice.
        gap_ms: So long without audio ends an utterance [ms].
    """

    def __init__(self, prefix: str, gap_ms: int) -> None:
        self.utterances = 0
        """How many have begun."""
        self._prefix = prefix
        self._gap_ns = gap_ms * 1_000_000
        self._rate_hz: int | None = None
        """Rate of the utterance that is going on [Hz]; None between two."""
        self._spoke_ns = 0

    def push(self, samples: npt.NDArray[np.int16], rate_hz: int, now_ns: int) -> list[SpeechPart]:
        """Take (n,) samples and return what to say; another rate begins another utterance."""
        parts = self._end() if self._rate_hz not in (None, rate_hz) else []
        if self._rate_hz is None:
            self.utterances += 1
        self._rate_hz, self._spoke_ns = rate_hz, now_ns
        return [*parts, self._part(rate_hz, samples, is_last=False)]

    def tick(self, now_ns: int) -> list[SpeechPart]:
        """End the utterance when its pause is long enough."""
        return self._end() if now_ns - self._spoke_ns > self._gap_ns else []

    def _end(self) -> list[SpeechPart]:
        rate_hz, self._rate_hz = self._rate_hz, None
        return [] if rate_hz is None else [self._part(rate_hz, np.zeros(0, np.int16), is_last=True)]

    def _part(self, rate_hz: int, samples: npt.NDArray[np.int16], *, is_last: bool) -> SpeechPart:
        return SpeechPart(f"{self._prefix}-{self.utterances}", rate_hz, samples, is_last)


@dataclasses.dataclass(frozen=True)
class TrackedVoice:
    """A voice that is tracked now."""

    id: str
    """Begins with a letter, as REP-155 recommends; not kept over silence."""
    is_speaking: bool


def new_voice_id() -> str:
    """Return an id that no other voice has."""
    return f"v{uuid.uuid4().hex[:6]}"


class VoiceTracker:
    """Give the user's voice an id while it is heard, and a new one after it was silent for long.

    Nothing here tells one person's voice from another's: whoever speaks within the time has the same id.

    Args:
        forget_after_s: So long a silent voice keeps its id [s].
        new_id: Makes ids; replaced in tests.
    """

    def __init__(self, forget_after_s: float, new_id: Callable[[], str] = new_voice_id) -> None:
        self.voice: TrackedVoice | None = None
        """The voice that is tracked, if any."""
        self._forget_after = round(forget_after_s * SAMPLE_RATE_HZ)
        self._new_id = new_id
        self._spoke_until = 0

    def observe(self, end_sample: int, is_speaking: bool) -> bool:
        """Take the next piece of voice activity in, and tell whether the voice came, went or changed.

        Args:
            end_sample: One past its last sample; smaller than before when the clock restarted [samples].
            is_speaking: Whether the user speaks in it.
        """
        before = self.voice
        if end_sample < self._spoke_until:
            self._spoke_until = end_sample
        if is_speaking:
            self._spoke_until = end_sample
            self.voice = TrackedVoice(before.id if before else self._new_id(), True)
        elif before is not None:
            is_forgotten = end_sample - self._spoke_until >= self._forget_after
            self.voice = None if is_forgotten else TrackedVoice(before.id, False)
        return self.voice != before
