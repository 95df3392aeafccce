"""Validation by the motion that the live session would draw with the weights in training."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
from timar_model.architecture.inputs import MotionStatistics, speech_features
from timar_model.architecture.model import TimarModel
from timar_model.engines.torch_engine import TorchEngine
from timar_model.metrics import clip_metrics, energy_score
from timar_model.session.recording import run_session
from timar_model.session.session import Session

from ..corpora.dyads import Clip, load_dyad, with_motion
from .config import TrainConfig

ENERGY_SAMPLES = 2


def drawn_metric(
    network: TimarModel, statistics: MotionStatistics, clips: Sequence[Clip], config: TrainConfig
) -> float:
    """Return the mean of the metric `best_by` over the first seconds of validation clips; smaller is better.

    Args:
        network: With the weights to be judged.
        statistics: Units of its motion.
        clips: Dyads whose agent has motion.
        config: Names the metric, how many clips and how much of each.

    Raises:
        ValueError: No clip has motion of its agent.
    """
    engine = TorchEngine(copy.deepcopy(network), config.threads)
    features = speech_features(network.config)
    count = ENERGY_SAMPLES if config.best_by.startswith("energy") else 1
    scores = []
    for clip in with_motion(clips)[: config.best_by_clips]:
        dyad = load_dyad(clip, config.best_by_seconds)
        sessions = [Session(engine, features, statistics, network.config.sampling, k) for k in range(count)]
        drawn = [run_session(session, dyad.user_voice, dyad.agent_voice) for session in sessions]
        assert dyad.agent_motion is not None
        truth = dyad.agent_motion.fitted_to(len(drawn[0])).vector
        found = energy_score(drawn, truth) if count > 1 else clip_metrics(drawn[0], truth)
        scores.append(found[config.best_by])
    if not scores:
        raise ValueError("no validation clip has motion of its agent, which best_by needs; say best_by: loss")
    return float(np.mean(scores))
