"""The demo as a person would run it, against what it must reach; writes benchmarks/results/graph.md.

make bench                              # 30 s of the shipped conversation, no browser
make bench ARGS="--duration 10 --runs 3"
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from harness import RESULTS, ROOT, parser_of, table, when, write_page

from timar_model import load_model


def run_demo(duration_s: float, model: str, out: Path) -> dict[str, Any]:
    """Run `make demo`; return its summary and, as `first_s`, the seconds to the first moving joint.

    Raises:
        RuntimeError: The demo failed; the end of its output is in the message.
    """
    environment = {name: value for name, value in os.environ.items() if name != "ROS_DOMAIN_ID"}
    arguments = f"--headless --duration {duration_s:g} --model {model} --out '{out}'"
    command = ["make", "--no-print-directory", "demo", f"ARGS={arguments}"]
    began_s = time.time()
    how: dict[str, Any] = {"capture_output": True, "text": True, "stdin": subprocess.DEVNULL, "check": False}
    done = subprocess.run(command, cwd=ROOT, env=environment, **how)
    if done.returncode:
        output = (done.stdout + done.stderr)[-3000:]
        raise RuntimeError(f"make demo ended with status {done.returncode}:\n{output}")
    summary, run = (json.loads((out / f"{name}.json").read_text("utf-8")) for name in ("summary", "run"))
    return {**summary, "first_s": run["first_motion_unix_s"] - began_s}


def promises(turn_ms: float, summaries: list[dict[str, Any]]) -> list[tuple[str, float, str, np.ndarray]]:
    """Return what must be reached: name, limit, unit, and what each run measured."""

    def jaw_lag_ms(summary: dict[str, Any]) -> float:
        lag_ms = summary["extra"]["jaw_lag_ms"]
        return abs(lag_ms) if lag_ms is not None else float("inf")

    def late(summary: dict[str, Any]) -> float:
        extra = summary["extra"]
        return summary["late_turns"] + extra.get("skipped_turns", extra.get("unsampled_turns", 0))

    def to_joint_ms(summary: dict[str, Any]) -> float:
        return summary["latency_ms"]["microphone_to_joint"]["p95"]

    rows = (
        ("turns late or skipped", 0, "", late),
        ("processor, whole graph, mean", 1, "cores", lambda s: s["cpu_cores_used"]),
        ("compute per turn, p95", 100, "ms", lambda s: s["latency_ms"]["compute"]["p95"]),
        ("microphone to joint, p95", turn_ms + 200, "ms", to_joint_ms),
        ("jaw against the agent's voice", 40, "ms", jaw_lag_ms),
        ("`make demo` to the first moving joint", 10, "s", lambda s: s["first_s"]),
    )
    return [(*what, np.array([value(s) for s in summaries], float)) for *what, value in rows]


def main(argv: list[str] | None = None) -> int:
    """Measure, write the table, and return 1 when a promise was missed."""
    parser = parser_of(__doc__)
    parser.add_argument("--duration", type=float, default=30.0, help="seconds of conversation per run")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--model", default="calm-head")
    options = parser.parse_args(argv)
    turn_ms, began = load_model(options.model).config.turn_frames * 40.0, when()
    summaries = []
    with tempfile.TemporaryDirectory(prefix="timar-bench-") as folder:
        for number in range(options.runs):
            sys.stderr.write(f"run {number + 1} of {options.runs}\n")
            summaries.append(run_demo(options.duration, options.model, Path(folder) / f"run-{number}"))
    rows, is_missed = [], False
    for what, limit, unit, measured in promises(turn_ms, summaries):
        worst = measured.max()
        is_missed |= bool(worst > limit)
        ratio = f"{worst / limit:.2f}" if limit else ("0" if worst == 0 else "above 0")
        each = ", ".join(f"{value:.3g}" for value in measured)
        verdict = "reached" if worst <= limit else "**missed**"
        rows.append((what, f"{limit:g} {unit}", f"{each} {unit}", ratio, verdict))
    correlations = ", ".join(f"{s['correlation']['jaw_agent_level'] or 0:.2f}" for s in summaries)
    lines = [
        "# The whole graph on the shipped conversation",
        "",
        f"{began}. Made by `python benchmarks/bench_graph.py --duration {options.duration:g} --runs "
        f"{options.runs} --model {options.model}`.",
        *table(["", "at most", "measured, each run", "worst / limit", ""], rows),
        f"Turns of {turn_ms:g} ms, {summaries[0]['turns']} in the first run; engine "
        f"{summaries[0]['engine']}; correlation of jaw and own voice {correlations}. Processor time is that "
        "of every process of the graph and their children during the conversation; start-up and the progress "
        "line are not in it.",
    ]
    write_page(RESULTS / "graph.md", lines)
    return int(is_missed)


if __name__ == "__main__":
    sys.exit(main())
