"""The keys and values of past tokens: preallocated rings that engines write in place."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

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
