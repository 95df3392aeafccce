"""Harness of all benchmarks: command line, machine and date, tables, result files, processes and load."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from timar_common.wav import read_wav

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
sys.path.insert(0, str(ROOT / "tests" / "support"))


def parser_of(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser whose help is a module's docstring."""
    return argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def machine() -> str:
    """Name processor, cores and Python."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    vnni = " with AVX-512 VNNI" if any("avx512_vnni" in line for line in lines) else ""
    cores = len(os.sched_getaffinity(0))
    processor = (names or [platform.machine()])[0]
    return f"{processor}{vnni}, {cores} cores, Python {platform.python_version()}"


def when() -> str:
    """Say when, on what, and beside how much other work."""
    return f"{time.strftime('%Y-%m-%d %H:%M')}, {machine()}, load before {os.getloadavg()[0]:.1f}"


def table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return the lines of a Markdown table, a blank one before and after."""
    lines = [f"| {' | '.join(map(str, row))} |" for row in (titles, *rows)]
    return ["", lines[0], "|---" * len(titles) + "|", *lines[1:], ""]


def print_page(lines: Sequence[str]) -> str:
    """Print a page and return it as text."""
    text = "\n".join(lines).rstrip() + "\n"
    sys.stdout.write(text)
    sys.stdout.flush()
    return text


def write_page(path: Path, lines: Sequence[str]) -> None:
    """Print a page, and write it to a file whose folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(print_page(lines), encoding="utf-8")


def write_figures(path: Path, figures: Any) -> None:
    """Write figures as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def read_figures(path: Path) -> dict[str, Any]:
    """Return the figures of an earlier run; none where there was none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def percentiles(values: Sequence[float], *wanted: float) -> list[float]:
    """Return percentiles of measurements."""
    return [float(value) for value in np.percentile(values, wanted)]


def processor_s(pid: int) -> float:
    """Return the processor time of a process so far [s]."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(field: str = "VmRSS") -> float:
    """Return what this process holds: "VmRSS" now, "VmHWM" at most [MB]."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field + ":")) / 1e3


def node_command(*nodes: str, **parameters: object) -> list[str]:
    """Return the command that runs nodes in one process, as the graph does.

    Args:
        nodes: Each as package.module:Class.
        parameters: By name; of one node of several as ``node__parameter``.
    """
    command = [sys.executable, "-m", "timar_common.base_node", *nodes, "--ros-args"]
    for name, value in parameters.items():
        command += ["-p", f"{name.replace('__', ':')}:={value}"]
    return command


@contextlib.contextmanager
def running(command: Sequence[str], how: int = signal.SIGINT, **options: Any) -> Iterator[subprocess.Popen]:
    """Run a process, and end it and its children when the block ends."""
    process = subprocess.Popen(command, start_new_session=True, **options)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Stopwatch:
    """Wall and processor time of named parts of the work [ms]."""

    def __init__(self) -> None:
        self.wall: dict[str, list[float]] = {}
        self.cpu: dict[str, list[float]] = {}

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Measure what is done in the block."""
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        yield
        self.wall.setdefault(name, []).append((time.perf_counter() - wall_s) * 1e3)
        self.cpu.setdefault(name, []).append((time.process_time() - cpu_s) * 1e3)


def example_clip(speaker: int) -> Path:
    """Return a voice of the shipped conversation."""
    return next((ROOT / "examples" / "data" / "conversation").glob(f"*speaker{speaker}.wav"))


def example_voice(speaker: int, seconds: float | None = None) -> np.ndarray:
    """Return a voice of the shipped conversation, or its first seconds, (n,) int16."""
    return read_wav(example_clip(speaker))[: None if seconds is None else round(seconds * 16_000)]
