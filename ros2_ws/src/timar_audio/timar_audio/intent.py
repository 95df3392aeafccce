"""Intent of the agent from planned speech and speech turns: listening, thinking, about to speak, speaking."""

from __future__ import annotations

import dataclasses
import enum

import numpy as np
import numpy.typing as npt
from timar_common.clock import SAMPLE_RATE_HZ, SAMPLES_PER_MS

from timar_audio.levels import level_dbfs
from timar_audio.turns_config import TurnsConfig

CELL_SAMPLES = 20 * SAMPLES_PER_MS
"""Planned speech is known by cells of this length."""
JOINED_PAUSE = SAMPLE_RATE_HZ // 2
"""A pause in the plan shorter than this belongs to the speech [samples]."""
KEPT = 2 * SAMPLE_RATE_HZ
DEFAULT_HOLD_S = 5.0
MAX_HOLD_S = 60.0


class Intent(enum.IntEnum):
    """As in timar_msgs/AgentIntent."""

    LISTENING = 0
    THINKING = 1
    ABOUT_TO_SPEAK = 2
    SPEAKING = 3


class Source(enum.IntEnum):
    """As in timar_msgs/AgentIntent."""

    RULES = 0
    DIALOGUE = 1


@dataclasses.dataclass(frozen=True)
class IntentDecision:
    """What the agent does from a sample on."""

    intent: Intent
    source: Source
    since_sample: int
    speech_first_sample: int = -1
    """Where the speech that is heard or planned next begins; -1: none is planned [samples]."""
    speech_end_sample: int = -1
    """One past its last sample, as far as it is planned; -1: none is planned [samples]."""


class PlannedVoice:
    """Where speech is planned, from the chunks of agent/audio_planned."""

    def __init__(self, min_level_dbfs: float) -> None:
        self._min_level_dbfs = min_level_dbfs
        self._cells: set[int] = set()
        self._stretches: list[tuple[int, int]] | None = []
        """[first, end) of speech with its short pauses, in order; None: to be made again [samples]."""
        self._revision: int | None = None

    def add(self, first_sample: int, samples: npt.NDArray[np.int16], revision: int) -> None:
        """Take a chunk in: a higher revision withdraws what it replaces, a lower one is out of date."""
        if self._revision is not None and revision < self._revision:
            return
        if self._revision is not None and revision > self._revision:
            cut = -(-first_sample // CELL_SAMPLES)
            self._cells = {cell for cell in self._cells if cell < cut}
        self._revision, self._stretches = revision, None
        for begin in range(0, samples.size, CELL_SAMPLES):
            if level_dbfs(samples[begin : begin + CELL_SAMPLES]) >= self._min_level_dbfs:
                self._cells.add((first_sample + begin) // CELL_SAMPLES)

    def next_speech(self, now_sample: int) -> tuple[int, int] | None:
        """Return [first, end) of the speech that is heard now or planned next, short pauses included."""
        if self._stretches is None:
            self._stretches = self._joined(now_sample)
        return next((stretch for stretch in self._stretches if stretch[1] > now_sample), None)

    def _joined(self, now_sample: int) -> list[tuple[int, int]]:
        self._cells = {cell for cell in self._cells if cell * CELL_SAMPLES > now_sample - KEPT}
        stretches: list[tuple[int, int]] = []
        for cell in sorted(self._cells):
            first, end = cell * CELL_SAMPLES, (cell + 1) * CELL_SAMPLES
            if stretches and first - stretches[-1][1] < JOINED_PAUSE:
                first = stretches.pop()[0]
            stretches.append((first, end))
        return stretches


class IntentRules:
    """Decide what the agent does, from planned speech, the user's speech turns and what a dialogue says.

    Planned speech that is heard now is SPEAKING, and a dialogue cannot overrule it. Speech that begins
    within `about_to_speak_ms` is ABOUT_TO_SPEAK. For `thinking_ms` after the user's turn the agent is
    THINKING; else it is LISTENING. A dialogue's word counts until it runs out or the agent has spoken.
    """

    def __init__(self, config: TurnsConfig) -> None:
        self.plan = PlannedVoice(config.planned_speech_dbfs)
        self._about = config.about_to_speak_ms * SAMPLES_PER_MS
        self._thinking = config.thinking_ms * SAMPLES_PER_MS
        self._user_speaks = False
        self._user_end: int | None = None
        self._request: tuple[Intent, int] | None = None
        """What a dialogue said, and until which sample it counts."""
        self._decision: IntentDecision | None = None

    def user_started(self) -> None:
        """The user began to speak."""
        self._user_speaks, self._user_end = True, None

    def user_ended(self, end_sample: int, *, is_backchannel: bool) -> None:
        """The user's speech turn is over."""
        self._user_speaks = False
        self._user_end = None if is_backchannel else end_sample

    def request(self, intent: int, hold_s: float, now_sample: int) -> None:
        """Take a dialogue's word.

        Raises:
            ValueError: There is no such intent, or it shall count for longer than a minute.
        """
        if intent not in tuple(Intent):
            known = ", ".join(f"{known.value} ({known.name.lower()})" for known in Intent)
            raise ValueError(f"the intent is {intent}, expected one of {known}")
        if not 0.0 <= hold_s <= MAX_HOLD_S:
            raise ValueError(f"an intent shall count for {hold_s:g} s, expected 0 to {MAX_HOLD_S:g}")
        until = now_sample + round((hold_s or DEFAULT_HOLD_S) * SAMPLE_RATE_HZ)
        self._request = (Intent(intent), until)

    def step(self, now_sample: int) -> IntentDecision | None:
        """Return what holds from now on if it is news: another intent, or another end of the speech."""
        speech = self.plan.next_speech(now_sample)
        intent, source = self._intent(speech, now_sample)
        before = self._decision
        is_same = before is not None and (before.intent, before.source) == (intent, source)
        since = before.since_sample if is_same and before is not None else now_sample
        is_near = speech is not None and speech[0] - now_sample <= self._about
        first, end = speech if speech is not None and is_near else (-1, -1)
        decision = IntentDecision(intent, source, since, first, end)
        if decision == before:
            return None
        self._decision = decision
        return decision

    def _intent(self, speech: tuple[int, int] | None, now: int) -> tuple[Intent, Source]:
        if speech is not None and speech[0] <= now:
            self._request = self._user_end = None
            return Intent.SPEAKING, Source.RULES
        if self._request is not None and now < self._request[1]:
            return self._request[0], Source.DIALOGUE
        if speech is not None and speech[0] - now <= self._about:
            return Intent.ABOUT_TO_SPEAK, Source.RULES
        is_asked = self._user_end is not None and now < self._user_end + self._thinking
        if is_asked and not self._user_speaks:
            return Intent.THINKING, Source.RULES
        return Intent.LISTENING, Source.RULES
