"""Checkpoints that survive a kill at any moment: written beside their place, moved there whole, no pickle."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

PREFIX = "checkpoint-"


def save_checkpoint(
    folder: Path, step: int, tensors: dict[str, Tensor], facts: dict[str, Any], keep: int
) -> Path:
    """Write a checkpoint and drop all but the newest `keep`.

    Args:
        folder: Of the run.
        step: Steps done.
        tensors: By name.
        facts: Whatever JSON holds.
        keep: How many stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=folder, prefix=".new."))
    save_file(
        {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()},
        scratch / "state.safetensors",
    )
    (scratch / "facts.json").write_text(json.dumps({"step": step, **facts}, indent=1), encoding="utf-8")
    place = folder / f"{PREFIX}{step:08d}"
    if place.exists():
        shutil.rmtree(place)
    os.replace(scratch, place)
    for old in sorted(folder.glob(PREFIX + "*"))[:-keep]:
        shutil.rmtree(old)
    return place


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the newest whole checkpoint of a run, or None."""
    found = sorted(folder.glob(PREFIX + "*"))
    return found[-1] if found else None


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return tensors and facts of a checkpoint."""
    facts = json.loads((path / "facts.json").read_text(encoding="utf-8"))
    return load_file(path / "state.safetensors"), facts


def optimiser_tensors(optimiser: torch.optim.AdamW, names: dict[int, str]) -> dict[str, Tensor]:
    """Return the moments of AdamW by the names of their parameters.

    Args:
        optimiser: After at least one step, or before.
        names: Name of each parameter by its `id`.
    """
    result = {}
    for parameter, state in optimiser.state.items():
        for key, value in state.items():
            result[f"{key}/{names[id(parameter)]}"] = torch.as_tensor(value)
    return result


def restore_optimiser(
    optimiser: torch.optim.AdamW, tensors: dict[str, Tensor], names: dict[int, str]
) -> None:
    """Put moments saved by `optimiser_tensors` back."""
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            keys = {"step", "exp_avg", "exp_avg_sq"}
            state = {key: tensors[f"{key}/{name}"].clone() for key in keys if f"{key}/{name}" in tensors}
            if state:
                optimiser.state[parameter] = state
