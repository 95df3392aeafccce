"""How a turn is drawn: its frames' order when several passes share them, and how much of the past it sees."""

from __future__ import annotations

import math

from timar_model.config import ModelConfig, SamplingConfig


def drawing_plan(frames: int, iterations: int) -> list[slice]:
    """Return the rows of a turn each pass draws, from its first frame on; the first passes draw fewest.

    After pass k of K, floor(frames * cos(pi / 2 * (k + 1) / K)) rows are left, at least one fewer than before
    and at least one until the last pass.

    Source: masked autoregressive generation (Li et al., 2024), in the natural order.
    """
    plan: list[slice] = []
    left = frames
    for number in range(iterations):
        rest = 0
        if number < iterations - 1:
            rest = max(
                1, min(left - 1, math.floor(frames * math.cos(math.pi / 2 * (number + 1) / iterations)))
            )
        if rest < left:
            plan.append(slice(frames - left, frames - rest))
        left = rest
    return plan


def window_frames(config: ModelConfig, sampling: SamplingConfig) -> int:
    """Return the window in force [frames].

    Raises:
        ValueError: The sampling does not fit the model.
    """
    if sampling.history == "filled" and config.past_frames:
        raise ValueError(
            "the history is 'filled', but this model sees past frames and knows only a masked one"
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
