"""The keys and values of past tokens, in one preallocated ring (numpy memory, shared with the engine)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]


class TokenRing:
    """Keys and values addressed by a token counter that only grows; token n lives in slot n mod capacity.

    Attention does not care in which order slots lie, so nothing ever moves. A ring that must hold more
    than it can is allocated anew at twice the size: its capacity follows from what is kept, not from a guess.
    """

    def __init__(self, blocks: int, batch: int, heads: int, head_dim: int, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"a token ring has a capacity of {capacity}, expected at least 1")
        self.keys: Array = np.zeros((blocks, batch, heads, capacity, head_dim), np.float32)
        self.values: Array = np.zeros_like(self.keys)
        self.first = 0
        """Counter of the oldest token kept."""
        self.end = 0
        """One past the counter of the newest token."""

    @property
    def capacity(self) -> int:
        """How many tokens fit."""
        return int(self.keys.shape[3])

    def append(self, keys: Array, values: Array) -> None:
        """Write new tokens (blocks, B, H, L, head_dim) behind the newest."""
        count = keys.shape[3]
        if self.end + count - self.first > self.capacity:
            self._grow(self.end + count - self.first)
        slots = np.arange(self.end, self.end + count) % self.capacity
        self.keys[:, :, :, slots] = keys
        self.values[:, :, :, slots] = values
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

    def bias(self, from_token: int) -> Array:
        """Return (C,) 0 for the slots of tokens [from_token, end) and -inf for all others."""
        bias = np.full(self.capacity, -np.inf, np.float32)
        bias[np.arange(max(from_token, self.first), self.end) % self.capacity] = 0.0
        return bias

    def _grow(self, needed: int) -> None:
        capacity = max(needed, 2 * self.capacity)
        kept = np.arange(self.first, self.end)
        grown = []
        for old in (self.keys, self.values):
            new = np.zeros((*old.shape[:3], capacity, old.shape[4]), np.float32)
            new[:, :, :, kept % capacity] = old[:, :, :, kept % self.capacity]
            grown.append(new)
        self.keys, self.values = grown
