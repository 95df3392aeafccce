"""Whole sequences of turns, as training reads them: who sees whom, and attention within a sliding window."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from timar_model.architecture.config import SAMPLES_PER_FRAME, ModelConfig
from timar_model.architecture.inputs import (
    Array,
    SpeechFeatures,
    TokenLayout,
    Turn,
    TurnInputs,
    next_turn,
)


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


def attention_mask(layout: TokenLayout, window_frames: int) -> npt.NDArray[np.bool_]:
    """Return (L, L) whether each token (row) may see each other one (column).

    Every token sees its own turn and the earlier turns that lie in the window as a whole: what a rolling
    cache still holds is just this, for turns of any lengths.
    """
    first = np.asarray([turn.first_frame for turn in layout.turns])  # (N,)
    end = np.asarray([turn.end_frame for turn in layout.turns])  # (N,)
    index = np.arange(first.size)
    earlier = (index[None, :] < index[:, None]) & (first[None, :] >= end[:, None] - window_frames)  # (N, N)
    of_turns = earlier | np.eye(first.size, dtype=bool)
    return np.asarray(of_turns[layout.turn[:, None], layout.turn[None, :]])


@dataclasses.dataclass(frozen=True)
class SlidingWindow:
    """A layout cut into chunks of equal size, so that attention need not compute what is hidden anyway."""

    layout: TokenLayout
    """The tokens chunk by chunk, each filled up to the size with tokens that nobody sees."""
    rows: npt.NDArray[np.int64]
    """(chunks * size,) which token of the sequence each one is."""
    attention_mask: npt.NDArray[np.bool_]
    """(chunks, size, reach * size) whom each token of a chunk sees in the chunks before and its own."""


def sliding_window(layout: TokenLayout, window_frames: int, reach: int = 3) -> SlidingWindow:
    """Cut a layout into chunks of which each sees as far as the window goes by `reach - 1` chunks before it.

    What is seen is just what `attention_mask` says.

    Args:
        layout: Of consecutive turns.
        window_frames: The window [frames].
        reach: Chunks seen, the own one included.
    """
    # A chunk spans at least so many frames, so the window never reaches further back than `reach - 1` chunks.
    least = -(-window_frames // (reach - 1))
    chunk_of_turn = np.zeros(len(layout.turns), np.int64)
    chunk, start = 0, layout.turns[0].first_frame
    for index, turn in enumerate(layout.turns):
        if turn.first_frame - start >= least:
            chunk, start = chunk + 1, turn.first_frame
        chunk_of_turn[index] = chunk
    chunk_of_token = chunk_of_turn[layout.turn]  # (L,)
    counts = np.bincount(chunk_of_token)  # (chunks,)
    size = int(counts.max())
    in_chunk = np.arange(chunk_of_token.size) - np.repeat(np.cumsum(counts) - counts, counts)  # (L,)
    slot = chunk_of_token * size + in_chunk  # (L,)
    rows = np.zeros(counts.size * size, np.int64)  # (chunks * size,)
    rows[slot] = np.arange(slot.size)
    is_real = np.zeros(rows.size, np.bool_)
    is_real[slot] = True

    first = np.asarray([turn.first_frame for turn in layout.turns])
    end = np.asarray([turn.end_frame for turn in layout.turns])
    own = np.where(is_real, layout.turn[rows], -1).reshape(counts.size, size)  # (chunks, size) turn or -1
    padded = np.concatenate([np.full((reach - 1, size), -1, np.int64), own])  # (reach - 1 + chunks, size)
    keys = np.concatenate([padded[back : back + counts.size] for back in range(reach)], axis=1)
    query, key = own[:, :, None], keys[:, None, :]  # (chunks, size, 1), (chunks, 1, reach * size)
    earlier = (key >= 0) & (key < query) & (first[key] >= end[query] - window_frames)
    chunked = TokenLayout(
        turns=layout.turns,
        source=layout.source[rows],
        kind=layout.kind[rows],
        frame=layout.frame[rows],
        turn=layout.turn[rows],
        motion_rows=slot[layout.motion_rows],
    )
    # What fills a chunk up sees itself, for a token that sees nobody has no attention.
    return SlidingWindow(chunked, rows, earlier | (key == query))


def join(parts: Sequence[TurnInputs[Array]], axis: int = 1) -> TurnInputs[Array]:
    """Join the streams of consecutive turns (axis 1), or of turns of several conversations (axis 0)."""
    names = [field.name for field in dataclasses.fields(TurnInputs)]
    return TurnInputs(
        **{name: np.concatenate([getattr(part, name) for part in parts], axis) for name in names}
    )


def clip_features(features: SpeechFeatures, samples: Array, lead: int = 0) -> Array:
    """Return (lead + n, S) features of a whole recording, `lead` frames of silence put before it.

    Args:
        features: As from `speech_features`; for spectra this equals what a session computes turn by turn.
        samples: (640 n,) float32 in [-1, 1], from the recording's start.
        lead: Frames of silence before it.
    """
    padded = np.concatenate([np.zeros(lead * SAMPLES_PER_FRAME, np.float32), samples.astype(np.float32)])
    return features.compute(padded, features.initial())[0]
