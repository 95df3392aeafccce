"""Counts that must not be mixed, told apart by the type checker: samples (16 kHz) and frames (25 fps)."""

from __future__ import annotations

from typing import NewType

from timar_common.clock import SAMPLES_PER_FRAME

Samples = NewType("Samples", int)
"""A number or an index of samples on the conversation clock (16 kHz)."""
Frames = NewType("Frames", int)
"""A number or an index of motion frames on the conversation clock (25 fps)."""


def samples_of(frames: Frames) -> Samples:
    """Return the sample at which a frame begins, or the samples that a number of frames lasts."""
    return Samples(SAMPLES_PER_FRAME * frames)


def frames_of(samples: Samples) -> Frames:
    """Return the frame that holds a sample, or the whole frames in a number of samples; rounds down."""
    return Frames(samples // SAMPLES_PER_FRAME)
