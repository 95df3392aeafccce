"""The agent's voice on the conversation clock: planned ahead, given to a sink, and reported as heard. Pure.

A speech feed says what is to be spoken where: a file, whose position is the conversation's, or utterances
from a synthesiser. The plan holds what was promised and not yet heard; a cut withdraws it. A loudspeaker is
given sound before it is heard, by so much as its buffer holds; any other sink hears it when it is due.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
from timar_common.clock import SAMPLE_RATE_HZ, SampleClock
from timar_common.config import check, option
from timar_common.diagnostics import Level, Report

from timar_audio.levels import level_dbfs
from timar_audio.plan import PlannedChunk, SpeechPlan
from timar_audio.speech import SpeechFeed, SpeechQueue, Spoken

MAX_JUMP_SAMPLES = 60 * SAMPLE_RATE_HZ
"""A jump of the user's counter beyond this is a broken index."""


@dataclasses.dataclass(frozen=True)
class PlaybackConfig:
    """The playback node."""

    source: str = option(
        "speech",
        "Where the agent's speech comes from; speech: agent/speech and the action speak.",
        choices=("speech", "file", "none"),
    )
    file: str = option(
        "", "Sound file that plays the agent, when source is file; its position is the conversation's."
    )
    channel: int = option(-1, "Channel of the file, from 0; -1 mixes all.", minimum=-1, maximum=63)
    sink: str = option(
        "null",
        "Where the agent's voice goes; null: heard by nobody, and yet it keeps its time.",
        choices=("null", "speaker", "file"),
    )
    device: str = option(
        "", "Loudspeaker by name (a part of it is enough) or index; empty: the system's default."
    )
    speaker_rate_hz: int = option(
        0, "Rate the loudspeaker is opened at; 0: the device's own.", unit="Hz", minimum=0, maximum=192_000
    )
    speaker_buffer_ms: int = option(
        60,
        "The loudspeaker's own buffer: what is in it cannot be taken back when the user barges in.",
        unit="ms",
        minimum=10,
        maximum=1000,
    )
    sink_file: str = option("", "WAV file that takes what is heard, when sink is file.")
    stop_on_barge_in: bool = option(True, "Whether a BARGE_IN of the user ends what is said and waits.")
    fade_ms: int = option(20, "How the voice ends when it is cut.", unit="ms", minimum=1, maximum=200)
    start_lead_ms: int = option(
        320,
        "How far ahead an utterance begins, so that the face can be made for it.",
        unit="ms",
        minimum=20,
        maximum=2000,
    )
    prebuffer_ms: int = option(
        120,
        "So much of an utterance must have come before it begins, or goes on after it ran dry.",
        unit="ms",
        minimum=0,
        maximum=5000,
    )
    max_waiting_s: float = option(
        60.0, "How much speech may wait to be planned; more is refused.", unit="s", minimum=1.0, maximum=600.0
    )
    speech_patience_s: float = option(
        10.0,
        "An utterance without its last chunk, to which nothing comes for so long, has failed.",
        unit="s",
        minimum=0.5,
        maximum=600.0,
    )
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
    def fade_samples(self) -> int:
        """Length of the fade at a cut [samples]."""
        return self.fade_ms * SAMPLE_RATE_HZ // 1000

    @property
    def lead_samples(self) -> int:
        """How far ahead an utterance begins [samples]."""
        return self.start_lead_ms * SAMPLE_RATE_HZ // 1000

    @property
    def ahead_samples(self) -> int:
        """How far ahead is planned [samples]."""
        return round(self.plan_ahead_s * SAMPLE_RATE_HZ)


@dataclasses.dataclass(frozen=True)
class HeardBlock:
    """What left the loudspeaker."""

    first_sample: int
    """Place of samples[0] on the conversation clock [samples]."""
    samples: npt.NDArray[np.int16]
    """(n,) at 16 kHz, n > 0."""
    monotonic_ns: int
    """When samples[0] was heard, CLOCK_MONOTONIC [ns]."""


class Playback:
    """Plan speech ahead of the conversation clock and report what was heard.

    The clock is the microphone's: `observe_user` with every block of user/audio_raw, then `advance`. With a
    loudspeaker `give` hands out what it is to play next; what it was not given in time is heard by nobody.
    """

    def __init__(self, config: PlaybackConfig, feed: SpeechFeed) -> None:
        self.config = config
        self.clock = SampleClock()
        self.plan = SpeechPlan()
        self.has_loudspeaker = False
        """Whether somebody calls `give`; otherwise sound is heard when it is due."""
        self.samples_heard = 0
        """Samples of the conversation that passed, silence included [samples]."""
        self.samples_skipped = 0
        """Samples that could not be played because the clock jumped over them [samples]."""
        self.samples_missed = 0
        """Speech that the loudspeaker did not ask for in time [samples]."""
        self._feed = feed
        self._queue = feed if isinstance(feed, SpeechQueue) else None
        self._given = SpeechPlan()
        self._heard_end = 0
        self._given_end = 0
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
            self._heard_end = self._given_end = self._planned_end = first_sample
        self.clock.observe(first_sample, first_ns)
        self._user_end = max(self._user_end, first_sample + samples)
        self._observed_ns = monotonic_ns

    def restart(self, feed: SpeechFeed) -> list[PlannedChunk]:
        """Begin a new conversation with the next block, for the counter began anew.

        Args:
            feed: What is said from now on; a queue keeps its place and what it says is interrupted.

        Returns:
            What to announce.
        """
        if self._queue is not None:
            self._queue.interrupt(self._given_end)
        self._feed = feed
        self._queue = feed if isinstance(feed, SpeechQueue) else None
        self.clock = SampleClock()
        self._given = SpeechPlan()
        self._user_end = 0
        return [self.plan.cut(0)]

    def advance(self, monotonic_ns: int) -> tuple[list[PlannedChunk], list[HeardBlock]]:
        """Return what is to be announced and what was heard since the last call."""
        if self._queue is not None:
            self._queue.expire(monotonic_ns)
        if not self.clock.is_started:
            return [], []
        planned = self._plan_ahead()
        heard = self._hear(self._now_sample(monotonic_ns))
        return planned + (self._plan_ahead() if heard else []), heard

    def give(self, samples: int) -> tuple[int, npt.NDArray[np.int16]]:
        """Hand the loudspeaker what it is to play next, and say which place that is."""
        first = self._given_end
        sound = self.plan.take(first, first + samples)
        self._given_end = first + samples
        if sound.any():
            self._given.add(first, sound)
        return first, sound

    def give_from(self, first_sample: int) -> None:
        """Pass over what the loudspeaker can no longer play in time: it will be heard by nobody."""
        if first_sample > self._given_end:
            missed = self.plan.take(self._given_end, first_sample)
            self.samples_missed += int(np.count_nonzero(missed))
            self._given_end = first_sample

    def cut(self, first_sample: int) -> PlannedChunk:
        """Withdraw planned speech from a sample on, but nothing that was heard already."""
        return self.plan.cut(max(first_sample, self._given_end))

    def interrupt(self) -> list[PlannedChunk]:
        """End what is said and what waits, with a fade, as soon as it can be; a file goes on.

        Returns:
            What to announce.
        """
        if self._queue is None or self._queue.is_empty:
            return []
        chunk = self._fade_out(self._given_end)
        self._queue.interrupt(self._planned_end)
        return [chunk]

    def cancel(self, utterance_id: str) -> list[PlannedChunk]:
        """End one utterance, with a fade when it is being said; those that wait are said after it."""
        if self._queue is None:
            return []
        planned_from = self._queue.planned_from(utterance_id)
        if planned_from is None:
            self._queue.cancel(utterance_id, self._planned_end)
            return []
        is_being_said = planned_from <= self._given_end
        chunk = self._fade_out(self._given_end) if is_being_said else self._fade_out(planned_from, 0)
        self._queue.cancel(utterance_id, self._planned_end)
        return [chunk, *self._plan_ahead()]

    def take_spoken(self) -> list[Spoken]:
        """Return the utterances that ended since the last call."""
        return self._queue.take_spoken() if self._queue is not None else []

    def report(self) -> Report:
        """Say how far ahead speech is planned, and what was skipped."""
        report = Report(
            values={
                "samples_heard": self.samples_heard,
                "samples_skipped": self.samples_skipped,
                "samples_missed": self.samples_missed,
                "planned_ms": 1000 * self.plan.planned_samples / SAMPLE_RATE_HZ,
                "revision": self.plan.revision,
                "level_dbfs": self._last_level_dbfs,
            }
        )
        if self._queue is not None:
            report.values["underruns"] = self._queue.underruns
            report.values["late_chunks"] = self._queue.late_chunks
        if not self.clock.is_started:
            report.worsen(Level.WARN, "waiting for user/audio_raw, whose samples are the clock")
        if self.samples_skipped:
            report.worsen(Level.WARN, f"{self.samples_skipped} samples skipped where the clock jumped")
        return report

    def _fade_out(self, first_sample: int, fade_samples: int | None = None) -> PlannedChunk:
        fade = self.config.fade_samples if fade_samples is None else fade_samples
        chunk = self.plan.cut(first_sample, fade)
        self._planned_end = first_sample + chunk.samples.size
        return chunk

    def _now_sample(self, monotonic_ns: int) -> int:
        """Return one past the newest sample the conversation has reached."""
        silence_ns = monotonic_ns - self._observed_ns
        if silence_ns < self.config.free_run_after_ms * 1_000_000:
            return self._user_end
        return max(self._user_end, int(self.clock.sample_at(monotonic_ns)))

    def _plan_ahead(self) -> list[PlannedChunk]:
        chunks: list[PlannedChunk] = []
        earliest = max(self._heard_end + self.config.lead_samples, self._given_end)
        self._planned_end = max(self._planned_end, self._given_end)
        while self._planned_end < self._heard_end + self.config.ahead_samples:
            speech = self._feed.next_chunk(self._planned_end, earliest, self.config.chunk_samples)
            if speech is None:
                break
            first, samples = speech
            chunks.append(self.plan.add(first, samples))
            self._planned_end = first + samples.size
        return chunks

    def _hear(self, now_sample: int) -> list[HeardBlock]:
        block = self.config.block_samples
        limit = self.config.ahead_samples
        if now_sample - self._heard_end > limit:
            self._skip((now_sample - self._heard_end - limit) // block * block)
        heard: list[HeardBlock] = []
        while self._heard_end + block <= now_sample:
            first = self._heard_end
            samples = self._hear_block(first, first + block)
            self._heard_end += block
            self.samples_heard += block
            heard.append(HeardBlock(first, samples, self.clock.monotonic_ns(first)))
        if heard:
            self._last_level_dbfs = level_dbfs(heard[-1].samples)
        return heard

    def _hear_block(self, first: int, end: int) -> npt.NDArray[np.int16]:
        if self._given_end < end:
            if self.has_loudspeaker:
                if self._queue is not None:
                    self._queue.heard(self._given_end)
                    self._queue.unheard(end)
                self.give_from(end)
            else:
                self.give(end - self._given_end)
        if self._queue is not None:
            self._queue.heard(end)
        return self._given.take(first, end)

    def _skip(self, samples: int) -> None:
        end = self._heard_end + samples
        self.plan.take(self._heard_end, end)
        self._given.take(self._heard_end, end)
        if self._queue is not None:
            self._queue.unheard(end)
        self._heard_end = end
        self._given_end = max(self._given_end, end)
        self._planned_end = max(self._planned_end, end)
        self.samples_skipped += samples
