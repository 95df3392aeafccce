"""Runs one replay from bag to report: the new bag, its score, and what the machine took for it."""

from __future__ import annotations

import dataclasses
import os
import platform
import resource
import shutil
import subprocess
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from timar_common.atomic import write_json
from timar_common.folder_lock import folder_lock
from timar_inference.runtime import Runtime, open_runtime
from timar_model.metrics import energy_score
from timar_report.frames import read_frames
from timar_report.joints import limits_of
from timar_report.score import WINDOW_FRAMES, ConversationScore, score_bag
from timar_report.score_files import RUN_NAME, SCORE_NAME

from timar_replay.replay import ONE_THREAD, ReplayReport, replay
from timar_replay.replay_settings import ReplaySettings

REPORT_NAME = "report.html"
BAG_NAME = "bag"


@dataclasses.dataclass(frozen=True)
class ReplayJob:
    """One bag to replay and score, as a worker process gets it."""

    bag: Path
    out: Path
    """Folder of the results; made if need be, what an earlier run left in it is replaced."""
    settings: ReplaySettings = dataclasses.field(default_factory=ReplaySettings)
    has_report: bool = True
    samples: int = 1
    """So many draws with different seeds; above 1 they give the energy score where ground truth is known."""

    def __post_init__(self) -> None:
        if not 1 <= self.samples <= 1000:
            raise ValueError(f"{self.samples} samples were asked for, expected 1 to 1000")


def run_job(
    job: ReplayJob, runtime: Runtime | None = None, advance: Callable[[int], None] = lambda receive_ns: None
) -> dict[str, Any]:
    """Replay, score and report one bag; return the score's numbers.

    Score and new bag depend on nothing but bag and settings; what the machine took for it stands apart, in
    ``replay.json``.

    Raises:
        FileNotFoundError: There is no bag or no model.
        ValueError: Nothing in the bag can be replayed.
        RuntimeError: The engine failed.
        OSError: The results cannot be written, or another process writes into the folder.
    """
    with folder_lock(job.out):
        return _replay_and_score(job, runtime, advance)


def _replay_and_score(
    job: ReplayJob, runtime: Runtime | None, advance: Callable[[int], None]
) -> dict[str, Any]:
    began_s, began_cpu_s = time.monotonic(), time.process_time()
    for name in (SCORE_NAME, RUN_NAME, REPORT_NAME):
        (job.out / name).unlink(missing_ok=True)
    target = _empty_place(job.out / BAG_NAME)
    runtime = runtime or open_runtime(job.settings.inference)
    report = replay(job.bag, target, job.settings, runtime, advance)
    replayed_s, replayed_cpu_s = time.monotonic() - began_s, time.process_time() - began_cpu_s
    with ONE_THREAD():
        score = score_bag(target, limits_of(job.settings.retargeting.robot), job.settings.namespace)
    numbers = complete_numbers(score, report, job)
    if job.samples > 1:
        numbers["energy"] = _energy(job, runtime, score)
    windows = {
        name: [float(f"{value:.6g}") if np.isfinite(value) else None for value in values]
        for name, values in score.windows.items()
    }
    write_json(job.out / SCORE_NAME, {"numbers": numbers, "windows": {"frames": WINDOW_FRAMES, **windows}})
    if job.has_report:
        # Only here, for drawing takes a second to import.
        from timar_report.report import write_report

        write_report(score, numbers, job.out / REPORT_NAME, str(job.bag))
    machine = {
        "bag": str(job.bag.absolute()),
        "settings": dataclasses.asdict(job.settings),
        "digest": job.settings.digest(runtime.identity.model_sha256),
        "engine": report.engine,
        "model_sha256": report.model_sha256,
        "span_s": report.span_s,
        "replay_s": replayed_s,
        "replay_cpu_s": replayed_cpu_s,
        "times_real_time_per_core": max(report.span_s, 1e-9) / max(replayed_cpu_s, 1e-9),
        "whole_s": time.monotonic() - began_s,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "code": code_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "date": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
    # Last: whoever finds this file finds a whole result.
    write_json(job.out / RUN_NAME, machine)
    return numbers


def code_version() -> str:
    """Return the commit this runs from (``-dirty`` when changed), or the version of an installed package."""
    command = ["git", "-C", str(Path(__file__).resolve().parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return metadata.version("timar_replay")


def complete_numbers(score: ConversationScore, report: ReplayReport, job: ReplayJob) -> dict[str, Any]:
    """Return the score's numbers with what only the replay knows."""
    extra = {**score.numbers["extra"], "losses": [*report.issues, *score.numbers["extra"]["losses"]]}
    return {
        **score.numbers,
        "extra": extra,
        "policy": "follow-log" if job.settings.is_following else str(job.settings.policy),
        "seed": job.settings.inference.seed,
        "losses": len(report.issues),
        **({"agreement": report.agreement} if report.agreement else {}),
    }


def _energy(job: ReplayJob, runtime: Runtime, score: ConversationScore) -> dict[str, float] | None:
    """Replay with other seeds and return the energy score; None without ground truth."""
    frames = score.frames
    known = frames.is_true & frames.is_made
    if frames.truth is None or known.sum() < WINDOW_FRAMES:
        return None
    drawn = [frames.made[known]]
    for number in range(1, job.samples):
        settings = job.settings.changed([f"inference.seed={job.settings.inference.seed + 1000 * number}"])
        folder = _empty_place(job.out / f"sample-{number}")
        replay(job.bag, folder, settings, runtime)
        drawn.append(read_frames(folder).made[known])
        shutil.rmtree(folder)
    return energy_score(drawn, frames.truth[known])


def _empty_place(folder: Path) -> Path:
    """Return a path at which there is nothing any more, in a folder that exists."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists():
        shutil.rmtree(folder)
    return folder
