"""Speech sources of playback: a file, a synthesiser's utterances as they come, or an extension.

Utterances are spoken one after the other, in the order in which they were opened. A synthesiser is faster
than real time; how much more is wanted is always known, and what comes beyond is rejected.
"""

from __future__ import annotations

import bisect
import collections
import dataclasses
import enum
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from timar_common.clock import NS_PER_S, SAMPLE_RATE_HZ, SAMPLES_PER_MS
from timar_common.component import Log
from timar_common.diagnostics import Level
from timar_common.extensions import load_extension
from timar_common.pcm import int16_to_float
from timar_common.resample import ToConversationRate
from timar_common.wav import SoundFile

from timar_audio.playback_config import PlaybackConfig

MIN_RATE_HZ, MAX_RATE_HZ = 8_000, 192_000
_REMEMBERED = 256
_KEPT_AFTER_HEARD = 2 * SAMPLE_RATE_HZ
"""How much of what was heard is kept to be repeated after a pause: a word is no longer [samples]."""


class SpeechSource:
    """Base of what says where and what the agent speaks; this one says nothing.

    A source from another package derives from it and is named by the entry point group
    `timar.speech_sources`; it is called with the `PlaybackConfig`. It is made again when the conversation's
    counter restarts. docs/audio.md has an example.
    """

    has_ended = False
    """Whether it will never speak again; said once in the log."""
    notes: Sequence[Log] = ()
    """Lines for the log when it begins."""

    def next_chunk(
        self, planned_end: int, earliest_sample: int, samples: int
    ) -> tuple[int, npt.NDArray[np.int16]] | None:
        """Return the next speech and its position, None when there is nothing to plan now.

        Called with every block of the microphone: it returns at once.

        Args:
            planned_end: One past what is planned already; positions grow [samples].
            earliest_sample: Where speech that begins now may begin at the earliest [samples].
            samples: At most so much [samples].

        Returns:
            Position on the conversation clock [samples], >= planned_end, and (n,) int16 at 16 kHz.
        """
        return None

    def close(self) -> None:
        """Release what it holds."""


class FileSpeech(SpeechSource):
    """A file's sound as planned speech, pauses and all; its position is the conversation's."""

    def __init__(self, file: SoundFile) -> None:
        self._file = file
        self._position = 0
        self.notes = [
            Log(Level.OK, file.description()),
            *(Log(Level.WARN, warning) for warning in file.warnings),
        ]

    def next_chunk(
        self, planned_end: int, earliest_sample: int, samples: int
    ) -> tuple[int, npt.NDArray[np.int16]] | None:
        """Return the file's samples of this position."""
        if planned_end > self._position:
            self._file.skip(planned_end - self._position)
        chunk = self._file.read(samples)
        self._position = planned_end + chunk.size
        self.has_ended = chunk.size < samples
        return (planned_end, chunk) if chunk.size else None

    def close(self) -> None:
        """Close the file."""
        self._file.close()


HEARD_SHARE = 0.5
"""An utterance of which less was heard has failed."""


class SpeechOutcome(enum.IntEnum):
    """As in timar_msgs/Speak."""

    FINISHED = 0
    CANCELED = 1
    INTERRUPTED = 2
    FAILED = 3


@dataclasses.dataclass(frozen=True)
class Spoken:
    """An utterance that is over."""

    utterance_id: str
    outcome: SpeechOutcome
    samples_heard: int
    """At 16 kHz, what left the loudspeaker."""
    message: str = ""


class _Utterance:
    """One utterance: its sound from what was not yet heard on."""

    def __init__(self, utterance_id: str, now_ns: int) -> None:
        self.id = utterance_id
        self.touched_ns = now_ns
        self.is_complete = False
        self.is_running = False
        """Whether it has begun and has not run dry since."""
        self.samples_heard = 0
        self.cursor = 0
        """From where on it is to be planned [samples]."""
        self.planned = 0
        """How much of it was planned once; the cursor goes back when it pauses [samples]."""
        self.word_starts: list[int] = []
        """Where its words begin, in order, as far as it is known [samples at 16 kHz]."""
        self.end = 0
        """How much of it has come [samples]."""
        self._rate_hz = 0
        self._resampler: ToConversationRate | None = None
        self._samples_in = 0
        self._sound = np.zeros(0, np.int16)
        """What was not heard yet and a little of what was, from `_first` on."""
        self._first = 0
        self._heard_end = 0

    @property
    def waiting(self) -> int:
        """How much has come and waits to be planned [samples]."""
        return self.end - self.cursor

    def add(
        self,
        rate_hz: int,
        samples: npt.NDArray[np.int16],
        word_starts: Sequence[int] = (),
        *,
        is_last: bool,
    ) -> None:
        """Resample and keep more of it."""
        if self._resampler is None:
            self._rate_hz, self._resampler = rate_hz, ToConversationRate(rate_hz)
        if samples.size and rate_hz != self._rate_hz:
            raise ValueError(
                f"utterance {self.id!r} began at {self._rate_hz} Hz and goes on at {rate_hz} Hz; "
                "one utterance has one rate"
            )
        self.word_starts += [
            round((self._samples_in + start) * SAMPLE_RATE_HZ / rate_hz) for start in word_starts
        ]
        self._samples_in += samples.size
        sound = self._resampler.push(int16_to_float(samples), is_last=is_last)
        self._sound = np.concatenate([self._sound, sound])
        self.end += sound.size
        self.is_complete = is_last

    def read(self, first: int, samples: int) -> npt.NDArray[np.int16]:
        """Return up to so many samples from a position in the utterance on."""
        return self._sound[first - self._first :][:samples]

    def heard(self, first: int, end: int) -> None:
        """Count [first, end) as heard, what is repeated once only, and release what is not needed again."""
        self.samples_heard += self.newly_heard(first, end)
        self._heard_end = max(end, self._heard_end)
        position = max(self._first, self._heard_end - _KEPT_AFTER_HEARD)
        self._sound = self._sound[position - self._first :]
        self._first = position

    def newly_heard(self, first: int, end: int) -> int:
        """Return how much of [first, end) was not heard before [samples]."""
        return max(0, end - max(first, self._heard_end))

    def go_back(self, position: int) -> None:
        """Plan again from a position on, or from the start of the word that lies there."""
        number = bisect.bisect_right(self.word_starts, position)
        word = self.word_starts[number - 1] if number else position
        self.cursor = min(self.cursor, word if word >= self._first else position)
        self.is_running = False


@dataclasses.dataclass
class _PlannedRun:
    """A planned run of an utterance."""

    first_sample: int
    samples: int
    offset: int
    """Where the run lies in its utterance [samples]."""
    utterance: _Utterance


class SpeechQueue(SpeechSource):
    """Utterances from a synthesiser as speech to be planned.

    Args:
        capacity: How much may wait to be planned, over all utterances [samples].
        prebuffer: So much must have come before an utterance begins, or goes on after it ran dry [samples].
        patience_s: An utterance to which nothing comes for so long has failed [s].
        max_utterances: How many may wait.
    """

    def __init__(
        self, capacity: int, prebuffer: int, patience_s: float = 10.0, max_utterances: int = 100
    ) -> None:
        self.underruns = 0
        """How often an utterance ran dry before its end."""
        self.late_chunks = 0
        """Chunks that came for an utterance that was over."""
        self._capacity = capacity
        self._prebuffer = prebuffer
        self._patience_ns = round(patience_s * NS_PER_S)
        self._max_utterances = max_utterances
        self._queue: collections.deque[_Utterance] = collections.deque()
        self._segments: collections.deque[_PlannedRun] = collections.deque()
        self._over: collections.deque[str] = collections.deque(maxlen=_REMEMBERED)
        self._spoken: list[Spoken] = []
        self._is_paused = False

    @property
    def samples_wanted(self) -> int:
        """How much more may come now, at 16 kHz [samples].

        What is planned a second time does not count: a client may have sent by what was wanted before.
        """
        return max(0, self._capacity - sum(utterance.end - utterance.planned for utterance in self._queue))

    @property
    def unfinished(self) -> list[tuple[str, int]]:
        """Utterances that wait or are being said: id and samples heard."""
        return [(utterance.id, utterance.samples_heard) for utterance in self._queue]

    @property
    def is_empty(self) -> bool:
        """Whether nothing is being said and nothing waits."""
        return not self._queue

    def samples_heard(self, utterance_id: str) -> int:
        """Return how much of an utterance was heard so far; 0 when it is not known [samples]."""
        utterance = self._find(utterance_id)
        return utterance.samples_heard if utterance else 0

    def knows(self, utterance_id: str) -> bool:
        """Whether an utterance waits or is being said."""
        return self._find(utterance_id) is not None

    def require_new(self, utterance_id: str) -> None:
        """Refuse an id that is empty, or of an utterance that waits, is being said or is over.

        Raises:
            ValueError: It is such an id.
        """
        if not utterance_id:
            raise ValueError("an utterance needs an utterance_id that is not empty")
        if utterance_id in self._over or self.knows(utterance_id):
            raise ValueError(f"utterance_id {utterance_id!r} was used before; give every utterance its own")

    def open(self, utterance_id: str, now_ns: int) -> _Utterance:
        """Take an utterance into the queue, and return it; its sound comes with `add`.

        Raises:
            ValueError: The id is empty or was used before, or too many utterances wait.
        """
        self.require_new(utterance_id)
        if len(self._queue) >= self._max_utterances:
            raise ValueError(
                f"{len(self._queue)} utterances wait already, at most {self._max_utterances} may; try later"
            )
        utterance = _Utterance(utterance_id, now_ns)
        self._queue.append(utterance)
        return utterance

    def add(
        self,
        utterance_id: str,
        rate_hz: int,
        samples: npt.NDArray[np.int16],
        word_starts: Sequence[int] = (),
        *,
        is_last: bool,
        now_ns: int,
    ) -> None:
        """Take more of an utterance in; one that is not known is opened by its first chunk.

        Args:
            utterance_id: Which.
            rate_hz: Rate of the samples.
            samples: (n,) mono.
            word_starts: Where words begin, counted from samples[0] [samples], ascending; may be empty.
            is_last: Whether the utterance ends with these samples.
            now_ns: Now, CLOCK_MONOTONIC.

        Raises:
            ValueError: The chunk is impossible, its utterance has ended already, or more came than
                `samples_wanted`: then the utterance has failed and what was not planned is dropped.
        """
        if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
            raise ValueError(f"sample_rate is {rate_hz} Hz, expected {MIN_RATE_HZ}..{MAX_RATE_HZ}")
        if not samples.size and not is_last:
            raise ValueError(f"a chunk of utterance {utterance_id!r} is empty and not its last")
        if any(not low <= high < samples.size for low, high in itertools.pairwise((0, *word_starts))):
            raise ValueError(
                f"word_starts of utterance {utterance_id!r} are {list(word_starts)[:20]}, expected ascending "
                f"positions in its {samples.size} samples"
            )
        if utterance_id in self._over:
            self.late_chunks += 1  # a synthesiser need not know at once that it was interrupted
            return
        utterance = self._find(utterance_id) or self.open(utterance_id, now_ns)
        if utterance.is_complete:
            raise ValueError(f"utterance {utterance_id!r} has ended; give the next one an id of its own")
        if samples.size * SAMPLE_RATE_HZ > self.samples_wanted * rate_hz:
            sentence = (
                f"utterance {utterance_id!r} brings {samples.size} samples at {rate_hz} Hz and "
                f"{self.samples_wanted} at {SAMPLE_RATE_HZ} Hz are wanted; send no more than samples_wanted"
            )
            self.fail(utterance_id, sentence)
            raise ValueError(sentence)
        utterance.add(rate_hz, samples, word_starts, is_last=is_last)
        utterance.touched_ns = now_ns

    def next_chunk(
        self, planned_end: int, earliest_sample: int, samples: int
    ) -> tuple[int, npt.NDArray[np.int16]] | None:
        """Return the next speech and its place; an utterance begins as early as it may."""
        for utterance in () if self._is_paused else self._queue:
            if utterance.is_complete and not utterance.waiting:
                continue  # all of it is planned
            has_enough = utterance.is_complete or utterance.waiting >= self._prebuffer
            if not (utterance.is_running or has_enough):
                return None
            if not utterance.waiting:
                if planned_end < earliest_sample:  # its planned sound ends soon: it waits for enough again
                    utterance.is_running = False
                    self.underruns += 1
                return None
            goes_on = utterance.is_running and planned_end >= earliest_sample - samples
            first = planned_end if goes_on else max(planned_end, earliest_sample)
            chunk = utterance.read(utterance.cursor, samples)
            self._segments.append(_PlannedRun(first, chunk.size, utterance.cursor, utterance))
            utterance.cursor += chunk.size
            utterance.planned = max(utterance.planned, utterance.cursor)
            utterance.is_running = True
            return first, chunk
        return None

    def pass_until(self, until_sample: int, *, is_heard: bool = True) -> None:
        """Learn that what was planned before a sample was heard, or was passed over and reached nobody."""
        while self._segments and self._segments[0].first_sample < until_sample:
            segment = self._segments[0]
            part = min(segment.samples, until_sample - segment.first_sample)
            if is_heard:
                segment.utterance.heard(segment.offset, segment.offset + part)
            segment.first_sample += part
            segment.offset += part
            segment.samples -= part
            if segment.samples:
                break
            self._segments.popleft()
        self._finish_heard()

    def pause(self, from_sample: int) -> None:
        """Say nothing from a sample on until `resume`; then the word that is cut there begins again."""
        self._is_paused = True
        self._take_back(from_sample)

    def resume(self) -> None:
        """Go on with what was paused."""
        self._is_paused = False

    def planned_sound(self, first_sample: int, end_sample: int) -> npt.NDArray[np.int16]:
        """Return what is planned in [first_sample, end_sample), at full level."""
        out = np.zeros(end_sample - first_sample, np.int16)
        for run in self._segments:
            low, high = max(run.first_sample, first_sample), min(run.first_sample + run.samples, end_sample)
            if low < high:
                sound = run.utterance.read(run.offset + low - run.first_sample, high - low)
                out[low - first_sample : high - first_sample] = sound
        return out

    def interrupt(self, from_sample: int) -> None:
        """End everything that is said or waits; what is planned before the sample will still be heard."""
        self._is_paused = False
        for utterance in list(self._queue):
            self._end(utterance, SpeechOutcome.INTERRUPTED, from_sample)

    def planned_from(self, utterance_id: str) -> int | None:
        """Return where an utterance's planned and unheard sound begins, None if there is none [samples]."""
        places = [s.first_sample for s in self._segments if s.utterance.id == utterance_id]
        return min(places, default=None)

    def cancel(self, utterance_id: str, from_sample: int) -> None:
        """End one utterance; what others had planned at and after the sample is planned again [samples]."""
        utterance = self._find(utterance_id)
        if utterance is not None:
            self._end(utterance, SpeechOutcome.CANCELED, from_sample)
            self._take_back(from_sample)

    def fail(self, utterance_id: str, message: str) -> None:
        """Take no more of an utterance; what is planned of it is still said."""
        utterance = self._find(utterance_id)
        if utterance is not None:
            planned = [s.first_sample + s.samples for s in self._segments if s.utterance is utterance]
            self._end(utterance, SpeechOutcome.FAILED, max(planned, default=0), message)

    def expire(self, now_ns: int) -> None:
        """Fail utterances to which nothing more comes."""
        for utterance in list(self._queue):
            silence_ns = now_ns - utterance.touched_ns
            if not utterance.is_complete and silence_ns > self._patience_ns:
                self.fail(
                    utterance.id,
                    f"nothing came for utterance {utterance.id!r} in {silence_ns / NS_PER_S:.1f} s and it "
                    "has no last chunk; end every utterance with is_last",
                )

    def forget(self, utterance_ids: Iterable[str]) -> None:
        """Refuse ids that were used before this queue was made."""
        self._over.extend(utterance_ids)

    def take_spoken(self) -> list[Spoken]:
        """Return the utterances that ended since the last call."""
        spoken, self._spoken = self._spoken, []
        return spoken

    def _find(self, utterance_id: str) -> _Utterance | None:
        return next((utterance for utterance in self._queue if utterance.id == utterance_id), None)

    def _finish_heard(self) -> None:
        planned = {id(segment.utterance) for segment in self._segments}
        for utterance in [u for u in self._queue if u.is_complete and not u.waiting]:
            if id(utterance) not in planned:
                heard, whole = utterance.samples_heard, utterance.end
                outcome = SpeechOutcome.FAILED if heard < HEARD_SHARE * whole else SpeechOutcome.FINISHED
                message = f"{heard} of {whole} samples of utterance {utterance.id!r} were heard; "
                message += "the machine was too busy to play the rest in time"
                self._close(utterance, outcome, heard, "" if heard == whole else message)

    def _end(
        self, utterance: _Utterance, outcome: SpeechOutcome, from_sample: int, message: str = ""
    ) -> None:
        """Close an utterance; of its planned sound what lies before the sample counts as heard."""
        heard = utterance.samples_heard
        for segment in self._segments:
            if segment.utterance is utterance:
                part = max(0, min(segment.samples, from_sample - segment.first_sample))
                heard += utterance.newly_heard(segment.offset, segment.offset + part)
        self._segments = collections.deque(s for s in self._segments if s.utterance is not utterance)
        self._close(utterance, outcome, heard, message)

    def _close(self, utterance: _Utterance, outcome: SpeechOutcome, heard: int, message: str) -> None:
        self._queue.remove(utterance)
        self._over.append(utterance.id)
        self._spoken.append(Spoken(utterance.id, outcome, heard, message))

    def _take_back(self, from_sample: int) -> None:
        """Let what other utterances had planned at and after a sample be planned again."""
        kept: collections.deque[_PlannedRun] = collections.deque()
        for segment in self._segments:
            stays = max(0, min(segment.samples, from_sample - segment.first_sample))
            if stays < segment.samples:
                segment.utterance.go_back(segment.offset + stays)
            if stays:
                kept.append(dataclasses.replace(segment, samples=stays))
        self._segments = kept


def make_speech_source(config: PlaybackConfig) -> SpeechSource:
    """Return what `source` names: one of the project's own, or one that is installed.

    Raises:
        ValueError: There is none of that name, or its file holds no sound.
        OSError: Its file cannot be read.
    """
    make = load_extension("timar.speech_sources", config.source, _BUILT_IN, "source")
    source: SpeechSource = make(config)
    return source


def _queue(config: PlaybackConfig) -> SpeechQueue:
    prebuffer = config.prebuffer_ms * SAMPLES_PER_MS
    return SpeechQueue(round(config.max_waiting_s * SAMPLE_RATE_HZ), prebuffer, config.speech_patience_s)


def _file(config: PlaybackConfig) -> FileSpeech:
    return FileSpeech(SoundFile(config.file, config.channel))


_BUILT_IN: Mapping[str, Callable[[PlaybackConfig], SpeechSource]] = {
    "speech": _queue,
    "file": _file,
    "none": lambda config: SpeechSource(),
}
