"""Rules of turn taking: speech turns, back-channels, interruptions and the floor.

A speech turn is what one person says until the floor changes; pauses shorter than `pause_ms` belong to it.
Each turn has one START and one END, in order. A model may say that a turn is complete, or that it is not:
then a shorter or a longer pause ends it. While the user speaks into the agent's turn, the agent's voice is
LOWERED, PAUSED, RESUMED or INTERRUPTED (`interruption.py`); who ends without the floor has only given a
BACKCHANNEL.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable

from timar_common.clock import SAMPLE_RATE_HZ, SAMPLES_PER_MS

from timar_audio.activity import Activity, Started, State, Stopped
from timar_audio.interruption import Effect, Interruption, Verdict, verdict_of
from timar_audio.interruption_judge import UserSound
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
    asked_at: int = -1
    """End of the speech after which the model was asked last [samples]."""
    is_complete: bool | None = None
    """What it said; None while it has not answered."""


@dataclasses.dataclass(frozen=True)
class UserWords:
    """What a recogniser made of a run of the user's sound."""

    first_sample: int
    end_sample: int
    text: str
    is_final: bool


class TurnRules:
    """Speech turns and floor from both voices' activity, frame by frame in the order of the clock.

    Args:
        ask: Asks how likely the user's turn is complete, from its number, its first sample and how far the
            sound has come: returns that, or None when `answer` brings it later. None leaves every end to the
            pause.
        hear: Describes the user's sound over the agent's voice, from where it began, how far it came, by how
            much it is louder than his speech elsewhere [dB] and for how long it was quiet [s]. None:
            speaking for `barge_in_ms` into the agent's speech ends it.
        is_planned: Tells whether the agent will speak after a sample.
    """

    def __init__(
        self,
        config: TurnsConfig,
        ask: Callable[[int, int, int], float | None] | None = None,
        hear: Callable[[int, int, float, float], UserSound] | None = None,
        is_planned: Callable[[int], bool] = lambda sample: False,
    ) -> None:
        self._config = config
        self._ask, self._hear, self._is_planned = ask, hear, is_planned
        self._interruption: Interruption | None = None
        self._words: UserWords | None = None
        self._usual_dbfs: float | None = None
        """Level of the user's speech while the agent is silent."""
        self._loud_dbfs: list[float] = []
        """Levels of his speech over the agent's."""
        self._agent_stays_until = 0
        """A pause of the agent before this sample ends no turn: its voice is about to go on."""
        self._judged: list[TurnEvent] = []
        self._end_threshold = config.end_threshold
        self._pause, self._min_pause, self._max_pause = (
            ms * SAMPLES_PER_MS for ms in (config.pause_ms, config.min_pause_ms, config.max_pause_ms)
        )
        self._barge_in = config.barge_in_ms * SAMPLES_PER_MS
        self._words_wait, self._lower_after, self._join, self._hang = (
            ms * SAMPLES_PER_MS
            for ms in (config.words_wait_ms, config.lower_after_ms, config.join_ms, config.hang_ms)
        )
        self._is_lowered_early = False
        """Whether the agent's voice is lowered for what is no speech yet."""
        self._lowered_first = self._lowered_until = 0
        """Where that began, and how long the voice stays lowered without more of it [samples]."""
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
        events, self._judged = self._judged, []
        spoken_until, self._speech_end[speaker] = self._speech_end[speaker], frame.speech_end
        if isinstance(frame.change, Started):
            events += self._started(speaker, frame.change.first_sample, now)
        elif isinstance(frame.change, Stopped):
            self._paused(speaker, frame.change.end_sample)
        if speaker is Speaker.USER and self._hear is not None:
            events += self._lower_early(frame) + self._follow_interruption(frame, spoken_until)
        for who in (speaker, speaker.other):
            events += self._take_floor(who, now)
        if self._is_over(speaker, frame):
            events += self._judged + self._end(speaker, now)
            self._judged = []
        return events, [] if self._floor == before else [self._floor]

    def answer(self, number: int, asked_at: int, probability: float, now_sample: int) -> None:
        """Take the model's answer; one to a turn that is over or goes on counts no more.

        Args:
            number: Of the user's turn.
            asked_at: How far the sound had come when it was asked [samples].
            probability: That the turn is complete.
            now_sample: How far it has come now [samples].
        """
        turn = self._turns[Speaker.USER]
        if turn is None or turn.number != number or self._speech_end[Speaker.USER] > asked_at:
            return
        turn.is_complete = probability >= self._end_threshold
        end = self._speech_end[Speaker.USER]
        self._judged.append(
            TurnEvent(
                Speaker.USER,
                Kind.JUDGED,
                number,
                turn.first_sample,
                end,
                end,
                max(now_sample, end),
                probability,
            )
        )

    def add_words(self, words: UserWords) -> None:
        """Take what a recogniser heard; it counts from the next frame of the user on."""
        self._words = words

    def finish(self, now_sample: int) -> list[TurnEvent]:
        """End every turn that is still going on, where its speech ended."""
        events: list[TurnEvent] = []
        if self._is_lowered_early:
            self._is_lowered_early = False
            events.append(self._early_event(Kind.RESUMED, max(now_sample, self._lowered_first)))
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
        if turn is not None and speaker is Speaker.USER:
            self._ask_in_pause(turn, frame)
        if turn is None or turn.is_speaking:
            return False
        pause = frame.end_sample - turn.end_sample
        if pause >= self._max_pause:
            return True
        if frame.state is State.STARTING:  # it may be speech again, of a pause that was short enough
            return False
        if speaker is Speaker.AGENT:
            is_held = self._effect is Effect.PAUSED or frame.end_sample < self._agent_stays_until
            return pause >= self._pause and not is_held
        if self._waits_for_words(turn, pause):
            return False
        if turn.is_complete is not None:
            return turn.is_complete
        return pause >= self._pause

    def _ask_in_pause(self, turn: _Turn, frame: Activity) -> None:
        """Ask the model once in every pause of the user, as soon as it is long enough."""
        if self._ask is None or (frame.end_sample - frame.speech_end) < self._min_pause:
            return
        if turn.asked_at != frame.speech_end:
            turn.asked_at, turn.is_complete = frame.speech_end, None
            probability = self._ask(turn.number, turn.first_sample, frame.end_sample)
            if probability is not None:
                self.answer(turn.number, frame.end_sample, probability, frame.end_sample)

    def _waits_for_words(self, turn: _Turn, pause: int) -> bool:
        """Whether a turn that took no floor stays open, for a recogniser may make an interruption of it."""
        if turn.has_floor or self._interruption is None or self._words is None:
            return False
        return self._verdict(self._interruption) is None and pause < self._words_wait

    @property
    def _effect(self) -> Effect | None:
        return None if self._interruption is None else self._interruption.effect

    def _lower_early(self, frame: Activity) -> list[TurnEvent]:
        """Lower the agent's voice for what may become speech of the user, and let it go on if it does not."""
        if self._is_lowered_early:
            if frame.state is not State.QUIET:
                self._lowered_until = frame.end_sample + self._hang
            if frame.end_sample < self._lowered_until:
                return []
            self._is_lowered_early = False
            return [self._early_event(Kind.RESUMED, frame.end_sample)]
        if frame.starting < self._lower_after or self._effect not in (None, Effect.RESUMED):
            return []
        if not self._is_into_agents(frame.starting_first, frame.end_sample):
            return []
        self._is_lowered_early, self._lowered_first = True, frame.starting_first
        self._lowered_until = frame.end_sample + self._hang
        return [self._early_event(Kind.LOWERED, frame.end_sample)]

    def _early_event(self, kind: Kind, now: int) -> TurnEvent:
        user, first = self._turns[Speaker.USER], self._lowered_first
        number = self._counts[Speaker.USER] if user is None else user.number
        return TurnEvent(Speaker.USER, kind, number, first, first, first, now)

    def _is_into_agents(self, first_sample: int, now: int) -> bool:
        """Tell whether speech that began at a sample lies over the agent's."""
        agent = self._turns[Speaker.AGENT]
        return (
            agent is not None
            and agent.first_sample <= first_sample
            and (agent.is_speaking or self._is_planned(now))
        )

    def _follow_interruption(self, frame: Activity, spoken_until: int) -> list[TurnEvent]:
        """Say what the user's speech does to the agent's voice.

        Args:
            frame: The user's newest.
            spoken_until: One past the speech before it [samples].
        """
        user, now = self._turns[Speaker.USER], frame.end_sample
        if user is None:
            return []
        events: list[TurnEvent] = []
        if isinstance(frame.change, Started):
            if self._is_into_agents(user.stretch_first, now):
                is_lowered, self._is_lowered_early = self._is_lowered_early, False
                self._interruption = Interruption(self._config, self._sound_first(user, spoken_until))
                self._loud_dbfs = []
                if not is_lowered:
                    events.append(self._effect_event(user, Kind.LOWERED, now))
            elif self._effect is not Effect.PAUSED:
                self._interruption = None
        current = self._interruption
        if frame.state is State.SPEAKING:
            self._learn_level(frame.level_dbfs, is_over_agent=current is not None)
        if current is None or current.effect is Effect.INTERRUPTED:
            return events
        sound = self._sound(current, frame)
        was_paused = current.effect is Effect.PAUSED
        effect = current.step(sound, self._verdict(current))
        if effect is None:
            return events
        if effect is Effect.INTERRUPTED:
            self._give_floor(user, current.first_sample)
        elif was_paused:
            self._agent_stays_until = now + SAMPLE_RATE_HZ
        return [*events, self._effect_event(user, Kind[effect.name], now)]

    def _sound_first(self, user: _Turn, spoken_until: int) -> int:
        """Return where a sound began: with the one before it if that has just ended ("no, stop")."""
        earlier = self._interruption
        if earlier is None or earlier.effect is not Effect.RESUMED:
            return user.stretch_first
        if user.stretch_first - spoken_until > self._join or self._verdict(earlier) is not None:
            return user.stretch_first
        return earlier.first_sample

    def _sound(self, current: Interruption, frame: Activity) -> UserSound:
        quiet_s = (frame.end_sample - frame.speech_end) / SAMPLE_RATE_HZ
        if current.effect is Effect.RESUMED and frame.state is State.QUIET:
            return UserSound(0.0, quiet_s, -1.0)  # only words may change that
        assert self._hear is not None
        louder_db = 0.0
        if self._usual_dbfs is not None and self._loud_dbfs:
            louder_db = sum(self._loud_dbfs) / len(self._loud_dbfs) - self._usual_dbfs
        return self._hear(current.first_sample, frame.end_sample, louder_db, quiet_s)

    def _learn_level(self, level_dbfs: float, *, is_over_agent: bool) -> None:
        if is_over_agent:
            self._loud_dbfs.append(level_dbfs)
        elif self._usual_dbfs is None:
            self._usual_dbfs = level_dbfs
        else:
            self._usual_dbfs += 0.02 * (level_dbfs - self._usual_dbfs)

    def _verdict(self, current: Interruption) -> Verdict | None:
        """Return what the newest words say about a sound; words of other sound say nothing."""
        words, slack = self._words, SAMPLE_RATE_HZ // 2
        if words is None or words.end_sample <= current.first_sample:
            return None
        if words.first_sample < current.first_sample - slack:
            return None
        verdict = verdict_of(words.text, words.is_final, self._config)
        goes_on = self._speech_end[Speaker.USER] > words.end_sample + slack
        return None if verdict is Verdict.BACKCHANNEL and goes_on else verdict

    def _effect_event(self, user: _Turn, kind: Kind, now: int) -> TurnEvent:
        current = self._interruption
        assert current is not None
        first = current.first_sample
        end = max(first, self._speech_end[Speaker.USER]) if kind is Kind.RESUMED else first
        return TurnEvent(Speaker.USER, kind, user.number, first, end, end, max(now, end), current.probability)

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
            turn.is_speaking, turn.end_sample = False, end_sample

    def _take_floor(self, speaker: Speaker, now: int) -> list[TurnEvent]:
        """Give the floor to who has spoken long enough beside the other, or after the other fell silent."""
        turn, other = self._turns[speaker], self._turns[speaker.other]
        if turn is None or turn.has_floor or not turn.is_speaking or other is None:
            return []
        spoken_until = self._speech_end[speaker]  # what follows is only the hang of its detector
        if spoken_until - turn.stretch_first < self._barge_in:
            return []
        if speaker is Speaker.USER and self._hear is not None:
            is_held = self._effect is Effect.PAUSED or now < self._agent_stays_until
            goes_on = other.is_speaking or is_held or self._is_planned(now)
            if self._interruption is not None and goes_on:
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
        if speaker is Speaker.USER:
            if self._effect in (Effect.LOWERED, Effect.PAUSED):
                events.append(self._effect_event(turn, Kind.RESUMED, now))
            self._interruption = None
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
