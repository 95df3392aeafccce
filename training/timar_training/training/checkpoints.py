"""Checkpoints that survive a kill at any moment: written atomically, without pickle, gathered whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from timar_common.atomic import replacing_folder
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

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
    path = folder / f"{PREFIX}{step:08d}"
    copies = {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}
    with replacing_folder(path) as scratch:
        save_file(copies, scratch / "state.safetensors")
        (scratch / "facts.json").write_text(json.dumps({"step": step, **facts}, indent=1), encoding="utf-8")
    for old in sorted(folder.glob(PREFIX + "*"))[:-keep]:
        shutil.rmtree(old)
    return path


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the newest whole checkpoint of a run, or None."""
    found = sorted(folder.glob(PREFIX + "*"))
    return found[-1] if found else None


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return tensors and facts of a checkpoint."""
    facts = json.loads((path / "facts.json").read_text(encoding="utf-8"))
    return load_file(path / "state.safetensors"), facts


def whole_weights(module: nn.Module) -> dict[str, Tensor]:
    """Return a network's weights by name, gathered from wherever the processes keep them."""
    found = get_model_state_dict(module, options=_WHOLE)
    # On one CPU these are the parameters themselves, which go on changing.
    return {_plain(name): torch.as_tensor(value).detach().cpu().clone() for name, value in found.items()}


def put_weights(module: nn.Module, weights: dict[str, Tensor]) -> None:
    """Put whole weights into a network, each process taking its part."""
    set_model_state_dict(module, {_PREFIX + name: value for name, value in weights.items()}, options=_WHOLE)


def whole_moments(module: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return an optimiser's state as ``KEY/NAME of the parameter``, gathered; it has done a step at least."""
    state: Any = get_optimizer_state_dict(module, optimiser, options=_WHOLE)["state"]
    return {
        f"{key}/{_plain(name)}": torch.as_tensor(value).cpu().clone()
        for name, values in state.items()
        for key, value in values.items()
    }


def put_moments(module: nn.Module, optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `whole_moments` returned."""
    found: Any = get_optimizer_state_dict(module, optimiser, options=_WHOLE)
    state: dict[str, dict[str, Tensor]] = {}
    for path, value in tensors.items():
        key, name = path.split("/", 1)
        state.setdefault(_PREFIX + name, {})[key] = value
    found["state"] = state
    set_optimizer_state_dict(module, optimiser, found, options=_WHOLE)


def _plain(name: str) -> str:
    return name.removeprefix(_PREFIX)


_PREFIX = "network."
# With `cpu_offload` only the first process would get anything.
_WHOLE = StateDictOptions(full_state_dict=True)
