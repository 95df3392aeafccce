"""Deprecated alias of `timar_training.prediction.conversing`, for one release."""

from .prediction.conversing import (
    Recording,
    converse,
    converse_together,
)

__all__ = ["Recording", "converse", "converse_together"]
