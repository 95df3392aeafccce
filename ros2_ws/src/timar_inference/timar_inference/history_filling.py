"""Fills the history again after a restart, from the sound that the publishers of both voices still hold."""

from __future__ import annotations

import collections
from collections.abc import Sequence

from timar_common.clock import FRAMES_PER_SECOND, NS_PER_S
from timar_common.messages import Message

from timar_inference.turn_jobs import TurnRequest

FILL_WITHIN_S = 3.0
"""A history that would take longer is left empty [s]."""
LIVE_S = 0.25
"""Sound that is no older than this is heard now [s]."""
SETTLE_S = 0.2
"""So long after it, what was held of the other inputs has come too [s]."""
LONGEST_WAIT_S = 1.5
"""Where no sound is that new, the past is taken as it stands after so long [s]."""
JUDGED_AFTER = 10
"""Turns handed out before it is judged how long the rest takes; the worker's queue holds less."""


class HistoryFilling:
    """Collect the user's sound until it has come up to now, then follow the turns that catch up.

    Args:
        window_frames: How much of the conversation the model sees [frames].
    """

    def __init__(self, window_frames: int) -> None:
        self.is_collecting = True
        self.is_over = False
        self.trouble = ""
        """Why the history stays empty, once it is over."""
        self.seconds = 0.0
        """Of the conversation that are filled again [s]."""
        self.took_s = 0.0
        self._window_ns = window_frames * NS_PER_S // FRAMES_PER_SECOND
        self._blocks: collections.deque[Message] = collections.deque()
        self._first_ns: int | None = None
        self._live_ns: int | None = None
        self._began_ns = 0
        self._turns = 0

    def collect(self, block: Message, now_ns: int) -> Sequence[Message]:
        """Take a block of the user's sound; return all that the window holds once it has come up to now."""
        self._blocks.append(block)
        self._first_ns = now_ns if self._first_ns is None else self._first_ns
        if self._live_ns is None and now_ns - block.header.stamp <= LIVE_S * NS_PER_S:
            self._live_ns = now_ns
        is_settled = self._live_ns is not None and now_ns - self._live_ns >= SETTLE_S * NS_PER_S
        if not is_settled and now_ns - self._first_ns < LONGEST_WAIT_S * NS_PER_S:
            return ()
        since_ns = max(one.header.stamp for one in self._blocks) - self._window_ns
        blocks = [one for one in self._blocks if one.header.stamp >= since_ns]
        self._blocks.clear()
        self.is_collecting, self._began_ns = False, now_ns
        self.seconds = (now_ns - min(one.header.stamp for one in blocks)) / NS_PER_S
        return blocks

    def follow(self, turn: TurnRequest, now_ns: int) -> bool:
        """Take in that a turn is to be made; return whether it only fills the history.

        Once that would take too long, `trouble` says so.
        """
        self.took_s = (now_ns - self._began_ns) / NS_PER_S
        if now_ns < turn.useless_ns:
            self.is_over = True
            return False
        self._turns += 1
        behind_s = (now_ns - turn.useless_ns) / NS_PER_S
        if self._turns >= JUDGED_AFTER:
            done_s = self._turns * turn.frames / FRAMES_PER_SECOND
            # What is done so fast also catches up with the time that passes meanwhile.
            gain = done_s / max(self.took_s, 1e-9) - 1.0
            expected_s = self.took_s + behind_s / gain if gain > 0.0 else float("inf")
            if expected_s > FILL_WITHIN_S:
                self.is_over = True
                self.trouble = f"that would take {expected_s:.1f} s, more than {FILL_WITHIN_S:g} s"
        return True
