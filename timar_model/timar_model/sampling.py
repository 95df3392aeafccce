"""How a turn is drawn: its frames' order and guidance over passes, and how much of the past it sees."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from timar_model.config import ModelConfig, SamplingConfig

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
