"""The noise motion is drawn from: seeded, replayable, and smooth over time when asked to be."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from timar_model.architecture.config import FRAMES_PER_SECOND, MOTION_DIM, ModelConfig, SamplingConfig
from timar_model.architecture.inputs import Turn

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


Rows = npt.NDArray[np.int64]


def drawing_plan(frames: int, iterations: int, order: Rows | None = None) -> list[Rows]:
    """Return the rows of a turn each pass draws, ascending; the first passes draw fewest.

    After pass k of K, floor(frames * cos(pi / 2 * (k + 1) / K)) rows are left, at least one fewer than before
    and at least one until the last pass.

    Args:
        frames: Rows of the turn.
        iterations: Passes.
        order: (frames,) the rows in the order they are drawn; None: from the first on.

    Source: masked autoregressive generation (Li et al., 2024).
    """
    order = np.arange(frames) if order is None else order
    plan: list[Rows] = []
    left = frames
    for number in range(iterations):
        rest = 0
        if number < iterations - 1:
            rest = max(
                1, min(left - 1, math.floor(frames * math.cos(math.pi / 2 * (number + 1) / iterations)))
            )
        if rest < left:
            plan.append(np.sort(order[frames - left : frames - rest]))
        left = rest
    return plan


def random_order(frames: int, seed: int, first_frame: int) -> Rows:
    """Return a turn's rows shuffled; the same for the same seed and turn, whatever else was drawn."""
    return np.random.default_rng([seed, first_frame]).permutation(frames)


def guidance_of_pass(sampling: SamplingConfig, frames: int, drawn: int) -> float:
    """Return the guidance of a pass after which `drawn` of a turn's frames are there.

    "linear" lets it grow from 1 with the share that is drawn; the last pass has all of it.
    """
    if sampling.guidance_schedule == "constant":
        return sampling.guidance
    return 1.0 + (sampling.guidance - 1.0) * drawn / frames


def window_frames(config: ModelConfig, sampling: SamplingConfig) -> int:
    """Return the window in force [frames].

    Raises:
        ValueError: The sampling does not fit the model.
    """
    if sampling.history == "filled" and config.past_frames:
        raise ValueError(
            "the history is 'filled', but this model sees past frames and knows only a masked one"
        )
    if config.draws == "turns" and sampling.iterations > 1:
        raise ValueError(
            f"sampling takes {sampling.iterations} iterations, but this model draws a turn's frames "
            "together; ask for 1"
        )
    if sampling.steps > config.diffusion_steps:
        raise ValueError(f"sampling takes {sampling.steps} steps, expected at most {config.diffusion_steps}")
    frames = sampling.window_frames or config.window_frames
    if not config.turn_frames <= frames <= config.window_frames:
        raise ValueError(
            f"the window is {frames} frames, "
            f"expected {config.turn_frames} to the model's {config.window_frames}"
        )
    if config.has_fixed_turns and frames % config.turn_frames:
        raise ValueError(f"the window is {frames} frames, expected whole turns of {config.turn_frames}")
    return frames
