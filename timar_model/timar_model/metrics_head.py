"""Deprecated name of `timar_model.metrics.movement`, kept for one release."""

from timar_model.metrics.movement import *  # noqa: F403
