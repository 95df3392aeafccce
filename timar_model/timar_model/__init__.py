"""TIMAR: the model, its incremental session, checkpoints and engines. Plain Python, no ROS."""

from timar_model.batch import BatchedSession, TurnArguments
from timar_model.config import ModelConfig, ObjectiveConfig, SamplingConfig
from timar_model.loading import Model, find_model, load_model
from timar_model.reference import import_reference
from timar_model.session import Session
from timar_model.statistics import MotionStatistics

__all__ = [
    "BatchedSession",
    "Model",
    "ModelConfig",
    "MotionStatistics",
    "ObjectiveConfig",
    "SamplingConfig",
    "Session",
    "TurnArguments",
    "find_model",
    "import_reference",
    "load_model",
]
