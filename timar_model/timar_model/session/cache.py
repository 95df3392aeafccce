"""The key/value cache: what past tokens left in each block, which of it a turn sees, and its rollback.

An engine allocates `CacheMemory` and writes a pass's keys and values into it in place. A `TokenRing` is one
conversation's share of it; a `RollingWindow` or an `AnchoredWindow` says which turns lie there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from timar_model.architecture.config import ModelConfig
from timar_model.architecture.inputs import PreparedTurn

Slots = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class CacheMemory:
    """The slots of all conversations of a batch: one pair of arrays a block, (B, H, C, W / H) each.

    Engines bring their own kind of array by a subclass; everything indexes like numpy.

    Invariant: in a pass, the capacity C follows from the tokens that are history and from those of the pass,
    never from turns that were previewed or rolled back since. Sums over slots then run in the same order, and
    motion comes out the same to the last bit.
    """

    def __init__(self, blocks: int, rows: int, heads: int, head_dim: int, capacity: int) -> None:
        if capacity < 1 or rows < 1:
            raise ValueError(
                f"a cache memory has {rows} rows of {capacity} tokens, expected at least one of each"
            )
        self.heads, self.head_dim, self.capacity = heads, head_dim, capacity
        self.rings = [TokenRing(self, row, capacity) for row in range(rows)]
        self.keys: list[Any] = [self._allocate(capacity) for _ in range(blocks)]
        self.values: list[Any] = [self._allocate(capacity) for _ in range(blocks)]

    @property
    def rows(self) -> int:
        """Conversations that share the memory."""
        return len(self.rings)

    def reserve(
        self, rings: Sequence[TokenRing], from_tokens: Sequence[int], count: int
    ) -> tuple[slice, Slots, Mask]:
        """Make room for a pass of `count` new tokens in each ring.

        Args:
            rings: One ring, or all of this memory in order.
            from_tokens: Counter of the oldest token that each may see.
            count: New tokens.

        Returns:
            The rows of the arrays, (B, count) slots of the new tokens, (B, C) which slots they see.

        Raises:
            ValueError: The rings are several, but not all.
        """
        if list(rings) == self.rings:
            rows = slice(None)
        elif len(rings) == 1:
            rows = slice(rings[0].row, rings[0].row + 1)
        else:
            raise ValueError(
                f"{len(rings)} rings were given of a memory of {self.rows}, expected one or all, in order"
            )
        capacity = max(ring.capacity_for(count) if ring in rings else ring.capacity for ring in self.rings)
        if capacity != self.capacity:
            self._resize(capacity)
        slots = np.stack([np.arange(ring.end, ring.end + count) % capacity for ring in rings])  # (B, L)
        mask = np.zeros((len(rings), capacity), bool)  # (B, C)
        for row, (ring, from_token) in enumerate(zip(rings, from_tokens, strict=True)):
            mask[row, np.arange(max(from_token, ring.first), ring.end) % capacity] = True
            mask[row, slots[row]] = True
        return rows, slots, mask

    def erase(self, row: int, slots: Slots) -> None:
        """Overwrite slots with zeros, so that nothing that is not finite stays behind."""
        for array in (*self.keys, *self.values):
            array[row][:, slots] = 0.0

    def _allocate(self, capacity: int) -> Any:
        return np.zeros((self.rows, self.heads, capacity, self.head_dim), np.float32)

    def _resize(self, capacity: int) -> None:
        """Move to arrays of another capacity, larger or smaller; every kept token keeps its counter."""
        for arrays in (self.keys, self.values):
            arrays[:] = [self._moved(array, capacity) for array in arrays]
        self.capacity = capacity

    def _moved(self, array: Any, capacity: int) -> Any:
        return self._copy_tokens(array, self._allocate(capacity), capacity)

    def _copy_tokens(self, array: Any, into: Any, capacity: int) -> Any:
        for row, ring in enumerate(self.rings):
            kept = np.arange(ring.first, ring.end)
            into[row][:, kept % capacity] = array[row][:, kept % self.capacity]
        return into


class TokenRing:
    """One conversation's tokens by a counter that only grows; token n lies in slot n mod capacity.

    Attention does not care in which order slots lie, so nothing ever moves. An engine writes a pass's tokens
    into the slots behind the newest; they become history by `append`, and are overwritten if they do not.
    """

    def __init__(self, memory: CacheMemory, row: int, capacity: int) -> None:
        self.memory = memory
        self.row = row
        self.first_capacity = capacity
        self.first = 0
        """Counter of the oldest token kept."""
        self.end = 0
        """One past the counter of the newest token."""
        self.capacity = capacity
        """Slots that the tokens kept were written with; the memory has as many or, in a pass, more."""

    def capacity_for(self, count: int) -> int:
        """Return the slots that a pass of `count` new tokens needs: doubled where they do not fit."""
        needed = self.end + count - self.first
        return self.capacity if needed <= self.capacity else max(needed, 2 * self.capacity)

    def append(self, count: int) -> None:
        """Make the newest `count` tokens that an engine wrote history."""
        self.capacity = self.capacity_for(count)
        self.end += count

    def set_state(self, first: int, end: int, capacity: int) -> None:
        """Keep the tokens from one counter to another; others are forgotten."""
        self.first, self.end, self.capacity = first, end, capacity

    def erase(self, count: int) -> None:
        """Overwrite the `count` slots behind the newest token, which no history will hold."""
        _, slots, _ = self.memory.reserve([self], [self.end], count)
        self.memory.erase(self.row, slots[0])


@dataclasses.dataclass(frozen=True)
class WindowState:
    """What a window holds after a turn; never changed in place, so keeping it is a snapshot."""

    turns: tuple[Any, ...] = ()
    """Rolling: (first frame, first token) of each turn kept. Anchored: the turns the next one sees."""
    end: int = 0
    """One past the counter of the newest token; used by a rolling window."""
    capacity: int = 0
    """As of `TokenRing.capacity`; used by a rolling window."""


class RollingWindow:
    """Relative positions: a token is encoded once and stays exact until it leaves the window.

    Args:
        ring: The conversation's ring.
        window_frames: How much a turn sees, its own frames included.
        rollback_turns: Turns that can be rolled back: what they saw is kept.
    """

    def __init__(self, ring: TokenRing, window_frames: int, rollback_turns: int) -> None:
        self.ring = ring
        self._window_frames = window_frames
        self._rollback_turns = rollback_turns

    def initial(self) -> WindowState:
        """Return the state before the first turn, which the ring takes on."""
        state = WindowState(capacity=self.ring.first_capacity)
        self.rollback(state)
        return state

    def missing(self, state: WindowState) -> list[PreparedTurn]:
        """Return the turns to encode before the next: none, for what is seen has been encoded."""
        return []

    def restore(self, turn: PreparedTurn) -> None:
        """Note that the next missing turn has been encoded; never needed."""

    def first_visible(self, state: WindowState, end_frame: int) -> int:
        """Return the oldest token that a turn ending at a frame sees: turns are seen whole or not at all."""
        return next(
            (token for frame, token in state.turns if frame >= end_frame - self._window_frames), state.end
        )

    def visible_tokens(self, state: WindowState, end_frame: int) -> int:
        """Return how many tokens a turn ending at a frame sees besides its own."""
        return state.end - self.first_visible(state, end_frame)

    def append(self, state: WindowState, cached: PreparedTurn) -> WindowState:
        """Make a turn that has just been encoded history; return the state after it."""
        turns = (*state.turns, (cached.turn.first_frame, self.ring.end))
        self.ring.append(cached.positions.source.size)
        # Kept is what the oldest turn that may be rolled back would see. The history alone says so, not
        # what was rolled back before: the ring must grow at the same turns either way.
        oldest_frame = turns[-min(self._rollback_turns, len(turns))][0]
        kept = tuple(turn for turn in turns if turn[0] > oldest_frame - self._window_frames)
        after = WindowState(kept, self.ring.end, self.ring.capacity)
        self.rollback(after)
        return after

    def rollback(self, state: WindowState) -> None:
        """Let the ring hold just what it held in a state."""
        first = state.turns[0][1] if state.turns else state.end
        self.ring.set_state(first, state.end, state.capacity)


class AnchoredWindow:
    """Positions by place in the window: when it must move, what stays is encoded again at its new place.

    The ring always holds the first turns of the window, each encoded on top of those before it. So its bytes
    follow from the window's inputs alone, and a state rolled back to is whole once its window is encoded.

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
        self._encoded: list[PreparedTurn] = []

    def initial(self) -> WindowState:
        """Return the state before the first turn."""
        self._hold(0)
        return WindowState()

    def missing(self, state: WindowState) -> list[PreparedTurn]:
        """Return the turns to encode before the next, oldest first; withdraw what does not belong."""
        same = 0
        while same < min(len(state.turns), len(self._encoded)) and state.turns[same] is self._encoded[same]:
            same += 1
        self._hold(same)
        return list(state.turns[same:])

    def restore(self, turn: PreparedTurn) -> None:
        """Note that the next missing turn has been encoded."""
        self._encoded.append(turn)
        self.ring.append(self._turn_tokens)

    def first_visible(self, state: WindowState, end_frame: int) -> int:
        """Return the first token: all that the ring holds is seen."""
        return 0

    def visible_tokens(self, state: WindowState, end_frame: int) -> int:
        """Return how many tokens the next turn sees besides its own."""
        return len(state.turns) * self._turn_tokens

    def append(self, state: WindowState, cached: PreparedTurn) -> WindowState:
        """Make a turn that has just been encoded history; a window that is full with it moves."""
        self.restore(cached)
        joined = (*state.turns, cached)
        return WindowState(joined if len(joined) < self._window_turns else joined[len(joined) - self._kept :])

    def rollback(self, state: WindowState) -> None:
        """Do nothing yet: the next `missing` compares the ring with the state's window."""

    def _hold(self, turns: int) -> None:
        """Keep the first turns in the ring."""
        del self._encoded[turns:]
        self.ring.set_state(0, turns * self._turn_tokens, self.ring.capacity)


def window_of(
    ring: TokenRing, config: ModelConfig, window_frames: int, when_full: str, rollback_turns: int
) -> RollingWindow | AnchoredWindow:
    """Return the window that a model's positions ask for."""
    if config.positions == "rotary":
        return RollingWindow(ring, window_frames, rollback_turns)
    return AnchoredWindow(ring, config, window_frames // config.turn_frames, when_full)
