"""Drives joints: trajectory sampling, watchdog, simulated servos."""
