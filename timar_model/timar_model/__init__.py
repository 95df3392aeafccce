"""TIMAR: the model, its incremental session, checkpoints and engines. Plain Python, no ROS."""

from timar_model.config import ModelConfig, ObjectiveConfig, SamplingConfig
from timar_model.loading import Model, find_model, load_model
from timar_model.session import Session
from timar_model.statistics import MotionStatistics

__all__ = [
    "Model",
    "ModelConfig",
    "MotionStatistics",
    "ObjectiveConfig",
    "SamplingConfig",
    "Session",
    "find_model",
    "load_model",
]
