"""Prediction: everything that generates an agent's motion for a recorded dyad."""
