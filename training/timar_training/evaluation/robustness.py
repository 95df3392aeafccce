"""Robustness curves: every metric by how often the user's side is disturbed in bursts."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from timar_common.clock import FRAMES_PER_SECOND, SAMPLES_PER_FRAME
from timar_common.motion_file import MotionTrack

from ..corpora.dyads import Clip, Dyad
from ..prediction.predictor import Predictor
from .scoring import EvaluationConfig, evaluate

KINDS = ("noise", "silence", "dropped-motion")
PROBABILITIES = (0.0, 0.1, 0.3, 0.5, 0.7)
BURST_S = 1.0
NOISE_AMPLITUDE = 0.1
"""RMS of a burst of white noise: -20 dBFS, about as loud as the voice."""


def disturb(dyad: Dyad, kind: str, probability: float, seed: int) -> Dyad:
    """Return a dyad whose user is disturbed; the agent's side stays as it is.

    Time is cut into bursts of 0.5 to 1.5 s, each of which is disturbed with a probability.

    Args:
        dyad: The dyad.
        kind: One of KINDS: noise is added to the voice, the voice is cut out, or the motion is unseen.
        probability: 0..1.
        seed: With the dyad's name it fixes the bursts, the same ones for every predictor.

    Raises:
        ValueError: There is no such kind, or the probability is none.
    """
    if kind not in KINDS or not 0 <= probability <= 1:
        raise ValueError(
            f"a disturbance is {kind!r} with probability {probability}, expected one of {', '.join(KINDS)} "
            "and 0..1"
        )
    rng = np.random.default_rng([seed, KINDS.index(kind), *dyad.name.encode()])
    hit = np.zeros(dyad.frames, np.bool_)
    first = 0
    while first < dyad.frames:
        length = round(rng.uniform(0.5, 1.5) * BURST_S * FRAMES_PER_SECOND)
        # Drawn whether or not it is used, so that a higher probability hits a superset.
        hit[first : first + length] = rng.random() < probability
        first += length
    if kind == "dropped-motion":
        valid = dyad.user_motion.valid & ~hit[:, None]
        vector = np.where(hit[:, None], 0.0, dyad.user_motion.vector).astype(np.float32)
        return dataclasses.replace(dyad, user_motion=MotionTrack(vector, valid))
    samples = np.repeat(hit, SAMPLES_PER_FRAME)
    noise = NOISE_AMPLITUDE * rng.standard_normal(len(samples))
    voice = np.where(samples, 0.0 if kind == "silence" else dyad.user_voice + noise, dyad.user_voice)
    return dataclasses.replace(dyad, user_voice=np.clip(voice, -1.0, 1.0).astype(np.float32))


def robustness_curves(
    predictor: Predictor,
    clips: Sequence[Clip],
    config: EvaluationConfig,
    *,
    seconds: float | None = None,
    probabilities: Sequence[float] = PROBABILITIES,
    kinds: Sequence[str] = KINDS,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Return mean and interval of every metric by kind and probability.

    Args:
        predictor: To be scored.
        clips: Dyads with motion of the agent.
        config: As of `evaluate`.
        seconds: Only so much of each clip.
        probabilities: Of a burst.
        kinds: Of disturbance.
        advance: Called with (done, total).
    """

    @functools.cache
    def scored(kind: str, probability: float) -> dict[str, Any]:
        def disturbed(dyad: Dyad) -> Dyad:
            return disturb(dyad, kind, probability, config.seed)

        return evaluate(predictor, clips, config, seconds=seconds, disturb=disturbed)

    curves: dict[str, Any] = {kind: [] for kind in kinds}
    points = [(kind, probability) for kind in kinds for probability in probabilities]
    for done, (kind, probability) in enumerate(points, start=1):
        # Undisturbed is the same for every kind.
        found = scored(kind if probability else kinds[0], probability)
        point = {"probability": probability, "mean": found["mean"], "interval": found["interval"]}
        curves[kind].append(point)
        advance(done, len(points))
    return curves
