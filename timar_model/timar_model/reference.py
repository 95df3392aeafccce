"""Read the weights of the published system: the authors' names become ours, the numbers stay theirs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from timar_model.config import FRAMES_PER_SECOND, ModelConfig

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


def read_reference(path: str | Path, weights: str = "model_ema") -> dict[str, np.ndarray]:
    """Read a published weight file as arrays by the authors' names.

    Args:
        path: A .safetensors file, or the .pth of a training run; the latter is read without running its code.
        weights: Which set of a .pth: "model" or "model_ema".

    Raises:
        ValueError: The file holds no such set, or anything that is not a tensor.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        from safetensors.numpy import load_file

        return dict(load_file(path))
    import torch

    found = torch.load(path, map_location="cpu", weights_only=True)
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
        heads: Attention heads, which no shape tells; None: those of the published size of this width.
        changes: Fields that shapes do not tell either, such as `speech_source`.

    Raises:
        ValueError: The width is not a published one and `heads` is not given.
    """
    width = weights["mask"].size
    published = {768: 12, 1024: 16, 1280: 16}
    if heads is None and width not in published:
        raise ValueError(
            f"the weights are {width} wide, which is no published size; say how many heads they have"
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
