"""The noise motion is drawn from: seeded, replayable, and smooth over time when asked to be."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from timar_model.config import FRAMES_PER_SECOND, MOTION_DIM
from timar_model.turns import Turn

Array = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class NoiseState:
    """Where a noise source stands; never changed in place."""

    generator: Any
    """State of the bit generator."""
    last: npt.NDArray[np.float64] | None
    """(draws, 56) noise of the last frame drawn."""
    last_frame: int
    """That frame."""


class NoiseSource:
    """Standard normal noise whose neighbouring frames are correlated, each frame's own distribution kept.

    The head draws frame by frame, so frames that share no noise jump against each other; a first-order
    autoregression over frames, per draw, lets them move together.

    Args:
        draws: Draws per frame: the start and one per denoising step.
        correlation_s: Time constant of the autoregression [s]; 0 for independent frames.
    """

    def __init__(self, draws: int, correlation_s: float) -> None:
        self._draws = draws
        self._kept = math.exp(-1.0 / (FRAMES_PER_SECOND * correlation_s)) if correlation_s > 0 else 0.0

    def initial(self, seed: int) -> NoiseState:
        """Return the state of a seed.

        Raises:
            ValueError: The seed is negative.
        """
        if seed < 0:
            raise ValueError(f"the seed is {seed}, expected 0 or more")
        return NoiseState(np.random.PCG64(seed).state, None, 0)

    def draw(self, turn: Turn, state: NoiseState) -> tuple[Array, NoiseState]:
        """Return (draws, F, 56) noise for a turn, and the state after it."""
        bits = np.random.PCG64()
        bits.state = state.generator
        noise = np.random.Generator(bits).standard_normal((turn.frames, self._draws, MOTION_DIM))
        last = state.last
        if self._kept:
            for index in range(turn.frames):
                if last is not None:
                    # Frames that went undrawn have let the correlation fade.
                    gap = turn.first_frame - state.last_frame if index == 0 else 1
                    kept = self._kept**gap
                    noise[index] = kept * last + math.sqrt(1.0 - kept * kept) * noise[index]
                last = noise[index]
        after = NoiseState(bits.state, noise[-1].copy(), turn.end_frame - 1)
        return np.ascontiguousarray(noise.transpose(1, 0, 2), dtype=np.float32), after


def gather_draws(
    draws: Sequence[Array], plan: Sequence[npt.NDArray[np.int64]], steps: int, frames: int
) -> Array:
    """Put a turn's draws, as the released code makes them one after the other, into (steps + 1, F, 56).

    Each pass draws a start and one noise per step. Its draws may hold rows of the history before the turn's
    own, and, where guided, rows of the unconditional branch behind all of them; neither is used.

    Args:
        draws: (steps + 1) arrays (rows, 56) for each pass, in the order drawn.
        plan: The turn's rows of each pass.
        steps: Denoising steps.
        frames: Frames of the turn.

    Raises:
        ValueError: There are more or fewer draws, or one has too few rows.
    """
    if len(draws) != len(plan) * (steps + 1):
        raise ValueError(
            f"the noise is a list of {len(draws)} draws, expected {steps + 1} for each of {len(plan)} passes"
        )
    noise = np.zeros((steps + 1, frames, MOTION_DIM), np.float32)
    for number, rows in enumerate(plan):
        of_pass = draws[number * (steps + 1) : (number + 1) * (steps + 1)]
        total = np.asarray(of_pass[0]).shape[0]
        for step, draw in enumerate(of_pass):
            own = np.asarray(draw, np.float32)[:total][-rows.size :]
            if own.shape != (rows.size, MOTION_DIM):
                raise ValueError(
                    f"draw {step} of pass {number} has shape {np.shape(draw)}, "
                    f"expected at least {rows.size} rows of {MOTION_DIM}"
                )
            noise[step, rows] = own
    return noise
