"""Evaluation: scores, robustness curves, and the comparison of systems, with their reports."""
