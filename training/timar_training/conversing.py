"""Deprecated alias of `timar_training.prediction.predictor`, for one release."""

from timar_model.session.recording import run_session as converse
from timar_model.session.recording import run_sessions as converse_together

__all__ = ["converse", "converse_together"]
