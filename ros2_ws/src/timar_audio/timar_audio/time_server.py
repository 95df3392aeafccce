"""Who asks this machine for its ROS time: notices when another machine goes away and comes back."""

from __future__ import annotations

import dataclasses

from timar_common.clock import NS_PER_S
from timar_common.config import check, option


@dataclasses.dataclass(frozen=True)
class TimeServerConfig:
    """When the other machine counts as gone."""

    away_after_s: float = option(
        3.0, "Who has not asked for so long is away.", unit="s", minimum=1.5, maximum=60.0
    )

    def __post_init__(self) -> None:
        check(self)


class AskerWatch:
    """Notice when the one who asks goes away and comes back. Times are arguments: monotonic [ns]."""

    def __init__(self, config: TimeServerConfig) -> None:
        self._away_after_ns = round(config.away_after_s * NS_PER_S)
        self._asked_ns: int | None = None
        self.is_away = True

    def ask(self, now_ns: int) -> bool:
        """Take in that it asked; return whether it was away until now."""
        was_away, self.is_away, self._asked_ns = self.is_away, False, now_ns
        return was_away

    def has_gone(self, now_ns: int) -> bool:
        """Let time pass; return whether it went away just now."""
        if self.is_away or self._asked_ns is None or now_ns - self._asked_ns <= self._away_after_ns:
            return False
        self.is_away = True
        return True
