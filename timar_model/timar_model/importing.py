"""Import of a published model: from the hub, a folder or a file to a model folder whose engines run here."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from timar_common.atomic import remove_leftovers, replacing_folder
from timar_common.folder_lock import folder_lock

from timar_model.architecture.config import ModelConfig
from timar_model.hub import CARD, PREFIX, HubRepository, find_repository, parse
from timar_model.model_folder import (
    CONFIG,
    MANIFEST,
    ModelFolder,
    models_folder,
    read_model,
    refuse_to_replace,
)

if TYPE_CHECKING:
    from timar_common.progress import ProgressBars

WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")
RUN_SHARE = 0.25
"""Of a run's .pth, what is one set of weights: the run holds them, their average and two moments."""
INT8_SHARE = 0.27
"""Bytes of the int8 graphs, of those of the float32 weights."""

Log = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class ImportOptions:
    """What a caller says of a checkpoint that it does not say itself."""

    file: str = ""
    """Which weight file of a folder or repository; empty: the only one."""
    speech_encoder: str = ""
    """Folder or hub name of the wav2vec 2.0; empty: the published one."""
    heads: int | None = None
    """Attention heads, where the width is no published one."""
    weights: str | None = None
    """"model_ema" or "model" of a .pth; None: the former where it is."""
    statistics: Path | None = None
    """File with mean and std of the motion."""
    variants: tuple[str, ...] = ("float32", "int8")
    """Graphs to export; empty: none, and no speech encoder is needed."""


@dataclasses.dataclass(frozen=True)
class _Origin:
    """Files on this machine that a model is made of."""

    folder: Path
    checkpoint: str
    """The weight file in it; empty: it is a model folder already."""
    name: str
    provenance: dict[str, Any]
    statistics: Path | None


def import_model(
    source: str,
    out: Path | None = None,
    options: ImportOptions | None = None,
    log: Log = lambda line: None,
    bars: ProgressBars | None = None,
) -> ModelFolder:
    """Make a model folder of a published checkpoint, with the graphs that run here; whole or not at all.

    Args:
        source: "hub:OWNER/NAME[@REVISION]", or a folder or file that is here already.
        out: Where to; None: by the source's name where `find_model` finds it.
        options: What the checkpoint does not say.
        log: Takes a line on what is being done.
        bars: Show how far downloads are.

    Returns:
        The folder as read back.

    Raises:
        ValueError: A file is not what it should be; the message says what it is.
        OSError: A file cannot be had, the disk is full, or another process writes into the folder.
    """
    options = options or ImportOptions()
    name = _name_of(source)
    target = (out or models_folder() / name).expanduser().absolute()
    if target.exists() and not target.is_dir():
        raise FileExistsError(
            f"{str(target)!r} is a file, expected the folder of a model; give another place"
        )
    refuse_to_replace(target)
    with _held(target):
        origin = _find(source, name, target, options, log, bars)
        with room_for(target), replacing_folder(target) as new:
            made = _make(new, origin, options, log, bars)
    return dataclasses.replace(made, path=target)


def _make(
    new: Path, origin: _Origin, options: ImportOptions, log: Log, bars: ProgressBars | None
) -> ModelFolder:
    """Write the model and its graphs into an empty folder."""
    if not origin.checkpoint:
        log("copying the model folder")
        for path in origin.folder.iterdir():
            if path.is_file():
                shutil.copyfile(path, new / path.name)
        found = read_model(new)
    else:
        from timar_model.architecture import reference

        checkpoint = reference.read_checkpoint(origin.folder / origin.checkpoint, options.weights)
        given = {} if options.heads is None else {"heads": options.heads}
        given_by = options.statistics or origin.statistics
        statistics = reference.read_statistics(given_by) if given_by else None
        for line in reference.assumptions(checkpoint, given, statistics):
            log(line)
        config = reference.configure(checkpoint, **given)
        reference.check_tensors(checkpoint, config)
        facts: dict[str, Any] = {}
        if options.speech_encoder or options.variants:
            source, facts = _speech_encoder(options, log, bars)
            config = dataclasses.replace(config, speech_source=source)
        log("writing the weights")
        found = reference.save_reference(new, checkpoint, config, statistics, {**origin.provenance, **facts})
        del checkpoint
    lacking = [name for name in options.variants if not _has_graphs(found, name)]
    if lacking:
        from timar_model.engines.export import export_onnx
        from timar_model.engines.int8_kernels import weight_bits_here

        found = export_onnx(found, tuple(lacking), log, weight_bits=weight_bits_here())
    return found


def _has_graphs(folder: ModelFolder, variant: str) -> bool:
    from timar_model.engines.onnx_engine import BACKBONE, variant_file

    return variant_file(BACKBONE, variant) in folder.manifest["files"]


def _name_of(source: str) -> str:
    if source.startswith(PREFIX):
        return parse(source)[0].split("/")[1]
    path = Path(source).expanduser().absolute()
    if not path.exists():
        looks_like_a_name = len(Path(source).parts) == 2 and not Path(source).suffix
        hint = f"; for the hub's repository say {PREFIX}{source}" if looks_like_a_name else ""
        raise FileNotFoundError(
            f"there is no checkpoint {source!r}; give a file, a folder, or {PREFIX}OWNER/NAME{hint}"
        )
    return path.name if path.is_dir() else path.stem


def _find(
    source: str, name: str, target: Path, options: ImportOptions, log: Log, bars: ProgressBars | None
) -> _Origin:
    """Find the files of a source, from the hub if it says so, and say how much disk the import takes."""
    if source.startswith(PREFIX):
        return _from_hub(find_repository(source, log), name, target, options, log, bars)
    path = Path(source).expanduser().absolute()
    folder = path if path.is_dir() else path.parent
    names = [one.name for one in folder.iterdir() if one.is_file()] if path.is_dir() else [path.name]
    chosen = "" if MANIFEST in names else _weight_file(names, options.file, str(path))
    if path.is_dir() and "adapter_config.json" in names:
        _refuse_adapter(str(path))
    weights = (folder / chosen).stat().st_size if chosen else sum((folder / n).stat().st_size for n in names)
    _say_room(target, _written_bytes(chosen, weights, options), log)
    statistics = _statistics_file(names) if path.is_dir() else None
    return _Origin(folder, chosen, name, {}, folder / statistics if statistics else None)


def _from_hub(
    repository: HubRepository,
    name: str,
    target: Path,
    options: ImportOptions,
    log: Log,
    bars: ProgressBars | None,
) -> _Origin:
    names = [one for one in repository.files if "/" not in one]
    if "adapter_config.json" in names:
        _refuse_adapter(str(repository))
    chosen = "" if MANIFEST in names else _weight_file(names, options.file, str(repository))
    statistics = _statistics_file(names)
    wanted = [one for one in (chosen, CONFIG, statistics, CARD) if one and one in names] if chosen else names
    written = _written_bytes(chosen, sum(repository.files[one].size for one in wanted), options)
    _say_room(repository.cache, repository.missing_bytes(wanted), log, "to download to")
    _say_room(target, written, log, beside=repository.missing_bytes(wanted), beside_of=repository.cache)
    with room_for(repository.cache, "keeps what had arrived"):
        folder = repository.download(wanted, bars)
    licence = repository.licence() or "not named by its card"
    log(f"{repository} has the licence {licence}")
    facts = {
        "repository": repository.name,
        "revision": repository.commit,
        "licence": licence,
        "downloaded": {one: repository.files[one].digest for one in wanted},
    }
    return _Origin(folder, chosen, name, facts, folder / statistics if statistics else None)


def _speech_encoder(
    options: ImportOptions, log: Log, bars: ProgressBars | None
) -> tuple[str, dict[str, Any]]:
    """Return the wav2vec 2.0 as the model's configuration names it, and what the manifest says of it."""
    source = options.speech_encoder or ModelConfig.of_size("large").speech_source
    if Path(source).expanduser().is_dir():
        return str(Path(source).expanduser().absolute()), {}
    from timar_model.architecture.speech_encoder import encoder_files

    repository = find_repository(source, log)
    wanted = encoder_files(repository)
    _say_room(repository.cache, repository.missing_bytes(wanted), log, "to download to")
    with room_for(repository.cache, "keeps what had arrived"):
        repository.download(wanted, bars)
    licence = repository.licence() or "not named by its card"
    log(f"{repository} (speech encoder) has the licence {licence}")
    digests = {name: repository.files[name].digest for name in wanted}
    facts = {"repository": repository.name, "revision": repository.commit, "licence": licence}
    return f"{repository.name}@{repository.commit}", {"speech_encoder": {**facts, "downloaded": digests}}


def _weight_file(names: Sequence[str], wanted: str, where: str) -> str:
    """Return which file of a folder or repository holds the weights."""
    found = sorted(name for name in names if name.endswith(WEIGHT_SUFFIXES))
    if wanted or len(names) == 1:
        name = wanted or names[0]
        if name not in names:
            raise FileNotFoundError(
                f"{where} has no file {name!r}; its weights are: {', '.join(found) or 'none'}"
            )
        return name
    if len(found) != 1:
        held = (
            f"holds {', '.join(found)}" if found else f"holds no weights, only {', '.join(sorted(names)[:5])}"
        )
        remedy = "say which by --file" if found else f"expected a file of {', '.join(WEIGHT_SUFFIXES)}"
        raise ValueError(f"{where} {held}; {remedy}")
    return found[0]


def _statistics_file(names: Sequence[str]) -> str | None:
    return next(
        (name for name in sorted(names) if name.startswith("stat") and name.endswith((".json", ".npz"))), None
    )


def _refuse_adapter(where: str) -> None:
    raise ValueError(
        f"{where} is a low-rank adapter (LoRA) and no whole model; merge it into its model, and give that"
    )


def _written_bytes(checkpoint: str, size: int, options: ImportOptions) -> int:
    """Return about how many bytes a model of a checkpoint takes, its speech encoder and graphs included."""
    weights = size * (RUN_SHARE if checkpoint.endswith((".pth", ".pt", ".ckpt")) else 1.0)
    speech = 1.26e9 if checkpoint and options.variants and size > 1e9 else 0.0
    return round((weights + speech) * (1.0 + INT8_SHARE * ("int8" in options.variants)))


def _say_room(
    folder: Path,
    wanted: int,
    log: Log,
    what: str = "for the model in",
    beside: int = 0,
    beside_of: Path | None = None,
) -> None:
    """Say how much disk something takes, before it does.

    Raises:
        OSError: There is not as much.
    """
    place = _existing(folder)
    is_shared = beside_of is not None and _existing(beside_of).stat().st_dev == place.stat().st_dev
    free = shutil.disk_usage(place).free - (beside if is_shared else 0)
    if wanted:
        log(f"{_amount(wanted)} {what} {folder}; {_amount(free)} are free")
    if wanted > free:
        raise OSError(
            errno.ENOSPC,
            f"about {_amount(wanted)} are needed {what} {folder}, and {_amount(free)} are free; make room, "
            "or take another place (OUT; HF_HOME for downloads)",
        )


def _amount(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def _existing(path: Path) -> Path:
    """Return a folder, or the nearest one above it that is there."""
    return next(one for one in (path, *path.absolute().parents) if one.is_dir())


@contextlib.contextmanager
def _held(target: Path) -> Iterator[None]:
    """Hold the folder of a model for this process; an empty one goes at the end."""
    with folder_lock(target):
        remove_leftovers(target)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                target.rmdir()  # Only if it is empty.


@contextlib.contextmanager
def room_for(folder: Path, state: str = "is as it was") -> Iterator[None]:
    """Say in one sentence that a disk is full, whichever library met it.

    Args:
        folder: What is written.
        state: What becomes of it then.

    Raises:
        OSError: It is.
    """
    try:
        yield
    except Exception as error:
        if not _is_full(error):
            raise
        place = _existing(folder)
        raise OSError(
            errno.ENOSPC,
            f"the disk of {place} is full ({_amount(shutil.disk_usage(place).free)} are free), and "
            f"{str(folder)!r} {state}; make room there, or give another place",
        ) from error


def _is_full(error: BaseException) -> bool:
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if isinstance(error, OSError) and error.errno in full:
        return True
    # safetensors, written in Rust, tells it in words of its own.
    return any(f"code: {number}," in str(error) or f"os error {number})" in str(error) for number in full)


def variants_here() -> tuple[str, ...]:
    """Return the graphs that this machine has a use for: float32 and int8, and float16 where CUDA can run."""
    from timar_model.engines.providers import usable_providers

    has_device = usable_providers()[0] != "CPUExecutionProvider"
    return ("float32", "int8", *(("float16",) if has_device else ()))


def start_commands(folder: ModelFolder) -> list[str]:
    """Return the commands that start the head with a model, without and with a ROS 2 distribution."""
    named = models_folder() / folder.path.name
    model = folder.path.name if os.path.realpath(named) == os.path.realpath(folder.path) else str(folder.path)
    arguments = f"model:={model} engine:=auto"
    return [
        f'make run ARGS="{arguments} view:=true"',
        f"ros2 launch timar_bringup robot.launch.py {arguments}",
    ]
