"""Playback on the conversation clock: speech planned ahead, given to a sink, and reported as heard.

A speech source says what is to be spoken where: a file, whose position is the conversation's, or utterances
from a synthesiser. The plan holds what was promised and not yet heard; a cut withdraws it. A loudspeaker is
given sound before it is heard, by so much as its buffer holds; any other sink hears it when it is due.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
from timar_common.clock import SAMPLE_RATE_HZ, SAMPLES_PER_MS, SampleClock
from timar_common.diagnostics import Level, Report

from timar_audio.blocks import AudioBlock
from timar_audio.levels import level_dbfs
from timar_audio.plan import PlannedChunk, SpeechPlan
from timar_audio.playback_config import PlaybackConfig
from timar_audio.speech import SpeechQueue, SpeechSource, Spoken

FADE_IN_SAMPLES = 5 * SAMPLES_PER_MS
"""How speech goes on after a pause: short, so that no consonant is lost, and without a click."""


@dataclasses.dataclass(frozen=True)
class Fade:
    """Gain that changes from a sample on, as a straight line over some length, and stays."""

    first_sample: int = 0
    samples: int = 1
    before: float = 1.0
    after: float = 1.0

    def apply(self, first_sample: int, sound: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
        """Return sound that begins at a sample with its gain."""
        if self.before == self.after == 1.0:
            return sound
        share = (np.arange(first_sample, first_sample + sound.size) - self.first_sample + 0.5) / self.samples
        gain = self.before + (self.after - self.before) * np.clip(share, 0.0, 1.0)
        return np.rint(sound * gain).astype(np.int16)


class Playback:
    """Plan speech ahead of the conversation clock and report what was heard.

    The clock is the microphone's: `observe_user` with every block of user/audio_raw, then `advance`. With a
    loudspeaker `give` hands out what it is to play next; what it was not given in time is heard by nobody.
    """

    def __init__(self, config: PlaybackConfig, source: SpeechSource) -> None:
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
        self.pauses_expired = 0
        """How often speech went on because nobody said within `longest_pause_ms` what to do."""
        self._source = source
        self._queue = source if isinstance(source, SpeechQueue) else None
        self._given = SpeechPlan()
        self._fade = Fade()
        self._fades_in = False
        """Whether what is planned next goes on in the middle of a sound."""
        self._paused_ns: int | None = None
        """Since when speech is paused; None: it is not [ns]."""
        self._heard_end = 0
        self._given_end = 0
        self._planned_end = 0
        self._user_end = 0
        self._observed_ns = 0
        self._ahead = round(config.plan_ahead_s * SAMPLE_RATE_HZ)
        self._last_level_dbfs = -120.0

    def observe_user(self, first_sample: int, samples: int, first_ns: int, monotonic_ns: int) -> None:
        """Learn the clock from a block of the user's sound.

        Args:
            first_sample: Position of its first sample [samples], >= 0.
            samples: Its length [samples].
            first_ns: When its first sample was heard, CLOCK_MONOTONIC [ns].
            monotonic_ns: Now [ns].
        """
        if not self.clock.is_started:
            self._heard_end = self._given_end = self._planned_end = first_sample
        self.clock.observe(first_sample, first_ns)
        self._user_end = max(self._user_end, first_sample + samples)
        self._observed_ns = monotonic_ns

    def restart(self, source: SpeechSource) -> list[PlannedChunk]:
        """Begin a new conversation with the next block, for the sample counter restarted.

        Args:
            source: What is said from now on; a queue stays, and what it says is interrupted.

        Returns:
            What to announce.
        """
        if self._queue is not None:
            self._queue.interrupt(self._given_end)
        self._source = source
        self._queue = source if isinstance(source, SpeechQueue) else None
        self.clock = SampleClock()
        self._given = SpeechPlan()
        self._user_end = 0
        self._fade, self._paused_ns = Fade(), None
        return [self.plan.cut(0)]

    def advance(self, monotonic_ns: int) -> tuple[list[PlannedChunk], list[AudioBlock]]:
        """Return what is to be announced and what was heard since the last call."""
        if self._queue is not None:
            self._queue.expire(monotonic_ns)
        if self._paused_ns is not None:
            paused_ms = (monotonic_ns - self._paused_ns) / 1_000_000
            if paused_ms > self.config.longest_pause_ms:
                self.pauses_expired += 1
                self._go_on()
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

    def lower(self) -> list[PlannedChunk]:
        """Lower what is said, as soon as it can be; a file goes on as it is.

        Returns:
            What to announce.
        """
        return self._change_level(10.0 ** (-self.config.lowered_db / 20.0))

    def pause(self, monotonic_ns: int) -> list[PlannedChunk]:
        """Fade out what is said, as soon as it can be, and keep it to go on with.

        Returns:
            What to announce.
        """
        if self._queue is None or self._queue.is_empty or self._paused_ns is not None:
            return []
        self._paused_ns = monotonic_ns
        chunk = self._fade_out(self._given_end)
        self._queue.pause(self._given_end)
        return [chunk]

    def resume(self) -> list[PlannedChunk]:
        """Go on at full level: with the word that was cut, else with the first sample that was faded.

        Returns:
            What to announce.
        """
        if self._paused_ns is None:
            return self._change_level(1.0)
        self._go_on()
        return self._plan_ahead()

    def interrupt(self) -> list[PlannedChunk]:
        """End what is said and what waits, with a fade, as soon as it can be; a file goes on.

        Returns:
            What to announce.
        """
        if self._queue is None or self._queue.is_empty:
            return []
        chunk = self._fade_out(self._given_end)
        self._queue.interrupt(self._planned_end)
        self._go_on()
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
            report.values["pauses_expired"] = self.pauses_expired
        if not self.clock.is_started:
            report.worsen(Level.WARN, "waiting for user/audio_raw, whose samples are the clock")
        if self.samples_skipped:
            report.worsen(Level.WARN, f"{self.samples_skipped} samples skipped where the clock jumped")
        return report

    def _go_on(self) -> None:
        """What is planned next is heard at full level, a pause is over."""
        self._fades_in = self._paused_ns is not None
        self._fade, self._paused_ns = Fade(), None
        if self._queue is not None:
            self._queue.resume()

    def _change_level(self, gain: float) -> list[PlannedChunk]:
        """Let speech from now on have another gain, and announce again what is planned already."""
        before = self._fade.after
        if self._queue is None or self._paused_ns is not None or gain == before:
            return []
        first, end = self._given_end, self._planned_end
        self._fade = Fade(first, self.config.fade_ms * SAMPLES_PER_MS, before, gain)
        if end <= first:
            return []
        sound = self._fade.apply(first, self._queue.planned_sound(first, end))
        return [self.plan.replace(first, sound)]

    def _fade_out(self, first_sample: int, fade_samples: int | None = None) -> PlannedChunk:
        fade = self.config.fade_ms * SAMPLES_PER_MS if fade_samples is None else fade_samples
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
        earliest = max(self._heard_end + self.config.start_lead_ms * SAMPLES_PER_MS, self._given_end)
        self._planned_end = max(self._planned_end, self._given_end)
        while self._planned_end < self._heard_end + self._ahead:
            speech = self._source.next_chunk(
                self._planned_end, earliest, self.config.plan_chunk_ms * SAMPLES_PER_MS
            )
            if speech is None:
                break
            if self._fades_in:
                self._fade, self._fades_in = Fade(speech[0], FADE_IN_SAMPLES, 0.0, 1.0), False
            first, samples = speech[0], self._fade.apply(*speech)
            chunks.append(self.plan.add(first, samples))
            self._planned_end = first + samples.size
        return chunks

    def _hear(self, now_sample: int) -> list[AudioBlock]:
        block = self.config.block_ms * SAMPLES_PER_MS
        limit = self._ahead
        if now_sample - self._heard_end > limit:
            self._skip((now_sample - self._heard_end - limit) // block * block)
        heard: list[AudioBlock] = []
        while self._heard_end + block <= now_sample:
            first = self._heard_end
            samples = self._hear_block(first, first + block)
            self._heard_end += block
            self.samples_heard += block
            heard.append(AudioBlock(first, samples, self.clock.monotonic_ns(first)))
        if heard:
            self._last_level_dbfs = level_dbfs(heard[-1].samples)
        return heard

    def _hear_block(self, first: int, end: int) -> npt.NDArray[np.int16]:
        if self._given_end < end:
            if self.has_loudspeaker:
                if self._queue is not None:
                    self._queue.pass_until(self._given_end)
                    self._queue.pass_until(end, is_heard=False)
                self.give_from(end)
            else:
                self.give(end - self._given_end)
        if self._queue is not None:
            self._queue.pass_until(end)
        return self._given.take(first, end)

    def _skip(self, samples: int) -> None:
        end = self._heard_end + samples
        self.plan.take(self._heard_end, end)
        self._given.take(self._heard_end, end)
        if self._queue is not None:
            self._queue.pass_until(end, is_heard=False)
        self._heard_end = end
        self._given_end = max(self._given_end, end)
        self._planned_end = max(self._planned_end, end)
        self.samples_skipped += samples
