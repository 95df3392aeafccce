"""A model is a folder: config.json, model.safetensors, manifest.json; written whole, read with doubt."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from timar_model.architecture.config import FRAMES_PER_SECOND, SAMPLE_RATE_HZ, ModelConfig
from timar_model.architecture.inputs import MotionStatistics

if TYPE_CHECKING:
    from timar_model.architecture.model import TimarModel

CONFIG, WEIGHTS, MANIFEST = "config.json", "model.safetensors", "manifest.json"
FORMAT = 1


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
        """Read the weights as numpy arrays by name."""
        from safetensors.numpy import load_file

        return dict(load_file(self.path / WEIGHTS))


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
    from safetensors.numpy import save_file

    weights = {name: tensor.detach().cpu().float().numpy() for name, tensor in model.state_dict().items()}
    target = Path(folder).absolute()
    with _replacing(target) as new:
        (new / CONFIG).write_text(model.config.to_json(), encoding="utf-8")
        save_file({name: np.ascontiguousarray(array) for name, array in weights.items()}, new / WEIGHTS)
        (new / WEIGHTS).chmod(0o644)
        write_manifest(new, model.config, weights, statistics or MotionStatistics(), provenance or {})
    return read_model(target)


def write_manifest(
    folder: Path,
    config: ModelConfig,
    weights: dict[str, np.ndarray],
    statistics: MotionStatistics,
    provenance: dict[str, Any],
    engines: dict[str, Any] | None = None,
) -> None:
    """Write the manifest over every file that lies in the folder; `engines` says how graphs were made."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != MANIFEST)
    manifest = {
        "format": FORMAT,
        "rates": {"sample_rate_hz": SAMPLE_RATE_HZ, "frames_per_second": FRAMES_PER_SECOND},
        "turn_frames": config.turn_frames,
        "user_lag": config.user_lag,
        "user_lag_margin_frames": config.user_lag_margin_frames,
        "loudness": config.loudness,
        "parameters": int(sum(array.size for array in weights.values())),
        "shapes": {name: list(array.shape) for name, array in sorted(weights.items())},
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


def add_files(folder: str | Path, *paths: Path, engines: dict[str, Any] | None = None) -> ModelFolder:
    """Put further files (engines' graphs) into a model folder and list them in its manifest.

    Args:
        folder: A whole model folder.
        paths: The files; one of the same name is replaced.
        engines: What the manifest says of graphs; None: what it said before.

    Raises:
        ValueError: The folder is not a whole model.
    """
    found = read_model(folder)
    target = found.path.absolute()
    with _replacing(target) as new:
        kept = (path for path in target.iterdir() if path.is_file() and path.name != MANIFEST)
        for path in {path.name: path for path in [*kept, *paths]}.values():
            _link(path, new / path.name)
        made = found.manifest.get("engines", {}) if engines is None else engines
        provenance = found.manifest["provenance"]
        write_manifest(new, found.config, found.weights(), found.statistics, provenance, made)
    return read_model(target)


def _link(path: Path, to: Path) -> None:
    """Put a file at another place without copying its gigabytes, where the file system can."""
    try:
        os.link(path, to)
    except OSError:
        shutil.copyfile(path, to)


@contextlib.contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """Lend an empty folder that takes the place of the target once it holds a whole model.

    Raises:
        FileExistsError: Something stands there that is no model, and would be lost.
    """
    is_ours = target.is_dir() and ((target / MANIFEST).is_file() or not any(target.iterdir()))
    if target.exists() and not is_ours:
        raise FileExistsError(
            f"{str(target)!r} is no model folder and would be replaced as a whole; give another place"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as scratch:
        new, old = Path(scratch) / "new", Path(scratch) / "old"
        new.mkdir()
        yield new
        read_model(new)
        if target.exists():
            os.replace(target, old)
        try:
            os.replace(new, target)
        except OSError:
            if old.exists():
                os.replace(old, target)
            raise


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
            raise FileNotFoundError(
                f"the model folder {str(path)!r} lacks {name}; copy or train the model again"
            )
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
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{where} is not JSON ({error}); copy or train the model again") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else manifest
        raise ValueError(f"{where} has format {found!r}, expected {FORMAT}; write it with this version")
    kinds = {
        "rates": dict,
        "shapes": dict,
        "files": dict,
        "provenance": dict,
        "motion_mean": list,
        "motion_std": list,
    }
    for key, kind in kinds.items():
        if not isinstance(manifest.get(key), kind):
            raise ValueError(f"{where} has no {key} of type {kind.__name__}; copy or train the model again")
    return manifest


def _verify_files(path: Path, manifest: dict[str, Any]) -> None:
    for name in (CONFIG, WEIGHTS):
        if name not in manifest["files"]:
            raise ValueError(
                f"the manifest of {str(path)!r} does not list {name}; copy or train the model again"
            )
    for name, facts in manifest["files"].items():
        if Path(name).name != name or name == ".." or not isinstance(facts, dict):
            raise ValueError(
                f"the manifest of {str(path)!r} lists {name!r}, expected files of the folder itself"
            )
        file = path / name
        if not file.is_file():
            raise FileNotFoundError(
                f"the model folder {str(path)!r} lacks {name}; copy or train the model again"
            )
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
    if shapes != manifest["shapes"]:
        other = sorted(
            name
            for name in {*shapes, *manifest["shapes"]}
            if shapes.get(name) != manifest["shapes"].get(name)
        )
        raise ValueError(
            f"{str(path / WEIGHTS)!r} has {other[0]} of shape {shapes.get(other[0])}, expected "
            f"{manifest['shapes'].get(other[0])} by its manifest; copy or train the model again"
        )


def _sha256_of(paths: Sequence[Path]) -> list[str]:
    """Return the digests of files, read side by side: one core alone takes seconds for gigabytes."""
    largest_first = sorted(range(len(paths)), key=lambda number: -paths[number].stat().st_size)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = dict(
            zip(largest_first, pool.map(_sha256, [paths[number] for number in largest_first]), strict=True)
        )
    return [found[number] for number in range(len(paths))]


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    block = memoryview(bytearray(1 << 18))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(block):
            digest.update(block[:count])
    return digest.hexdigest()
