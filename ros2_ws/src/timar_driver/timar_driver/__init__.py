"""Drives joints: trajectories, servo buses, stop chain, simulated servos, Reachy Mini."""
