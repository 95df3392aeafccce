"""Deprecated alias of `timar_training.prediction.predictor`, for one release."""

from .prediction.predictor import (
    Dyad,
    Predictor,
    load_dyad,
)

__all__ = ["Dyad", "Predictor", "load_dyad"]
