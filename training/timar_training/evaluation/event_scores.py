"""Scores of event prediction by people: AUC, lift, Brier skill, calibration, F1 above chance, distances.

Every figure comes from sums over people, so that a bootstrap over people needs only new weights of them.

    P   people
    N   recordings (a person in a meeting)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import special, stats

Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

BINS = 1500
RESAMPLES = 1000
TOP = 0.03
TOLERANCE_S = 0.5


def bootstrap_weights(people: int, seed: int = 0) -> Array:
    """Return how often each person was drawn in each resample, (1 + RESAMPLES, P); the first is everybody."""
    drawn = np.random.default_rng(seed).integers(people, size=(RESAMPLES, people))
    counts = np.stack([np.bincount(row, minlength=people) for row in drawn])
    return np.concatenate([np.ones((1, people)), counts])


def interval(values: Array) -> list[float] | None:
    """Return the 95 % interval of bootstrapped values (1 + RESAMPLES,); None where none is finite."""
    finite = values[1:][np.isfinite(values[1:])]
    return np.percentile(finite, [2.5, 97.5]).round(4).tolist() if len(finite) else None


@dataclasses.dataclass(frozen=True)
class Ranking:
    """How a score and its events are distributed, of each person."""

    events: Array
    """(P, B) moments before an event by score bin, rising."""
    others: Array
    """(P, B) other moments."""
    logit: Array
    """(B,) mean logit of a bin."""
    within: Array
    """(P, 2) sum over recordings of AUC times events, and of events."""
    squares: Array
    """(P, 3) sum of squared errors, of events, and number of moments."""

    def auc(self, weights: Array) -> Array:
        """Return the pooled AUC of each resample (R,)."""
        events, others = weights @ self.events, weights @ self.others
        below = np.cumsum(others, 1) - 0.5 * others
        return (events * below).sum(1) / (events.sum(1) * others.sum(1))

    def auc_within(self, weights: Array) -> Array:
        """Return the AUC within recordings, weighed by events (R,)."""
        sums = weights @ self.within
        return sums[:, 0] / sums[:, 1]

    def lift(self, weights: Array) -> Array:
        """Return how much more frequent events are in the highest TOP of the moments (R,)."""
        events, others = (weights @ part for part in (self.events, self.others))
        all_ = events + others
        rest = np.maximum(TOP * all_.sum(1, keepdims=True) - (np.cumsum(all_[:, ::-1], 1)[:, ::-1] - all_), 0)
        share = np.minimum(rest / np.maximum(all_, 1e-9), 1)
        return (events * share).sum(1) / (TOP * all_.sum(1)) / (events.sum(1) / all_.sum(1))

    def brier_skill(self, weights: Array) -> Array:
        """Return 1 - squared error / that of the constant base rate of these very moments (R,)."""
        error, events, moments = (weights @ self.squares).T
        rate = events / moments
        return 1 - error / (moments * rate * (1 - rate))

    def calibration(self, weights: Array, resamples: int = 200) -> tuple[Array, Array]:
        """Return slope and intercept of a logistic regression of events on the logit, some resamples."""
        x = np.stack([np.ones_like(self.logit), self.logit], 1)
        out = []
        for row in weights[: 1 + resamples]:
            events, others = row @ self.events, row @ self.others
            rate = events.sum() / max(events.sum() + others.sum(), 1e-9)
            beta = np.array([special.logit(rate), 0.0])
            for _ in range(12):
                p = special.expit(x @ beta)
                total = events + others
                gradient = x.T @ (events - total * p)
                hessian = (x * (total * p * (1 - p))[:, None]).T @ x
                beta = beta + np.linalg.solve(hessian + 1e-9 * np.eye(2), gradient)
            # Events that a score tells apart without error have no slope.
            out.append(beta if np.abs(beta).max() < 50 else np.full(2, np.nan))
        slope = np.array(out)
        return slope[:, 1], slope[:, 0]

    def curve(self, parts: int = 10) -> list[dict[str, float]]:
        """Return predicted and observed frequency in parts of equal size."""
        events, others = self.events.sum(0), self.others.sum(0)
        all_ = events + others
        part = np.minimum((parts * (np.cumsum(all_) - 0.5 * all_) / all_.sum()).astype(int), parts - 1)
        predicted = all_ / (1 + np.exp(-self.logit))
        return [
            {"predicted": round(float(predicted[part == k].sum() / all_[part == k].sum()), 5),
             "observed": round(float(events[part == k].sum() / all_[part == k].sum()), 5)}
            for k in range(parts) if all_[part == k].sum() > 0
        ]  # fmt: skip


def rank_events(score: npt.NDArray, soon: BoolArray, use: BoolArray, person: npt.NDArray[np.int_]) -> Ranking:
    """Sum up a score (N, n) against events (N, n) where they count, by the person (N,) of each recording."""
    people = int(person.max()) + 1
    chosen = score[use].astype(np.float64)
    # Fine bins at the top, where the lift is measured.
    shares = 1 - np.geomspace(1e-4, 1, BINS)[::-1]
    edges = np.unique(np.quantile(chosen, shares[1:]))
    count = len(edges) + 1
    events, others = np.zeros((people, count)), np.zeros((people, count))
    within, squares = np.zeros((people, 2)), np.zeros((people, 3))
    logit_sum, logit_count = np.zeros(count), np.zeros(count)
    for i, who in enumerate(person):
        x, y = score[i][use[i]].astype(np.float64), soon[i][use[i]]
        where = np.searchsorted(edges, x, side="right")
        events[who] += np.bincount(where[y], minlength=count)
        others[who] += np.bincount(where[~y], minlength=count)
        clipped = np.clip(x, 1e-6, 1 - 1e-6)
        logit_sum += np.bincount(where, np.log(clipped / (1 - clipped)), minlength=count)
        logit_count += np.bincount(where, minlength=count)
        squares[who] += np.square(x - y).sum(), y.sum(), len(y)
        if 0 < y.sum() < len(y):
            within[who] += _auc(y, x) * y.sum(), y.sum()
    return Ranking(events, others, logit_sum / np.maximum(logit_count, 1), within, squares)


def _auc(label: BoolArray, score: Array) -> float:
    ranks, ones = stats.rankdata(score), int(label.sum())
    return float((ranks[label].sum() - ones * (ones + 1) / 2) / (ones * (len(label) - ones)))


def matched(found_s: Array, true_s: Array) -> tuple[BoolArray, BoolArray]:
    """Match sorted onsets one to one, in order, within TOLERANCE_S; return which of each are matched."""
    hit_found, hit_true, i, j = np.zeros(len(found_s), np.bool_), np.zeros(len(true_s), np.bool_), 0, 0
    while i < len(found_s) and j < len(true_s):
        if abs(found_s[i] - true_s[j]) <= TOLERANCE_S + 1e-9:
            hit_found[i] = hit_true[j] = True
            i, j = i + 1, j + 1
        elif found_s[i] < true_s[j]:
            i += 1
        else:
            j += 1
    return hit_found, hit_true


def hits_above_chance(
    found: Sequence[npt.NDArray[np.int_]],
    true: Sequence[npt.NDArray[np.int_]],
    moments: BoolArray,
    person: npt.NDArray[np.int_],
    rate_hz: int,
    shifts: int = 10,
) -> Array:
    """Return (P, 4): hits, hits by chance, found, true; F1 is hits / (found + true).

    An event counts where it begins; its partner may lie over the border. Chance turns the found events of
    such moments around on those moments' own time, so that how many there are brings nothing.

    Args:
        found: Frames of N recordings, sorted.
        true: Annotated ones.
        moments: (N, T).
        person: (N,) whose recording it is.
        rate_hz: Frames a second.
        shifts: How many turns chance is the mean of.
    """
    out = np.zeros((int(person.max()) + 1, 4))
    for who, mine, theirs, mask in zip(person, found, true, moments, strict=True):
        place = np.flatnonzero(mask)
        if not len(place):
            continue
        inside, wanted = mask[mine], mask[theirs]
        hit_found, hit_true = matched(mine / rate_hz, theirs / rate_hz)
        chance, at = 0.0, np.searchsorted(place, mine[inside])
        for shift in np.linspace(0.05, 0.95, shifts) * len(place) if len(at) else ():
            moved = np.concatenate([place[(at + int(shift)) % len(place)], mine[~inside]])
            order = np.argsort(moved, kind="stable")
            turned_found, turned_true = matched(moved[order] / rate_hz, theirs / rate_hz)
            chance += (turned_found[order < len(at)].sum() + turned_true[wanted].sum()) / shifts
        out[who] += hit_found[inside].sum() + hit_true[wanted].sum(), chance, inside.sum(), wanted.sum()
    return out


def f1_above_chance(sums: Array) -> Array:
    """Return F1 less that by chance, of sums as of `hits_above_chance` (..., 4)."""
    difference: Array = (sums[..., 0] - sums[..., 1]) / np.maximum(sums[..., 2] + sums[..., 3], 1)
    return difference


def distance_to_people(
    drawn: Sequence[float], by_person: Sequence[Sequence[float]], fewest: int = 20
) -> dict[str, float | None]:
    """Return the Kolmogorov-Smirnov distance of drawn values to people's, and people's among each other.

    Args:
        drawn: Of all heads together.
        by_person: Of each person.
        fewest: A person with fewer values is not compared with the others.
    """
    everybody = np.concatenate([np.asarray(values, float) for values in by_person])
    if not len(drawn) or not len(everybody):
        return {}
    distance = _ks(np.asarray(drawn, float), everybody)
    between = [
        _ks(
            np.asarray(values, float),
            np.concatenate([np.asarray(v, float) for k, v in enumerate(by_person) if k != i]),
        )
        for i, values in enumerate(by_person)
        if len(values) >= fewest
    ]
    spread = np.percentile(between, [50, 90]).round(3).tolist() if between else [None] * 2
    return {
        "distance": rounded(distance, 3),
        "between_people_median": spread[0],
        "between_people_p90": spread[1],
    }


def _ks(first: Array, second: Array) -> float:
    return float(stats.ks_2samp(first, second).statistic) if len(first) and len(second) else float("nan")


def figure(name: str, values: Array) -> dict[str, object]:
    """Return a figure and its interval, by values of all resamples, as `name` and `name_95`."""
    return {name: rounded(float(values[0])), f"{name}_95": interval(values)}


def rounded(value: float, digits: int = 4) -> float | None:
    """Return a figure as JSON holds it; None where there was nothing to count."""
    return round(value, digits) if np.isfinite(value) else None
