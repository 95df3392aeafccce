"""TIMAR: the model, its incremental session, checkpoints and engines. Plain Python, no ROS."""

from timar_model.architecture.config import ModelConfig, ObjectiveConfig, SamplingConfig
from timar_model.architecture.inputs import MotionStatistics
from timar_model.architecture.reference import import_reference
from timar_model.loading import LoadedModel, find_model, load_model
from timar_model.session.batch import BatchedSession, TurnArguments
from timar_model.session.session import Session

__all__ = [
    "BatchedSession",
    "LoadedModel",
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
