"""Preparation: speech features and motion of all clips as arrays, and training windows of them."""
