"""Publishing of a trained model: sampling defaults, card and graphs beside it, its manifest over all.

Several runs that went on from each other give the mean of their weights, which is often better than each.

Source: Wortsman et al., Model soups, 2022.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timar_common.suggest import refuse_unknown
from timar_model.architecture.config import SamplingConfig
from timar_model.architecture.model import TimarModel
from timar_model.engines.export import export_onnx
from timar_model.model_folder import ModelFolder, add_files, read_model, save_model

CARD = "README.md"
MAX_BYTES = 15_000_000


def publish(sources: Sequence[Path], target: Path, sampling: dict[str, Any], card: Path) -> ModelFolder:
    """Write a model folder that is ready to be shipped.

    Args:
        sources: The folder `timar train` left; of several, the mean of their weights is published.
        target: Where to; an older model there is replaced.
        sampling: Defaults of drawing motion that differ from the last source's.
        card: The model's card, in Markdown.

    Returns:
        The folder as read back.

    Raises:
        ValueError: A sampling option is unknown or does not fit, the sources are different models, or the
            model is too large to ship.
        FileNotFoundError: A source or the card is not there.
    """
    refuse_unknown("sampling option", sampling, [field.name for field in dataclasses.fields(SamplingConfig)])
    if not card.is_file():
        raise FileNotFoundError(
            f"there is no model card {card}; write one that says where the model comes from"
        )
    folders = [read_model(source) for source in sources]
    found = folders[-1]
    config = dataclasses.replace(
        found.config, sampling=dataclasses.replace(found.config.sampling, **sampling)
    )
    network = TimarModel(config)
    network.load_state_dict({name: torch.from_numpy(array) for name, array in _mean_weights(folders).items()})
    provenance = _whole_provenance(found)
    if others := folders[:-1]:
        provenance["averaged_with"] = [_whole_provenance(other) for other in others]
    save_model(target, network, found.statistics, provenance)
    (target / CARD).write_bytes(card.read_bytes())
    add_files(target, target / CARD)
    folder = export_onnx(target)
    if (size := sum(path.stat().st_size for path in target.iterdir())) > MAX_BYTES:
        raise ValueError(f"{target} has {size} bytes, expected at most {MAX_BYTES}; ship a smaller model")
    return folder


def _mean_weights(folders: Sequence[ModelFolder]) -> dict[str, np.ndarray]:
    """Return the mean of models of one shape and of the same units of motion."""
    first = folders[0].weights()
    total = {name: array.astype(np.float64) for name, array in first.items()}
    for folder in folders[1:]:
        weights = folder.weights()
        if {n: a.shape for n, a in weights.items()} != {n: a.shape for n, a in first.items()}:
            raise ValueError(f"{folder.path} has weights of other shapes than {folders[0].path}")
        own, expected = (np.stack([f.statistics.mean, f.statistics.std]) for f in (folder, folders[0]))
        if not np.allclose(own, expected, rtol=1e-5):
            raise ValueError(
                f"{folder.path} has other units of motion than {folders[0].path}; "
                "average runs on the same data that went on from each other"
            )
        for name, array in weights.items():
            total[name] += array
    return {name: (array / len(folders)).astype(np.float32) for name, array in total.items()}


def _whole_provenance(found: ModelFolder) -> dict[str, Any]:
    """Return where the weights come from, with the run they started from, as far as it is still there."""
    provenance = dict(found.manifest["provenance"])
    start = provenance.get("training", {}).get("settings", {}).get("start_from", "")
    if start and Path(start).is_dir():
        provenance["started_from"] = _whole_provenance(read_model(start))
    return provenance
