"""Speech turns and the floor, from both voices. Pure.

A speech turn is what one person says until the floor changes; pauses shorter than `pause_ms` belong to it.
Each turn has one START and one END, in order. A model may say that a turn is complete, or that it is not:
then a shorter or a longer pause ends it. Who begins to speak while the other holds the floor takes it after
`barge_in_ms` of speaking at once (the user's doing so is a BARGE_IN), and who ends before that has only given
a BACKCHANNEL.
"""

from __future__ import annotations

import collections
import dataclasses
import enum
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from timar_common.clock import SAMPLE_RATE_HZ
from timar_common.config import check, option

from timar_audio.activity import Activity, ActivityConfig, SpeakerActivity, Started, State, Stopped
from timar_audio.background import BackgroundConfig
from timar_audio.end_of_turn import LONGEST_HEARD_S, EndOfTurn
from timar_audio.levels import SILENCE_DBFS
from timar_audio.vad import SileroDetector, VoiceDetector, WebRtcDetector


class Speaker(enum.IntEnum):
    """As in timar_msgs."""

    USER = 0
    AGENT = 1

    @property
    def other(self) -> Speaker:
        """Who it is spoken with."""
        return Speaker.AGENT if self is Speaker.USER else Speaker.USER


class Kind(enum.IntEnum):
    """As in timar_msgs/TurnEvent."""

    START = 0
    END = 1
    BACKCHANNEL = 2
    BARGE_IN = 3


class Floor(enum.IntEnum):
    """As in timar_msgs/FloorState."""

    IDLE = 0
    USER = 1
    AGENT = 2
    BOTH = 3


@dataclasses.dataclass(frozen=True)
class TurnsConfig:
    """The turns node."""

    detector: str = option("webrtc", "Voice activity detector.", choices=("webrtc", "silero"))
    frame_ms: int = option(
        20,
        "Length of webrtcvad's frames: 10, 20 or 30; Silero's are 32 ms.",
        unit="ms",
        minimum=10,
        maximum=30,
    )
    aggressiveness: int = option(
        2,
        "webrtcvad: 0 hears the most, and the most noise; 3 only what is clearly speech.",
        minimum=0,
        maximum=3,
    )
    above_background_db: float = option(
        1.0,
        "webrtcvad: speech is at least so much above the background.",
        unit="dB",
        minimum=0.0,
        maximum=60.0,
    )
    above_background_spreads: float = option(
        2.0,
        "webrtcvad: and at least so many times by how much the background wanders; both 0: off.",
        minimum=0.0,
        maximum=20.0,
    )
    threshold: float = option(
        0.5, "Probability from which a frame counts as speech.", minimum=0.01, maximum=0.99
    )
    min_level_dbfs: float = option(
        -65.0, "A frame below this level is never speech.", unit="dBFS", minimum=-120.0, maximum=0.0
    )
    motion_noise_file: str = option(
        "", "What timar audio calibrate-motion-noise wrote: the servos' own noise is no speech; empty: off."
    )
    motion_wait_ms: int = option(
        60,
        "With it, how long the user's sound waits for joint_states of its time.",
        unit="ms",
        minimum=0,
        maximum=500,
    )
    start_ms: int = option(
        140, "So much speech, less the pauses in it, makes a start.", unit="ms", minimum=10, maximum=1000
    )
    hang_ms: int = option(
        240, "So much without speech makes an end of activity.", unit="ms", minimum=20, maximum=3000
    )
    resume_ms: int = option(
        40, "So much speech on end, while stopping, is speech again.", unit="ms", minimum=10, maximum=1000
    )
    pause_ms: int = option(
        500,
        "A pause so long ends a speech turn; at least hang_ms counts.",
        unit="ms",
        minimum=20,
        maximum=5000,
    )
    end_of_turn: str = option(
        "", "Model that judges whether the user's turn is complete, as module:Class; empty: pause_ms alone."
    )
    end_threshold: float = option(
        0.5, "Probability from which the model's word is that it is.", minimum=0.0, maximum=1.0
    )
    min_pause_ms: int = option(
        300,
        "With a model: it is asked after so long a pause, and a complete turn ends at once.",
        unit="ms",
        minimum=20,
        maximum=5000,
    )
    max_pause_ms: int = option(
        2000,
        "No pause is waited out longer: neither for a model nor for a noise that may become speech.",
        unit="ms",
        minimum=20,
        maximum=20_000,
    )
    barge_in_ms: int = option(
        280,
        "Who speaks so long into the other's turn takes the floor; less is a back-channel.",
        unit="ms",
        minimum=60,
        maximum=5000,
    )
    max_skew_ms: int = option(
        200,
        "How long one voice is waited for when the other is ahead of it.",
        unit="ms",
        minimum=0,
        maximum=2000,
    )

    def __post_init__(self) -> None:
        check(self)
        WebRtcDetector(self.aggressiveness, self.frame_ms)
        if not max(self.pause_ms, self.min_pause_ms) <= self.max_pause_ms:
            raise ValueError(
                f"max_pause_ms is {self.max_pause_ms}, expected at least pause_ms ({self.pause_ms}) and "
                f"min_pause_ms ({self.min_pause_ms})"
            )

    def make_detector(self) -> VoiceDetector:
        """Return a detector for one voice.

        Raises:
            OSError: It is not installed.
        """
        if self.detector == "silero":
            return SileroDetector()
        background = None
        if self.above_background_db or self.above_background_spreads:
            background = BackgroundConfig(self.above_background_db, self.above_background_spreads)
        return WebRtcDetector(self.aggressiveness, self.frame_ms, background)

    @property
    def activity(self) -> ActivityConfig:
        """The part that concerns one voice."""
        return ActivityConfig(
            self.threshold, self.min_level_dbfs, self.start_ms, self.hang_ms, self.resume_ms
        )


@dataclasses.dataclass(frozen=True)
class TurnEvent:
    """A change in a speech turn."""

    speaker: Speaker
    kind: Kind
    speech_turn: int
    """Counts this speaker's turns from 0; a START and its END share it."""
    first_sample: int
    """Where the turn began [samples]."""
    end_sample: int
    """One past its last sample; equal to first_sample while it is still going on."""
    event_sample: int
    """The sound the event speaks of [samples]."""
    decided_sample: int
    """How far the sound had come when it was decided [samples]."""

    @property
    def decision_delay_s(self) -> float:
        """From the sound to the decision [s]."""
        return (self.decided_sample - self.event_sample) / SAMPLE_RATE_HZ


@dataclasses.dataclass(frozen=True)
class FloorChange:
    """Who holds the floor from a sample on."""

    state: Floor
    since_sample: int


@dataclasses.dataclass
class _Turn:
    """A speech turn that is going on."""

    number: int
    first_sample: int
    stretch_first: int
    """Where the stretch of speech began that is going on or was the last."""
    end_sample: int = 0
    is_speaking: bool = True
    """False during a pause."""
    has_floor: bool = False
    is_complete: bool | None = None
    """What the model said in this pause; None while it was not asked."""


class TurnRules:
    """Speech turns and floor from both voices' activity, frame by frame in the order of the clock.

    Args:
        judge: Says how likely the user's turn is complete, from its first sample and how far the sound has
            come; None leaves every end to the pause.
    """

    def __init__(self, config: TurnsConfig, judge: Callable[[int, int], float] | None = None) -> None:
        self._judge = judge
        self._end_threshold = config.end_threshold
        self._pause, self._min_pause, self._max_pause = (
            ms * SAMPLE_RATE_HZ // 1000 for ms in (config.pause_ms, config.min_pause_ms, config.max_pause_ms)
        )
        self._barge_in = config.barge_in_ms * SAMPLE_RATE_HZ // 1000
        self._turns: dict[Speaker, _Turn | None] = {speaker: None for speaker in Speaker}
        self._counts = {speaker: 0 for speaker in Speaker}
        self._speech_end = {speaker: 0 for speaker in Speaker}
        self._floor = FloorChange(Floor.IDLE, 0)

    @property
    def floor(self) -> FloorChange:
        """Who holds the floor now."""
        return self._floor

    def count_on_from(self, earlier: TurnRules) -> None:
        """Number speech turns after those of an earlier conversation."""
        self._counts = dict(earlier._counts)

    def step(self, speaker: Speaker, frame: Activity) -> tuple[list[TurnEvent], list[FloorChange]]:
        """Take one frame of one voice in and return what it changed."""
        now = frame.end_sample
        before = self._floor
        events: list[TurnEvent] = []
        self._speech_end[speaker] = frame.speech_end
        if isinstance(frame.change, Started):
            events += self._started(speaker, frame.change.first_sample, now)
        elif isinstance(frame.change, Stopped):
            self._paused(speaker, frame.change.end_sample)
        for who in (speaker, speaker.other):
            events += self._take_floor(who, now)
        if self._is_over(speaker, frame):
            events += self._end(speaker, now)
        return events, [] if self._floor == before else [self._floor]

    def finish(self, now_sample: int) -> list[TurnEvent]:
        """End every turn that is still going on, where its speech ended."""
        events: list[TurnEvent] = []
        for speaker in Speaker:
            turn = self._turns[speaker]
            if turn is not None:
                if turn.is_speaking:
                    self._paused(speaker, max(self._speech_end[speaker], turn.stretch_first))
                events += self._end(speaker, max(now_sample, turn.end_sample))
        return events

    def _is_over(self, speaker: Speaker, frame: Activity) -> bool:
        """Whether a pause has lasted long enough to end its turn."""
        turn = self._turns[speaker]
        if turn is None or turn.is_speaking:
            return False
        pause = frame.end_sample - turn.end_sample
        if pause >= self._max_pause:
            return True
        if frame.state is State.STARTING:  # it may be speech again, of a pause that was short enough
            return False
        if speaker is Speaker.AGENT or self._judge is None:
            return pause >= self._pause
        if turn.is_complete is None and pause >= self._min_pause:
            turn.is_complete = self._judge(turn.first_sample, frame.end_sample) >= self._end_threshold
        return bool(turn.is_complete)

    def _started(self, speaker: Speaker, first_sample: int, now: int) -> list[TurnEvent]:
        turn = self._turns[speaker]
        if turn is not None:
            turn.is_speaking, turn.stretch_first = True, first_sample
            return []
        turn = _Turn(self._counts[speaker], first_sample, first_sample)
        self._counts[speaker] += 1
        self._turns[speaker] = turn
        events = [self._event(speaker, Kind.START, turn, first_sample, now, is_going_on=True)]
        other = self._turns[speaker.other]
        if other is None or not other.has_floor:
            self._give_floor(turn, first_sample)
        return events

    def _paused(self, speaker: Speaker, end_sample: int) -> None:
        turn = self._turns[speaker]
        if turn is not None:
            turn.is_speaking, turn.end_sample, turn.is_complete = False, end_sample, None

    def _take_floor(self, speaker: Speaker, now: int) -> list[TurnEvent]:
        """Give the floor to who has spoken long enough beside the other, or after the other fell silent."""
        turn, other = self._turns[speaker], self._turns[speaker.other]
        if turn is None or turn.has_floor or not turn.is_speaking or other is None:
            return []
        spoken_until = self._speech_end[speaker]  # what follows is only the hang of its detector
        if spoken_until - turn.stretch_first < self._barge_in:
            return []
        if not other.is_speaking:
            events = self._end(speaker.other, now)
            self._give_floor(turn, max(turn.stretch_first, other.end_sample))
            return events
        overlap = min(spoken_until, self._speech_end[speaker.other]) - turn.stretch_first
        if overlap < self._barge_in:
            return []
        self._give_floor(turn, turn.stretch_first)
        if speaker is Speaker.AGENT:
            return []
        return [self._event(speaker, Kind.BARGE_IN, turn, turn.stretch_first, now, is_going_on=True)]

    def _end(self, speaker: Speaker, now: int) -> list[TurnEvent]:
        turn = self._turns[speaker]
        if turn is None:
            return []
        self._turns[speaker] = None
        events = []
        if not turn.has_floor:
            events.append(self._event(speaker, Kind.BACKCHANNEL, turn, turn.first_sample, now))
        events.append(self._event(speaker, Kind.END, turn, turn.end_sample, now))
        other = self._turns[speaker.other]
        if other is not None and other.is_speaking and not other.has_floor:
            self._give_floor(other, max(other.stretch_first, turn.end_sample))
        self._update_floor(turn.end_sample)
        return events

    def _event(
        self, speaker: Speaker, kind: Kind, turn: _Turn, sample: int, now: int, *, is_going_on: bool = False
    ) -> TurnEvent:
        end = turn.first_sample if is_going_on else turn.end_sample
        return TurnEvent(speaker, kind, turn.number, turn.first_sample, end, sample, max(now, sample))

    def _give_floor(self, turn: _Turn, since_sample: int) -> None:
        turn.has_floor = True
        self._update_floor(since_sample)

    def _update_floor(self, since_sample: int) -> None:
        holders = [speaker for speaker, turn in self._turns.items() if turn is not None and turn.has_floor]
        state = Floor.BOTH if len(holders) == 2 else Floor(holders[0] + 1) if holders else Floor.IDLE
        if state is not self._floor.state:
            self._floor = FloorChange(state, max(since_sample, self._floor.since_sample))


@dataclasses.dataclass
class Decisions:
    """What one block brought."""

    activity: list[tuple[Speaker, Activity]] = dataclasses.field(default_factory=list)
    events: list[TurnEvent] = dataclasses.field(default_factory=list)
    floor: list[FloorChange] = dataclasses.field(default_factory=list)


class Turns:
    """Both voices from blocks to events.

    Frames of the two are taken in the order of the clock; a voice that stays behind is waited for at most
    `max_skew_ms`, one that never came is not waited for.

    Args:
        model: What judges whether the user's turn is complete; None leaves every end to the pause.
    """

    def __init__(self, config: TurnsConfig, model: EndOfTurn | None = None) -> None:
        self.voices = {
            speaker: SpeakerActivity(config.make_detector(), config.activity) for speaker in Speaker
        }
        self.config = config
        self._model = model
        self.rules = TurnRules(config, None if model is None else self._judge)
        self._skew = config.max_skew_ms * SAMPLE_RATE_HZ // 1000
        self._waiting: dict[Speaker, collections.deque[Activity]] = {
            speaker: collections.deque() for speaker in Speaker
        }
        self._ends = {speaker: 0 for speaker in Speaker}
        self._now = 0

    def push(
        self,
        speaker: Speaker,
        first_sample: int,
        samples: npt.NDArray[np.int16],
        filled_samples: int = 0,
        floor_dbfs: float = SILENCE_DBFS,
    ) -> Decisions:
        """Take a block of one voice in.

        Args:
            speaker: Whose.
            first_sample: Place of its first sample on the conversation clock, >= 0.
            samples: (n,) int16, at most a second.
            filled_samples: How many of them are silence that stands for lost sound.
            floor_dbfs: What is not louder is noise of the head's own motion [dBFS].

        Raises:
            ValueError: The block cannot be placed; see `SampleStream.push`.
        """
        frames = self.voices[speaker].push(first_sample, samples, filled_samples, floor_dbfs)
        decisions = Decisions(activity=[(speaker, frame) for frame in frames])
        if frames:
            self._waiting[speaker].extend(frames)
            self._ends[speaker] = frames[-1].end_sample
            self._decide(self._watermark(), decisions)
        return decisions

    def finish(self) -> Decisions:
        """Decide all that waits and end every turn; for recordings, and before a reset."""
        decisions = Decisions()
        self._decide(max(self._ends.values()), decisions)
        before = self.rules.floor
        decisions.events += self.rules.finish(self._now)
        if self.rules.floor != before:
            decisions.floor.append(self.rules.floor)
        return decisions

    def anew(self) -> Turns:
        """Return new ears for a counter that begins anew; speech turns are counted on."""
        turns = Turns(self.config, self._model)
        turns.rules.count_on_from(self.rules)
        return turns

    def _judge(self, first_sample: int, end_sample: int) -> float:
        assert self._model is not None
        heard = self.voices[Speaker.USER].read(first_sample, end_sample, LONGEST_HEARD_S * SAMPLE_RATE_HZ)
        return self._model.probability(heard)

    def _watermark(self) -> int:
        ends = [self._ends[speaker] for speaker, voice in self.voices.items() if voice.is_started]
        return max(min(ends), max(ends) - self._skew)

    def _decide(self, until_sample: int, decisions: Decisions) -> None:
        while True:
            ready = [
                (queue[0].end_sample, speaker)
                for speaker, queue in self._waiting.items()
                if queue and queue[0].end_sample <= until_sample
            ]
            if not ready:
                return
            _, speaker = min(ready)
            frame = self._waiting[speaker].popleft()
            self._now = max(self._now, frame.end_sample)
            events, floor = self.rules.step(speaker, frame)
            decisions.events += events
            decisions.floor += floor
