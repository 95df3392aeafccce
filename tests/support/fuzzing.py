"""Mutated inputs for a reader: it returns finite numbers or raises the error that it documents.

`make fuzz` gives each reader 100,000 of them, or as many as TIMAR_FUZZ_INPUTS says; the tests 200. None may
take longer than HANG_S, and a reader no more memory than MEMORY_MB. What is found becomes a test beside the
reader's own.
"""

from __future__ import annotations

import dataclasses
import os
import resource
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mutations import Edit, Mutate

INPUTS = int(os.environ.get("TIMAR_FUZZ_INPUTS", "200"))
SEED = int(os.environ.get("TIMAR_FUZZ_SEED", "0"))
"""Another number gives other inputs."""
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


def try_mutated(reader: Reader, folder: Path) -> None:
    """Give a reader its good files, then mutated ones."""
    seeds = reader.seeds(folder)
    path = folder / f"mutated{reader.suffix}"
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes = {"read": 0, "refused": 0}
    for seed in seeds:
        path.write_bytes(seed)
        list(reader.read(path))  # What is mutated is good.
    edits = st.lists(st.tuples(*[st.integers(0, 2**32 - 1)] * 3), min_size=1, max_size=5)

    @settings(
        max_examples=max(1, round(INPUTS * reader.share)), deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck), phases=(Phase.generate, Phase.shrink),
    )  # fmt: skip
    @given(seed=st.sampled_from(seeds), edits=edits)
    def check(seed: bytes, edits: list[Edit]) -> None:
        path.write_bytes(reader.mutate(seed, [(kind ^ SEED, where, what) for kind, where, what in edits]))
        began_s = time.monotonic()
        try:
            numbers, sentence = list(reader.read(path)), "read"
            outcomes["read"] += 1
        except reader.allowed as error:
            outcomes["refused"] += 1
            numbers, sentence = [], str(error).strip()
        assert time.monotonic() - began_s < HANG_S
        assert sentence, "an error without a sentence"
        for array in numbers:
            assert np.isfinite(array).all()

    check()
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) / 1024
    print(f"{reader.name}: {outcomes['read']} read, {outcomes['refused']} refused, {grown_mb:.0f} MB more")
    assert grown_mb < MEMORY_MB
    assert outcomes["refused"] or not reader.allowed
