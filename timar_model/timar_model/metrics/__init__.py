"""Scores of generated motion: the published metrics per clip, and how a head moves."""

from timar_model.metrics.published import clip_metrics, energy_score, frechet_distance, shannon_index

__all__ = ["clip_metrics", "energy_score", "frechet_distance", "shannon_index"]
