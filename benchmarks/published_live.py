"""The published size live: the whole graph with view and recorder on random weights of size large, in int8.

Both speakers of the shipped example talk, over and over. Nothing may come late or be skipped, and memory must
be flat once the window has been full. Writes benchmarks/results/published_live.md.

make bench-published ARGS="--folder /tmp/large"                  # ten minutes
make bench-published ARGS="--folder /tmp/large --seconds 60"
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import bench_model
import numpy as np
from harness import RESULTS, example_voice, machine, parser_of, percentiles, processor_s, table, write_page
from model_target import has_byte_products
from timar_bag.bag import BagReader
from timar_common.wav import write_wav

WINDOW_S = 8
"""Turns of a full window, one a second."""
CHOSEN = "chosen by measuring: "
"""After this the log says what auto took."""


def inference_process(session: int) -> int | None:
    """Return the process that runs the inference node among those that a process started."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes()
            if int(fields[1]) == session and b"timar_inference" in command:
                return int(folder.name)
    return None


def memory_of(pid: int) -> float:
    """Return what a process holds [MB]."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1e3


def hold(arguments, folder: Path) -> dict[str, Any]:
    """Hold the conversation; return what was measured each second of the inference process."""
    voices = {}
    for speaker in (1, 2):
        voice = example_voice(speaker)
        samples = np.tile(voice, -(-round((arguments.seconds + 30) * 16_000) // voice.size))
        voices[speaker] = folder / f"speaker{speaker}.wav"
        write_wav(voices[speaker], samples)
    command = [sys.executable, "-m", "timar_common.cli", "demo", "--headless"]
    command += ["--duration", f"{arguments.seconds:g}", "--out", str(folder / "out")]
    command += ["--model", str(arguments.folder / "large"), "--engine", arguments.engine]
    command += ["--user-file", str(voices[1]), "--agent-file", str(voices[2])]
    command += [
        "view:=true",
        f"view_port:={arguments.view_port}",
        f"allow_degraded:={arguments.allow_degraded}",
    ]
    seen: dict[str, list[float]] = {"at_s": [], "memory_mb": [], "cpu_s": []}
    with (folder / "demo.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        pid = None
        while process.poll() is None:
            time.sleep(1.0)
            pid = pid or inference_process(process.pid)
            with contextlib.suppress(OSError, StopIteration):
                if pid is not None:
                    now = (time.time(), memory_of(pid), processor_s(pid))
                    for name, value in zip(seen, now, strict=True):
                        seen[name].append(value)
    if process.returncode:
        raise RuntimeError(
            f"the demo ended with status {process.returncode}:\n{(folder / 'demo.log').read_text()[-3000:]}"
        )
    said = (folder / "demo.log").read_text().splitlines()
    chosen = [line.partition(CHOSEN)[2] for line in said if CHOSEN in line]
    return {**seen, "killed": [line for line in said if "had to be killed" in line], "chosen": chosen[-1:]}


def read(bag_folder: Path) -> tuple[list[tuple[float, float]], list[dict[str, float]]]:
    """Return each generated turn's log time and compute time [s, ms], and the inference node's health."""
    turns, health = [], []
    with BagReader(bag_folder) as bag:
        for topic, receive_ns, message in bag.messages(["turn_log", "/diagnostics"]):
            if topic == "turn_log":
                if message.decision == 0:
                    turns.append((receive_ns * 1e-9, float(message.compute_ms)))
                continue
            for status in message.status:
                if status.name.endswith("inference"):
                    values = {pair.key: pair.value for pair in status.values}
                    health.append({"at_s": receive_ns * 1e-9, **_numbers(values)})
    return turns, health


def _numbers(values: dict[str, str]) -> dict[str, float]:
    found = {}
    for name, value in values.items():
        with contextlib.suppress(ValueError):
            found[name] = float(value)
    return found


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--folder", type=Path, help="where the weights are kept, as of bench_model.py")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--engine", default="auto")
    parser.add_argument(
        "--allow-degraded",
        choices=("true", "false"),
        default="true",
        help="whether auto may shorten the window",
    )
    parser.add_argument("--view-port", type=int, default=8391)
    parser.add_argument("--out", type=Path, default=RESULTS / "published_live.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="timar-published-") as scratch:
        arguments.folder = arguments.folder or Path(scratch)
        bench_model.prepare(arguments.folder)
        began, load = time.strftime("%Y-%m-%d %H:%M"), os.getloadavg()[0]
        seen = hold(arguments, Path(scratch))
        turns, health = read(Path(scratch) / "out" / "bag")
    lines, is_missed = page(arguments, f"{began}, {machine()}, load before {load:.1f}", seen, turns, health)
    write_page(arguments.out, lines)
    return int(is_missed)


def page(arguments, when: str, seen, turns, health) -> tuple[list[str], bool]:
    """Return the page, and whether a promise was missed."""
    last = health[-1]
    # Between two reports of health, each with whole turns: once the window has been full, and at the end.
    start = next(one for one in health if one["turns"] > 2 * WINDOW_S)
    conversation_s = last["turns"] - start["turns"]
    factor = (last["engine_busy_s"] - start["engine_busy_s"]) / conversation_s
    at_s, memory = np.array(seen["at_s"]), np.array(seen["memory_mb"])
    full = np.flatnonzero((at_s > start["at_s"] + 2 * WINDOW_S) & (at_s < last["at_s"]))
    cpu = (seen["cpu_s"][full[-1]] - seen["cpu_s"][full[0]]) / (at_s[full[-1]] - at_s[full[0]])
    fifth = max(1, full.size // 5)
    grown = float(np.median(memory[full[-fifth:]]) - np.median(memory[full[:fifth]]))
    compute_ms = [ms for at, ms in turns if at > start["at_s"]]
    most_busy = 0.45 if has_byte_products() else 0.9
    p50, p99, most = *percentiles(compute_ms, 50, 99), max(compute_ms)
    rows = [
        ("turns late", "0", f"{last['late']:.0f}", last["late"] == 0),
        ("turns skipped", "0", f"{last['skipped']:.0f}", last["skipped"] == 0),
        (
            "real-time factor: turns, previews and window moves",
            f"{most_busy:g}",
            f"{factor:.2f}",
            factor <= most_busy,
        ),
        ("longest turn beyond the median (a stall)", "300 ms", f"{most - p50:.0f} ms", most - p50 <= 300),
        ("memory grown once the window was full", "10 MB", f"{grown:+.1f} MB", grown <= 10),
        ("processes that had to be killed at the end", "0", str(len(seen["killed"])), not seen["killed"]),
    ]
    lines = [
        "# The published size, live",
        "",
        f"{when}. {last['turns']:.0f} turns of one second at size large, random weights, "
        f"engine:={arguments.engine} allow_degraded:={arguments.allow_degraded}; the whole graph with "
        "browser view (nobody looking) and recorder. "
        f'`make bench-published ARGS="--seconds {arguments.seconds:g}"`.',
        *(f"\nauto took {sentence}" for sentence in seen["chosen"]),
        *table(
            ["", "at most", "measured", ""],
            ((*row[:3], "reached" if row[3] else "**missed**") for row in rows),
        ),
        f"A turn takes {p50:.0f} ms (p50), {p99:.0f} ms (p99), {most:.0f} ms (longest); a preview "
        f"{last.get('preview_p50_ms', 0.0):.0f} ms (p50), the next window "
        f"{last.get('window_p50_ms', 0.0):.0f} ms a turn (p50). The inference process "
        f"used {cpu:.2f} s of processor time a second and held "
        f"{memory[full[-1]] / 1e3:.2f} GB; {last['previews_dropped']:.0f} previews were left out.",
    ]
    return lines, not all(row[3] for row in rows)


if __name__ == "__main__":
    sys.exit(main())
