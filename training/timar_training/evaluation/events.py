"""Judges when and how a head gestures against annotated people: `timar evaluate --events`.

Two questions, kept apart. Does it know when? The published probability against "a nod begins within the next
half second". Does it move like people? Gestures drawn in a free run: rates, durations, intervals, F1 above
chance. All time of the archive counts in which people are annotated, less each recording's first ten seconds.

Timing is genuine: AMI's words and gestures. Nothing is heard: prosody plays no part.

A folder of dyads is judged in the same way. There a model's own motion is judged besides, by the nods in it:
that is the old way of a head to nod, without a probability.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from timar_model.gestures.features import LISTENING, NEITHER, RATE_HZ, SPEAKING, STATES
from timar_model.gestures.gesture import GestureKind
from timar_model.gestures.predictor import GestureNetwork, read_weights
from timar_model.gestures.rendering import FASTEST_HZ
from timar_model.loading import DEFAULT_MODEL, find_model
from timar_model.metrics.movement import nod_spans

from ..corpora.ami import BadArchiveError, read_meetings, series_of
from ..corpora.dyads import Clip, load_dyad
from ..prediction.free_running import LAG_FRAMES, ContextForecast, context_forecast, draw_events
from ..prediction.predictor import predict_all
from ..prediction.predictors import open_predictors
from ..prediction.timing_regression import PLANS, TimingRegression, timing_features
from ..preparation.annotated import AnnotatedTracks, BoolArray, annotated_tracks, begins_soon, frame_of
from ..preparation.dyad_events import downward_speed, dyad_tracks
from ..training.gesture_training import decisive_onsets
from .event_scores import (
    Ranking,
    bootstrap_weights,
    distance_to_people,
    f1_above_chance,
    figure,
    hits_above_chance,
    rank_events,
    rounded,
)

Onsets = list[npt.NDArray[np.int_]]
Log = Callable[[str], None]

SCORED_EVERY = 2
"""Frames."""
_TOGETHER = 16
"""Clips whose motion is made side by side."""
FIGURES = ("auc", "auc_within", "lift", "brier_skill")
NOTE_ARCHIVE = "timing genuine, no sound, so no prosody; model: user unseen; model_seen: user's nods known"
NOTE_DYADS = (
    "speech found in the voices; nods annotated where a clip has events, else found in the recorded motion; "
    "model: user unseen; model_seen: user's nods known; motion: nods found in the model's own motion"
)
JUDGED = ("listening", "silent", "speaking")
"""Silent: listening without own speech in the next second, so without an own "mhm"."""


@dataclasses.dataclass(frozen=True)
class _Judged:
    """What people did, and where it counts."""

    tracks: AnnotatedTracks
    person: npt.NDArray[np.int_]
    """(N,) the same number for the same person in several meetings."""
    state: npt.NDArray[np.int8]
    """(N, T), known without lag."""
    onsets: BoolArray
    """(N, T) of nods."""

    def moments(self, name: str) -> BoolArray:
        """Return the frames of one of JUDGED, (N, T)."""
        if name == "speaking":
            return self.tracks.annotated & (self.state == SPEAKING)
        listening = self.tracks.annotated & (self.state == LISTENING)
        return listening & ~self.tracks.speaks_soon() if name == "silent" else listening


def find_weights(model: str) -> list[GestureNetwork]:
    """Return gesture weights: of a file, of a folder that `timar train-gestures` wrote, or those shipped.

    Args:
        model: A path, or a model's folder or name: every shipped model gestures by the shipped weights.

    Raises:
        FileNotFoundError: There is no such model.
        ValueError: A file holds no gesture weights.
    """
    path = Path(model)
    if path.is_file():
        return [read_weights(path)]
    folder = find_model(model)
    if (folder / "config.json").is_file():
        return [read_weights()]
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{folder} holds neither a model nor gesture weights; give one that does")
    return [read_weights(file) for file in files]


def assign_weights(
    weights: Sequence[GestureNetwork], tracks: AnnotatedTracks, log: Log = lambda message: None
) -> npt.NDArray[np.int_]:
    """Return which weights judge each person (N,): the most learned of those that know nobody of the series.

    Where all weights know the series but none the very meeting, the people were met before; that is logged.

    Raises:
        BadArchiveError: All weights learned from a meeting.
    """
    learned = [set(one.about.get("meetings", ())) for one in weights]
    out, met = [], set()
    for series, person in zip(tracks.series, tracks.people, strict=True):
        free = [k for k, known in enumerate(learned) if series not in set(map(series_of, known))]
        if not free:
            free = [k for k, known in enumerate(learned) if person.meeting not in known]
            met.add(series)
        if not free:
            raise BadArchiveError(
                f"the weights learned from meeting {person.meeting} of the archive and cannot be judged by "
                "it; give other meetings, or a folder of timar train-gestures --folds 5"
            )
        out.append(max(free, key=lambda k: len(learned[k])))
    if met:
        log(f"the weights learned from other meetings of the people of {', '.join(sorted(met))}")
    return np.array(out)


def judge_events(
    archive: Path,
    model: str = DEFAULT_MODEL,
    *,
    gestures: str = "",
    lag_frames: int = LAG_FRAMES,
    seed: int = 0,
    draws: int = 3,
    turn_frames: int | None = None,
    log: Log = lambda message: None,
    progress: Callable[[str], Callable[[int, int], None]] = lambda text: lambda done, total: None,
) -> dict[str, Any]:
    """Return every figure of a model on an archive, as JSON.

    Args:
        archive: AMI's manual annotations, or a folder of dyads.
        model: As of `find_weights`; of a model's folder, its own motion on dyads is judged as well.
        gestures: Gesture weights in place of the model's, as of `find_weights`.
        lag_frames: Of the user, as shown; 0 is judged besides.
        seed: Of what is drawn.
        draws: How often each head is run that draws.
        turn_frames: Length of the turns in which the model's own motion is made; None: the model's own.
        log: Called with what was left out.
        progress: Called with the name of a long step; returns what is called with (done, all).

    Raises:
        BadArchiveError: The archive cannot be read or used.
        ValueError: The weights cannot be read.
    """
    weights = find_weights(gestures or model)
    clips: list[Clip] = []
    if is_folder_of_dyads(archive):
        tracks, clips = dyad_tracks(archive, progress("reading"))
    else:
        tracks = annotated_tracks(read_meetings(archive, log))
    of = assign_weights(weights, tracks, log)
    names = sorted({person.name for person in tracks.people})
    person = np.array([names.index(p.name) for p in tracks.people])

    def forecast(lag: int, seen: bool) -> ContextForecast:
        text = f"user {'seen' if seen else 'unseen'}, lag {lag}"
        return context_forecast(list(weights), of, tracks, lag, seen, progress(text))

    plain = forecast(0, False)
    judged = _Judged(tracks, person, plain.state, tracks.onsets("nod"))
    shown = {"model": forecast(lag_frames, False), "model_seen": forecast(lag_frames, True)}
    scores = {name: f.probability[..., 0] for name, f in shown.items()}
    scores |= _timing_scores(weights, of, tracks, shown["model"].state, lag_frames)
    bare = {"model": plain.probability[..., 0], "model_seen": forecast(0, True).probability[..., 0]}
    bare |= _timing_scores(weights, of, tracks, plain.state, 0)
    motion = _own_motion(model, clips, turn_frames, seed, progress) if clips else []
    resamples = bootstrap_weights(len(names))
    with np.errstate(all="ignore"):  # Resamples without any event have no figure.
        states, differences = _know_when(judged, scores, resamples)
        bare_states, bare_differences = _know_when(judged, bare, resamples)
        others = _other_kinds(judged, shown, resamples)
    moved = _move_like_people(judged, list(weights), of, shown, scores, resamples, draws, seed, motion)
    if motion:
        for name, row in _know_when_by_motion(judged, motion, resamples).items():
            states[name]["motion"] = row
    for name in JUDGED:
        for method, row in moved[name].items():
            if isinstance(row, dict):
                states[name].setdefault(method, {}).update(row)
            else:
                states[name][method] = row
        differences[name] |= moved["differences"][name]
    return {
        "archive": archive.name, "recordings": len(tracks.people), "people": len(names),
        "annotated_h": round(float(tracks.annotated.sum() / RATE_HZ / 3600), 2),
        "lag_s": lag_frames / RATE_HZ,
        "note": NOTE_DYADS if clips else NOTE_ARCHIVE,
        "states": states, "differences": differences,
        "without_lag": {"states": bare_states, "differences": bare_differences},
        "distributions": moved["distributions"], "other_kinds": others,
    }  # fmt: skip


def is_folder_of_dyads(path: Path) -> bool:
    """Return whether a path is a folder that holds voices of dyads."""
    return path.is_dir() and next(path.glob("*_speaker1.wav"), None) is not None


def _own_motion(
    model: str,
    clips: Sequence[Clip],
    turn_frames: int | None,
    seed: int,
    progress: Callable[[str], Callable[[int, int], None]],
) -> list[npt.NDArray[np.float32]]:
    """Return a model's motion of each clip as shown (T, 56); none where `model` is no model's folder."""
    if Path(model).is_file() or not (find_model(model) / "config.json").is_file():
        return []
    (_, predictor), *_ = open_predictors(model, clips[0].folder, turn_lengths=(turn_frames,))
    advance, found = progress("motion"), []
    for first in range(0, len(clips), _TOGETHER):
        dyads = [
            dataclasses.replace(load_dyad(clip), agent_motion=None)
            for clip in clips[first : first + _TOGETHER]
        ]
        delay = ((predictor.delay_frames, 0), (0, 0))
        found += [np.pad(motion, delay, mode="edge") for motion in predict_all(predictor, dyads, seed)]
        advance(min(first + _TOGETHER, len(clips)), len(clips))
    return found


def _know_when_by_motion(
    judged: _Judged, motion: Sequence[npt.NDArray[np.float32]], resamples: Any
) -> dict[str, Any]:
    """Return how well a motion's downward speed ranks moments; it is no probability, so nothing else."""
    score = np.zeros(judged.tracks.shape, np.float32)
    for row, track in zip(score, motion, strict=True):
        length = min(len(row), len(track))
        row[:length] = downward_speed(track)[:length]
    with np.errstate(all="ignore"):
        states, _ = _know_when(judged, {"motion": score}, resamples)
    return {
        name: {
            key: value for key, value in row["motion"].items() if key.startswith(("auc", "lift"))
        }
        for name, row in states.items()
    }  # fmt: skip


def _timing_scores(
    weights: Sequence[GestureNetwork],
    of: npt.NDArray[np.int_],
    tracks: AnnotatedTracks,
    state: npt.NDArray[np.int8],
    lag_frames: int,
) -> dict[str, npt.NDArray[np.float32]]:
    """Return each regression's probability (N, T); none where the weights hold no regression."""
    regressions = [TimingRegression.of(dict(one.arrays)) for one in weights]
    if any(regressions[k] is None for k in set(of.tolist())):
        return {}
    out = {name: np.zeros(tracks.shape, np.float32) for name in PLANS}
    for i, k in enumerate(of):
        table, regression = timing_features(tracks.own[i], tracks.user[i], lag_frames), regressions[k]
        for name, has_plan in PLANS.items():
            if regression is not None:
                out[name][i] = regression.score(table, state[i], has_plan)
    return out


def _know_when(
    judged: _Judged, scores: dict[str, Any], resamples: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    every = slice(None, None, SCORED_EVERY)
    soon, busy = begins_soon(judged.onsets), judged.tracks.busy("nod")
    half = round(0.5 * RATE_HZ)
    states: dict[str, Any] = {}
    differences: dict[str, Any] = {}
    for name in JUDGED:
        use = judged.moments(name) & ~busy
        use[:, -half:] = False
        if not use.any():
            states[name], differences[name] = {}, {}
            continue
        rankings = {
            method: rank_events(score[:, every], soon[:, every], use[:, every], judged.person)
            for method, score in scores.items()
        }
        states[name] = {method: _figures(ranking, resamples) for method, ranking in rankings.items()}
        differences[name] = {
            f"{mine} - {other}": _paired(rankings[mine], rankings[other], resamples)
            for mine in ("model", "model_seen") for other in ("timing", "timing_plan", "model")
            if mine != other and other in rankings
        }  # fmt: skip
    return states, differences


def _figures(ranking: Ranking, resamples: Any) -> dict[str, Any]:
    slope, _ = ranking.calibration(resamples)
    out = figure("calibration_slope", slope)
    for name in FIGURES:
        out |= figure(name, getattr(ranking, name)(resamples))
    return {**out, "calibration": ranking.curve()}


def _paired(mine: Ranking, other: Ranking, resamples: Any) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name in FIGURES:
        out |= figure(name, getattr(mine, name)(resamples) - getattr(other, name)(resamples))
    return out


def _move_like_people(
    judged: _Judged,
    weights: list[GestureNetwork],
    of: npt.NDArray[np.int_],
    shown: dict[str, ContextForecast],
    scores: dict[str, Any],
    resamples: Any,
    draws: int,
    seed: int,
    motion: Sequence[npt.NDArray[np.float32]],
) -> dict[str, Any]:
    tracks, allowed = judged.tracks, judged.tracks.annotated
    truth = [np.flatnonzero(row) for row in judged.onsets & allowed]
    random = np.random.default_rng(seed)
    runs: dict[str, list[Onsets]] = {"annotated": [truth]}
    if motion:
        rows = zip([nod_spans(track) for track in motion], allowed, strict=True)
        runs["motion"] = [
            [np.array([f for f, _ in spans if row[f : f + 1].any()], int) for spans, row in rows]
        ]
    durations: list[tuple[str, float]] = []
    for method, forecast in shown.items():
        runs[method], runs[f"{method}_decisive"] = [], []
        for is_decisive in [False] * draws + [True]:
            onsets: Onsets = [np.zeros(0, int)] * len(of)
            for k in sorted(set(of.tolist())):
                which = np.flatnonzero(of == k)
                part = ContextForecast(
                    forecast.probability[which], forecast.rate[which], forecast.state[which]
                )
                drawn = draw_events(weights[k], part, allowed[which], random, is_decisive=is_decisive)
                nods = drawn.kind == 0
                for position, i in enumerate(which):
                    mine = nods & (drawn.person == position)
                    onsets[i] = drawn.frame[mine]
                    if method == "model" and not is_decisive:
                        durations += [
                            (STATES[s], float(d))
                            for s, d in zip(
                                judged.state[i, drawn.frame[mine]], drawn.duration_s[mine], strict=True
                            )
                        ]
            runs[f"{method}_decisive" if is_decisive else method].append(onsets)
    for method in [name for name in PLANS if name in scores]:
        chance = _scaled_to_people(judged, scores[method])
        runs[method] = [
            [np.flatnonzero(random.random(len(row)) < row) for row in chance] for _ in range(draws)
        ]
        runs[f"{method}_decisive"] = [
            _decided(judged, weights, of, scores[method], shown["model"].state, method)
        ]
    chance = _scaled_to_people(judged, np.ones(tracks.shape, np.float32))
    runs["random"] = [[np.flatnonzero(random.random(len(row)) < row) for row in chance] for _ in range(draws)]
    out: dict[str, Any] = {"differences": {}}
    for name in JUDGED:
        moments = judged.moments(name)
        minutes = moments.sum() / RATE_HZ / 60
        out[name] = {"true_per_min": rounded(float((judged.onsets & moments).sum() / max(minutes, 1e-9)), 3),
                     "minutes": round(float(minutes), 1)}  # fmt: skip
        sums = {}
        for method, found in runs.items():
            parts = [hits_above_chance(one, truth, moments, judged.person, RATE_HZ) for one in found]
            sums[method] = np.sum(parts, 0)
            base, end = (
                (method[: -len("_decisive")], "_decisive") if method.endswith("_decisive") else (method, "")
            )
            row = out[name].setdefault(base, {})
            row |= figure(f"f1_above_chance{end}", f1_above_chance(resamples @ sums[method]))
            per_min = sums[method][:, 2].sum() / max(minutes, 1e-9) / len(found)
            row[f"nods_per_min{end}"] = rounded(float(per_min), 3)
        out["differences"][name] = {
            f"{mine} - {other}, f1_above_chance": figure(
                "f1", f1_above_chance(resamples @ sums[mine]) - f1_above_chance(resamples @ sums[other])
            )
            for end in ("", "_decisive")
            for mine, other in ((f"model{end}", f"timing{end}"), (f"model{end}", f"timing_plan{end}"))
            if other in sums
        }
    out["distributions"] = _distributions(judged, runs["model"], durations)
    return out


def _scaled_to_people(judged: _Judged, score: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the chance of each frame, as a score has it, at people's rate of each state (N, T)."""
    out = np.zeros(score.shape, np.float32)
    for s in (LISTENING, SPEAKING, NEITHER):
        here = judged.tracks.annotated & (judged.state == s)
        out[here] = score[here] * ((judged.onsets & here).sum() / max(float(score[here].sum()), 1e-9))
    return out


def _decided(
    judged: _Judged,
    weights: list[GestureNetwork],
    of: npt.NDArray[np.int_],
    score: npt.NDArray[np.float32],
    state: npt.NDArray[np.int8],
    method: str,
) -> Onsets:
    """Return where a regression's decisive head nods, by the thresholds of the meetings it learned from."""
    limits = np.stack([one.arrays["timing.threshold"][int(PLANS[method])] for one in weights])
    excess = np.where(
        judged.tracks.annotated, score / np.take_along_axis(limits[of], state.astype(int), 1), 0
    )
    return decisive_onsets(excess, 1.0)


def _distributions(judged: _Judged, runs: list[Onsets], durations: list[tuple[str, float]]) -> dict[str, Any]:
    """Return distances of drawn durations, intervals and numbers per half minute to people's."""
    people = range(int(judged.person.max()) + 1)
    out: dict[str, Any] = {}
    for s, name in enumerate(STATES[:2]):
        annotated: list[list[float]] = [[] for _ in people]
        for i, (who, someone) in enumerate(zip(judged.person, judged.tracks.people, strict=True)):
            for event in someone.of_kind("nod"):
                if judged.state[i, frame_of(event.start_s)] == s:
                    annotated[who].append(event.end_s - event.start_s)
        drawn = [length for state, length in durations if state == name]
        # An annotated span is shorter than its movement: none counts as shorter than the quickest nod.
        shortest_s = 1.0 / FASTEST_HZ[GestureKind.NOD]
        as_movement = [np.maximum(row, shortest_s).tolist() for row in annotated]
        out[f"duration_{name}"] = {
            **distance_to_people(drawn, as_movement),
            "distance_to_spans": distance_to_people(drawn, annotated).get("distance"),
            "drawn_s": _percentiles(drawn), "people_s": _percentiles([d for row in annotated for d in row]),
        }  # fmt: skip
    truth = [np.flatnonzero(row) for row in judged.onsets & judged.tracks.annotated]
    for what, of in (("interval_s", _intervals), ("per_half_minute", _numbers)):
        by_person: list[list[float]] = [[] for _ in people]
        for i, who in enumerate(judged.person):
            by_person[who] += of(truth[i], judged.tracks.annotated[i])
        drawn = [
            v for run in runs for i, onsets in enumerate(run) for v in of(onsets, judged.tracks.annotated[i])
        ]
        out[what] = {
            **distance_to_people(drawn, by_person),
            "drawn": _percentiles(drawn), "people": _percentiles([v for row in by_person for v in row]),
        }  # fmt: skip
    return out


def _intervals(onsets: npt.NDArray[np.int_], annotated: BoolArray) -> list[float]:
    """Return times between onsets with annotation all the way between [s]."""
    gaps = np.cumsum(~annotated)
    return [(b - a) / RATE_HZ for a, b in itertools.pairwise(onsets.tolist()) if gaps[a] == gaps[b]]


def _numbers(onsets: npt.NDArray[np.int_], annotated: BoolArray) -> list[float]:
    length = 30 * RATE_HZ
    whole = np.all(annotated[: annotated.size // length * length].reshape(-1, length), axis=1)
    counts = np.bincount(onsets // length, minlength=len(whole))[: len(whole)]
    return counts[whole].astype(float).tolist()


def _percentiles(values: list[float]) -> list[float]:
    return np.percentile(values, [10, 50, 90]).round(2).tolist() if values else []


def _other_kinds(judged: _Judged, shown: dict[str, ContextForecast], resamples: Any) -> dict[str, Any]:
    """Return AUC and Brier skill of shakes and tilts over all annotated time."""
    out: dict[str, Any] = {}
    for index, kind in ((1, "shake"), (2, "tilt")):
        soon = begins_soon(judged.tracks.onsets(kind))
        use = judged.tracks.annotated & ~judged.tracks.busy(kind)
        every = slice(None, None, 3 * SCORED_EVERY)
        out[kind] = {}
        for method, forecast in shown.items():
            score = forecast.probability[..., index]
            ranking = rank_events(score[:, every], soon[:, every], use[:, every], judged.person)
            row = _figures(ranking, resamples)
            del row["calibration"]
            out[kind][method] = row
    return out
