"""Voice activity, speech turns and floor from both speakers' audio blocks, in the order of the clock."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from timar_common.clock import SAMPLE_RATE_HZ, SAMPLES_PER_MS

from timar_audio.activity import Activity, SpeakerActivity
from timar_audio.end_of_turn import LONGEST_HEARD_S, EndOfTurn
from timar_audio.floor import FloorDecision, Speaker, TurnEvent, TurnRules
from timar_audio.interruption_features import BEFORE
from timar_audio.interruption_features import LONGEST as LONGEST_SOUND
from timar_audio.interruption_judge import InterruptionJudge, UserSound
from timar_audio.levels import SILENCE_DBFS
from timar_audio.turns_config import TurnsConfig


@dataclasses.dataclass
class Decisions:
    """What one block brought."""

    activity: list[tuple[Speaker, Activity]] = dataclasses.field(default_factory=list)
    events: list[TurnEvent] = dataclasses.field(default_factory=list)
    floor: list[FloorDecision] = dataclasses.field(default_factory=list)


class Turns:
    """Both voices from blocks to events.

    Frames of the two are taken in the order of the clock; a voice that stays behind is waited for at most
    `max_skew_ms`, one that never came is not waited for.

    Args:
        model: What judges at once whether the user's turn is complete; None leaves every end to the pause.
        ask: In place of a model: takes the turn's number, how far the sound has come and (n,) int16, and
            answers later by `rules.answer`.
        is_planned: Tells whether the agent will speak after a sample.
    """

    def __init__(
        self,
        config: TurnsConfig,
        model: EndOfTurn | None = None,
        ask: Callable[[int, int, npt.NDArray[np.int16]], None] | None = None,
        is_planned: Callable[[int], bool] = lambda sample: False,
    ) -> None:
        self.voices = {speaker: SpeakerActivity(config.make_detector(), config) for speaker in Speaker}
        self.config = config
        self._model, self._ask, self._is_planned = model, ask, is_planned
        self._judge: InterruptionJudge | None = None
        if config.interruption_check:
            self._judge = InterruptionJudge(config.resume_after_ms / 1000)
        self.rules = TurnRules(
            config,
            self._ask_model if model is not None or ask is not None else None,
            self._hear_user if self._judge is not None else None,
            is_planned,
        )
        self._skew = config.max_skew_ms * SAMPLES_PER_MS
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
        noise_floor_dbfs: float = SILENCE_DBFS,
    ) -> Decisions:
        """Take a block of one voice in.

        Args:
            speaker: Whose.
            first_sample: Position of its first sample on the conversation clock, >= 0.
            samples: (n,) int16, at most a second.
            filled_samples: How many of them are silence that stands for lost sound.
            noise_floor_dbfs: What is not louder is noise of the head's own motion [dBFS].

        Raises:
            ValueError: The block cannot be placed; see `SampleStream.push`.
        """
        frames = self.voices[speaker].push(first_sample, samples, filled_samples, noise_floor_dbfs)
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

    def restarted(self) -> Turns:
        """Return new ears for a counter that restarts; speech turns are counted on."""
        turns = Turns(self.config, self._model, self._ask, self._is_planned)
        turns.rules.count_on_from(self.rules)
        return turns

    def _ask_model(self, number: int, first_sample: int, end_sample: int) -> float | None:
        heard = self.voices[Speaker.USER].read(first_sample, end_sample, LONGEST_HEARD_S * SAMPLE_RATE_HZ)
        if self._model is not None:
            return self._model.probability(heard)
        assert self._ask is not None
        self._ask(number, end_sample, heard)
        return None

    def _hear_user(self, first_sample: int, end_sample: int, louder_db: float, quiet_s: float) -> UserSound:
        assert self._judge is not None
        before = max(0, first_sample - BEFORE)
        heard = self.voices[Speaker.USER].read(before, end_sample, LONGEST_SOUND)
        begins = max(0, heard.size - (end_sample - first_sample))
        return self._judge.hear(first_sample, heard, begins, louder_db, quiet_s)

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
