"""The keys and values of past tokens: preallocated rings that engines write in place."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from timar_model.architecture.config import ModelConfig
from timar_model.architecture.inputs import Turn, TurnInputs

Array = npt.NDArray[np.float32]
Slots = npt.NDArray[np.int64]


class RingMemory:
    """The slots of all conversations of a batch: one pair of arrays a block, (B, H, C, W / H) each.

    Engines bring their own kind of array by a subclass; everything indexes like numpy. Memory that must hold
    more than it can is allocated anew at twice the size: what is kept decides, not a guess.
    """

    def __init__(self, blocks: int, rows: int, heads: int, head_dim: int, capacity: int) -> None:
        if capacity < 1 or rows < 1:
            raise ValueError(
                f"a ring memory has {rows} rows of {capacity} tokens, expected at least one of each"
            )
        self.heads, self.head_dim, self.capacity = heads, head_dim, capacity
        self.rings = [TokenRing(self, row) for row in range(rows)]
        self.keys: list[Any] = [self._new_keys(capacity) for _ in range(blocks)]
        self.values: list[Any] = [self._new_values(capacity) for _ in range(blocks)]

    @property
    def rows(self) -> int:
        """Conversations that share the memory."""
        return len(self.rings)

    def grow(self, needed: int) -> None:
        """Move to arrays of at least `needed` slots; every token keeps its counter."""
        old, new = self.capacity, max(needed, 2 * self.capacity)
        for arrays, make in ((self.keys, self._new_keys), (self.values, self._new_values)):
            for block, before in enumerate(arrays):
                after = make(new)
                for row, ring in enumerate(self.rings):
                    kept = np.arange(ring.first, ring.end)
                    after[row][:, kept % new] = before[row][:, kept % old]
                arrays[block] = after
        self.capacity = new

    def erase(self, row: int, slots: Slots) -> None:
        """Overwrite slots with zeros, so that nothing that is not finite stays behind."""
        for array in (*self.keys, *self.values):
            array[row][:, slots] = 0.0

    def _new_keys(self, capacity: int) -> Any:
        return np.zeros((self.rows, self.heads, capacity, self.head_dim), np.float32)

    def _new_values(self, capacity: int) -> Any:
        return np.zeros((self.rows, self.heads, capacity, self.head_dim), np.float32)


class TokenRing:
    """One conversation's tokens by a counter that only grows; token n lives in slot n mod capacity.

    Attention does not care in which order slots lie, so nothing ever moves. An engine writes a pass's tokens
    into the slots behind the newest; they become history by `advance`, and are overwritten if they do not.
    """

    def __init__(self, memory: RingMemory, row: int) -> None:
        self.memory = memory
        self.row = row
        self.first = 0
        """Counter of the oldest token kept."""
        self.end = 0
        """One past the counter of the newest token."""

    @property
    def capacity(self) -> int:
        """How many tokens fit before the memory must grow."""
        return self.memory.capacity

    def reserve(self, count: int) -> Slots:
        """Return the slots of the next `count` tokens, making room for them."""
        if self.end + count - self.first > self.capacity:
            self.memory.grow(self.end + count - self.first)
        return np.arange(self.end, self.end + count) % self.capacity

    def advance(self, count: int) -> None:
        """Make the newest `count` tokens that an engine wrote history."""
        self.end += count

    def drop_before(self, token: int) -> None:
        """Forget tokens older than a counter; their slots may be written again."""
        self.first = max(self.first, min(token, self.end))

    def truncate(self, token: int) -> None:
        """Withdraw the tokens from a counter on.

        Raises:
            ValueError: The counter is older than what is kept.
        """
        if not self.first <= token <= self.end:
            raise ValueError(
                f"the ring holds tokens {self.first} to {self.end}, it cannot be cut back to {token}"
            )
        self.end = token

    def clear(self) -> None:
        """Forget everything."""
        self.first = self.end = 0

    def erase(self, count: int) -> None:
        """Overwrite the `count` slots behind the newest token, which no history will hold."""
        self.memory.erase(self.row, self.reserve(count))

    def visible(self, from_token: int, new: Slots) -> npt.NDArray[np.bool_]:
        """Return (C,) which slots a pass sees: tokens from a counter on, and its own."""
        seen = np.zeros(self.capacity, bool)
        seen[np.arange(max(from_token, self.first), self.end) % self.capacity] = True
        seen[new] = True
        return seen


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

    def rollback(self, first_frame: int) -> None:
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

    def rollback(self, first_frame: int) -> None:
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

    def rollback(self, first_frame: int) -> None:
        """Do nothing yet: the next `missing` compares the ring with the window taken back."""

    def forget(self, oldest_frame: int) -> None:
        """Do nothing: the ring is no longer than the window."""

    def clear(self) -> None:
        """Forget everything."""
        self._encoded.clear()
        self.ring.clear()
