"""Deprecated alias of `timar_training.prediction.baselines`, for one release."""

from .prediction.baselines import BASELINES, EnergyRule, MeanPose, NearestClip, fit_baseline

__all__ = ["BASELINES", "EnergyRule", "MeanPose", "NearestClip", "fit_baseline"]
