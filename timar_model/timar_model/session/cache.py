"""The key/value cache: what past tokens left in each block, which of it a turn sees, and its rollback.

An engine allocates `CacheMemory` and writes a pass's keys and values into it in place. A `TokenRing` is one
conversation's share of it; a `RollingWindow` or an `AnchoredWindow` says which turns lie there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from timar_model.architecture.config import ModelConfig, SamplingConfig
from timar_model.architecture.inputs import PreparedTurn
from timar_model.session.sampling import kept_turns

Slots = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class CacheMemory:
    """The slots of all conversations of a batch: one pair of arrays a block, (B, H, C, W / H) each.

    Engines bring their own kind of array by a subclass; everything indexes like numpy.

    Invariant: in a pass, the capacity C follows from the tokens that are history and from those of the pass,
    never from turns that were previewed or rolled back since. Sums over slots then run in the same order, and
    motion comes out the same to the last bit.
    """

    can_swap = True
    """Whether `swap` is there; without it a window that moves is encoded when it does."""

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

    def swap(self, row: int, other: TokenRing, count: int) -> None:
        """Exchange the first `count` slots of a row with those of another memory's ring."""
        for mine, theirs in zip(
            (*self.keys, *self.values), (*other.memory.keys, *other.memory.values), strict=True
        ):
            kept = self._copied(mine[row][:, :count])
            mine[row][:, :count] = theirs[other.row][:, :count]
            theirs[other.row][:, :count] = kept

    def _copied(self, array: Any) -> Any:
        return array.copy()

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
    anchored: int = 0
    """How many of an anchored window's turns came over by a move."""


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

    def missing(self, state: WindowState, with_next: bool = True) -> Iterator[MissingTurn]:
        """Yield what must be encoded before the next turn: nothing, for what is seen has been encoded."""
        return iter(())

    def begin_turn(self, state: WindowState) -> None:
        """Note that the next turn's tokens are about to be written behind the newest; of no account here."""

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


@dataclasses.dataclass(frozen=True)
class MissingTurn:
    """A turn of the window that must be encoded anew, at the next place of a ring."""

    turn: PreparedTurn
    ring: TokenRing


class TurnSlots:
    """A ring as places for whole turns, and what lies in each.

    A turn's keys and values follow from the turns below it, and from how those were encoded: a place is known
    by all of that, so that what still lies there need not be encoded again.
    """

    def __init__(self, ring: TokenRing, turns: int, turn_tokens: int) -> None:
        self.ring = ring
        self.held: list[Any] = [None] * turns
        self._turn_tokens = turn_tokens

    def end_at(self, place: int) -> None:
        """Let the ring's history be what lies below a place."""
        self.ring.set_state(0, place * self._turn_tokens, self.ring.capacity)

    def fill(self, keys: Sequence[Any], turns: Sequence[PreparedTurn]) -> Iterator[MissingTurn]:
        """Yield the turns that do not lie in their places yet; each is there when the next is asked for."""
        for place, (key, turn) in enumerate(zip(keys, turns, strict=True)):
            if self.held[place] != key:
                self.held[place] = None
                self.end_at(place)
                yield MissingTurn(turn, self.ring)
                self.held[place] = key

    def matches(self, keys: Sequence[Any]) -> int:
        """Return how many of the first places hold what is wanted."""
        return sum(held == key for held, key in zip(self.held, keys, strict=False))

    def swap(self, other: TurnSlots) -> None:
        """Exchange the first places with all places of a smaller one."""
        count = len(other.held)
        self.ring.memory.swap(self.ring.row, other.ring, count * self._turn_tokens)
        self.held[:count], other.held[:] = other.held[:], self.held[:count]


class AnchoredWindow:
    """Positions by place in the window: when it must move, what stays is encoded again at its new place.

    The turns that stay are encoded in a ring of their own, one after another as they become history, while
    the old window still serves; when it is full, the two change places. A move costs a copy, and a rollback
    across it finds the old window there. Without such a ring all is encoded when the window moves.

    Invariant: a place's bytes follow from the window's turns alone. A turn that is carried over by a move is
    encoded in the small ring whenever it is, others in the large one.

    Args:
        ring: The conversation's ring.
        config: Of a model with window positions.
        window_turns: Turns of a full window, the one that is sampled included.
        keep_turns: Turns that stay when it moves.
        next_ring: Opens the ring in which the next window is encoded, when it is first needed; None: there is
            none.
    """

    def __init__(
        self,
        ring: TokenRing,
        config: ModelConfig,
        window_turns: int,
        keep_turns: int,
        next_ring: Callable[[], TokenRing] | None,
    ) -> None:
        self.ring = ring
        self._turn_tokens = config.turn_tokens
        self._window_turns = window_turns
        self._kept = keep_turns
        self._open_next = next_ring if keep_turns else None
        self._slots = TurnSlots(ring, window_turns, config.turn_tokens)
        self._next: TurnSlots | None = None

    def initial(self) -> WindowState:
        """Return the state before the first turn."""
        for slots in (self._slots, self._next):
            if slots is not None:
                slots.held[:] = [None] * len(slots.held)
        self._slots.end_at(0)
        return WindowState()

    def missing(self, state: WindowState, with_next: bool = True) -> Iterator[MissingTurn]:
        """Yield what must be encoded before the next turn, in order; each is done when the next is asked for.

        Args:
            state: Before that turn.
            with_next: Whether the share of the next window that is due by now is wanted, too.
        """
        keys, carried = self._keys(state), self._kept if self._open_next else 0
        if carried and self._slots.matches(keys[:carried]) < min(carried, len(keys)):
            spare = self._next_slots()
            if state.anchored:
                yield from spare.fill(keys[:carried], state.turns[:carried])
            if spare.matches(keys) > self._slots.matches(keys[:carried]):
                self._slots.swap(spare)
        yield from self._slots.fill(keys, state.turns)
        self._slots.end_at(len(state.turns))
        following = state.turns[self._window_turns - self._kept :]
        due = -(-self._kept * (len(state.turns) - self._kept) // (self._window_turns - self._kept))
        if with_next and carried and due > 0 and following:
            after = WindowState(following[:due], anchored=self._kept)
            yield from self._next_slots().fill(self._keys(after), after.turns)

    def begin_turn(self, state: WindowState) -> None:
        """Note that the next turn's tokens are about to be written behind the newest."""
        self._slots.held[len(state.turns)] = None

    def first_visible(self, state: WindowState, end_frame: int) -> int:
        """Return the first token: all that the ring holds is seen."""
        return 0

    def visible_tokens(self, state: WindowState, end_frame: int) -> int:
        """Return how many tokens the next turn sees besides its own."""
        return len(state.turns) * self._turn_tokens

    def append(self, state: WindowState, cached: PreparedTurn) -> WindowState:
        """Make a turn that has just been encoded history; a window that is full with it moves."""
        joined = WindowState((*state.turns, cached), anchored=state.anchored)
        self._slots.held[len(state.turns)] = self._keys(joined)[-1]
        self.ring.append(self._turn_tokens)
        if len(joined.turns) < self._window_turns:
            return joined
        kept = joined.turns[self._window_turns - self._kept :]
        return WindowState(kept, anchored=self._kept if self._open_next else 0)

    def rollback(self, state: WindowState) -> None:
        """Do nothing yet: the next `missing` compares the rings with the state's window."""

    def _keys(self, state: WindowState) -> list[Any]:
        """Return by what each turn of a window is known in its place."""
        return [(state.anchored, state.turns[: place + 1]) for place in range(len(state.turns))]

    def _next_slots(self) -> TurnSlots:
        if self._next is None:
            assert self._open_next is not None
            self._next = TurnSlots(self._open_next(), self._kept, self._turn_tokens)
        return self._next


def window_of(
    ring: TokenRing,
    config: ModelConfig,
    sampling: SamplingConfig,
    window_frames: int,
    rollback_turns: int,
    next_ring: Callable[[], TokenRing],
) -> RollingWindow | AnchoredWindow:
    """Return the window that a model's positions ask for."""
    if config.positions == "rotary":
        return RollingWindow(ring, window_frames, rollback_turns)
    window_turns = window_frames // config.turn_frames
    if sampling.when_full == "recompute":
        # It moves every turn: there is no time in which the old window serves.
        return AnchoredWindow(ring, config, window_turns, window_turns - 1, None)
    keep_turns = kept_turns(sampling, window_turns)
    return AnchoredWindow(ring, config, window_turns, keep_turns, next_ring if ring.memory.can_swap else None)
