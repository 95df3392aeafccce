"""Publish a trained model: its sampling defaults chosen, card and graphs beside it, its manifest over all."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from timar_model.checkpoint import ModelFolder, add_files, read_model, save_model
from timar_model.config import SamplingConfig
from timar_model.export import export_onnx
from timar_model.model import TimarModel

CARD = "README.md"
MAX_BYTES = 15_000_000


def publish(source: Path, target: Path, sampling: dict[str, Any], card: Path) -> ModelFolder:
    """Write a model folder that is ready to be shipped.

    Args:
        source: The folder `timar train` left.
        target: Where to; an older model there is replaced.
        sampling: Defaults of drawing motion that differ from the source's.
        card: The model's card, in Markdown.

    Returns:
        The folder as read back.

    Raises:
        ValueError: A sampling option is unknown or does not fit, or the model is too large to ship.
        FileNotFoundError: Source or card is not there.
    """
    known = {field.name for field in dataclasses.fields(SamplingConfig)}
    if unknown := sorted(set(sampling) - known):
        raise ValueError(
            f"there is no sampling option {unknown[0]!r}; the options are {', '.join(sorted(known))}"
        )
    if not card.is_file():
        raise FileNotFoundError(
            f"there is no model card {card}; write one that says where the model comes from"
        )
    found = read_model(source)
    config = dataclasses.replace(
        found.config, sampling=dataclasses.replace(found.config.sampling, **sampling)
    )
    network = TimarModel(config)
    network.load_state_dict({name: torch.from_numpy(array) for name, array in found.weights().items()})
    save_model(target, network, found.statistics, _whole_provenance(found))
    (target / CARD).write_bytes(card.read_bytes())
    add_files(target, target / CARD)
    folder = export_onnx(target)
    if (size := sum(path.stat().st_size for path in target.iterdir())) > MAX_BYTES:
        raise ValueError(f"{target} has {size} bytes, expected at most {MAX_BYTES}; ship a smaller model")
    return folder


def _whole_provenance(found: ModelFolder) -> dict[str, Any]:
    """Return where the weights come from, with the run they started from, as far as it is still there."""
    provenance = dict(found.manifest["provenance"])
    start = provenance.get("training", {}).get("settings", {}).get("start_from", "")
    if start and Path(start).is_dir():
        provenance["started_from"] = _whole_provenance(read_model(start))
    return provenance
