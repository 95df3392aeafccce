"""TIMAR: the model, its incremental session, model folders and engines. Plain Python, no ROS."""

import os

# A rollback, a replay and a resumed training promise the same bytes. Without its reproducible mode MKL sums
# in an order that hangs on memory addresses and, with two threads on AMD, on timing. It reads this before
# its first product. AUTO keeps the fastest instructions and only fixes cache sizes, reductions and schedule.
# Source: Intel oneMKL developer guide, conditional numerical reproducibility.
os.environ.setdefault("MKL_CBWR", "AUTO")

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
