"""Score a model on recorded or synthetic dyads, generated turn by turn as the live head does."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from timar_common.clock import FRAMES_PER_SECOND
from timar_model.loading import Model

from . import dyads, quality
from .conversing import converse
from .dyads import AGENT_SPEAKER, JAW, NECK, USER_SPEAKER, Clip, Motion
from .levels import FINE_RATE_HZ, is_speaking

NOD_DEPTH_RAD = 0.02


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """How a model is scored."""

    seed: int = 0
    """Of the noise; the same for every clip."""
    is_user_seen: bool = True
    """Whether the model gets the user's motion where there is any."""
    sampling: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Sampling options that differ from the model's own."""
    threads: int = 1
    """Threads of the arithmetic."""


def evaluate(
    model: Model,
    clips: list[Clip],
    config: EvaluationConfig,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Return scores of every clip and their means.

    Each clip is generated twice with the same noise: with the user's voice, and with that voice turned around
    by half the clip. What differs is what the user's voice does to the head.

    Args:
        model: To be scored.
        clips: Dyads; a truth (motion of speaker 2) adds scores that need one.
        config: How.
        advance: Told (done, total) after each clip.
    """
    per_clip = {}
    for done, clip in enumerate(clips, start=1):
        per_clip[clip.name] = score_clip(model, clip, config)
        advance(done, len(clips))
    keys = {key: None for scores in per_clip.values() for key in scores}
    means = {
        key: float(np.mean([scores[key] for scores in per_clip.values() if key in scores])) for key in keys
    }
    return {
        "model_sha256": model.sha256,
        "config": dataclasses.asdict(config),
        "mean": means,
        "clips": per_clip,
    }


def score_clip(model: Model, clip: Clip, config: EvaluationConfig) -> dict[str, float]:
    """Return the scores of one clip by name; names carry their unit."""
    user, agent = (dyads.read_voice(clip.voice_path(speaker)) for speaker in (USER_SPEAKER, AGENT_SPEAKER))
    seen_path = clip.motion_path(USER_SPEAKER)
    seen = dyads.read_motion(seen_path) if config.is_user_seen and seen_path.is_file() else None
    began_s = time.perf_counter()
    motion = _generate(model, user, agent, seen, config)
    turns = max(1, len(motion) // model.config.turn_frames)
    scores = {"compute_per_turn_ms": (time.perf_counter() - began_s) * 1e3 / turns}
    elsewhere = _generate(model, np.roll(user, len(user) // 2), agent, seen, config)
    scores |= _scores_alone(motion, agent, model.config.turn_frames)
    difference = (motion - elsewhere)[:, NECK]
    scores["neck_answers_voice"] = float(
        np.sqrt(np.square(difference).mean()) / max(motion[:, NECK].std(axis=0).mean(), 1e-9)
    )
    truth_path = clip.motion_path(AGENT_SPEAKER)
    if truth_path.is_file():
        truth = dyads.read_motion(truth_path).fitted_to(len(motion)).vector
        scores |= _scores_against(truth, motion, elsewhere, agent, model.config.turn_frames)
    return scores


def _generate(
    model: Model, user: np.ndarray, agent: np.ndarray, seen: Motion | None, config: EvaluationConfig
) -> np.ndarray:
    session = model.session(engine="torch", seed=config.seed, threads=config.threads, **config.sampling)
    return converse(session, user, agent, seen)


def _scores_alone(motion: np.ndarray, voice: np.ndarray, turn_frames: int) -> dict[str, float]:
    """Return what can be said without a truth."""
    follows = quality.jaw_follows_voice(motion, voice)
    follows_db = quality.jaw_follows_voice(motion, voice, is_decibel=True)
    speed = quality.neck_speed_rad_s(motion)
    return {
        "jaw_voice_correlation": follows.at_zero,
        "jaw_voice_correlation_db": follows_db.at_zero,
        "jaw_lag_ms": follows.lag_ms,
        "jaw_amplitude_rad": quality.amplitude_rad(motion),
        "neck_pitch_speed_rad_s": float(speed[0]),
        "neck_yaw_speed_rad_s": float(speed[1]),
        "neck_roll_speed_rad_s": float(speed[2]),
        "seam_jerk_ratio": quality.seam_ratio(motion, turn_frames),
        "roughness": quality.roughness(motion),
    }


def _scores_against(
    truth: np.ndarray, motion: np.ndarray, elsewhere: np.ndarray, voice: np.ndarray, turn_frames: int
) -> dict[str, float]:
    """Return what a truth allows; names ending in _turned are with the user's voice turned around."""
    silent = ~is_speaking(voice)
    places = np.arange(len(motion)) * (FINE_RATE_HZ // FRAMES_PER_SECOND)
    listening = silent[np.minimum(places, len(silent) - 1)]
    nods = quality.nod_timing(motion, truth, listening, NOD_DEPTH_RAD)
    turned = quality.nod_timing(elsewhere, truth, listening, NOD_DEPTH_RAD)
    gesture, gesture_turned, true_gesture = (
        quality.gestures_of(track) for track in (motion, elsewhere, truth)
    )
    speed = quality.neck_speed_rad_s(truth)
    return {
        "jaw_truth_correlation": quality.correlation(motion[:, JAW.start], truth[:, JAW.start]),
        "gesture_truth_correlation": quality.correlation(gesture, true_gesture),
        "listening_gesture_truth_correlation": quality.correlation(
            gesture[listening], true_gesture[listening]
        ),
        "listening_gesture_truth_correlation_turned": quality.correlation(
            gesture_turned[listening], true_gesture[listening]
        ),
        "nod_f1": nods.f1,
        "nod_f1_chance": nods.chance_f1,
        "nod_f1_turned": turned.f1,
        "true_jaw_amplitude_rad": quality.amplitude_rad(truth),
        "true_neck_pitch_speed_rad_s": float(speed[0]),
        "true_neck_yaw_speed_rad_s": float(speed[1]),
        "true_neck_roll_speed_rad_s": float(speed[2]),
        "true_roughness": quality.roughness(truth),
        "true_seam_jerk_ratio": quality.seam_ratio(truth, turn_frames),
    }
