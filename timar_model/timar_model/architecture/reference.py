"""Read the weights of the published system: the authors' names become ours, the numbers stay theirs."""

from __future__ import annotations

import argparse
import dataclasses
import json
import pickle
import re
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from timar_model.architecture.config import (
    FRAMES_PER_SECOND,
    MOTION_DIM,
    SAMPLE_RATE_HZ,
    ModelConfig,
    SamplingConfig,
)
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
EXPECTED = "a .pth of the released code, or its state dict as .safetensors"
PUBLISHED_HEADS = {768: 12, 1024: 16, 1280: 16}
"""Attention heads of the published sizes, by width."""
_FIXED = {
    "motion_fps": FRAMES_PER_SECOND,
    "speech_frequency": SAMPLE_RATE_HZ,
    "motion_embed_dim": MOTION_DIM,
    "mlp_ratio": 4,
    "noise_schedule": "cosine",
    "use_causal_attn": True,
    "use_encoder_only": True,
    "use_diffloss": True,
    "use_mseloss": False,
    "predict_xstart": True,
    "epsilon_pred": False,
    "clip_denoised": False,
}
"""Arguments of the released constructor and training script of which one value alone is published."""
_FORMATS = (
    (b"\x89HDF", "an HDF5 file, as TensorFlow and Keras write"),
    (b"GGUF", "a GGUF file, as llama.cpp reads"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"version https://git-lfs", "a pointer of git-lfs and not the file itself (git lfs pull)"),
    (b"<", "a page of the web"),
)
_SUFFIXES = {
    ".h5": "a file of Keras",
    ".msgpack": "a file of Flax",
    ".onnx": "an ONNX graph",
    ".gguf": "a GGUF file, as llama.cpp reads",
    ".npz": "an archive of NumPy",
    ".tflite": "a file of TensorFlow",
    ".index": "a file of TensorFlow",
}


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What a weight file of the released code holds."""

    path: Path
    weights: dict[str, np.ndarray]
    """By the authors' names."""
    settings: dict[str, Any]
    """Arguments of the released constructor or training script, as far as they were kept."""
    is_of_training: bool = False
    """Whether the settings are those of the training script, whose sampling nobody publishes."""


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
        checkpoint: A .pth of the released code, or its state dict as .safetensors. A config.json beside it
            that holds the constructor's arguments is read; a .pth brings those it was trained with.
        config: The whole configuration; or fields that neither says (`heads`); None: all is read off.
        speech_encoder_folder: Folder or hub name of the wav2vec 2.0; "": the published one.
        out: The model folder to write.
        weights: "model_ema" or "model" of a .pth; None: the former where it is.
        statistics: Of the motion, or a JSON or .npz file with them; None: those of the checkpoint if it was
            trained on normalised motion, else the identity.
        log: Takes a line on what is being done.

    Returns:
        The folder as read back.

    Raises:
        ValueError: A file is not what it should be.
        OSError: A file cannot be read, or the folder not be written.
    """
    log(f"reading {checkpoint}")
    found = read_checkpoint(checkpoint, weights)
    if isinstance(statistics, (str, Path)):
        statistics = read_statistics(statistics)
    if not isinstance(config, ModelConfig):
        fields = dict(config or {})
        if speech_encoder_folder:
            fields["speech_source"] = str(speech_encoder_folder)
        for line in assumptions(found, fields, statistics):
            log(line)
        config = configure(found, **fields)
    check_tensors(found, config)
    log(f"writing {out}")
    return save_reference(out, found, config, statistics, {})


def save_reference(
    out: str | Path,
    checkpoint: Checkpoint,
    config: ModelConfig,
    statistics: MotionStatistics | None,
    provenance: Mapping[str, Any],
) -> ModelFolder:
    """Write a model folder of a checkpoint that was read and checked.

    Args:
        out: The folder.
        checkpoint: As of `read_checkpoint`.
        config: As of `configure`.
        statistics: Of the motion; None: those of the checkpoint.
        provenance: What the manifest says besides of where the weights come from.

    Raises:
        ValueError: The speech encoder is of another size.
        OSError: The folder cannot be written.
    """
    from timar_model.architecture.speech_encoder import check_encoder, encoder_folder
    from timar_model.model_folder import save_weights

    if encoder := encoder_folder(config.speech_source):
        check_encoder(encoder, config.speech_dim)
    facts = {"source": "arXiv 2512.15340", "checkpoint": checkpoint.path.name, **provenance}
    measured = statistics or statistics_of(checkpoint)
    return save_weights(out, config, translate(checkpoint.weights), measured, facts)


def assumptions(
    checkpoint: Checkpoint, given: Mapping[str, Any], statistics: MotionStatistics | None = None
) -> list[str]:
    """Return a line on what neither checkpoint nor caller says and therefore is as in the paper."""
    settings, taken = checkpoint.settings, []
    if "sampling" not in given and (checkpoint.is_of_training or "num_sampling_steps" not in settings):
        taken.append(f"{SamplingConfig().steps} sampling steps")
    if "sampling" not in given and (checkpoint.is_of_training or "cfg" not in settings):
        taken.append("no guidance")
    if "heads" not in given and not {"encoder_num_heads", "model"} & settings.keys():
        taken.append("the attention heads of its width")
    if statistics is None and "do_norm" not in settings:
        taken.append("motion that is not normalised")
    return [f"the checkpoint does not say, so it is as in the paper: {', '.join(taken)}"] if taken else []


def statistics_of(checkpoint: Checkpoint) -> MotionStatistics:
    """Return the units of motion that a checkpoint was trained with.

    Raises:
        ValueError: It was trained on normalised motion and does not hold by what.
    """
    settings = checkpoint.settings
    if not settings.get("do_norm"):
        return MotionStatistics()
    if "mean" not in settings or "std" not in settings:
        raise ValueError(
            f"{str(checkpoint.path)!r} was trained on normalised motion (do_norm) and holds no mean and std; "
            "give them (timar import --statistics stat_flame.json)"
        )
    return MotionStatistics(np.asarray(settings["mean"]).ravel(), np.asarray(settings["std"]).ravel())


def read_statistics(path: str | Path) -> MotionStatistics:
    """Read mean and std of motion, 56 values each, from a JSON or .npz file.

    A JSON file may hold them by groups, as the released code reads them: `exp`, `jawpose` and `neck`.

    Raises:
        ValueError: The file holds no such values.
    """
    path = Path(path)
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                found = {name: archive[name] for name in ("mean", "std")}
        else:
            found = json.loads(path.read_text(encoding="utf-8"))
            if "exp" in found:
                groups = [found[group] for group in ("exp", "jawpose", "neck")]
                found = {
                    name: np.concatenate([np.ravel(group[name]) for group in groups])
                    for name in ("mean", "std")
                }
        return MotionStatistics(np.asarray(found["mean"]).ravel(), np.asarray(found["std"]).ravel())
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{str(path)!r} holds no motion statistics ({error}); expected `mean` and `std` of 56 values each"
        ) from error


def read_reference(path: str | Path, weights: str | None = None) -> dict[str, np.ndarray]:
    """Read the weights of a published file by the authors' names; see `read_checkpoint`."""
    return read_checkpoint(path, weights).weights


def read_checkpoint(path: str | Path, weights: str | None = None) -> Checkpoint:
    """Read a published weight file, whose tensors stay on the disk until they are used.

    Args:
        path: A .safetensors file, or the .pth of a training run; the latter is read without running its code.
        weights: Which set of a .pth: "model" or "model_ema"; None: the latter where it is.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is of another kind or damaged, or holds no such set.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {str(path)!r}; give {EXPECTED}")
    _refuse_other_formats(path)
    settings: dict[str, Any] = {}
    is_of_training = False
    if path.suffix == ".safetensors":
        found = _read_safetensors(path)
    else:
        held = _read_pickle(path)
        # As the released code saves a run, or a bare state dict.
        sets = [name for name in ("model_ema", "model") if isinstance(held.get(name), dict)]
        if weights is not None and weights not in sets:
            raise ValueError(
                f"{str(path)!r} holds no set of weights {weights!r}, expected a published TIMAR checkpoint"
            )
        found = held[weights or sets[0]] if sets else held
        kept = held.get("args")
        settings = dict(vars(kept)) if isinstance(kept, argparse.Namespace) else dict(kept or {})
        is_of_training = bool(settings)
    beside = _settings_beside(path)
    tensors = {str(name): value for name, value in found.items() if hasattr(value, "numpy")}
    _refuse_other_networks(path, tensors)
    return Checkpoint(
        path,
        {name: tensor.float().numpy() for name, tensor in tensors.items()},
        {**settings, **beside},
        is_of_training and not beside,
    )


def _settings_beside(path: Path) -> dict[str, Any]:
    """Return the constructor's arguments of a config.json beside a checkpoint, if it is one of these."""
    config = path.parent / "config.json"
    if not config.is_file():
        return {}
    try:
        held = json.loads(config.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{str(config)!r} is not JSON ({error}); mend it or take it away") from error
    is_ours = isinstance(held, dict) and {"max_context_time", "token_embed_dim", "diffloss_w"} & held.keys()
    return held if is_ours else {}


def _refuse_other_formats(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(32)
    what = next((name for magic, name in _FORMATS if start.startswith(magic)), _SUFFIXES.get(path.suffix))
    if what:
        raise ValueError(f"{str(path)!r} is {what}, expected {EXPECTED}")


def _refuse_other_networks(path: Path, tensors: Mapping[str, Any]) -> None:
    """Say of weights that are no TIMAR what they are."""
    if lora := next((name for name in tensors if re.search(r"lora_|\.lora\.|\bhada_", name)), None):
        raise ValueError(
            f"{str(path)!r} is a low-rank adapter (LoRA) and no whole model ({lora}); merge it into its "
            f"model, and give that as {EXPECTED}"
        )
    known = [name for name in tensors if _known(name)]
    if not known:
        name = next(iter(tensors), None)
        held = f"its first tensor is {name!r}" if name else "it holds no tensors"
        raise ValueError(f"{str(path)!r} is no TIMAR: {held}; expected {EXPECTED}")


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        try:
            header = json.loads(file.read(length)) if length < size else {}
            wanted = max(facts["data_offsets"][1] for key, facts in header.items() if key != "__metadata__")
        except (ValueError, TypeError, KeyError):
            wanted = 0
    if wanted and size < 8 + length + wanted:
        raise ValueError(
            f"{str(path)!r} is cut off: it has {size} bytes, its header tells of {8 + length + wanted}; copy "
            "or download it again"
        )
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{str(path)!r} is not a safetensors file ({error}); copy it again") from error


def _read_pickle(path: Path) -> dict[str, Any]:
    """Read a file of torch without running its code; of classes it may hold arguments and arrays alone."""
    import torch

    with path.open("rb") as file:
        is_archive = file.read(2) == b"PK"
    if is_archive and not zipfile.is_zipfile(path):
        raise ValueError(f"{str(path)!r} is cut off: its archive has no end; copy or download it again")
    try:
        with torch.serialization.safe_globals(_harmless()):
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=is_archive)
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        LookupError,
        ValueError,
        TypeError,
        OSError,
    ) as error:
        # What a damaged or hostile pickle raises depends on where it breaks.
        if code := _code_in(path):
            raise ValueError(
                f"{str(path)!r} is rejected: loading it would run code ({', '.join(code[:3])}); get it from "
                "its publisher, or its state dict as .safetensors"
            ) from error
        reason = (str(error).splitlines() or ["empty"])[0]
        raise ValueError(
            f"{str(path)!r} is rejected: it is no plain checkpoint of tensors ({reason})"
        ) from error
    if not isinstance(found, dict):
        raise ValueError(f"{str(path)!r} holds a {type(found).__name__}, expected {EXPECTED}")
    return found


def _harmless() -> list[Any]:
    """Return the classes besides tensors that the released code puts into a checkpoint: they run no code."""
    make = np.empty(0).__reduce__()[0]
    kinds = [type(np.dtype(kind)) for kind in (np.float32, np.float64, np.int64, np.bool_)]
    names = [f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core")]
    return [argparse.Namespace, np.ndarray, np.dtype, *kinds, *((make, name) for name in names)]


def _code_in(path: Path) -> list[str]:
    """Return what else than tensors a pickle would import; empty where it cannot be told."""
    import torch

    try:
        with torch.serialization.safe_globals(_harmless()):
            return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # A damaged pickle raises anything; that it is damaged is said by who asked.
        return []


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
    if heads is None and width not in PUBLISHED_HEADS:
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
        "heads": heads or PUBLISHED_HEADS[width],
        "head_width": weights["head.input.weight"].shape[0],
        "head_blocks": _count(weights, "head.blocks"),
    }
    return ModelConfig.of_size("base", **{**sizes, **changes})


def configure(checkpoint: Checkpoint, **changes: Any) -> ModelConfig:
    """Return the configuration of a checkpoint: by its settings, else by its shapes, else as published.

    Args:
        checkpoint: As read.
        changes: Fields of the configuration that are known otherwise.

    Raises:
        ValueError: It is of a kind that was not published, or what no shape gives is not known.
    """
    settings = checkpoint.settings
    for name, expected in _FIXED.items():
        if name in settings and settings[name] != expected:
            raise ValueError(
                f"{str(checkpoint.path)!r} was made with {name} {settings[name]!r}, expected {expected!r}, "
                "as published; other variants of the released code are not computed"
            )
    wanted = {
        "mask_token": (1, 1, "width"),
        "fake_latent": (1, "token width"),
        "encoder_pos_embed_learned": (1, "tokens of the window", "width"),
        "speech_projection.weight": ("token width", "speech width"),
        "diffloss.net.input_proj.weight": ("head width", MOTION_DIM),
    }
    for name, shape in wanted.items():
        if name not in checkpoint.weights:
            said = ", ".join(map(str, shape))
            raise ValueError(f"{str(checkpoint.path)!r} lacks {name}, expected of shape ({said})")
    return config_of(translate(checkpoint.weights), **{**_fields_of_settings(checkpoint), **changes})


def _fields_of_settings(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the fields of a configuration that a checkpoint's settings give."""
    settings = checkpoint.settings
    fields: dict[str, Any] = {}
    for ours, theirs in (
        ("speech_dim", "speech_snippet_embed_dim"),
        ("token_dim", "token_embed_dim"),
        ("width", "encoder_embed_dim"),
        ("heads", "encoder_num_heads"),
        ("head_width", "diffloss_w"),
        ("head_blocks", "diffloss_d"),
    ):
        if theirs in settings:
            fields[ours] = settings[theirs]
    if "encoder_depth" in settings and "decoder_depth" in settings:
        fields["blocks"] = settings["encoder_depth"] + settings["decoder_depth"]
    fields["turn_frames"] = FRAMES_PER_SECOND * int(settings.get("chunk_second", 1))
    if "max_context_time" in settings:
        fields["window_frames"] = int(settings["max_context_time"]) * fields["turn_frames"]
    size = str(settings.get("model", "")).removeprefix("timar_")
    if size in ("base", "large", "huge"):
        published = ModelConfig.of_size(size)
        fields = {"width": published.width, "blocks": published.blocks, "heads": published.heads, **fields}
    if not checkpoint.is_of_training:
        sampling: dict[str, Any] = {}
        if str(settings.get("num_sampling_steps", "")).isdigit():
            sampling["steps"] = int(settings["num_sampling_steps"])
        if "cfg" in settings:
            sampling["guidance"] = float(settings["cfg"])
        if sampling:
            fields["sampling"] = dataclasses.replace(ModelConfig.of_size("base").sampling, **sampling)
    return fields


def check_tensors(checkpoint: Checkpoint, config: ModelConfig) -> None:
    """Compare names and shapes of a checkpoint's tensors with what a configuration needs.

    Raises:
        ValueError: Tensors are missing, superfluous or of another shape; the message names the first of each
            kind with both shapes.
    """
    import torch

    from timar_model.architecture.model import TimarModel

    with torch.device("meta"):
        network = TimarModel(config)
    found = {name: tuple(array.shape) for name, array in checkpoint.weights.items()}
    wanted = {name: tuple(value.shape) for name, value in authors_state(network.state_dict()).items()}
    missing = sorted(wanted.keys() - found.keys())
    superfluous = sorted(found.keys() - wanted.keys())
    misshaped = sorted(
        name
        for name in wanted.keys() & found.keys()
        if (found[name] != wanted[name] and _translate_name(name) not in _VECTORS)
        or np.prod(found[name]) != np.prod(wanted[name])
    )
    said = []
    for names, sentence in (
        (missing, "lacks {name} of shape {wanted}"),
        (superfluous, "holds {name} of shape {found}, which has no place in it"),
        (misshaped, "has {name} of shape {found}, expected {wanted}"),
    ):
        if names:
            name = names[0]
            more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            said.append(sentence.format(name=name, found=found.get(name), wanted=wanted.get(name)) + more)
    if said:
        raise ValueError(
            f"{str(checkpoint.path)!r} is no TIMAR of width {config.width} and {config.blocks} blocks: it "
            f"{'; it '.join(said)}; get the checkpoint again, or give the settings it was made with"
        )


def authors_state(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Return weights by the authors' names and shapes: `translate` backwards, for arrays and tensors."""
    return {
        _authors_name(name): value.reshape(_authors_shape(name, tuple(value.shape)))
        for name, value in weights.items()
        if name != "unseen_group"
    }


def _authors_name(ours: str) -> str:
    """Return what the authors call one of our weights: `_NAMES` backwards."""
    for theirs, new in _NAMES:
        pattern = re.escape(new).replace(r"\\1", r"(\d+)")
        back = theirs.replace(r"(\d+)", r"\1").replace(r"\.", ".")
        name, count = re.subn(f"^{pattern}", back, ours)
        if count:
            return name
    raise KeyError(ours)


def _authors_shape(ours: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    return {"null": (1,), "mask": (1, 1)}.get(ours, (1,) if ours in _VECTORS else ()) + shape


def _known(name: str) -> bool:
    return any(re.match(pattern, name) for pattern, _ in _NAMES)


def _translate_name(name: str) -> str:
    for pattern, replacement in _NAMES:
        new, count = re.subn("^" + pattern, replacement, name)
        if count:
            return new
    raise ValueError(
        f"{name!r} is no weight of the published TIMAR; expected a state dict of the released code"
    )


def _count(weights: dict[str, np.ndarray], prefix: str) -> int:
    numbers = (int(found.group(1)) for name in weights if (found := re.match(rf"{prefix}\.(\d+)\.", name)))
    return max(numbers, default=-1) + 1
