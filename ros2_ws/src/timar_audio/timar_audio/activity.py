"""Voice activity with hysteresis: a state machine over the detector's frames.

    QUIET --speech--> STARTING --enough of it--> SPEAKING --no speech--> STOPPING --long enough--> QUIET
                      STARTING --it was nothing--> QUIET   SPEAKING <--speech again-- STOPPING

Starts and ends are times of the sound; when they were decided is said beside them.
"""

from __future__ import annotations

import dataclasses
import enum

import numpy as np
import numpy.typing as npt
from timar_common.clock import SAMPLE_RATE_HZ, SAMPLES_PER_MS
from timar_common.config import check, number
from timar_common.stream import SampleStream

from timar_audio.levels import SILENCE_DBFS, level_dbfs
from timar_audio.vad import VoiceDetector


class State(enum.Enum):
    """Where one voice is."""

    QUIET = "quiet"
    STARTING = "starting"
    SPEAKING = "speaking"
    STOPPING = "stopping"


@dataclasses.dataclass(frozen=True)
class ActivityConfig:
    """Hysteresis of one voice."""

    threshold: float = number(0.5, "Probability from which a frame counts as speech.", 0.01, 0.99)
    min_level_dbfs: float = number(-65.0, "A frame below this level is never speech.", -120.0, 0.0, "dBFS")
    start_ms: int = number(140, "So much speech, less the pauses in it, makes a start.", 10, 1000, "ms")
    hang_ms: int = number(240, "So much without speech makes an end of activity.", 20, 3000, "ms")
    resume_ms: int = number(
        40, "So much speech on end, while stopping, is speech again, and no click.", 10, 1000, "ms"
    )

    def __post_init__(self) -> None:
        check(self)


@dataclasses.dataclass(frozen=True)
class Started:
    """Speech began."""

    first_sample: int
    """First sample of the first frame of speech [samples]."""


@dataclasses.dataclass(frozen=True)
class Stopped:
    """Speech ended."""

    end_sample: int
    """One past the last sample of the last frame of speech [samples]."""


@dataclasses.dataclass(frozen=True)
class Activity:
    """What was decided with one frame, at its end."""

    first_sample: int
    end_sample: int
    probability: float
    level_dbfs: float
    state: State
    speech_end: int
    """One past the last speech of the stretch that is going on, or of the last one [samples]."""
    change: Started | Stopped | None = None
    starting: int = 0
    """In STARTING: how much speech there was, less the pauses in it [samples]."""
    starting_first: int = 0
    """And where it began [samples]."""

    @property
    def is_speaking(self) -> bool:
        """Whether the voice speaks, after hysteresis."""
        return self.state in (State.SPEAKING, State.STOPPING)


class VoiceState:
    """The state machine alone: frames that are speech or not in, starts and ends out."""

    def __init__(self, config: ActivityConfig) -> None:
        self.state = State.QUIET
        self.speech_end = 0
        self._start = config.start_ms * SAMPLES_PER_MS
        self._hang = config.hang_ms * SAMPLES_PER_MS
        self._resume = config.resume_ms * SAMPLES_PER_MS
        self._first = 0
        self._evidence = 0

    @property
    def starting(self) -> tuple[int, int]:
        """How much speech there was in STARTING, and where it began [samples]; (0, 0) in other states."""
        return (self._evidence, self._first) if self.state is State.STARTING else (0, 0)

    def step(self, first_sample: int, end_sample: int, is_speech: bool) -> Started | Stopped | None:
        """Take the next frame in and return the change it brought, if any."""
        length = end_sample - first_sample
        if self.state is State.QUIET and is_speech:
            self.state, self._first, self._evidence = State.STARTING, first_sample, 0
        if self.state is State.STARTING:
            return self._starting(end_sample, length if is_speech else -length)
        if self.state in (State.SPEAKING, State.STOPPING):
            return self._speaking(end_sample, length, is_speech)
        return None

    def _starting(self, end_sample: int, evidence: int) -> Started | None:
        self._evidence += evidence
        if self._evidence <= 0:
            self.state = State.QUIET
        elif self._evidence >= self._start:
            self.state, self.speech_end, self._evidence = State.SPEAKING, end_sample, 0
            return Started(self._first)
        return None

    def _speaking(self, end_sample: int, length: int, is_speech: bool) -> Stopped | None:
        if not is_speech:
            self.state, self._evidence = State.STOPPING, 0
            if end_sample - self.speech_end >= self._hang:
                self.state = State.QUIET
                return Stopped(self.speech_end)
            return None
        self._evidence += length
        if self.state is State.SPEAKING or self._evidence >= self._resume:
            self.state, self.speech_end, self._evidence = State.SPEAKING, end_sample, 0
        return None


class SpeakerActivity:
    """One voice from blocks to `Activity` per frame.

    Frames lie on the clock's own grid (multiples of their length), so how the sound was cut into blocks
    changes nothing. Lost sound is heard as silence; sound that comes again is left out.
    """

    def __init__(self, detector: VoiceDetector, config: ActivityConfig) -> None:
        self._detector = detector
        self._config = config
        self._stream = SampleStream(capacity=_KEPT_SAMPLES)
        self._machine = VoiceState(config)
        self._next = 0

    @property
    def stream(self) -> SampleStream:
        """What came, and its counters: received, lost and repeated samples."""
        return self._stream

    @property
    def is_started(self) -> bool:
        """Whether any sound came yet."""
        return self._stream.is_started

    def push(
        self,
        first_sample: int,
        samples: npt.NDArray[np.int16],
        filled_samples: int = 0,
        noise_floor_dbfs: float = SILENCE_DBFS,
    ) -> list[Activity]:
        """Take a block in and return what its frames decided.

        Args:
            first_sample: Position of its first sample on the conversation clock, >= 0.
            samples: (n,) int16, at most a second.
            filled_samples: How many of them are silence that stands for lost sound.
            noise_floor_dbfs: What is not louder is the head's own noise, in the frames that end here [dBFS].

        Raises:
            ValueError: The block is not what a stream can take; see `SampleStream.push`.
        """
        was_started = self._stream.is_started
        decided: list[Activity] = []
        if self._stream.gap_before(first_sample) > _KEPT_SAMPLES // 2:
            decided += self._push_gap(first_sample)
        self._stream.push(first_sample, samples, filled_samples)
        if not was_started:
            length = self._detector.frame_samples
            self._next = first_sample // length * length
        return decided + self._frames(noise_floor_dbfs)

    def read(self, first_sample: int, end_sample: int, at_most: int) -> npt.NDArray[np.int16]:
        """Return the newest sound before a sample, from `first_sample` on at the most [samples]."""
        oldest = self._stream.end_sample - _KEPT_SAMPLES
        return self._stream.read(max(first_sample, end_sample - at_most, oldest), end_sample)

    def _push_gap(self, until_sample: int) -> list[Activity]:
        """Hear a long hole piece by piece, so that no more than the stream keeps is in hand at once."""
        decided: list[Activity] = []
        silence = np.zeros(0, np.int16)
        while self._stream.end_sample < until_sample:
            self._stream.push(min(until_sample, self._stream.end_sample + SAMPLE_RATE_HZ), silence)
            decided += self._frames()
        return decided

    def _frames(self, noise_floor_dbfs: float = SILENCE_DBFS) -> list[Activity]:
        decided = []
        length = self._detector.frame_samples
        while self._next + length <= self._stream.end_sample:
            decided.append(self._decide(self._next, self._next + length, noise_floor_dbfs))
            self._next += length
        return decided

    def _decide(self, first: int, end: int, noise_floor_dbfs: float) -> Activity:
        frame = self._stream.read(first, end)
        level = level_dbfs(frame)
        probability = self._detector.probability(frame)
        least_dbfs = max(self._config.min_level_dbfs, noise_floor_dbfs)
        is_speech = probability >= self._config.threshold and level >= least_dbfs
        change = self._machine.step(first, end, is_speech)
        machine = self._machine
        return Activity(
            first, end, probability, level, machine.state, machine.speech_end, change, *machine.starting
        )


_KEPT_SAMPLES = 10 * SAMPLE_RATE_HZ
