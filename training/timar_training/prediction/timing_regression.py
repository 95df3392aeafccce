"""Logistic regression on who spoke when, the baseline of the gesture predictor.

It has the same inputs and the same lag as the predictor with the user unseen: decays and running means of
both voices' activity, and with own plan whether one speaks soon.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from timar_model.gestures.features import RATE_HZ, STATES, lagged

from ..preparation.annotated import AnnotatedTracks, BoolArray

FloatArray = npt.NDArray[np.float32]

PLANS = {"timing": False, "timing_plan": True}
_PLAN_COLUMNS = 3


@dataclasses.dataclass(frozen=True)
class TimingRegression:
    """One regression for each state, without and with own plan."""

    slope: FloatArray
    """(2, S, D); without plan the last columns are zero."""
    bias: FloatArray
    """(2, S)."""
    threshold: FloatArray
    """(2, S) from which a decisive head nods."""

    def score(self, table: FloatArray, state: npt.NDArray[np.int_], has_plan: bool) -> FloatArray:
        """Return the probability of a nod within half a second (n,), of features (n, D) in states (n,)."""
        logits = table @ self.slope[int(has_plan)].T + self.bias[int(has_plan)]
        own = np.take_along_axis(logits, state[:, None].astype(int), 1)[:, 0]
        probability: FloatArray = 1 / (1 + np.exp(-own))
        return probability

    def arrays(self) -> dict[str, FloatArray]:
        """Return it as arrays for a weights file."""
        return {f"timing.{field.name}": getattr(self, field.name) for field in dataclasses.fields(self)}

    @classmethod
    def of(cls, arrays: dict[str, FloatArray]) -> TimingRegression | None:
        """Return what `arrays` put into a weights file; None where it has none."""
        names = [field.name for field in dataclasses.fields(cls)]
        if any(f"timing.{name}" not in arrays for name in names):
            return None
        return cls(*(arrays[f"timing.{name}"] for name in names))


def timing_features(own: BoolArray, user: BoolArray, lag_frames: int) -> FloatArray:
    """Return who spoke when before each frame, (T, D); the last columns are the own plan.

    Args:
        own: (T,) own speech.
        user: (T,) the others'.
        lag_frames: How far the newest known frame of the others stands behind.
    """
    mine, other = own.astype(np.float64), lagged(user, lag_frames).astype(np.float64)
    pause = _since_s(other)
    table = np.stack([
        other, *(_past_mean(other, t) for t in (0.3, 1, 3, 10)),
        *(_past_mean(mine, t) for t in (0.3, 1, 3, 30)),
        _past_mean(other, 5), *_decays(other, 0.2, 0.5, 1), *_decays(_begins(other), 0.5, 2, 6),
        mine, *_decays(mine, 0.5, 2, 10, 60), *_decays(_begins(mine), 0.3, 1, 4),
        (pause >= 0.2) & (pause <= 0.6), (pause >= 0.4) & (pause <= 1),
    ], 1).astype(np.float32)  # fmt: skip
    table = np.concatenate([table, table[:, :13] ** 2], 1)
    table = np.concatenate([table[:1], table[:-1]])  # Strictly the past: the frame itself is not known yet.
    ahead = [_soon(mine, frames) for frames in (5, 12, 25)]
    return np.concatenate([table, np.stack(ahead, 1)], 1).astype(np.float32)


def fit_timing(
    tracks: AnnotatedTracks,
    state: npt.NDArray[np.int8],
    soon: BoolArray,
    use: BoolArray,
    lag_frames: int,
    stride: int,
) -> TimingRegression:
    """Fit both regressions; thresholds are left at 1.

    Args:
        tracks: People to learn from.
        state: (N, T).
        soon: (N, T) whether a nod begins soon.
        use: (N, T) frames that count.
        lag_frames: Of the others.
        stride: Every so many frames are a sample.
    """
    rows: list[list[FloatArray]] = [[] for _ in STATES]
    labels: list[list[BoolArray]] = [[] for _ in STATES]
    for i in range(tracks.shape[0]):
        table = timing_features(tracks.own[i], tracks.user[i], lag_frames)[::stride]
        for s in range(len(STATES)):
            here = (use[i] & (state[i] == s))[::stride]
            rows[s].append(table[here])
            labels[s].append(soon[i, ::stride][here])
    width = rows[0][0].shape[1]
    slope = np.zeros((len(PLANS), len(STATES), width), np.float32)
    bias = np.zeros((len(PLANS), len(STATES)), np.float32)
    for s in range(len(STATES)):
        table, label = np.concatenate(rows[s]), np.concatenate(labels[s])
        if len(set(label.tolist())) < 2:  # Nobody nods in this state: a constant is all there is to learn.
            bias[:, s] = np.log((label.sum() + 0.5) / (len(label) + 1))
            continue
        for has_plan in (False, True):
            columns = slice(None) if has_plan else slice(None, -_PLAN_COLUMNS)
            scaler, regression = StandardScaler(), LogisticRegression(C=0.1, max_iter=300)
            make_pipeline(scaler, regression).fit(table[:, columns], label)
            weight = regression.coef_[0] / scaler.scale_
            slope[int(has_plan), s, columns] = weight
            bias[int(has_plan), s] = regression.intercept_[0] - weight @ scaler.mean_
    return TimingRegression(slope, bias, np.ones((len(PLANS), len(STATES)), np.float32))


def _frames(time_s: float) -> int:
    return max(1, round(time_s * RATE_HZ))


def _past_mean(track: npt.NDArray, time_s: float) -> npt.NDArray:
    sums = np.cumsum(np.pad(track, (_frames(time_s), 0)))
    return (sums[_frames(time_s) :] - sums[: -_frames(time_s)]) / _frames(time_s)


def _since_s(track: npt.NDArray) -> npt.NDArray:
    at = np.arange(len(track))
    return (at - np.maximum.accumulate(np.where(track > 0, at, -(10**6)))) / RATE_HZ


def _begins(track: npt.NDArray) -> npt.NDArray:
    return (track > 0) & (np.concatenate([[0], track[:-1]]) == 0)


def _decays(track: npt.NDArray, *times_s: float) -> list[npt.NDArray]:
    return [np.exp(-_since_s(track) / time_s) for time_s in times_s]


def _soon(track: npt.NDArray, frames: int) -> npt.NDArray:
    sums = np.cumsum(np.pad(track, (1, frames)))
    return sums[frames : frames + len(track)] > sums[: len(track)]
