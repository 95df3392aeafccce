"""Scores, compares and draws recorded conversations."""
