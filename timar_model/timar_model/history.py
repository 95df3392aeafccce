"""Which turns lie in a conversation's ring, and which must still go there before the next turn."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from timar_model.cache import TokenRing
from timar_model.config import ModelConfig
from timar_model.inputs import TurnInputs
from timar_model.turns import Turn

Inputs = TurnInputs[npt.NDArray[np.float32]]


class History(Protocol):
    """How a session's past reaches its ring."""

    ring: TokenRing

    def missing(self, window: Sequence[Inputs]) -> list[Inputs]:
        """Return the turns of a window that must be encoded, oldest first; withdraw what does not belong."""

    def restore(self, inputs: Inputs) -> None:
        """Note that the next missing turn has been encoded."""

    def visible_from(self, end_frame: int) -> int:
        """Return the counter of the oldest token that a turn ending at a frame may see."""

    def next_window(self, window: tuple[Inputs, ...], inputs: Inputs) -> tuple[Inputs, ...]:
        """Return the turns that the turn after the one with these inputs will see, if they are kept."""

    def add(self, turn: Turn, inputs: Inputs, tokens: int) -> None:
        """Make a turn that has just been encoded history."""

    def take_back(self, first_frame: int) -> None:
        """Withdraw the turns from a frame on."""

    def forget(self, oldest_frame: int) -> None:
        """Drop what no turn from a frame on can see."""

    def clear(self) -> None:
        """Forget everything."""


@dataclasses.dataclass(frozen=True)
class _CachedTurn:
    turn: Turn
    first_token: int


class RollingHistory:
    """Relative positions: a token is encoded once and stays exact until it leaves the window."""

    def __init__(self, ring: TokenRing, window_frames: int) -> None:
        self.ring = ring
        self._window_frames = window_frames
        self._cached: collections.deque[_CachedTurn] = collections.deque()

    def missing(self, window: Sequence[Inputs]) -> list[Inputs]:
        """Return nothing: what is seen has been encoded."""
        return []

    def restore(self, inputs: Inputs) -> None:
        """Never needed."""

    def visible_from(self, end_frame: int) -> int:
        """Return the oldest token of a turn that lies in the window as a whole."""
        for cached in self._cached:
            if cached.turn.first_frame >= end_frame - self._window_frames:
                return cached.first_token
        return self.ring.end

    def next_window(self, window: tuple[Inputs, ...], inputs: Inputs) -> tuple[Inputs, ...]:
        """Keep no inputs: they are never encoded again."""
        return ()

    def add(self, turn: Turn, inputs: Inputs, tokens: int) -> None:
        """Keep the turn's tokens."""
        self._cached.append(_CachedTurn(turn, self.ring.end))
        self.ring.advance(tokens)

    def take_back(self, first_frame: int) -> None:
        """Cut the ring where the turn begins."""
        while self._cached and self._cached[-1].turn.first_frame >= first_frame:
            self.ring.truncate(self._cached.pop().first_token)

    def forget(self, oldest_frame: int) -> None:
        """Drop turns that have left the window of the oldest turn that can be taken back."""
        while self._cached and self._cached[0].turn.first_frame <= oldest_frame - self._window_frames:
            self._cached.popleft()
        self.ring.drop_before(self._cached[0].first_token if self._cached else self.ring.end)

    def clear(self) -> None:
        """Forget everything."""
        self._cached.clear()
        self.ring.clear()


class AnchoredHistory:
    """Positions by place in the window: when it must move, what stays is encoded anew at its new place.

    The ring always holds the first turns of the window, each encoded on top of those before it. So its bytes
    follow from the window's inputs alone, and a state taken back is whole once its window is encoded again.

    Args:
        ring: The conversation's ring.
        config: Of a model with window positions.
        window_turns: Turns of a full window.
        when_full: "recompute" moves it by one turn every turn, as the released code does; "reanchor" drops
            the oldest half at once.
    """

    def __init__(self, ring: TokenRing, config: ModelConfig, window_turns: int, when_full: str) -> None:
        self.ring = ring
        self._turn_tokens = config.turn_tokens
        self._window_turns = window_turns
        self._kept = window_turns - 1 if when_full == "recompute" else window_turns // 2
        self._encoded: list[Inputs] = []

    def missing(self, window: Sequence[Inputs]) -> list[Inputs]:
        """Return what follows the part of the window that the ring already holds."""
        same = 0
        while same < min(len(window), len(self._encoded)) and window[same] is self._encoded[same]:
            same += 1
        del self._encoded[same:]
        self.ring.truncate(same * self._turn_tokens)
        return list(window[same:])

    def restore(self, inputs: Inputs) -> None:
        """Note that the next missing turn has been encoded."""
        self._encoded.append(inputs)
        self.ring.advance(self._turn_tokens)

    def visible_from(self, end_frame: int) -> int:
        """See all that the ring holds."""
        return 0

    def next_window(self, window: tuple[Inputs, ...], inputs: Inputs) -> tuple[Inputs, ...]:
        """Add the turn; a window that is full with it moves."""
        joined = (*window, inputs)
        return joined if len(joined) < self._window_turns else joined[len(joined) - self._kept :]

    def add(self, turn: Turn, inputs: Inputs, tokens: int) -> None:
        """Keep the turn's tokens."""
        self.restore(inputs)

    def take_back(self, first_frame: int) -> None:
        """Do nothing yet: the next `missing` compares the ring with the window taken back."""

    def forget(self, oldest_frame: int) -> None:
        """Do nothing: the ring is no longer than the window."""

    def clear(self) -> None:
        """Forget everything."""
        self._encoded.clear()
        self.ring.clear()
