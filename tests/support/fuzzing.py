"""Mutated inputs for a reader: it returns finite numbers or raises the error that it documents.

`make fuzz` gives each reader 100,000 of them, or as many as TIMAR_FUZZ_INPUTS says; the tests 200. None may
take longer than HANG_S, and a reader no more memory than MEMORY_MB. What is found becomes a test beside the
reader's own.

Input n of a reader depends on its name, n and the seed alone. So a run may be cut into pieces: with
TIMAR_FUZZ_SECONDS each reader stops after so many seconds, and the file TIMAR_FUZZ_PROGRESS remembers where
the next run goes on.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from random import Random

import numpy as np
from mutations import Edit, Mutate

INPUTS = int(os.environ.get("TIMAR_FUZZ_INPUTS", "200"))
SEED = int(os.environ.get("TIMAR_FUZZ_SEED", "0"))
"""Another number gives other inputs."""
SECONDS = float(os.environ.get("TIMAR_FUZZ_SECONDS", "inf"))
"""For each reader in this run."""
PROGRESS = os.environ.get("TIMAR_FUZZ_PROGRESS")
"""A file; without one each run begins at the first input."""
REPORT_S = 10.0
HANG_S = 20
MEMORY_MB = 1500
Arrays = Iterable[np.ndarray]


@dataclasses.dataclass(frozen=True)
class Reader:
    """A reader and files that it reads."""

    name: str
    seeds: Callable[[Path], Sequence[bytes]]
    """Makes good files in a folder; returns their bytes."""
    mutate: Mutate
    read: Callable[[Path], Arrays]
    """Returns the numbers that must be finite."""
    suffix: str = ".bin"
    allowed: tuple[type[Exception], ...] = (ValueError, OSError)
    """What the reader documents."""
    share: float = 1.0
    """Of the inputs: fewer for one that starts a process for each file."""


@dataclasses.dataclass
class Progress:
    """How far a reader came, over all runs that share a file of progress."""

    wanted: int
    read: int = 0
    refused: int = 0
    seconds: float = 0.0

    @property
    def tried(self) -> int:
        """Number of inputs, and the number of the next one."""
        return self.read + self.refused

    def __str__(self) -> str:
        pace = self.tried / self.seconds if self.seconds else 0.0
        return f"{self.tried} of {self.wanted}: {self.read} read, {self.refused} refused, {pace:.0f} a second"


def read_progress() -> dict[str, Progress]:
    """Return the progress of each reader that the file remembers."""
    if not PROGRESS or not Path(PROGRESS).exists():
        return {}
    return {name: Progress(**values) for name, values in json.loads(Path(PROGRESS).read_text()).items()}


def _keep(name: str, progress: Progress) -> None:
    if PROGRESS:
        everything = {**read_progress(), name: progress}
        content = json.dumps({key: dataclasses.asdict(value) for key, value in everything.items()}, indent=1)
        Path(PROGRESS).parent.mkdir(parents=True, exist_ok=True)
        Path(PROGRESS).write_text(content)


def try_mutated(reader: Reader, folder: Path) -> None:
    """Give a reader its good files, then mutated ones."""
    seeds = reader.seeds(folder)
    path = folder / f"mutated{reader.suffix}"
    for seed in seeds:
        path.write_bytes(seed)
        list(reader.read(path))  # What is mutated is good.
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    progress = read_progress().get(reader.name, Progress(0))
    progress.wanted = max(1, round(INPUTS * reader.share))
    for _ in _pieces(reader.name, progress):
        number = progress.tried
        random = Random(f"{SEED} {reader.name} {number}")
        seed = random.choice(seeds)
        edits = [_edit(random) for _ in range(random.randint(1, 5))]
        try:
            is_read = _is_read(reader, path, reader.mutate(seed, edits))
        except Exception as error:
            edits = _fewest(reader, path, seed, edits)
            path.write_bytes(reader.mutate(seed, edits))
            raise AssertionError(f"{reader.name}, input {number}, left in {path}: {error!r}") from error
        progress.read += is_read
        progress.refused += not is_read
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) / 1024
    print(f"{reader.name}: {progress}, {grown_mb:.0f} MB more")
    assert grown_mb < MEMORY_MB
    assert progress.refused or progress.tried < progress.wanted or not reader.allowed


def _pieces(name: str, progress: Progress) -> Iterator[None]:
    """Go round until the reader had its inputs or its time; keep and report the progress meanwhile."""
    began_s = last_s = time.monotonic()
    try:
        while progress.tried < progress.wanted and time.monotonic() < began_s + SECONDS:
            yield
            now_s = time.monotonic()
            if now_s > last_s + REPORT_S:
                progress.seconds += now_s - last_s
                last_s = now_s
                _keep(name, progress)
                print(f"{name}: {progress}", flush=True)
    finally:
        progress.seconds += time.monotonic() - last_s
        _keep(name, progress)


def _edit(random: Random) -> Edit:
    kind, where, what = (random.getrandbits(32) for _ in range(3))
    return kind, where, what


def _is_read(reader: Reader, path: Path, data: bytes) -> bool:
    """Tell whether an input is read or refused, as is allowed; raise what is not."""
    path.write_bytes(data)
    numbers, sentence = list[np.ndarray](), ""
    began_s = time.monotonic()
    try:
        numbers = list(reader.read(path))
        is_read = True
    except reader.allowed as error:
        is_read, sentence = False, str(error).strip()
    assert is_read or sentence, "an error without a sentence"
    assert time.monotonic() - began_s < HANG_S, f"took {time.monotonic() - began_s:.0f} s"
    assert all(np.isfinite(array).all() for array in numbers), "numbers that are not finite"
    return is_read


def _fewest(reader: Reader, path: Path, seed: bytes, edits: list[Edit]) -> list[Edit]:
    """Return as few of the edits as still show what is wrong."""
    for edit in edits:
        fewer = [other for other in edits if other is not edit]
        try:
            _is_read(reader, path, reader.mutate(seed, fewer) if fewer else seed)
        except Exception:
            edits = fewer
    return edits
