"""Judge weights in training by the motion that the live session would draw with them."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
from timar_common.clock import SAMPLE_RATE_HZ
from timar_model.architecture.inputs import MotionStatistics, speech_features
from timar_model.architecture.model import TimarModel
from timar_model.engines.torch_engine import TorchEngine
from timar_model.metrics import clip_metrics, energy_score
from timar_model.session.session import Session

from ..corpora import dyads
from ..corpora.dyads import AGENT_SPEAKER, USER_SPEAKER, Clip
from ..prediction.conversing import converse
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
    sampling = network.config.sampling
    samples = round(config.best_by_seconds * SAMPLE_RATE_HZ)
    scores = []
    for clip in [clip for clip in clips if clip.motion_path(AGENT_SPEAKER).is_file()][: config.best_by_clips]:
        user, agent = (
            dyads.read_voice(clip.voice_path(speaker))[:samples] for speaker in (USER_SPEAKER, AGENT_SPEAKER)
        )
        count = ENERGY_SAMPLES if config.best_by.startswith("energy") else 1
        drawn = [
            converse(Session(engine, features, statistics, sampling, seed), user, agent)
            for seed in range(count)
        ]
        truth = dyads.read_motion(clip.motion_path(AGENT_SPEAKER)).fitted_to(len(drawn[0])).vector
        found = energy_score(drawn, truth) if count > 1 else clip_metrics(drawn[0], truth)
        scores.append(found[config.best_by])
    if not scores:
        raise ValueError("no validation clip has motion of its agent, which best_by needs; say best_by: loss")
    return float(np.mean(scores))
