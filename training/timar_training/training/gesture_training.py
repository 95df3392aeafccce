"""Training of the gesture predictor on annotated meetings: network, own history, rates, durations."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import save_file
from scipy import optimize, special
from sklearn.linear_model import LogisticRegression
from timar_common.atomic import replacing_file
from timar_common.config import Count, CountOrZero, NonNegative, Positive, Probability, Range, check
from timar_model.gestures.features import FEATURE_NAMES, LISTENING, RATE_HZ, STATES, USER_MOTION_FEATURES
from timar_model.gestures.predictor import (
    APART_FRAMES,
    CALIBRATION_ROWS,
    DECISIVE_PAUSE_S,
    FORMAT,
    PAUSE_EDGES_S,
    SILENT,
    GestureNetwork,
)

from ..corpora.ami import HeadEvent
from ..corpora.head_capture import stroke_arrays
from ..prediction.free_running import (
    LAG_FRAMES,
    ContextForecast,
    context_forecast,
    draw_events,
    feature_chunks,
)
from ..prediction.timing_regression import PLANS, TimingRegression, fit_timing, timing_features
from ..preparation.annotated import AnnotatedTracks, BoolArray, begins_soon, frame_of

FloatArray = npt.NDArray[np.float32]
KINDS = ("nod", "shake", "tilt")
NEVER_S = 1e3
LEAST_SLOPE = 0.05
"""Logits whose slope on other people is less foretell nothing."""


@dataclasses.dataclass(frozen=True)
class GestureTrainingConfig:
    """How the predictor is trained."""

    hidden: Count = 64
    """Width of the two hidden layers."""
    epochs: Positive = 4.0
    """Times that every sample is seen."""
    batch: Count = 4096
    """Samples of a step."""
    learning_rate: Positive = 3e-3
    """Its highest value; it rises and falls once."""
    weight_decay: NonNegative = 1e-4
    """Of AdamW."""
    dropout: Probability = 0.1
    """Share of hidden units left out."""
    unseen: Probability = 0.5
    """Share of samples in which the user's head is hidden."""
    stride_frames: Annotated[int, Range(1, 12)] = 3
    """Every so many frames are a sample."""
    lag_frames: CountOrZero = LAG_FRAMES
    """How far the newest known frame of the user stands behind."""
    prior_events: Positive = 20.0
    """Gestures of the average person that are added to each person's own when their rate is estimated."""
    seed: CountOrZero = 0
    """Everything follows from it."""

    def __post_init__(self) -> None:
        check(self)


@dataclasses.dataclass(frozen=True)
class GestureSamples:
    """Features of everybody at every few frames, made once and used by every fold."""

    features: npt.NDArray[np.float16]
    """(N, n, D), the user's head seen."""
    state: npt.NDArray[np.int8]
    """(N, n)."""


def collect_samples(
    tracks: AnnotatedTracks, config: GestureTrainingConfig, advance: Callable[[int, int], None] | None = None
) -> GestureSamples:
    """Compute the training features of everybody."""
    rows, states = [], []
    for first, features, state in feature_chunks(tracks, config.lag_frames, True, advance):
        keep = slice(-first % config.stride_frames, None, config.stride_frames)
        rows.append(features[:, keep].astype(np.float16))
        states.append(state[:, keep])
    return GestureSamples(np.concatenate(rows, 1), np.concatenate(states, 1))


def train_gestures(
    tracks: AnnotatedTracks,
    samples: GestureSamples,
    who: npt.NDArray[np.int_],
    config: GestureTrainingConfig,
    kinematics: dict[str, Any],
    about: dict[str, Any],
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> GestureNetwork:
    """Train on some of the people.

    Args:
        tracks: Everybody.
        samples: Of everybody.
        who: Indices of those to learn from.
        config: Settings.
        kinematics: Strokes of real heads (`timar_model.gestures.kinematics`).
        about: Put into the file beside what is known here.
        advance: Called with (steps done, all).
    """
    arrays = _train_network(tracks, samples, who, config, advance)
    states, kinds, bins = len(STATES), len(KINDS), len(PAUSE_EDGES_S) + 1
    arrays |= {
        "pause_same": np.ones((states, kinds, bins), np.float32),
        "pause_other": np.ones((states, kinds, bins), np.float32),
        "rate_scale": np.ones((states, kinds), np.float32),
        "calibration": np.tile(np.array([1, 0], np.float32), (*CALIBRATION_ROWS, kinds, 1)),
        "threshold": np.ones((states, kinds), np.float32),
        **stroke_arrays(kinematics, KINDS),
    }
    about = {
        **about, "format": FORMAT, "features": list(FEATURE_NAMES), "kinds": list(KINDS),
        "hidden": config.hidden, "config": dataclasses.asdict(config),
        "meetings": sorted({tracks.people[i].meeting for i in who}),
    }  # fmt: skip
    weights, mine = GestureNetwork(arrays, about), tracks.subset(who)
    forecast = context_forecast([weights], np.zeros(len(who), int), mine, config.lag_frames)
    arrays["duration_s"] = _durations(mine, forecast.state)
    _fit_history(arrays, mine, forecast, config)
    _scale_rates(weights, mine, forecast, config)
    arrays["threshold"][:] = _thresholds(mine, forecast)
    arrays |= _fit_timing(mine, forecast, config).arrays()
    return weights


def calibrate(
    weights: Sequence[GestureNetwork],
    folds: Sequence[GestureNetwork],
    fold: npt.NDArray[np.int_],
    tracks: AnnotatedTracks,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Temper logits, and solve the decisive head's thresholds, by what folds say of people they never saw.

    Those of a fold follow from the people of the other folds alone; those of all people from everybody. The
    logits of a state, and of whether the user is seen, are drawn towards their middle by the slope that those
    people show; the mean probability stays what the network learned. (An offset of its own for each fold
    would be high where the left-out people gesture little, and so undo the calibration of all.)

    Args:
        weights: To calibrate, in place.
        folds: Weights trained without each fold, not calibrated yet.
        fold: (N,) of each person.
        tracks: Everybody.
        advance: Called with frames done, of all.
    """
    lag = int(folds[0].about["config"]["lag_frames"])
    use = np.stack([tracks.annotated & ~tracks.busy(kind) for kind in KINDS], -1)
    soon = np.stack([begins_soon(tracks.onsets(kind)) for kind in KINDS], -1)
    forecasts = [context_forecast(list(folds), fold, tracks, lag, seen, advance) for seen in (False, True)]
    unseen = forecasts[0]
    group = np.where((unseen.state == LISTENING) & ~tracks.speaks_soon(), SILENT, unseen.state)
    logits = [special.logit(np.clip(forecast.probability, 1e-6, 1 - 1e-6)) for forecast in forecasts]
    for one in weights:
        learned = set(one.about["meetings"])
        known = np.array([person.meeting in learned for person in tracks.people])
        table = one.arrays["calibration"]
        for seen, row, k in np.ndindex(*CALIBRATION_ROWS, len(KINDS)):
            here = use[known, ::3, k] & (group[known, ::3] == row)
            table[seen, row, k] = _tempered(logits[seen][known, ::3, k][here], soon[known, ::3, k][here])
        slope, offset = np.moveaxis(table[0][group[known]], -1, 0)
        probability = special.expit(slope * logits[0][known] + offset).astype(np.float32)
        part = ContextForecast(probability, unseen.rate[known], unseen.state[known])
        one.arrays["threshold"][:] = _thresholds(tracks.subset(np.flatnonzero(known)), part)
        # A probability that follows nothing decides nothing.
        one.arrays["threshold"][table[0, : len(STATES), :, 0] < LEAST_SLOPE] = 1.0


def _tempered(logit: FloatArray, label: BoolArray) -> tuple[float, float]:
    """Return slope (0..1) and offset that calibrate logits (n,) and keep the mean of their probabilities."""
    if not 30 <= label.sum() < len(label):
        return 1.0, 0.0
    fitted = LogisticRegression(C=1e6).fit(logit[:, None], label)
    # Less than no skill is none: then the mean is all that is known.
    slope = float(np.clip(fitted.coef_[0, 0], 0.0, 1.0))
    mean = float(special.expit(logit).mean())
    offset = optimize.brentq(lambda offset: special.expit(slope * logit + offset).mean() - mean, -20.0, 20.0)
    return slope, float(offset)


def save_weights(path: Path, weights: GestureNetwork) -> None:
    """Write the file that `timar_model.gestures.predictor.read_weights` reads."""
    with replacing_file(path) as new:
        tensors = {name: np.ascontiguousarray(array, np.float32) for name, array in weights.arrays.items()}
        save_file(tensors, new, metadata={"about": json.dumps(dict(weights.about))})


# The network.


def _train_network(
    tracks: AnnotatedTracks,
    samples: GestureSamples,
    who: npt.NDArray[np.int_],
    config: GestureTrainingConfig,
    advance: Callable[[int, int], None],
) -> dict[str, FloatArray]:
    mine = tracks.subset(who)
    use, soon, begins = _targets(mine, config)
    features, state = samples.features[who], samples.state[who]
    shift = _person_shift(use, soon, state, config)  # (n, S, K)
    chosen = np.flatnonzero(use.any(-1).ravel())
    flat = features.reshape(-1, features.shape[-1])
    sample = flat[chosen[::7]].astype(np.float32)
    mean, scale = sample.mean(0), sample.std(0) + np.float32(1e-3)
    mean[USER_MOTION_FEATURES], scale[USER_MOTION_FEATURES] = (
        0.0,
        np.maximum(scale[USER_MOTION_FEATURES], 0.3),
    )
    torch.manual_seed(config.seed)
    random = np.random.default_rng(config.seed)
    size, kinds = config.hidden, len(KINDS)
    first, second = torch.nn.Linear(flat.shape[-1], size), torch.nn.Linear(size, size)
    rest = torch.nn.SiLU(), torch.nn.Dropout(config.dropout)
    trunk = torch.nn.Sequential(first, *rest, second, *rest)
    heads = torch.nn.Linear(size, 2 * kinds)
    base = [(counted.sum((0, 1)) + 0.5) / (use.sum((0, 1)) + 1) for counted in (soon, begins)]
    sample_s = config.stride_frames / RATE_HZ
    with torch.no_grad():
        heads.weight.mul_(0.3)
        heads.bias.copy_(
            torch.from_numpy(np.log(np.concatenate([base[0] / (1 - base[0]), base[1] / sample_s])))
        )
    parameters = [*trunk.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, config.learning_rate, weight_decay=config.weight_decay)
    batch = min(config.batch, max(64, len(chosen) // 32))  # A small archive is trained in as many steps.
    steps = max(10, int(config.epochs * len(chosen) / batch))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, steps)
    targets = [array.reshape(-1, kinds).astype(np.float32) for array in (use, soon, begins)]
    flat_state, per_person = state.ravel(), features.shape[1]
    for step in range(steps):
        rows = chosen[random.integers(len(chosen), size=batch)]
        x = (flat[rows].astype(np.float32) - mean) / scale
        x[random.random(len(rows)) < config.unseen, USER_MOTION_FEATURES] = 0.0
        used, soon_here, begins_here = (torch.from_numpy(array[rows]) for array in targets)
        offset = torch.from_numpy(shift[rows // per_person, flat_state[rows]])
        logits, rate = heads(trunk(torch.from_numpy(x))).split(kinds, -1)
        log_count = rate + offset + float(np.log(sample_s))
        losses = torch.nn.functional.binary_cross_entropy_with_logits(
            logits + offset, soon_here, reduction="none"
        ) + (log_count.exp() - begins_here * log_count)
        loss = (losses * used).sum() / len(rows)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 20 == 0 or step == steps - 1:
            advance(step + 1, steps)
    out = {"mean": mean, "scale": scale}
    for name, layer in (("hidden1", first), ("hidden2", second)):
        out |= {f"{name}.weight": layer.weight.detach().numpy(), f"{name}.bias": layer.bias.detach().numpy()}
    for name, part in (("soon", slice(None, kinds)), ("rate", slice(kinds, None))):
        out |= {
            f"{name}.weight": heads.weight.detach().numpy()[part],
            f"{name}.bias": heads.bias.detach().numpy()[part],
        }
    return out


def _targets(
    tracks: AnnotatedTracks, config: GestureTrainingConfig
) -> tuple[BoolArray, BoolArray, BoolArray]:
    """Return (N, n, K) whether a sample counts, a gesture begins soon, one begins before the next sample."""
    stride = config.stride_frames
    use, soon, begins = [], [], []
    for kind in KINDS:
        onsets = tracks.onsets(kind)
        padded = np.pad(onsets, ((0, 0), (0, -onsets.shape[1] % stride)))
        use.append((tracks.annotated & ~tracks.busy(kind))[:, ::stride])
        soon.append(begins_soon(onsets)[:, ::stride])
        begins.append(padded.reshape(len(onsets), -1, stride).any(-1))
    return np.stack(use, -1), np.stack(soon, -1) & np.stack(use, -1), np.stack(begins, -1) & np.stack(use, -1)


def _person_shift(
    use: BoolArray, soon: BoolArray, state: npt.NDArray[np.int8], config: GestureTrainingConfig
) -> FloatArray:
    """Return the logarithm of how often each person gestures, of the average, by state and kind (N, S, K)."""
    out = np.zeros((len(use), len(STATES), use.shape[-1]), np.float32)
    prior = config.prior_events * 12 / config.stride_frames / 3
    for s in range(len(STATES)):
        here = use & (state == s)[..., None]
        expected = here.sum(1) * ((soon & here).sum((0, 1)) / np.maximum(here.sum((0, 1)), 1))
        ratio = ((soon & here).sum(1) + prior) / (expected + prior)
        # The mean over all time is one, so that the average person has the average rate.
        whole = expected.sum(0)
        ratio /= np.where(whole > 0, (ratio * expected).sum(0) / np.maximum(whole, 1e-9), 1.0)
        out[:, s] = np.log(ratio)
    return out


# What drawing needs.


def _fit_history(
    arrays: dict[str, FloatArray],
    tracks: AnnotatedTracks,
    forecast: ContextForecast,
    config: GestureTrainingConfig,
) -> None:
    """Fit how the time since the own last gestures changes the rate, by Poisson regression on bins."""
    edges, bins = np.array(PAUSE_EDGES_S), len(PAUSE_EDGES_S) + 1
    since = np.stack([_since_end_s(tracks, kind) for kind in KINDS], -1)
    free = tracks.annotated & ~tracks.busy()
    for k, kind in enumerate(KINDS):
        same = np.searchsorted(edges, since[..., k], side="right")
        other = np.searchsorted(edges, np.delete(since, k, -1).min(-1), side="right")
        onsets, expected = tracks.onsets(kind), forecast.rate[..., k] / RATE_HZ
        # What a person does more often than others is no effect of the person's own past.
        for s in range(len(STATES)):
            here = free & (forecast.state == s)
            total = np.array([expected[i][here[i]].sum() for i in range(len(here))])
            seen = (onsets & here).sum(1)
            person = ((seen + config.prior_events) / (total + config.prior_events))[:, None]
            weight = (expected * person)[here]
            tables = [arrays["pause_same"][s, k], arrays["pause_other"][s, k]]
            places, hit = (same[here], other[here]), onsets[here]
            for _ in range(10):
                for mine, theirs in ((0, 1), (1, 0)):
                    wanted = np.bincount(places[mine][hit], minlength=bins)
                    had = np.bincount(places[mine], weight * tables[theirs][places[theirs]], minlength=bins)
                    tables[mine][:] = (wanted + 10) / (had + 10)


def _since_end_s(tracks: AnnotatedTracks, kind: str) -> FloatArray:
    out = np.full(tracks.shape, NEVER_S, np.float32)
    for row, person in zip(out, tracks.people, strict=True):
        for event in person.of_kind(kind):
            end = frame_of(event.end_s) + 1
            row[end:] = np.arange(len(row) - end, dtype=np.float32) / RATE_HZ
    return out


def _scale_rates(
    weights: GestureNetwork,
    tracks: AnnotatedTracks,
    forecast: ContextForecast,
    config: GestureTrainingConfig,
) -> None:
    """Scale rates until heads that draw, each knowing its own past, gesture as often as people do."""
    true = _count(tracks, forecast)
    scale, random = weights.arrays["rate_scale"], np.random.default_rng(config.seed)
    for _ in range(4):
        drawn = draw_events(weights, forecast, tracks.annotated, random)
        found = np.zeros_like(true)
        np.add.at(found, (forecast.state[drawn.person, drawn.frame], drawn.kind), 1)
        scale *= np.clip((true + 5) / (found + 5), 0.5, 2.0)


def _fit_timing(
    tracks: AnnotatedTracks, forecast: ContextForecast, config: GestureTrainingConfig
) -> TimingRegression:
    """Fit the baseline on the same people, with thresholds at people's rate."""
    onsets, lag = tracks.onsets(KINDS[0]), config.lag_frames
    use = tracks.annotated & ~tracks.busy(KINDS[0])
    regression = fit_timing(tracks, forecast.state, begins_soon(onsets), use, lag, 2 * config.stride_frames)
    score = np.zeros((len(PLANS), *tracks.shape), np.float32)
    for i in range(tracks.shape[0]):
        table = timing_features(tracks.own[i], tracks.user[i], lag)
        for has_plan in PLANS.values():
            score[int(has_plan), i] = regression.score(table, forecast.state[i], has_plan)
    true = _count(tracks, forecast)[:, 0]
    for has_plan in PLANS.values():
        regression.threshold[int(has_plan)] = joint_thresholds(
            tracks, forecast.state, score[int(has_plan)], true
        )
    return regression


def _count(tracks: AnnotatedTracks, forecast: ContextForecast) -> npt.NDArray[np.float64]:
    """Return how often annotated gestures begin, by state and kind (S, K)."""
    out = np.zeros((len(STATES), len(KINDS)))
    for k, kind in enumerate(KINDS):
        np.add.at(out[:, k], forecast.state[tracks.onsets(kind) & tracks.annotated], 1)
    return out


def _thresholds(tracks: AnnotatedTracks, forecast: ContextForecast) -> FloatArray:
    """Return (S, K) probabilities at which gestures that begin above them are as many as people's."""
    true = _count(tracks, forecast)
    return np.stack(
        [
            joint_thresholds(tracks, forecast.state, forecast.probability[..., k], true[:, k])
            for k in range(len(KINDS))
        ],
        1,
    )


def joint_thresholds(
    tracks: AnnotatedTracks, state: npt.NDArray[np.int8], score: FloatArray, wanted: npt.NDArray[np.float64]
) -> FloatArray:
    """Return the score (S,) of each state from which so many gestures (S,) begin in it.

    A gesture just before a state changes lets the next one wait, so that the states are solved in turn, again
    and again.
    """
    limit = np.full(len(STATES), float(score.max()), np.float32)
    for _ in range(2):
        for s in range(len(STATES)):
            low, high = 0.0, float(score.max()) + 1e-6
            for _ in range(10):
                limit[s] = 0.5 * (low + high)
                excess = np.where(tracks.annotated, score / limit[state], 0)
                rows = decisive_onsets(excess, 1.0)
                found = sum(int((state[i, row] == s).sum()) for i, row in enumerate(rows))
                low, high = (float(limit[s]), high) if found > wanted[s] else (low, float(limit[s]))
    return limit


def decisive_onsets(score: FloatArray, threshold: float, usual_s: float = 0.4) -> list[npt.NDArray[np.int_]]:
    """Return for each of N scores (N, T) the frames where a decisive head begins usual gestures."""
    apart = round((usual_s + max(DECISIVE_PAUSE_S, APART_FRAMES / RATE_HZ)) * RATE_HZ)
    out = []
    for row in score:
        frames, taken, at = np.flatnonzero(row >= threshold), [], 0
        while at < len(frames):
            taken.append(int(frames[at]))
            at = int(np.searchsorted(frames, taken[-1] + apart))
        out.append(np.array(taken, int))
    return out


def _durations(tracks: AnnotatedTracks, state: npt.NDArray[np.int8]) -> FloatArray:
    """Return quantiles of annotated durations by state and kind, (S, K, 21) [s]."""
    out = np.full((len(STATES), len(KINDS), 21), 0.4, np.float32)
    for k, kind in enumerate(KINDS):
        pooled: list[tuple[int, HeadEvent]] = [
            (int(state[i, min(frame_of(event.start_s), state.shape[1] - 1)]), event)
            for i, person in enumerate(tracks.people)
            for event in person.of_kind(kind)
        ]
        for s in range(len(STATES)):
            lengths = [event.end_s - event.start_s for where, event in pooled if where == s]
            if len(lengths) < 30:  # Too few for quantiles of their own.
                lengths = [event.end_s - event.start_s for _, event in pooled] or [0.4]
            out[s, k] = np.quantile(np.clip(lengths, 0.04, 10), np.linspace(0, 1, 21))
    return out
