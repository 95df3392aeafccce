"""Where every token of a sequence of turns stands: its kind, its time and whom it may see (numpy only).

A turn reads
`TURN | USER_SPEECH [U] / | USER_MOTION [U] / | AGENT_SPEECH [F] / | AGENT_MOTION [P past] [F] / | /TURN`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from timar_model.config import MARKERS_PER_TURN, ModelConfig

# Kinds of tokens: the markers are 0 to 9 in the order of the layout.
USER_SPEECH, USER_MOTION, AGENT_SPEECH, AGENT_MOTION, PAST_MOTION = range(
    MARKERS_PER_TURN, MARKERS_PER_TURN + 5
)
KINDS = MARKERS_PER_TURN + 5


@dataclasses.dataclass(frozen=True)
class Turn:
    """One turn on the conversation's frame counter."""

    first_frame: int
    frames: int
    user_first_frame: int
    user_frames: int

    @property
    def end_frame(self) -> int:
        """One past the turn's last agent frame."""
        return self.first_frame + self.frames


def next_turn(first_frame: int, frames: int, previous_frames: int | None, config: ModelConfig) -> Turn:
    """Return the turn that starts at a frame.

    Args:
        first_frame: Its first agent frame.
        frames: Its length [frames].
        previous_frames: Length of the turn before it; None for the first of a conversation.
        config: Says how far the user's stream stands behind.

    Raises:
        ValueError: The length is not allowed.
    """
    if frames < 1:
        raise ValueError(f"a turn has {frames} frames, expected at least 1")
    if frames > config.window_frames:
        raise ValueError(f"a turn has {frames} frames, expected at most the window's {config.window_frames}")
    if config.has_fixed_turns and frames != config.turn_frames:
        raise ValueError(
            f"a turn has {frames} frames, but this model knows only turns of {config.turn_frames}"
        )
    if config.user_lag == "none":
        return Turn(first_frame, frames, first_frame, frames)
    user_frames = frames if previous_frames is None else previous_frames
    return Turn(first_frame, frames, first_frame - config.user_lag_margin_frames - user_frames, user_frames)


def turn_sequence(
    lengths: Sequence[int], config: ModelConfig, first_frame: int = 0, previous_frames: int | None = None
) -> list[Turn]:
    """Return consecutive turns of the given lengths [frames]."""
    turns: list[Turn] = []
    for frames in lengths:
        turns.append(next_turn(first_frame, frames, previous_frames, config))
        first_frame += frames
        previous_frames = frames
    return turns


def lead_frames(lengths: Sequence[int], config: ModelConfig) -> int:
    """Return how many frames before its first turn a sequence of turns reads."""
    turns = turn_sequence(lengths, config)
    return max(config.past_frames, *(-turn.user_first_frame for turn in turns), 0)


@dataclasses.dataclass(frozen=True)
class Layout:
    """The tokens of consecutive turns, in order."""

    turns: tuple[Turn, ...]
    source: npt.NDArray[np.int64]
    """(L,) row of each token in the table [10 markers | user speech | user motion | agent speech |
    agent motion | past motion], each stream being the concatenation of its turns."""
    kind: npt.NDArray[np.int64]
    """(L,) kind of each token."""
    frame: npt.NDArray[np.int64]
    """(L,) place of each token on the conversation's frame counter; a marker stands at its block's edge."""
    turn: npt.NDArray[np.int64]
    """(L,) index of each token's turn."""
    motion_rows: npt.NDArray[np.int64]
    """(sum of F,) where the agent-motion tokens stand."""

    def __len__(self) -> int:
        return int(self.source.size)


def layout_of(turns: Sequence[Turn], past_frames: int) -> Layout:
    """Lay out the tokens of consecutive turns."""
    user_total = sum(turn.user_frames for turn in turns)
    agent_total = sum(turn.frames for turn in turns)
    starts = np.cumsum([MARKERS_PER_TURN, user_total, user_total, agent_total, agent_total])
    table_row = dict(zip(range(USER_SPEECH, KINDS), starts.tolist(), strict=True))
    source: list[int] = []
    kind: list[int] = []
    frame: list[int] = []
    owner: list[int] = []

    def put_marker(marker: int, at_frame: int) -> None:
        source.append(marker)
        kind.append(marker)
        frame.append(at_frame)

    def put_stream(stream: int, first: int, count: int) -> None:
        source.extend(range(table_row[stream], table_row[stream] + count))
        kind.extend([stream] * count)
        frame.extend(range(first, first + count))
        table_row[stream] += count

    for index, turn in enumerate(turns):
        user_last = turn.user_first_frame + turn.user_frames - 1
        last = turn.end_frame - 1
        put_marker(0, turn.first_frame)
        put_marker(1, turn.user_first_frame)
        put_stream(USER_SPEECH, turn.user_first_frame, turn.user_frames)
        put_marker(2, user_last)
        put_marker(3, turn.user_first_frame)
        put_stream(USER_MOTION, turn.user_first_frame, turn.user_frames)
        put_marker(4, user_last)
        put_marker(5, turn.first_frame)
        put_stream(AGENT_SPEECH, turn.first_frame, turn.frames)
        put_marker(6, last)
        put_marker(7, turn.first_frame)
        put_stream(PAST_MOTION, turn.first_frame - past_frames, past_frames)
        put_stream(AGENT_MOTION, turn.first_frame, turn.frames)
        put_marker(8, last)
        put_marker(9, last)
        owner.extend([index] * (len(source) - len(owner)))

    kinds = np.asarray(kind, np.int64)
    return Layout(
        turns=tuple(turns),
        source=np.asarray(source, np.int64),
        kind=kinds,
        frame=np.asarray(frame, np.int64),
        turn=np.asarray(owner, np.int64),
        motion_rows=np.flatnonzero(kinds == AGENT_MOTION),
    )


def visibility(layout: Layout, window_frames: int) -> npt.NDArray[np.bool_]:
    """Return (L, L) whether each token (row) may see each other one (column).

    Every token sees its own turn and the earlier turns that lie in the window as a whole: what a rolling
    cache still holds is just this, for turns of any lengths.
    """
    first = np.asarray([turn.first_frame for turn in layout.turns])
    end = np.asarray([turn.end_frame for turn in layout.turns])
    index = np.arange(first.size)
    earlier = (index[None, :] < index[:, None]) & (first[None, :] >= end[:, None] - window_frames)
    of_turns = earlier | np.eye(first.size, dtype=bool)
    return np.asarray(of_turns[layout.turn[:, None], layout.turn[None, :]])


@dataclasses.dataclass(frozen=True)
class Band:
    """A layout cut into chunks of equal size, so that attention need not look at what is hidden anyway."""

    layout: Layout
    """The tokens chunk by chunk, each filled up to the size with tokens that nobody sees."""
    rows: npt.NDArray[np.int64]
    """(chunks * size,) which token of the sequence each one is."""
    visible: npt.NDArray[np.bool_]
    """(chunks, size, reach * size) whom each token of a chunk sees in the chunks before and its own."""


def band_of(layout: Layout, window_frames: int, reach: int = 3) -> Band:
    """Cut a layout into chunks of which each sees as far as the window goes by `reach - 1` chunks before it.

    What is seen is just what `visibility` says.

    Args:
        layout: Of consecutive turns.
        window_frames: The window [frames].
        reach: Chunks seen, the own one included.
    """
    least = -(-window_frames // (reach - 1))
    chunk_of_turn = np.zeros(len(layout.turns), np.int64)
    chunk, start = 0, layout.turns[0].first_frame
    for index, turn in enumerate(layout.turns):
        if turn.first_frame - start >= least:
            chunk, start = chunk + 1, turn.first_frame
        chunk_of_turn[index] = chunk
    of_token = chunk_of_turn[layout.turn]
    counts = np.bincount(of_token)
    size = int(counts.max())
    place = of_token * size + np.arange(of_token.size) - np.repeat(np.cumsum(counts) - counts, counts)
    rows = np.zeros(counts.size * size, np.int64)
    rows[place] = np.arange(of_token.size)
    is_real = np.zeros(rows.size, np.bool_)
    is_real[place] = True

    first = np.asarray([turn.first_frame for turn in layout.turns])
    end = np.asarray([turn.end_frame for turn in layout.turns])
    own = np.where(is_real, layout.turn[rows], -1).reshape(counts.size, size)
    before = np.full((reach - 1, size), -1, np.int64)
    padded = np.concatenate([before, own])
    keys = np.concatenate([padded[back : back + counts.size] for back in range(reach)], axis=1)
    query, key = own[:, :, None], keys[:, None, :]
    earlier = (key >= 0) & (key < query) & (first[key] >= end[query] - window_frames)
    banded = Layout(
        turns=layout.turns,
        source=layout.source[rows],
        kind=layout.kind[rows],
        frame=layout.frame[rows],
        turn=layout.turn[rows],
        motion_rows=place[layout.motion_rows],
    )
    # What fills a chunk up sees itself, for a token that sees nobody has no attention.
    return Band(banded, rows, earlier | (key == query))


def rotation(
    frame: npt.NDArray[np.int64], config: ModelConfig
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return cosine and sine, (L, W / H / 2) each, of the angles that encode frames as rotations.

    Angles are reduced in float64 before they are narrowed, so they are as exact after hours as at first.
    """
    pairs = config.head_dim // 2
    speed = float(config.rotary_base) ** (-np.arange(pairs) / max(pairs - 1, 1))
    angle = np.remainder(frame[:, None].astype(np.float64) * speed, 2 * np.pi)
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
