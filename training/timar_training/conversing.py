"""Deprecated alias of `timar_training.prediction.predictor`, for one release."""

from .prediction.predictor import run_session as converse
from .prediction.predictor import run_sessions as converse_together

__all__ = ["converse", "converse_together"]
