"""Turns head motion into joint trajectories that respect every limit."""
