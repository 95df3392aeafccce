"""Adaptive noise floor: the level where nobody speaks and its spread, which speech must exceed."""

from __future__ import annotations

import dataclasses
import math

from timar_common.config import check, number


@dataclasses.dataclass(frozen=True)
class BackgroundConfig:
    """By how much speech must stand out of the background, and how fast that is learned."""

    above_db: float = number(1.0, "Speech is at least so much above the background.", 0.0, 60.0, "dB")
    above_spreads: float = number(2.0, "And at least so many times the background's own spread.", 0.0, 20.0)
    fall_s: float = number(0.09, "How fast the background is believed to fall.", 0.001, 60.0, "s")
    rise_s: float = number(0.4, "How fast to rise, without speech.", 0.001, 60.0, "s")
    rise_in_speech_s: float = number(10.0, "How fast to rise during speech.", 0.001, 600.0, "s")
    spread_s: float = number(1.0, "Over how long the spread is averaged.", 0.001, 60.0, "s")

    def __post_init__(self) -> None:
        check(self)


class Background:
    """Track the level of what is no speech, and say which frames stand out of it.

    A level in dB is followed down at once and up slowly, so that it lies where the pauses are. Babble wanders
    by several dB from frame to frame and a fan by less than one: what stands out is measured by that spread.

    Args:
        frame_s: Length of a frame [s].
    """

    def __init__(self, config: BackgroundConfig, frame_s: float) -> None:
        self._config = config
        self._fall, self._rise, self._rise_in_speech, self._spread_share = (
            1.0 - math.exp(-frame_s / seconds)
            for seconds in (config.fall_s, config.rise_s, config.rise_in_speech_s, config.spread_s)
        )
        self.level_dbfs: float | None = None
        """The background [dBFS]; None before the first frame."""
        self.spread_db = 0.5
        """Mean distance of its frames from it [dB]."""

    def stands_out(self, level_dbfs: float, sounds_like_speech: bool) -> bool:
        """Learn from a frame, and tell whether it is speech that stands out of the background.

        Args:
            level_dbfs: The frame's level [dBFS].
            sounds_like_speech: What a detector takes it for.
        """
        if self.level_dbfs is None:
            self.level_dbfs = level_dbfs
        above_db = level_dbfs - self.level_dbfs
        least_db = max(self._config.above_db, self._config.above_spreads * self.spread_db)
        is_speech = sounds_like_speech and above_db >= least_db
        self._learn(above_db, is_speech)
        return is_speech

    def _learn(self, above_db: float, is_speech: bool) -> None:
        assert self.level_dbfs is not None
        rise = self._rise_in_speech if is_speech else self._rise
        self.level_dbfs += (self._fall if above_db < 0 else rise) * above_db
        if not is_speech:
            self.spread_db += self._spread_share * (abs(above_db) - self.spread_db)
