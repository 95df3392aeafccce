"""Scores of predicted motion on dyads: the published metrics, those of a head, intervals over clips."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from timar_common.clock import FRAMES_PER_SECOND
from timar_common.config import Count, CountOrZero, check
from timar_common.correlation import correlation
from timar_common.motion_file import JAW, NECK, MotionTrack
from timar_model.metrics import clip_metrics, energy_score
from timar_model.metrics.movement import (
    PARTS,
    as_shown,
    dips,
    event_timing,
    jerk_by_phase,
    movement_scores,
    quick_pitch,
    stroke_frames,
)

from ..corpora.dyads import Clip, Dyad, FloatArray, load_dyad
from ..corpora.levels import FINE_RATE_HZ, is_speaking
from ..prediction.predictor import Predictor, predict_all
from . import quality

BOOTSTRAP_DRAWS = 2000
GROUP_OF_SCORE = {"exp": 0, "jaw": 1, "pose": 2}
"""Column of `MotionTrack.valid` by the ending of a score's name."""
FEWEST_FRAMES = 50
CLIPS_PER_BATCH = 16
"""So many clips are read and predicted side by side."""

Scores = dict[str, float]


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """How motion is scored."""

    seed: CountOrZero = 0
    """Of the first sample's noise; the same for every clip."""
    is_user_seen: bool = True
    """Whether the user's motion is given where there is any."""
    samples: Count = 1
    """Motions drawn per clip; the first is scored, all of them make the energy score."""
    is_shifted: bool = False
    """Whether each clip is also predicted with the user's voice shifted by half its length: what differs is
    what the user's voice does to the head."""

    def __post_init__(self) -> None:
        check(self)


def evaluate(
    predictor: Predictor,
    clips: Sequence[Clip],
    config: EvaluationConfig,
    advance: Callable[[int, int], None] = lambda done, total: None,
    *,
    seconds: float | None = None,
    disturb: Callable[[Dyad], Dyad] = lambda dyad: dyad,
) -> dict[str, Any]:
    """Return scores of every clip, their means and 95 % bootstrap intervals over clips.

    Args:
        predictor: To be scored.
        clips: Dyads; a ground truth (motion of speaker 2) adds scores that need one.
        config: How.
        advance: Called with (done, total) after each clip.
        seconds: Only so much of each clip.
        disturb: Changes what the predictor is given, never what it is scored against.

    Returns:
        `mean`, `interval` (name to [low, high]), `clips` (name to scores) and `jerk_by_phase`. Names of
        published metrics stand twice: as shown, and with `unshifted_` before them as the paper scores.
    """
    per_clip: dict[str, Scores] = {}
    phases = []
    for first in range(0, len(clips), CLIPS_PER_BATCH):
        read = [load_dyad(clip, seconds) for clip in clips[first : first + CLIPS_PER_BATCH]]
        for dyad, made in zip(read, _predict(predictor, read, config, disturb), strict=True):
            per_clip[dyad.name], phase = _score(predictor, dyad, made)
            phases.append(phase)
            advance(len(per_clip), len(clips))
    names = {name: None for scores in per_clip.values() for name in scores}
    columns = {name: [scores[name] for scores in per_clip.values() if name in scores] for name in names}
    return {
        "predictor": predictor.name,
        "delay_frames": predictor.delay_frames,
        "config": dataclasses.asdict(config),
        "mean": {name: float(np.mean(values)) for name, values in columns.items()},
        "interval": {name: bootstrap_interval(values) for name, values in columns.items()},
        "jerk_by_phase": np.sqrt(np.mean(np.square(phases), axis=0)).tolist() if phases else [],
        "clips": per_clip,
    }


def score_clip(
    predictor: Predictor, dyad: Dyad, config: EvaluationConfig
) -> tuple[Scores, npt.NDArray[np.float64]]:
    """Return one clip's scores by name (names carry their unit) and its jerk by phase."""
    (made,) = _predict(predictor, [dyad], config, lambda given: given)
    return _score(predictor, dyad, made)


def bootstrap_interval(values: Sequence[float], share: float = 0.95) -> list[float]:
    """Return [low, high] of the mean over clips drawn again and again; seeded."""
    array = np.asarray(values, np.float64)
    picks = np.random.default_rng(0).integers(len(array), size=(BOOTSTRAP_DRAWS, len(array)))
    low, high = np.percentile(array[picks].mean(axis=1), [50 * (1 - share), 50 * (1 + share)])
    return [float(low), float(high)]


@dataclasses.dataclass(frozen=True)
class _Predicted:
    """What a predictor made of one dyad."""

    samples: list[FloatArray]
    """(T', 56) each, drawn with different seeds."""
    shifted: FloatArray | None
    """As the first sample, with the user's voice shifted by half its length."""
    compute_per_s_ms: float
    """Time per second of motion; of clips that were computed together, their share of it."""


def _predict(
    predictor: Predictor, read: Sequence[Dyad], config: EvaluationConfig, disturb: Callable[[Dyad], Dyad]
) -> list[_Predicted]:
    """Predict every motion that is to be scored; the ground truth is removed before."""
    seen = [dyad if config.is_user_seen else dyad.without_user_motion() for dyad in read]
    given = [dataclasses.replace(disturb(dyad), agent_motion=None) for dyad in seen]
    began_s = time.perf_counter()
    samples = [predict_all(predictor, given, config.seed + number) for number in range(config.samples)]
    took_s = time.perf_counter() - began_s
    shifted: Sequence[FloatArray | None] = [None] * len(given)
    if config.is_shifted:
        voices = [np.roll(dyad.user_voice, len(dyad.user_voice) // 2) for dyad in given]
        pairs = zip(given, voices, strict=True)
        moved = [dataclasses.replace(dyad, user_voice=voice) for dyad, voice in pairs]
        shifted = predict_all(predictor, moved, config.seed)
    frames = sum(dyad.frames for dyad in given) * config.samples
    compute_per_s_ms = took_s * 1e3 * FRAMES_PER_SECOND / max(frames, 1)
    rows = zip(*samples, shifted, strict=True)
    return [_Predicted(list(drawn), elsewhere, compute_per_s_ms) for *drawn, elsewhere in rows]


def _score(predictor: Predictor, dyad: Dyad, made: _Predicted) -> tuple[Scores, npt.NDArray[np.float64]]:
    motion = made.samples[0]
    if len(motion) < FEWEST_FRAMES:
        raise ValueError(
            f"{dyad.name} gives {len(motion)} frames of motion, expected at least {FEWEST_FRAMES}; "
            "leave such clips out"
        )
    delay = predictor.delay_frames
    shown = as_shown(motion, delay)
    scores = {"compute_per_s_ms": made.compute_per_s_ms} | _scores_alone(shown, dyad, predictor)
    if dyad.agent_motion is not None:
        truth = dyad.agent_motion.fitted_to(len(motion))
        frames = np.asarray(truth.valid[:, 1:].all(axis=1))
        if frames.sum() >= FEWEST_FRAMES:
            published = _published(motion, truth, dyad, frames)
            scores |= {f"unshifted_{name}": value for name, value in published.items()}
            scores |= _published(shown, truth, dyad, frames) if delay else published
            scores |= movement_scores(shown[frames], truth.vector[frames])
            scores |= _gestures(shown, truth.vector, dyad)
            drawn = [as_shown(track, delay)[frames] for track in made.samples]
            scores |= _of_known_groups(energy_score(drawn, truth.vector[frames]), truth)
            scores |= _of_draws(drawn, truth.vector[frames])
    if made.shifted is not None:
        # What the user's voice does to the neck, against the neck's own spread.
        difference = (shown - as_shown(made.shifted, delay))[:, NECK]
        spread = max(float(shown[:, NECK].std(axis=0).mean()), 1e-9)
        scores["neck_answers_voice"] = float(np.sqrt(np.square(difference).mean()) / spread)
    return scores, jerk_by_phase(shown[:, NECK], predictor.turn_frames, delay)


def _published(motion: FloatArray, truth: MotionTrack, dyad: Dyad, frames: npt.NDArray[np.bool_]) -> Scores:
    """Return the published metrics of the groups the truth knows, with the user's where he was seen."""
    user = dyad.user_motion.fitted_to(len(motion))
    is_seen = bool(user.valid[frames, 2].mean() > 0.9)
    with warnings.catch_warnings():
        # A still head has fewer different frames than clusters; its index is then low, which is meant.
        warnings.filterwarnings("ignore", message="Number of distinct clusters")
        found = clip_metrics(
            motion[frames],
            truth.vector[frames],
            user.vector[frames] if is_seen else None,
            groups=_known_groups(truth),
        )
    return _of_known_groups(found, truth)


def _known_groups(truth: MotionTrack) -> list[str]:
    return [group for group, column in GROUP_OF_SCORE.items() if truth.valid[:, column].mean() > 0.9]


def _of_known_groups(scores: Scores, truth: MotionTrack) -> Scores:
    """Leave out groups that were never recorded: two absent expressions are no match."""
    known = _known_groups(truth)
    return {name: value for name, value in scores.items() if name.rsplit("_", 1)[1] in known}


def _scores_alone(shown: FloatArray, dyad: Dyad, predictor: Predictor) -> Scores:
    """Return what can be said without a ground truth."""
    follows = quality.jaw_follows_voice(shown, dyad.agent_voice)
    speed = quality.neck_speed_rad_s(shown)
    scores = {
        "jaw_voice_correlation": follows.at_zero,
        "jaw_amplitude_rad": quality.amplitude_rad(shown),
        "neck_pitch_speed_rad_s": float(speed[0]),
        "neck_yaw_speed_rad_s": float(speed[1]),
        "neck_roll_speed_rad_s": float(speed[2]),
        "roughness": quality.roughness(shown),
    }
    if follows.best > 0:
        scores["lip_lag_ms"] = follows.lag_ms
    scores["nod_strokes_per_min"] = len(stroke_frames(shown)) / (len(shown) / FRAMES_PER_SECOND / 60)
    silent = ~_speaks(dyad, len(shown))
    if silent.sum() > FEWEST_FRAMES:
        scores["jaw_in_silence_p95_rad"] = float(np.percentile(np.abs(shown[silent, JAW.start]), 95))
    if predictor.turn_frames > 1:
        unseen = shown[predictor.delay_frames :]
        scores["seam_jerk_ratio"] = quality.seam_ratio(unseen, predictor.turn_frames)
    return scores


def _of_draws(drawn: Sequence[FloatArray], truth: FloatArray) -> Scores:
    """Return how far the mean of all draws lies from the truth, and how much a draw moves, of the truth."""
    scores: Scores = {}
    for name, part in PARTS.items():
        error = np.mean(drawn, axis=0)[:, part] - truth[:, part]
        scores[f"mse_of_mean_{name}"] = float(np.square(error).mean())
        true_variance = float(truth[:, part].var(axis=0).sum())
        if true_variance > 0:
            own = float(np.mean([track[:, part].var(axis=0).sum() for track in drawn]))
            scores[f"variance_ratio_{name}"] = own / true_variance
    return scores


def _speaks(dyad: Dyad, frames: int) -> npt.NDArray[np.bool_]:
    """Return (frames,) whether the agent speaks."""
    speaking = is_speaking(dyad.agent_voice)
    steps = np.arange(frames) * (FINE_RATE_HZ // FRAMES_PER_SECOND)
    return np.asarray(speaking[np.minimum(steps, len(speaking) - 1)])


def _gestures(shown: FloatArray, truth: FloatArray, dyad: Dyad) -> Scores:
    """Return how nods (while listening) and beats (while speaking) fall on the true ones."""
    speaks = _speaks(dyad, len(shown))
    scores: Scores = {}
    for name, during in (("nod", ~speaks), ("beat", speaks)):
        true = dips(truth, during)
        if len(true):
            timing = event_timing(dips(shown, during), true, len(shown))
            scores |= {f"{name}_{key}": value for key, value in dataclasses.asdict(timing).items()}
    if (~speaks).sum() > FEWEST_FRAMES:
        quick, true_quick = quick_pitch(shown)[~speaks], quick_pitch(truth)[~speaks]
        agreement = correlation(quick, true_quick, np.ones(len(quick), np.bool_))
        scores["listening_gesture_correlation"] = float(np.nan_to_num(agreement))
    return scores
