"""Gesture prediction on annotated meetings as the running head does it: lagged user, own drawn gestures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from timar_model.gestures.features import FEATURE_NAMES, PLAN_FRAMES, ConversationFeatures, lagged
from timar_model.gestures.predictor import (
    GestureHistory,
    GestureNetwork,
    draw_duration,
)
from timar_model.gestures.rendering import FASTEST_HZ

from ..preparation.annotated import AnnotatedTracks, BoolArray

FloatArray = npt.NDArray[np.float32]

LAG_FRAMES = 4
"""How far the newest known frame of the user stands behind with turns of 2 frames and a margin of 2."""
_CHUNK = 500


@dataclasses.dataclass(frozen=True)
class ContextForecast:
    """What follows from the conversation alone, of N people over T frames for K kinds."""

    probability: FloatArray
    """(N, T, K) that a gesture begins within half a second."""
    rate: FloatArray
    """(N, T, K) [1/s]."""
    state: npt.NDArray[np.int8]
    """(N, T)."""


@dataclasses.dataclass(frozen=True)
class DrawnEvents:
    """Gestures that were drawn, in order of frames."""

    person: npt.NDArray[np.int_]
    frame: npt.NDArray[np.int_]
    kind: npt.NDArray[np.int_]
    duration_s: npt.NDArray[np.float64]


def feature_chunks(
    tracks: AnnotatedTracks,
    lag_frames: int,
    is_user_seen: bool,
    advance: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[int, FloatArray, npt.NDArray[np.int8]]]:
    """Yield (first frame, features (N, n, D), states (N, n)) of everybody side by side."""
    people, frames = tracks.shape
    plan = np.pad(tracks.own, ((0, 0), (0, PLAN_FRAMES + 1)))
    user, nods = lagged(tracks.user, lag_frames), lagged(tracks.user_nods, lag_frames)
    features = ConversationFeatures((people,))
    for first in range(0, frames, _CHUNK):
        count = min(_CHUNK, frames - first)
        rows = np.empty((people, count, len(FEATURE_NAMES)), np.float32)
        states = np.empty((people, count), np.int8)
        for k in range(count):
            f = first + k
            rows[:, k] = features.step(plan[:, f : f + 1 + PLAN_FRAMES], user[:, f], nods[:, f], is_user_seen)
            states[:, k] = features.state
        yield first, rows, states
        if advance:
            advance(first + count, frames)


def context_forecast(
    weights: list[GestureNetwork],
    of: npt.NDArray[np.int_],
    tracks: AnnotatedTracks,
    lag_frames: int = LAG_FRAMES,
    is_user_seen: bool = False,
    advance: Callable[[int, int], None] | None = None,
) -> ContextForecast:
    """Forecast for everybody, person i by weights[of[i]].

    Args:
        weights: One for all, or one a fold.
        of: (N,) which of them.
        tracks: The people.
        lag_frames: How far the newest known frame of the user stands behind.
        is_user_seen: Whether the user's nods are known.
        advance: Called with (frames done, all).
    """
    shape = (*tracks.shape, len(weights[0].kinds))
    probability, rate = np.empty(shape, np.float32), np.empty(shape, np.float32)
    state = np.empty(tracks.shape, np.int8)
    for first, rows, states in feature_chunks(tracks, lag_frames, is_user_seen, advance):
        part = slice(first, first + rows.shape[1])
        state[:, part] = states
        for index, one in enumerate(weights):
            mine = of == index
            probability[mine, part], rate[mine, part] = one.predict(rows[mine])
    return ContextForecast(probability, rate, state)


def draw_events(
    weights: GestureNetwork,
    forecast: ContextForecast,
    allowed: BoolArray,
    random: np.random.Generator,
    person_rate: npt.ArrayLike = 1.0,
    is_decisive: bool = False,
) -> DrawnEvents:
    """Run heads that draw their gestures, each knowing its own past ones.

    Args:
        weights: Of the history, thresholds and durations.
        forecast: Of N people.
        allowed: (N, T) where gestures count; elsewhere none is drawn.
        random: All choices come from it.
        person_rate: (N,) how often each gestures, of the average.
        is_decisive: Begin gestures where the probability reaches the threshold, and do not draw.
    """
    people, frames, kinds = forecast.rate.shape
    shortest_s = np.array([1 / FASTEST_HZ[kind] for kind in weights.kinds])
    history, found = GestureHistory(weights, (people,)), []
    factor = np.broadcast_to(np.asarray(person_rate, np.float32), (people,))[:, None]
    for frame in range(frames):
        history.advance()
        state = forecast.state[:, frame].astype(np.int64)
        if is_decisive:
            excess = factor * forecast.probability[:, frame] / history.threshold(state)
            begins = excess >= 1
            order = -excess
        else:
            order = random.random((people, kinds), np.float32)
            begins = order < history.hazard(factor * forecast.rate[:, frame], state)
        begins &= (history.is_free & allowed[:, frame])[:, None]
        if begins.any():
            chosen = np.argmin(np.where(begins, order, np.inf), -1)
            who = np.flatnonzero(begins.any(-1))
            which = chosen[who]
            length = np.empty(len(who))
            for kind in range(kinds):
                mine = which == kind
                length[mine] = draw_duration(weights, state[who[mine]], kind, random.random(int(mine.sum())))
            length = np.maximum(length, shortest_s[which])
            mask, long = np.zeros((people, kinds), np.bool_), np.zeros((people, kinds), np.float32)
            mask[who, which], long[who, which] = True, length
            history.begin(mask, long)
            found.append((who, np.full(len(who), frame), which, length))
    columns = zip(*found, strict=True) if found else ([np.zeros(0)],) * 4
    who, at, which, length = (np.concatenate(column) for column in columns)
    return DrawnEvents(who.astype(int), at.astype(int), which.astype(int), length)
