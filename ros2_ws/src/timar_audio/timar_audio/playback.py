"""The agent's voice on the conversation clock: planned ahead, given to a sink, and reported as heard. Pure.

A speech feed says what is to be spoken where (today a file, whose position is the conversation's; later
utterances from a synthesiser). The plan holds what was promised and not yet heard; a cut withdraws it.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

import numpy as np
import numpy.typing as npt
from timar_common.clock import SAMPLE_RATE_HZ, SampleClock
from timar_common.config import check, option
from timar_common.diagnostics import Level, Report

from timar_audio.levels import level_dbfs
from timar_audio.wav import SoundFile

MAX_JUMP_SAMPLES = 60 * SAMPLE_RATE_HZ
"""A jump of the user's counter beyond this is a broken index."""


@dataclasses.dataclass(frozen=True)
class PlaybackConfig:
    """The playback node."""

    source: str = option("none", "Where the agent's speech comes from.", choices=("none", "file"))
    file: str = option(
        "", "Sound file that plays the agent, when source is file; its position is the conversation's."
    )
    channel: int = option(-1, "Channel of the file, from 0; -1 mixes all.", minimum=-1, maximum=63)
    sink: str = option("null", "Where the agent's voice goes; null: heard by nobody.", choices=("null",))
    plan_ahead_s: float = option(
        2.0, "How far ahead of the clock speech is planned.", unit="s", minimum=1.0, maximum=10.0
    )
    plan_chunk_ms: int = option(200, "Length of one planned chunk.", unit="ms", minimum=20, maximum=1000)
    block_ms: int = option(20, "Length of a block of heard sound.", unit="ms", minimum=10, maximum=100)
    wait_for_listeners: int = option(
        0,
        "A file joins the clock only when so many subscriptions to agent/audio have matched.",
        minimum=0,
        maximum=100,
    )
    wait_for_plan_listeners: int = option(
        0, "The same for subscriptions to agent/audio_planned.", minimum=0, maximum=100
    )
    wait_timeout_s: float = option(
        8.0, "After so long it joins without them, with a warning.", unit="s", minimum=0.0, maximum=300.0
    )
    free_run_after_ms: int = option(
        100,
        "When no block of user/audio_raw comes for so long the clock is carried on by machine time.",
        unit="ms",
        minimum=40,
        maximum=5000,
    )

    def __post_init__(self) -> None:
        check(self)

    @property
    def block_samples(self) -> int:
        """Length of a block of heard sound [samples]."""
        return self.block_ms * SAMPLE_RATE_HZ // 1000

    @property
    def chunk_samples(self) -> int:
        """Length of a planned chunk [samples]."""
        return self.plan_chunk_ms * SAMPLE_RATE_HZ // 1000

    @property
    def ahead_samples(self) -> int:
        """How far ahead is planned [samples]."""
        return round(self.plan_ahead_s * SAMPLE_RATE_HZ)


@dataclasses.dataclass(frozen=True)
class PlannedChunk:
    """Speech soon to be heard; without samples, a mere cut."""

    first_sample: int
    """Place of samples[0] on the conversation clock [samples]."""
    revision: int
    """A higher one withdraws everything planned at and after first_sample."""
    samples: npt.NDArray[np.int16]
    """(n,) at 16 kHz."""


@dataclasses.dataclass(frozen=True)
class HeardBlock:
    """What left the loudspeaker."""

    first_sample: int
    """Place of samples[0] on the conversation clock [samples]."""
    samples: npt.NDArray[np.int16]
    """(n,) at 16 kHz, n > 0."""
    monotonic_ns: int
    """When samples[0] was heard, CLOCK_MONOTONIC [ns]."""


class SpeechFeed(Protocol):
    """What playback asks of a source of speech."""

    def next_chunk(self, first_sample: int, samples: int) -> npt.NDArray[np.int16]:
        """Return the speech for [first_sample, first_sample + samples), shorter or none at its end.

        Called with places that grow; what lies before the first place asked for is never spoken.
        """


class NoSpeech:
    """An agent that says nothing."""

    def next_chunk(self, first_sample: int, samples: int) -> npt.NDArray[np.int16]:
        """Return nothing."""
        return np.zeros(0, np.int16)


class FileSpeech:
    """A file's sound as planned speech, pauses and all; its position is the conversation's."""

    def __init__(self, file: SoundFile) -> None:
        self.has_ended = False
        """Whether the file has nothing more to give."""
        self._file = file
        self._position = 0

    def next_chunk(self, first_sample: int, samples: int) -> npt.NDArray[np.int16]:
        """Return the file's samples of this place."""
        if first_sample > self._position:
            self._file.skip(first_sample - self._position)
        chunk = self._file.read(samples)
        self._position = first_sample + chunk.size
        self.has_ended = chunk.size < samples
        return chunk


class SpeechPlan:
    """Speech that was planned and not yet heard, by place; where nothing is planned there is silence."""

    def __init__(self) -> None:
        self.revision = 0
        self._chunks: list[tuple[int, npt.NDArray[np.int16]]] = []

    @property
    def planned_samples(self) -> int:
        """How much is planned [samples]."""
        return sum(samples.size for _, samples in self._chunks)

    def add(self, first_sample: int, samples: npt.NDArray[np.int16]) -> PlannedChunk:
        """Plan speech after everything planned so far, and return what to announce.

        Raises:
            ValueError: It would overlap what is planned already.
        """
        if self._chunks:
            last_first, last = self._chunks[-1]
            if first_sample < last_first + last.size:
                raise ValueError(
                    f"speech at sample {first_sample} overlaps what is planned until "
                    f"{last_first + last.size}; cut the plan first"
                )
        self._chunks.append((first_sample, samples))
        return PlannedChunk(first_sample, self.revision, samples)

    def cut(self, first_sample: int) -> PlannedChunk:
        """Withdraw everything at and after a sample, and return what to announce."""
        self.revision += 1
        self._chunks = [
            (first, samples[: first_sample - first])
            for first, samples in self._chunks
            if first < first_sample
        ]
        return PlannedChunk(first_sample, self.revision, np.zeros(0, np.int16))

    def take(self, first_sample: int, end_sample: int) -> npt.NDArray[np.int16]:
        """Return the sound of [first_sample, end_sample) and forget everything before its end."""
        out = np.zeros(end_sample - first_sample, np.int16)
        kept: list[tuple[int, npt.NDArray[np.int16]]] = []
        for first, samples in self._chunks:
            end = first + samples.size
            low, high = max(first, first_sample), min(end, end_sample)
            if low < high:
                out[low - first_sample : high - first_sample] = samples[low - first : high - first]
            if end > end_sample:
                kept.append((first, samples))
        self._chunks = kept
        return out


class Playback:
    """Plan speech ahead of the conversation clock and report what was heard.

    The clock is the microphone's: `observe_user` with every block of user/audio_raw, then `advance`.
    """

    def __init__(self, config: PlaybackConfig, feed: SpeechFeed) -> None:
        self.config = config
        self.clock = SampleClock()
        self.plan = SpeechPlan()
        self.samples_heard = 0
        """Samples given to the sink, silence included [samples]."""
        self.samples_skipped = 0
        """Samples that could not be played because the clock jumped over them [samples]."""
        self._feed = feed
        self._heard_end = 0
        self._planned_end = 0
        self._user_end = 0
        self._observed_ns = 0
        self._last_level_dbfs = -120.0

    def observe_user(self, first_sample: int, samples: int, first_ns: int, monotonic_ns: int) -> None:
        """Learn the clock from a block of the user's sound.

        Args:
            first_sample: Place of its first sample [samples], >= 0.
            samples: Its length [samples].
            first_ns: When its first sample was heard, CLOCK_MONOTONIC [ns].
            monotonic_ns: Now [ns].
        """
        if first_sample < 0:
            raise ValueError(f"a block starts at sample {first_sample}, expected 0 or later")
        if self.clock.is_started and first_sample - self._user_end > MAX_JUMP_SAMPLES:
            raise ValueError(
                f"a block starts at sample {first_sample}, {first_sample - self._user_end} after the end of "
                f"the last one; at most {MAX_JUMP_SAMPLES} are believed: reset the conversation to start anew"
            )
        if not self.clock.is_started:
            self._heard_end = self._planned_end = first_sample
        self.clock.observe(first_sample, first_ns)
        self._user_end = max(self._user_end, first_sample + samples)
        self._observed_ns = monotonic_ns

    def advance(self, monotonic_ns: int) -> tuple[list[PlannedChunk], list[HeardBlock]]:
        """Return what is to be announced and what was heard since the last call."""
        if not self.clock.is_started:
            return [], []
        planned = self._plan_ahead()
        heard = self._hear(self._now_sample(monotonic_ns))
        return planned + (self._plan_ahead() if heard else []), heard

    def cut(self, first_sample: int) -> PlannedChunk:
        """Withdraw planned speech from a sample on, but nothing that was heard already."""
        return self.plan.cut(max(first_sample, self._heard_end))

    def report(self) -> Report:
        """Say how far ahead speech is planned, and what was skipped."""
        report = Report(
            values={
                "samples_heard": self.samples_heard,
                "samples_skipped": self.samples_skipped,
                "planned_ms": 1000 * self.plan.planned_samples / SAMPLE_RATE_HZ,
                "revision": self.plan.revision,
                "level_dbfs": self._last_level_dbfs,
            }
        )
        if not self.clock.is_started:
            report.worsen(Level.WARN, "waiting for user/audio_raw, whose samples are the clock")
        if self.samples_skipped:
            report.worsen(Level.WARN, f"{self.samples_skipped} samples skipped where the clock jumped")
        return report

    def _now_sample(self, monotonic_ns: int) -> int:
        """Return one past the newest sample the conversation has reached."""
        silence_ns = monotonic_ns - self._observed_ns
        if silence_ns < self.config.free_run_after_ms * 1_000_000:
            return self._user_end
        return max(self._user_end, int(self.clock.sample_at(monotonic_ns)))

    def _plan_ahead(self) -> list[PlannedChunk]:
        chunks: list[PlannedChunk] = []
        while self._planned_end < self._heard_end + self.config.ahead_samples:
            samples = self._feed.next_chunk(self._planned_end, self.config.chunk_samples)
            if samples.size:
                chunks.append(self.plan.add(self._planned_end, samples))
            self._planned_end += self.config.chunk_samples
        return chunks

    def _hear(self, now_sample: int) -> list[HeardBlock]:
        block = self.config.block_samples
        limit = self.config.ahead_samples
        if now_sample - self._heard_end > limit:
            skipped = (now_sample - self._heard_end - limit) // block * block
            self.plan.take(self._heard_end, self._heard_end + skipped)
            self._heard_end += skipped
            self._planned_end = max(self._planned_end, self._heard_end)
            self.samples_skipped += skipped
        heard: list[HeardBlock] = []
        while self._heard_end + block <= now_sample:
            first = self._heard_end
            samples = self.plan.take(first, first + block)
            self._heard_end += block
            self.samples_heard += block
            heard.append(HeardBlock(first, samples, self.clock.monotonic_ns(first)))
        if heard:
            self._last_level_dbfs = level_dbfs(heard[-1].samples)
        return heard
