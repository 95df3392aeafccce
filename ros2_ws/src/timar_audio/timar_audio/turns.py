"""Voice activity, speech turns and floor from both speakers' audio blocks, in the order of the clock."""

from __future__ import annotations

import collections
import dataclasses

import numpy as np
import numpy.typing as npt
from timar_common.clock import SAMPLE_RATE_HZ, SAMPLES_PER_MS

from timar_audio.activity import Activity, SpeakerActivity
from timar_audio.end_of_turn import LONGEST_HEARD_S, EndOfTurn
from timar_audio.floor import FloorDecision, Speaker, TurnEvent, TurnRules
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
        model: What judges whether the user's turn is complete; None leaves every end to the pause.
    """

    def __init__(self, config: TurnsConfig, model: EndOfTurn | None = None) -> None:
        self.voices = {speaker: SpeakerActivity(config.make_detector(), config) for speaker in Speaker}
        self.config = config
        self._model = model
        self.rules = TurnRules(config, None if model is None else self._judge)
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
