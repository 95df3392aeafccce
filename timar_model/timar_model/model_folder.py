"""A model is a folder: config.json, model.safetensors, manifest.json; written whole, verified when read."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import shutil
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from timar_common.atomic import replacing_folder

from timar_model.architecture.config import FRAMES_PER_SECOND, SAMPLE_RATE_HZ, ModelConfig
from timar_model.architecture.inputs import MotionStatistics

if TYPE_CHECKING:
    from timar_model.architecture.model import TimarModel

CONFIG, WEIGHTS, MANIFEST = "config.json", "model.safetensors", "manifest.json"
FORMAT = 1
AGAIN = "copy or train the model again"
"""The remedy for a folder that is not whole."""
FORMER_NAMES = {"head.heard.": "head.mean_head."}
"""Beginnings of weights' names in folders of an earlier release, and what they are now."""


def models_folder() -> Path:
    """Return the folder of this user's imported models, which are found by their names: XDG_DATA_HOME's."""
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "timar" / "models"


def current_name(name: str) -> str:
    """Return what a weight is called now, given a name of this or of an earlier release."""
    for old, new in FORMER_NAMES.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


@dataclasses.dataclass(frozen=True)
class ModelFolder:
    """A model folder whose files are all there and unchanged."""

    path: Path
    config: ModelConfig
    manifest: dict[str, Any]
    statistics: MotionStatistics
    sha256: str
    """64 hex digits of the manifest, which itself holds the digests of all other files."""

    def weights(self) -> dict[str, np.ndarray]:
        """Read the weights as numpy arrays by their names of this release."""
        from safetensors.numpy import load_file

        return {current_name(name): array for name, array in load_file(self.path / WEIGHTS).items()}


def save_model(
    folder: str | Path,
    model: TimarModel,
    statistics: MotionStatistics | None = None,
    provenance: dict[str, Any] | None = None,
) -> ModelFolder:
    """Write a model folder, whole or not at all; an older one in its place is replaced.

    Args:
        folder: Where.
        model: The network; its weights are written as float32.
        statistics: Of the motion it was trained on; None: the identity.
        provenance: Where the weights come from: command, data, seed, licence …

    Returns:
        The folder as read back.
    """
    weights = {name: tensor.detach().cpu().float().numpy() for name, tensor in model.state_dict().items()}
    return save_weights(folder, model.config, weights, statistics, provenance)


def save_weights(
    folder: str | Path,
    config: ModelConfig,
    weights: Mapping[str, np.ndarray],
    statistics: MotionStatistics | None = None,
    provenance: dict[str, Any] | None = None,
) -> ModelFolder:
    """Write a model folder around float32 weights by name; else as `save_model`."""
    from safetensors.numpy import save_file

    shapes = {name: list(array.shape) for name, array in weights.items()}

    def write(new: Path) -> None:
        (new / CONFIG).write_text(config.to_json(), encoding="utf-8")
        save_file({name: np.ascontiguousarray(array) for name, array in weights.items()}, new / WEIGHTS)
        (new / WEIGHTS).chmod(0o644)
        write_manifest(new, config, shapes, statistics or MotionStatistics(), provenance or {})

    return _replaced(Path(folder), write)


def write_manifest(
    folder: Path,
    config: ModelConfig,
    shapes: Mapping[str, Sequence[int]],
    statistics: MotionStatistics,
    provenance: dict[str, Any],
    engines: dict[str, Any] | None = None,
) -> None:
    """Write the manifest over every file that lies in the folder.

    Args:
        folder: A model folder.
        config: The model's.
        shapes: Of the weights, by their names in the file.
        statistics: Of the motion.
        provenance: Where the weights come from.
        engines: How graphs were made.
    """
    files = _files_of(folder)
    manifest = {
        "format": FORMAT,
        "rates": {"sample_rate_hz": SAMPLE_RATE_HZ, "frames_per_second": FRAMES_PER_SECOND},
        "turn_frames": config.turn_frames,
        "user_lag": config.user_lag,
        "user_lag_margin_frames": config.user_lag_margin_frames,
        "loudness": config.loudness,
        "parameters": sum(math.prod(shape) for shape in shapes.values()),
        "shapes": {name: list(shapes[name]) for name in sorted(shapes)},
        "motion_mean": [float(value) for value in statistics.mean],
        "motion_std": [float(value) for value in statistics.std],
        "files": {
            path.name: {"bytes": path.stat().st_size, "sha256": digest}
            for path, digest in zip(files, _sha256_of(files), strict=True)
        },
        "engines": engines or {},
        "provenance": provenance,
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def add_files(
    folder: str | Path | ModelFolder, *paths: Path, engines: dict[str, Any] | None = None
) -> ModelFolder:
    """Put further files (engines' graphs) into a model folder and list them in its manifest.

    Args:
        folder: A whole model folder, or what was read of it.
        paths: The files; one of the same name is replaced.
        engines: What the manifest says of graphs; None: what it said before.

    Raises:
        ValueError: The folder is not a whole model.
    """
    found = folder if isinstance(folder, ModelFolder) else read_model(folder)
    manifest = found.manifest

    def write(new: Path) -> None:
        for path in {path.name: path for path in [*_files_of(found.path), *paths]}.values():
            try:
                # Gigabytes are not copied where the file system can link.
                os.link(path, new / path.name)
            except OSError:
                shutil.copyfile(path, new / path.name)
        made = manifest.get("engines", {}) if engines is None else engines
        write_manifest(new, found.config, manifest["shapes"], found.statistics, manifest["provenance"], made)

    return _replaced(found.path, write)


def tensor_locations(weights: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name, and type, shape, offset and length [bytes] of each tensor in a safetensors file."""
    with weights.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
    for name, facts in header.items():
        if name != "__metadata__":
            first, end = facts["data_offsets"]
            yield (
                current_name(name),
                {
                    "location": weights.name,
                    "offset": 8 + size + first,
                    "length": end - first,
                    "dtype": facts["dtype"],
                    "shape": facts["shape"],
                },
            )


def _files_of(folder: Path) -> list[Path]:
    """Return the files of a folder but its manifest."""
    return sorted(path for path in folder.iterdir() if path.is_file() and path.name != MANIFEST)


def _replaced(target: Path, write: Callable[[Path], None]) -> ModelFolder:
    """Let a model be written into an empty folder that takes the target's place once it is whole.

    Raises:
        FileExistsError: Something stands there that is no model, and would be lost.
    """
    refuse_to_replace(target)
    with replacing_folder(target.absolute()) as new:
        write(new)
        found = read_model(new)
    return dataclasses.replace(found, path=target)


def refuse_to_replace(target: Path) -> None:
    """Raise an error where something stands in a model's place that is none, and would be lost.

    Raises:
        FileExistsError: So it is.
    """
    is_ours = target.is_dir() and ((target / MANIFEST).is_file() or not any(target.iterdir()))
    if target.exists() and not is_ours:
        raise FileExistsError(
            f"{str(target)!r} is no model folder and would be replaced as a whole; give another place"
        )


def read_model(folder: str | Path) -> ModelFolder:
    """Read a model folder and verify every file the manifest names.

    Raises:
        FileNotFoundError: The folder, or a file of it, is not there.
        ValueError: A file is not what the manifest says, or the manifest makes no sense.
    """
    path = Path(folder)
    if not path.is_dir():
        raise FileNotFoundError(
            f"there is no model folder {str(path)!r}; give the path of one, or a shipped name"
        )
    for name in (MANIFEST, CONFIG, WEIGHTS):
        if not (path / name).is_file():
            raise FileNotFoundError(f"the model folder {str(path)!r} lacks {name}; {AGAIN}")
    raw = (path / MANIFEST).read_bytes()
    manifest = _parse_manifest(raw, path)
    _verify_files(path, manifest)
    config = ModelConfig.from_json((path / CONFIG).read_text(encoding="utf-8"))
    _verify_shapes(path, manifest)
    statistics = MotionStatistics(
        np.asarray(manifest["motion_mean"], np.float32), np.asarray(manifest["motion_std"], np.float32)
    )
    return ModelFolder(path, config, manifest, statistics, hashlib.sha256(raw).hexdigest())


def _parse_manifest(raw: bytes, path: Path) -> dict[str, Any]:
    where = f"the manifest of the model folder {str(path)!r}"
    try:
        manifest = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not JSON ({error}); {AGAIN}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else manifest
        raise ValueError(f"{where} has format {found!r}, expected {FORMAT}; use the version that wrote it")
    kinds = dict.fromkeys(("rates", "shapes", "files", "provenance"), dict)
    for key, kind in {**kinds, "motion_mean": list, "motion_std": list}.items():
        if not isinstance(manifest.get(key), kind):
            raise ValueError(f"{where} has no {key} of type {kind.__name__}; {AGAIN}")
    return manifest


def _verify_files(path: Path, manifest: dict[str, Any]) -> None:
    for name in (CONFIG, WEIGHTS):
        if name not in manifest["files"]:
            raise ValueError(f"the manifest of {str(path)!r} does not list {name}; {AGAIN}")
    for name, facts in manifest["files"].items():
        if Path(name).name != name or name == ".." or not isinstance(facts, dict):
            raise ValueError(
                f"the manifest of {str(path)!r} lists {name!r}, expected files of the folder itself"
            )
        file = path / name
        if not file.is_file():
            raise FileNotFoundError(f"the model folder {str(path)!r} lacks {name}; {AGAIN}")
        size = file.stat().st_size
        if size != facts.get("bytes"):
            raise ValueError(
                f"{str(file)!r} has {size} bytes, expected {facts.get('bytes')}; copy the model again"
            )
    names = list(manifest["files"])
    for name, digest in zip(names, _sha256_of([path / name for name in names]), strict=True):
        if digest != manifest["files"][name].get("sha256"):
            raise ValueError(
                f"{str(path / name)!r} is not the file its manifest describes (sha256); copy the model again"
            )


def _verify_shapes(path: Path, manifest: dict[str, Any]) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path / WEIGHTS, framework="numpy") as file:
            shapes = {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(
            f"{str(path / WEIGHTS)!r} is not a safetensors file ({error}); copy it again"
        ) from error
    listed = manifest["shapes"]
    if shapes != listed:
        name = min(name for name in {*shapes, *listed} if shapes.get(name) != listed.get(name))
        raise ValueError(
            f"{str(path / WEIGHTS)!r} has {name} of shape {shapes.get(name)}, expected "
            f"{listed.get(name)} by its manifest; {AGAIN}"
        )


def _sha256_of(paths: Sequence[Path]) -> list[str]:
    """Return the digests of files, read side by side: one core alone takes seconds for gigabytes."""
    largest_first = sorted(paths, key=lambda path: -path.stat().st_size)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = dict(zip(largest_first, pool.map(_sha256, largest_first), strict=True))
    return [found[path] for path in paths]


def _sha256(path: Path) -> str:
    digest, block = hashlib.sha256(), memoryview(bytearray(1 << 18))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(block):
            digest.update(block[:count])
    return digest.hexdigest()
