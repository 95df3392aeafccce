"""Read the weights of the published system: the authors' names become ours, the numbers stay theirs."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from timar_model.architecture.config import FRAMES_PER_SECOND, ModelConfig
from timar_model.architecture.inputs import MotionStatistics
from timar_model.model_folder import ModelFolder

_NAMES: tuple[tuple[str, str], ...] = (
    (r"sep_tok_emb\.weight", "markers.weight"),
    (r"fake_latent", "null"),
    (r"mask_token", "mask"),
    (r"motion_encoder\.0\.", "motion1."),
    (r"motion_encoder\.2\.", "motion2."),
    (r"speech_projection\.", "speech."),
    (r"z_proj\.", "input."),
    (r"z_proj_ln\.", "input_norm."),
    (r"encoder_pos_embed_learned", "position_in"),
    (r"diffusion_pos_embed_learned", "position_out"),
    (r"encoder_blocks\.(\d+)\.attn\.qkv\.", r"blocks.\1.attention.qkv."),
    (r"encoder_blocks\.(\d+)\.attn\.proj\.", r"blocks.\1.attention.out."),
    (r"encoder_blocks\.(\d+)\.mlp\.fc1\.", r"blocks.\1.expand."),
    (r"encoder_blocks\.(\d+)\.mlp\.fc2\.", r"blocks.\1.contract."),
    (r"encoder_blocks\.(\d+)\.norm", r"blocks.\1.norm"),
    (r"encoder_norm\.", "output_norm."),
    (r"diffloss\.net\.input_proj\.", "head.input."),
    (r"diffloss\.net\.cond_embed\.", "head.condition."),
    (r"diffloss\.net\.time_embed\.mlp\.0\.", "head.time1."),
    (r"diffloss\.net\.time_embed\.mlp\.2\.", "head.time2."),
    (r"diffloss\.net\.res_blocks\.(\d+)\.in_ln\.", r"head.blocks.\1.norm."),
    (r"diffloss\.net\.res_blocks\.(\d+)\.mlp\.0\.", r"head.blocks.\1.expand."),
    (r"diffloss\.net\.res_blocks\.(\d+)\.mlp\.2\.", r"head.blocks.\1.contract."),
    (r"diffloss\.net\.res_blocks\.(\d+)\.adaLN_modulation\.1\.", r"head.blocks.\1.modulation."),
    (r"diffloss\.net\.final_layer\.adaLN_modulation\.1\.", "head.final_modulation."),
    (r"diffloss\.net\.final_layer\.linear\.", "head.output."),
)
_VECTORS = {"null", "mask", "position_in", "position_out"}


def import_reference(
    checkpoint: str | Path,
    config: ModelConfig | dict[str, Any] | None,
    speech_encoder_folder: str | Path,
    out: str | Path,
    weights: str | None = None,
    statistics: MotionStatistics | str | Path | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> ModelFolder:
    """Turn a checkpoint of the released code into a model folder (needs torch).

    Args:
        checkpoint: A .pth of the released code, or its state dict as .safetensors.
        config: The whole configuration; or fields that no shape gives (`heads`); None: all is read off.
        speech_encoder_folder: Folder or hub name of the wav2vec 2.0; "": the published one.
        out: The model folder to write.
        weights: "model_ema" or "model" of a .pth; None: the former where it is.
        statistics: Of the motion, or a JSON or .npz file with `mean` and `std`; None: the identity.
        log: Takes a line on what is being done.

    Returns:
        The folder as read back.

    Raises:
        ValueError: A file is not what it should be.
        OSError: A file cannot be read.
    """
    from timar_model.engines.torch_engine import load_network
    from timar_model.model_folder import save_model

    log(f"reading {checkpoint}")
    ours = translate(read_reference(checkpoint, weights))
    if not isinstance(config, ModelConfig):
        fields = dict(config or {})
        if speech_encoder_folder:
            fields["speech_source"] = str(speech_encoder_folder)
        config = config_of(ours, **fields)
    log(f"writing {out}")
    measured = read_statistics(statistics) if isinstance(statistics, (str, Path)) else statistics
    provenance = {"source": "arXiv 2512.15340", "checkpoint": Path(checkpoint).name}
    return save_model(out, load_network(config, ours), measured, provenance)


def read_statistics(path: str | Path) -> MotionStatistics:
    """Read mean and std of motion, 56 values each, from a JSON or .npz file.

    Raises:
        ValueError: The file holds no such values.
    """
    path = Path(path)
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                found = {name: archive[name] for name in ("mean", "std")}
        else:
            found = {name: json.loads(path.read_text(encoding="utf-8"))[name] for name in ("mean", "std")}
        return MotionStatistics(np.asarray(found["mean"]).ravel(), np.asarray(found["std"]).ravel())
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{str(path)!r} holds no motion statistics ({error}); expected `mean` and `std` of 56 values each"
        ) from error


def read_reference(path: str | Path, weights: str | None = None) -> dict[str, np.ndarray]:
    """Read a published weight file as arrays by the authors' names.

    Args:
        path: A .safetensors file, or the .pth of a training run; the latter is read without running its code.
        weights: Which set of a .pth: "model" or "model_ema"; None: the latter where it is.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file holds no such set, or anything that is not a tensor.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no checkpoint {str(path)!r}; give a .pth of the released code or its state dict as "
            ".safetensors"
        )
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            return dict(load_file(path))
        except SafetensorError as error:
            raise ValueError(f"{str(path)!r} is not a safetensors file ({error}); copy it again") from error
    import torch

    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, LookupError, ValueError, TypeError) as error:
        # What a damaged or hostile pickle raises depends on where it breaks.
        reason = (str(error).splitlines() or ["empty"])[0]
        raise ValueError(
            f"{str(path)!r} is rejected: it is no plain checkpoint of tensors ({reason})"
        ) from error
    if weights is None:
        weights = "model_ema" if isinstance(found, dict) and "model_ema" in found else "model"
    if not isinstance(found, dict) or not isinstance(found.get(weights), dict):
        raise ValueError(
            f"{str(path)!r} holds no set of weights {weights!r}, expected a published TIMAR checkpoint"
        )
    return {name: tensor.float().numpy() for name, tensor in found[weights].items()}


def translate(reference: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the weights under our names.

    Raises:
        ValueError: A name is not of the published system.
    """
    ours: dict[str, np.ndarray] = {}
    for name, array in reference.items():
        new = _translate_name(name)
        array = np.asarray(array, np.float32)
        ours[new] = (
            array.reshape(array.shape[-1] if new in ("null", "mask") else array.shape[-2:])
            if new in _VECTORS
            else array
        )
    if "null" not in ours:
        raise ValueError("the weights lack fake_latent, expected those of the published TIMAR")
    # The published system knows a user that is seen or not; ours may see parts of one.
    ours["unseen_group"] = np.zeros((3, ours["null"].size), np.float32)
    return ours


def config_of(weights: dict[str, np.ndarray], heads: int | None = None, **changes: Any) -> ModelConfig:
    """Read a configuration off translated weights.

    Args:
        weights: As from `translate`.
        heads: Attention heads, which no shape gives; None: those of the published size of this width.
        changes: Fields that no shape gives either, such as `speech_source`.

    Raises:
        ValueError: The width is not a published one and `heads` is not given.
    """
    width = weights["mask"].size
    published = {768: 12, 1024: 16, 1280: 16}
    if heads is None and width not in published:
        raise ValueError(
            f"the weights are {width} wide, which is no published size; give their attention heads "
            "(timar import --heads, or config={'heads': …})"
        )
    turn_frames = changes.get("turn_frames", FRAMES_PER_SECOND)
    turn_tokens = 4 * turn_frames + 10
    sizes = {
        "turn_frames": turn_frames,
        "window_frames": weights["position_in"].shape[0] // turn_tokens * turn_frames,
        "speech_dim": weights["speech.weight"].shape[1],
        "token_dim": weights["null"].size,
        "width": width,
        "blocks": _count(weights, "blocks"),
        "heads": heads or published[width],
        "head_width": weights["head.input.weight"].shape[0],
        "head_blocks": _count(weights, "head.blocks"),
    }
    return ModelConfig.of_size("base", **{**sizes, **changes})


def _translate_name(name: str) -> str:
    for pattern, replacement in _NAMES:
        new, count = re.subn("^" + pattern, replacement, name)
        if count:
            return new
    raise ValueError(
        f"{name!r} is no weight of the published TIMAR; expected a state dict of the released code"
    )


def _count(weights: dict[str, np.ndarray], prefix: str) -> int:
    numbers = {int(found.group(1)) for name in weights if (found := re.match(rf"{prefix}\.(\d+)\.", name))}
    return len(numbers)
