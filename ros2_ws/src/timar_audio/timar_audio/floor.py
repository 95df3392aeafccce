"""Rules of turn taking: speech turns, back-channels, interruptions and the floor.

A speech turn is what one person says until the floor changes; pauses shorter than `pause_ms` belong to it.
Each turn has one START and one END, in order. A model may say that a turn is complete, or that it is not:
then a shorter or a longer pause ends it. Who begins to speak while the other holds the floor takes it after
`barge_in_ms` of speaking at once (INTERRUPTED when the user does), and who ends before that has only given a
BACKCHANNEL.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable

from timar_common.clock import SAMPLE_RATE_HZ, SAMPLES_PER_MS

from timar_audio.activity import Activity, Started, State, Stopped
from timar_audio.turns_config import TurnsConfig


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
    INTERRUPTED = 3
    LOWERED = 4
    PAUSED = 5
    RESUMED = 6
    JUDGED = 7


class Floor(enum.IntEnum):
    """As in timar_msgs/FloorState."""

    IDLE = 0
    USER = 1
    AGENT = 2
    BOTH = 3


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
    probability: float = -1.0
    """That the user wants the floor, or has said all he wanted; -1 where nobody judged that."""

    @property
    def decision_delay_s(self) -> float:
        """From the sound to the decision [s]."""
        return (self.decided_sample - self.event_sample) / SAMPLE_RATE_HZ


@dataclasses.dataclass(frozen=True)
class FloorDecision:
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
            ms * SAMPLES_PER_MS for ms in (config.pause_ms, config.min_pause_ms, config.max_pause_ms)
        )
        self._barge_in = config.barge_in_ms * SAMPLES_PER_MS
        self._turns: dict[Speaker, _Turn | None] = {speaker: None for speaker in Speaker}
        self._counts = {speaker: 0 for speaker in Speaker}
        self._speech_end = {speaker: 0 for speaker in Speaker}
        self._floor = FloorDecision(Floor.IDLE, 0)

    @property
    def floor(self) -> FloorDecision:
        """Who holds the floor now."""
        return self._floor

    def count_on_from(self, earlier: TurnRules) -> None:
        """Number speech turns after those of an earlier conversation."""
        self._counts = dict(earlier._counts)

    def step(self, speaker: Speaker, frame: Activity) -> tuple[list[TurnEvent], list[FloorDecision]]:
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
        return [self._event(speaker, Kind.INTERRUPTED, turn, turn.stretch_first, now, is_going_on=True)]

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
            self._floor = FloorDecision(state, max(since_sample, self._floor.since_sample))
