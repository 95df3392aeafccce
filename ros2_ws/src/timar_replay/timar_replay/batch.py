"""Replays a batch of bags: a pool of processes, or a cluster, that goes on where it was killed."""

from __future__ import annotations

import collections
import concurrent.futures
import csv
import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from timar_bag.bag import BAG_SUFFIXES
from timar_common.atomic import write_json
from timar_common.processes import pool_or_cluster
from timar_inference.runtime import Runtime, open_runtime
from timar_report.score_files import RUN_NAME, SCORE_NAME, read_score
from timar_report.statistics import flat_numbers

from timar_replay.runs import ReplayJob, run_job

TABLE_NAME = "scores"
SUMMARY_NAME = "fleet.json"
"""Named when a batch was called so; scripts read it."""
SOURCE_NAME = "source.json"


@dataclasses.dataclass(frozen=True)
class FinishedJob:
    """How one bag of many went."""

    bag: Path
    out: Path
    error: str = ""
    """Why it could not be replayed; empty when it was."""
    is_resumed: bool = False
    """Whether an earlier run had done it."""


def find_bags(folder: Path) -> list[Path]:
    """Return the bags of a folder, whatever their depth: folders with bag files in them, sorted by path.

    A file of its own is a bag when it does not lie in a folder that is one.

    Raises:
        FileNotFoundError: There is none.
    """
    files: dict[Path, list[Path]] = {}
    for path in folder.rglob("*"):
        if path.suffix in BAG_SUFFIXES and path.is_file():
            files.setdefault(path.parent, []).append(path)
    bags: list[Path] = []
    for parent, inside in files.items():
        is_bag = parent != folder and (len(inside) == 1 or (parent / "metadata.yaml").is_file())
        bags += [parent] if is_bag else inside
    if not bags:
        raise FileNotFoundError(f"{folder} holds no bag; expected rosbag2 folders, .mcap or .db3 files in it")
    return sorted(bags)


def jobs_for(bags: Sequence[Path], root: Path, out: Path, template: ReplayJob) -> list[ReplayJob]:
    """Return one job per bag, each with a folder of its own at the bag's place below `root`.

    The folder of a bare file is called as the file without its ending, unless two would be called alike.
    """
    whole = [bag.relative_to(root) for bag in bags]
    short = [place if bag.is_dir() else place.with_suffix("") for bag, place in zip(bags, whole, strict=True)]
    taken = collections.Counter(short)
    return [
        dataclasses.replace(template, bag=bag, out=out / (long if taken[name] > 1 else name))
        for bag, long, name in zip(bags, whole, short, strict=True)
    ]


def run_batch(
    jobs: Sequence[ReplayJob],
    workers: int,
    advance: Callable[[FinishedJob], None] = lambda finished: None,
    cluster: str = "",
) -> list[FinishedJob]:
    """Replay many bags; a bag whose result is there, from the same bag and settings, is not replayed again.

    Args:
        jobs: What to do, each in a folder of its own.
        workers: Processes on this machine.
        advance: Called with each bag when it is done, in any order.
        cluster: Address of a Dask scheduler; its workers take the place of the processes and need to see the
            same paths. Empty: this machine.

    Returns:
        How each went, in the order of the jobs.

    Raises:
        ValueError: `workers` is not positive.
        RuntimeError: A cluster is asked for and Dask is not installed.
    """
    if workers < 1:
        raise ValueError(f"{workers} workers cannot replay anything, expected 1 or more")
    done = {
        number: FinishedJob(job.bag, job.out, is_resumed=True)
        for number, job in enumerate(jobs)
        if is_done(job)
    }
    for finished in done.values():
        advance(finished)
    waiting = [number for number in range(len(jobs)) if number not in done]
    for number, finished in _results(jobs, waiting, workers, cluster):
        done[number] = finished
        advance(finished)
    return [done[number] for number in range(len(jobs))]


def is_done(job: ReplayJob) -> bool:
    """Return whether a job's folder holds its whole result."""
    try:
        run = json.loads((job.out / RUN_NAME).read_text("utf-8"))
        source = json.loads((job.out / SOURCE_NAME).read_text("utf-8"))
    except (OSError, ValueError):
        return False
    if not (job.out / SCORE_NAME).is_file():
        return False
    return bool(source == fingerprint(job) and run.get("digest") == job.settings.digest(run["model_sha256"]))


def fingerprint(job: ReplayJob) -> dict[str, Any]:
    """Return what shows that a bag, or how it is replayed, has changed since."""
    files = [job.bag] if job.bag.is_file() else sorted(path for path in job.bag.iterdir() if path.is_file())
    return {
        "files": [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files],
        "model": job.settings.inference.model,
        "samples": job.samples,
    }


def write_table(finished: Sequence[FinishedJob], out: Path) -> Path:
    """Write one row per bag: Parquet where pyarrow is installed, else CSV.

    Returns:
        The file.
    """
    rows: list[dict[str, str | float]] = []
    for item in finished:
        if not item.error:
            numbers = read_score(item.out)["numbers"]
            # Without what only describes.
            kept = {key: value for key, value in numbers.items() if key not in ("extra", "joints")}
            rows.append({"bag": str(item.bag), **flat_numbers(kept)})
    names = list(dict.fromkeys(name for row in rows for name in row))
    path = out / f"{TABLE_NAME}.parquet"
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        path = path.with_suffix(".csv")
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names, restval="")
            writer.writeheader()
            writer.writerows(rows)
    else:
        parquet.write_table(pyarrow.table({name: [row.get(name) for row in rows] for name in names}), path)
    return path


def write_summary(finished: Sequence[FinishedJob], out: Path) -> dict[str, Any]:
    """Write and return how the whole batch went."""
    content = {
        "bags": len(finished),
        "resumed": sum(item.is_resumed for item in finished),
        "failed": {str(item.bag): item.error for item in finished if item.error},
    }
    write_json(out / SUMMARY_NAME, content)
    return content


def _results(
    jobs: Sequence[ReplayJob], numbers: Sequence[int], workers: int, cluster: str
) -> Iterator[tuple[int, FinishedJob]]:
    if workers == 1 and not cluster:
        for number in numbers:
            yield number, work(jobs[number])
        return
    with pool_or_cluster(workers, cluster, __name__) as executor:
        futures = {executor.submit(work, jobs[number]): number for number in numbers}
        for future in concurrent.futures.as_completed(futures):
            number = futures[future]
            try:
                yield number, future.result()
            except concurrent.futures.process.BrokenProcessPool as error:
                yield number, FinishedJob(jobs[number].bag, jobs[number].out, f"its process died: {error}")


_opened: dict[Any, Runtime] = {}


def work(job: ReplayJob) -> FinishedJob:
    """Do one job in a worker; the model stays open for the next one, and errors are returned."""
    try:
        key = job.settings.inference
        if key not in _opened:
            _opened.clear()
            _opened[key] = open_runtime(key)
        source = fingerprint(job)
        run_job(job, _opened[key])
        write_json(job.out / SOURCE_NAME, source)
    except (ValueError, OSError, RuntimeError, FloatingPointError) as error:
        return FinishedJob(job.bag, job.out, f"{type(error).__name__}: {error}")
    return FinishedJob(job.bag, job.out)
