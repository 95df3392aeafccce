"""Checkpoints as the released code saves them: weights, average, optimiser's state, arguments."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch


def training_arguments(**changes: Any) -> argparse.Namespace:
    """Return the arguments that a run of the released training script keeps, as its tutorial gives them."""
    published = {
        "model": "timar_large",
        "motion_fps": 25,
        "speech_frequency": 16_000,
        "chunk_second": 1,
        "max_context_time": 8,
        "speech_snippet_embed_dim": 1024,
        "motion_embed_dim": 56,
        "token_embed_dim": 1024,
        "use_causal_attn": True,
        "use_encoder_only": True,
        "num_iter": 1,
        "cfg": 1.0,
        "num_sampling_steps": "100",
        "use_mseloss": False,
        "diffloss_d": 3,
        "diffloss_w": 1024,
        "noise_schedule": "cosine",
        "clip_denoised": False,
        "epsilon_pred": False,
        "do_norm": False,
        "lr": None,
        "test": False,
        # Read from a file of statistics, whether motion is normalised or not.
        "mean": np.zeros(56, np.float32),
        "std": np.ones(56, np.float32),
    }
    return argparse.Namespace(**{**published, **changes})


def save_run(
    path: Path,
    average: Mapping[str, torch.Tensor],
    arguments: argparse.Namespace | None,
    weights: Mapping[str, torch.Tensor] | None = None,
) -> Path:
    """Write a .pth as a training run does.

    Args:
        path: Where.
        average: The averaged weights by the authors' names.
        arguments: Of the run; None: none are kept.
        weights: Those that are averaged; None: others than the average.
    """
    weights = weights or {name: tensor + 1.0 for name, tensor in average.items()}
    moments = {
        number: {"step": torch.tensor(1.0), "exp_avg": tensor * 0.0, "exp_avg_sq": tensor * 0.0}
        for number, tensor in enumerate(average.values())
    }
    run: dict[str, Any] = {"model": dict(weights), "model_ema": dict(average), "epoch": 399}
    run["optimizer"] = {"state": moments, "param_groups": [{"lr": 1e-4, "params": list(moments)}]}
    run["scaler"] = {"scale": 65536.0, "growth_factor": 2.0}
    if arguments is not None:
        run["args"] = arguments
    torch.save(run, path)
    return path
