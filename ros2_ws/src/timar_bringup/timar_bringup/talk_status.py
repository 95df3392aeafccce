"""What a person who talks with the head wants to know now: levels, floor, words, what is wrong; no ROS."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from timar_bringup.progress import FLOORS

BAR = 12
BAR_FROM_DBFS = -66.0
"""Where a level's bar begins [dBFS]."""
QUIET_DBFS, QUIET_S = -78.0, 2.0
"""No real room is so quiet for so long: another microphone is meant [dBFS, s]."""
OF_SOUND = ("capture", "playback", "dialogue")
"""Nodes whose warnings a person who talks needs."""


@dataclasses.dataclass
class _Level:
    dbfs: float = -120.0
    loudest_dbfs: float = -120.0
    since_ns: int | None = None
    """Since when `loudest_dbfs` counts."""


class TalkStatus:
    """Take what the topics say; answer with one line, and with lines to print once.

    Every time is monotonic [ns], given by the caller.
    """

    def __init__(self) -> None:
        self.is_ready = False
        """Whether recogniser, voice and motion are ready."""
        self.has_moved = False
        """Whether the head's motion is generated."""
        self.floor = FLOORS[0]
        """Who holds the floor."""
        self._levels = (_Level(), _Level())
        self._has_dialogue = False
        self._problems: dict[str, str] = {}
        self._news: list[str] = []

    def take_level(self, speaker: int, dbfs: float, now_ns: int) -> None:
        """Take in a block's level: of the user (0) or the head (1)."""
        level = self._levels[speaker]
        level.dbfs = dbfs
        if level.since_ns is None:
            level.since_ns = now_ns
        level.loudest_dbfs = max(level.loudest_dbfs, dbfs)
        if speaker == 0 and now_ns - level.since_ns > QUIET_S * 1e9:
            text = "the microphone is far too quiet for a room; is it the right one? timar audio devices"
            # A microphone that is stuck at zero is named by capture's own diagnostics.
            self._set_problem("level", text if -110.0 < level.loudest_dbfs < QUIET_DBFS else "")
            level.since_ns, level.loudest_dbfs = now_ns, dbfs

    def take_health(self, node: str, level: int, message: str, values: Mapping[str, str]) -> None:
        """Take in a node's diagnostics."""
        if node == "dialogue":
            self._has_dialogue = values.get("is_ready") == "True"
        # Before everybody is there, playback and dialogue wait for each other; a microphone is ill at once.
        if node in OF_SOUND and (self.is_ready or node == "capture"):
            self._set_problem(node, message if level else "")

    def take_source(self, name: str) -> None:
        """Take in the name of the device that stands for the microphone."""
        if "monitor" in name.lower():
            self._set_problem(
                "source", f"{name} is what the loudspeaker plays, not a microphone; choose one with --device"
            )

    def take_words(self, speaker: str, text: str) -> None:
        """Take in what was understood or heard."""
        if text:
            self._news.append(f"  {speaker:>4}: {text}")

    def news(self) -> list[str]:
        """Return what is to be printed once, and forget it."""
        if not self.is_ready and self._has_dialogue and self.has_moved:
            self.is_ready = True
            self._news.append("Say something; interrupt me. (Ctrl-C ends.)")
        news, self._news = self._news, []
        return news

    def line(self) -> str:
        """Return the state in one line."""
        if not self.is_ready:
            return "getting ready ..."
        user, head = (_bar(level.dbfs) for level in self._levels)
        return f"microphone {user}  loudspeaker {head}  floor: {self.floor}"

    def _set_problem(self, of: str, text: str) -> None:
        if self._problems.get(of, "") != text:
            self._problems[of] = text
            self._news.append(f"  ! {text}" if text else f"  ({of} is well again)")


def _bar(dbfs: float) -> str:
    filled = round(BAR * min(1.0, max(0.0, 1.0 - dbfs / BAR_FROM_DBFS)))
    return f"{'█' * filled}{'·' * (BAR - filled)} {max(dbfs, -99.0):4.0f} dBFS"
