"""Options of sampling checked against a model, and the noise of the released code in our order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from timar_model.architecture.config import MOTION_DIM, ModelConfig, SamplingConfig

Array = npt.NDArray[np.float32]


def checked_window_frames(config: ModelConfig, sampling: SamplingConfig) -> int:
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
    if config.positions == "window":
        kept_turns(sampling, frames // config.turn_frames)
    return frames


def kept_turns(sampling: SamplingConfig, window_turns: int) -> int:
    """Return how many turns stay when a window is anchored anew.

    Raises:
        ValueError: They are as many as a full window's.
    """
    if sampling.keep_turns >= window_turns:
        raise ValueError(
            f"keep_turns is {sampling.keep_turns} of a window of {window_turns} turns, expected fewer, "
            "or 0 for half of them"
        )
    return sampling.keep_turns or window_turns // 2


def first_capacity(config: ModelConfig, sampling: SamplingConfig, rollback_turns: int) -> int:
    """Return the tokens that a conversation's cache holds when all turns have the default length."""
    turns = -(-checked_window_frames(config, sampling) // config.turn_frames)
    # A rolling window keeps what turns rolled back saw; other lengths of turns may make it grow.
    return (turns + (rollback_turns + 1 if config.positions == "rotary" else 0)) * config.turn_tokens


def next_capacity(config: ModelConfig, sampling: SamplingConfig) -> int:
    """Return the tokens of the turns that stay when a window is anchored anew."""
    window_turns = checked_window_frames(config, sampling) // config.turn_frames
    return kept_turns(sampling, window_turns) * config.turn_tokens


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
