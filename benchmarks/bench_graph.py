"""Run the demo as a person would and hold it against what it must reach; writes benchmarks/results/graph.md.

make bench                              # 30 s of the shipped conversation, no browser
make bench ARGS="--duration 10 --runs 3"
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from timar_model import find_model, load_model

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "graph.md"


@dataclasses.dataclass(frozen=True)
class Promise:
    """One row: what must be reached, and what was measured in each run."""

    what: str
    limit: float
    unit: str
    measured: list[float]

    @property
    def worst(self) -> float:
        """The measurement of the worst run."""
        return max(self.measured)

    def row(self) -> str:
        """Return the table's row; the ratio is the worst run's share of the limit."""
        ratio = f"{self.worst / self.limit:.2f}" if self.limit else ("0" if self.worst == 0 else "above 0")
        verdict = "reached" if self.worst <= self.limit else "**missed**"
        each = ", ".join(f"{value:.3g}" for value in self.measured)
        return f"| {self.what} | {self.limit:g} {self.unit} | {each} {self.unit} | {ratio} | {verdict} |"


def run_demo(duration_s: float, model: str, out: Path) -> tuple[dict[str, Any], dict[str, Any], float]:
    """Run `make demo` and return its summary, what the starter knew, and seconds to the first moving joint.

    Raises:
        RuntimeError: The demo failed; the end of its output is in the message.
    """
    environment = {name: value for name, value in os.environ.items() if name != "ROS_DOMAIN_ID"}
    arguments = f"--headless --duration {duration_s:g} --model {model} --out '{out}'"
    began_s = time.time()
    done = subprocess.run(
        ["make", "--no-print-directory", "demo", f"ARGS={arguments}"],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(
            f"make demo ended with status {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}"
        )
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    run = json.loads((out / "run.json").read_text(encoding="utf-8"))
    return summary, run, run["first_motion_unix_s"] - began_s


def machine() -> str:
    """Return processor, cores, system and Python in one line."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("model name")
    ]
    cores = len(os.sched_getaffinity(0))
    return f"{names[0] if names else platform.machine()}, {cores} cores, Python {platform.python_version()}"


def main(argv: list[str] | None = None) -> int:
    """Measure, write the table, and return 1 when a promise was missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--duration", type=float, default=30.0, help="seconds of conversation per run")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--model", default="talking-head")
    options = parser.parse_args(argv)
    turn_ms = load_model(find_model(options.model)).config.turn_frames * 40.0
    load_before = os.getloadavg()[0]
    runs = []
    with tempfile.TemporaryDirectory(prefix="timar-bench-") as folder:
        for number in range(options.runs):
            sys.stderr.write(f"run {number + 1} of {options.runs}\n")
            runs.append(run_demo(options.duration, options.model, Path(folder) / f"run-{number}"))
    summaries = [summary for summary, _, _ in runs]
    latencies = [summary["latency_ms"] for summary in summaries]
    promises = [
        Promise("turns late or unsampled", 0, "", [
            float(s["late_turns"] + s["extra"]["unsampled_turns"]) for s in summaries
        ]),
        Promise("processor, whole graph, mean", 1, "cores", [s["cpu_cores_used"] for s in summaries]),
        Promise("compute per turn, p95", 100, "ms", [latency["compute"]["p95"] for latency in latencies]),
        Promise("microphone to joint, p95", turn_ms + 200, "ms", [
            latency["microphone_to_joint"]["p95"] for latency in latencies
        ]),
        Promise("jaw against the heard voice", 40, "ms", [
            abs(s["extra"]["jaw_lag_ms"]) if s["extra"]["jaw_lag_ms"] is not None else float("inf")
            for s in summaries
        ]),
        Promise("`make demo` to the first moving joint", 10, "s", [first_s for _, _, first_s in runs]),
    ]  # fmt: skip
    correlations = ", ".join(f"{s['correlation']['jaw_agent_level'] or 0:.2f}" for s in summaries)
    text = "\n".join(
        [
            "# The whole graph on the shipped conversation",
            "",
            f"{machine()}; {time.strftime('%Y-%m-%d %H:%M')}; load before: {load_before:.1f}. Made by "
            f"`python benchmarks/bench_graph.py --duration {options.duration:g} --runs {options.runs} "
            f"--model {options.model}`.",
            "",
            "| | at most | measured, each run | worst / limit | |",
            "|---|---|---|---|---|",
            *(promise.row() for promise in promises),
            "",
            f"Turns of {turn_ms:g} ms, {summaries[0]['turns']} in the first run; engine "
            f"{summaries[0]['engine']}; correlation of jaw and own voice {correlations}. Processor time is "
            "that of every process of the graph and their children during the conversation; start-up and the "
            "progress line are not in it.",
            "",
        ]
    )
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(text, encoding="utf-8")
    sys.stdout.write(text)
    return int(any(promise.worst > promise.limit for promise in promises))


if __name__ == "__main__":
    sys.exit(main())
