"""What the user's speech does to the agent's voice: lowered at once, then paused, resumed or interrupted.

Words decide where a recogniser heard some; else the sound itself does (`interruption_judge.py`).
"""

from __future__ import annotations

import enum
import re

from timar_audio.interruption_judge import STAGES_S, UserSound
from timar_audio.turns_config import TurnsConfig


class Effect(enum.Enum):
    """The state of the agent's voice while the user speaks into it."""

    LOWERED = "lowered"
    PAUSED = "paused"
    RESUMED = "resumed"
    INTERRUPTED = "interrupted"


class Verdict(enum.Enum):
    """What a sound of the user's is by its words."""

    BACKCHANNEL = "backchannel"
    INTERRUPTION = "interruption"


class Interruption:
    """Follow one sound of the user over the agent's voice; it may pause and go on.

    Args:
        first_sample: Where it began over the agent's voice [samples].
    """

    def __init__(self, config: TurnsConfig, first_sample: int) -> None:
        self.first_sample = first_sample
        self.effect = Effect.LOWERED
        self.probability = -1.0
        """That the user wants the floor, as judged last; -1 while nobody did."""
        self._config = config

    def step(self, sound: UserSound, verdict: Verdict | None) -> Effect | None:
        """Return what changes now, if anything does.

        Args:
            sound: From where it began to now.
            verdict: What the words in it are, as far as they are known.
        """
        if self.effect is Effect.INTERRUPTED:
            return None
        if sound.probability >= 0.0:
            self.probability = sound.probability
        if verdict is not None:
            self.probability = float(verdict is Verdict.INTERRUPTION)
        effect = self._effect(sound, verdict)
        if effect is self.effect:
            return None
        self.effect = effect
        return effect

    def _effect(self, sound: UserSound, verdict: Verdict | None) -> Effect:
        cfg = self._config
        if verdict is Verdict.INTERRUPTION:
            return Effect.INTERRUPTED
        if 1000 * sound.quiet_s >= cfg.resume_after_ms:
            if self.effect is Effect.RESUMED or self.probability < self._least(sound.length_s):
                return Effect.RESUMED
            return Effect.INTERRUPTED
        if self.effect is Effect.RESUMED:
            return Effect.LOWERED
        length_ms = 1000 * sound.length_s
        if length_ms >= 3 * cfg.longest_backchannel_ms:
            return Effect.INTERRUPTED
        if length_ms >= cfg.longest_backchannel_ms and self.probability >= cfg.long_probability:
            return Effect.INTERRUPTED
        is_sure = self.probability >= cfg.sure_probability
        if self.effect is Effect.PAUSED:
            return Effect.INTERRUPTED if is_sure and length_ms >= cfg.interrupt_after_ms else Effect.PAUSED
        is_long = sound.length_s >= STAGES_S["middle"] and self.probability >= cfg.pause_probability
        return Effect.PAUSED if is_sure or is_long else self.effect

    def _least(self, length_s: float) -> float:
        """Return from which probability a sound of some length was an interruption."""
        cfg = self._config
        is_long = 1000 * length_s >= cfg.longest_backchannel_ms
        return min(cfg.long_probability, cfg.interrupt_probability) if is_long else cfg.interrupt_probability


def verdict_of(text: str, is_final: bool, config: TurnsConfig) -> Verdict | None:
    """Return what words are: a back-channel when all of them are, else an interruption, if sure.

    Args:
        text: As the recogniser published it.
        is_final: Whether no more words come.
        config: Holds the lists of words.
    """
    words = " ".join(re.findall(r"[\w']+", text.lower()))
    if not words:
        return Verdict.BACKCHANNEL if is_final else None
    rest = _without(words, config.backchannel_words)
    if not rest:
        return Verdict.BACKCHANNEL
    if _without(rest, config.interruption_words) != rest or len(rest.split()) >= 3 or is_final:
        return Verdict.INTERRUPTION
    return None


def _without(words: str, phrases: str) -> str:
    """Return words without phrases of a list that is separated by commas, the longest first."""
    for phrase in sorted((p.strip() for p in phrases.split(",") if p.strip()), key=len, reverse=True):
        words = re.sub(rf"\b{re.escape(phrase)}\b", " ", words)
    return " ".join(words.split())
