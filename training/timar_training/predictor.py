"""Deprecated alias of `timar_training.corpora.dyads` and `.prediction.predictor`, for one release."""

from .corpora.dyads import Dyad, load_dyad
from .prediction.predictor import Predictor

__all__ = ["Dyad", "Predictor", "load_dyad"]
