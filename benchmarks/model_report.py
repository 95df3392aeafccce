"""The page and the plot of `bench_model.py`, from the numbers it keeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from harness import table
from model_rates import RATES

FULL = "full recompute float32"
CACHED = {"cached float32": "onnx", "cached int8": "onnx-int8"}
ROWS = (FULL, *CACHED)
WINDOW = 8
ASKED = {
    "cached float32": {"ratio": "1/4", "memory": 3.6},
    "cached int8": {"ratio": "1/12, whole 1/10", "memory": 1.3},
}
LONG = "size large, int8"


def page(found: dict) -> list[str]:
    """Return what was measured as a page's lines; a part that was not is left out."""
    lines = [
        "# Size large, turn by turn",
        "",
        "Random weights, both speakers talking, eight turns of context.",
    ]
    if "speed" in found:
        lines += speed_lines(found["speed"]) + rate_lines(found["speed"])
    if "memory" in found:
        lines += memory_lines(found["memory"])
    runs = {LONG: found["long"]} if "long" in found else {}
    runs |= {name: run for name, run in found.get("small", {}).items() if name != "when"}
    if runs:
        lines += long_lines(runs, [found[stage]["when"] for stage in ("long", "small") if stage in found])
    if "window" in found:
        lines += window_lines(found["window"])
    if {"speed", "long"} <= {*found}:
        lines += ["![turns](model_large.png)"]
    return lines


def speed_lines(speed: dict) -> list[str]:
    """Set the three ways beside each other, and state the ratios that were asked."""
    wall = {name: np.array(times) for name, times in speed["wall_ms"].items()}
    core = {name: wall[f"{name}/backbone"] + wall[f"{name}/head"] for name in ROWS}
    whole = {name: core[name] + wall[f"{name}/speech"] for name in ROWS}
    lines = [
        "",
        "## A turn of one second",
        "",
        f"{speed['when']}. {len(core[FULL])} interleaved turns; wall time, median [ms].",
    ]
    rows = []
    for name in ROWS:
        parts = [f"{np.median(wall[f'{name}/{part}']):.0f}" for part in ("speech", "backbone", "head")]
        whole_ms = np.median(whole[name])
        cores = [f"{np.median(core[name]):.0f}", f"{np.percentile(core[name], 99):.0f}"]
        rows.append([name, *parts, *cores, f"{whole_ms:.0f}", f"{whole_ms / 1e3:.2f}"])
    titles = ["", "speech", "backbone", "head", "backbone + head", "p99", "whole turn", "real-time factor"]
    lines += table(titles, rows)
    ratios = {name: [1 / np.median(of[name] / of[FULL]) for of in (core, whole)] for name in CACHED}
    rows = [[name, *(f"1/{ratio:.1f}" for ratio in ratios[name]), ASKED[name]["ratio"]] for name in CACHED]
    lines += table(["of full recompute, turn by turn", "backbone + head", "whole turn", "asked"], rows)[1:]
    return lines


def rate_lines(speed: dict) -> list[str]:
    """Set the int8 backbone beside bare products of the same run, and say where its time goes."""
    bare = {name: flops / np.median(speed["wall_ms"][name]) / 1e6 for name, flops in speed["flops"].items()}
    flops = speed["backbone_flops"]
    took_ms = float(np.median(speed["wall_ms"]["cached int8/backbone"]))
    rate = sum(flops.values()) / took_ms / 1e6
    lines = [
        "",
        "## The int8 backbone against bare products",
        "",
        f"It does {rate:.0f} GFLOP/s ({sum(flops.values()) / 1e9:.0f} GFLOP in {took_ms:.0f} ms). Bare int8 "
        "products (`MatMulInteger`) in the same run:",
        *table(
            ["", "GFLOP/s", "the backbone's share (asked: 70 %)"],
            ((what, f"{bare[k]:.0f}", f"{100 * rate / bare[k]:.0f} %") for k, what in RATES.items()),
        ),
    ]
    parts = speed["int8_pass_ms"]
    shares = [f"{100 * ms / sum(parts.values()):.0f} %" for ms in parts.values()]
    products_rate = flops["products"] / parts["products"] / 1e6
    attention_rate = flops["attention"] / parts["attention"] / 1e6
    least_ms = flops["products"] / bare["int8 pass"] / 1e6 + flops["attention"] / bare["float32 shape"] / 1e6
    lines += [
        "Where a pass spends its time, by onnxruntime's profile:",
        *table(["", *parts], [["ms", *(f"{ms:.0f}" for ms in parts.values())], ["share", *shares]]),
        f"The products alone, quantising their inputs included, do {products_rate:.0f} GFLOP/s: "
        f"{100 * products_rate / bare['int8 pass']:.0f} % of the bare rate on the same weights. Attention "
        f"is float32 and does {attention_rate:.0f} GFLOP/s, where bare float32 products do "
        f"{bare['float32 shape']:.0f}. Were nothing lost at either rate, a pass would take {least_ms:.0f} "
        f"ms: {100 * sum(flops.values()) / least_ms / 1e6 / bare['int8 shape']:.0f} % of the int8 rate "
        "with weights in the cache. So far attention in float32 and weights from memory let it come.",
    ]
    return lines


def memory_lines(memory: dict) -> list[str]:
    """Say what each engine takes and how long it takes to load."""
    lines = [
        "",
        "## Memory and loading",
        "",
        f"{memory['when']}. Each engine in a process of its own, past the first re-anchoring; load includes "
        "checking every file's SHA-256, from a warm disk.",
    ]
    rows = []
    for name in CACHED:
        facts, asked = memory[name], ASKED[name]["memory"]
        rows.append((name, f"{facts['peak_gb']:.2f}", asked, f"{facts['load_s']:.1f}", 10))
    lines += table(["", "peak memory [GB]", "asked", "load [s]", "asked"], rows)
    return lines


def window_lines(window: dict) -> list[str]:
    """Say what each way of moving a full window costs, and what it loses."""
    lines = [
        "",
        "## When the window is full",
        "",
        f"{window['when']}. Int8, wall time, no idle time given: what moves the window is done before a "
        "turn, so the longest is the longest stall there can be. What motion loses was measured with the "
        "shipped model, which is trained (on synthetic conversations; its window of 2 s rolls): cut to as "
        "many eighths as turns are seen, RMS of the difference to the whole over the motion's spread, jaw "
        "and neck, on the same noise, mean over the turns. It says how fast a window's worth falls off, not "
        "what the published weights lose.",
    ]
    rows = []
    for name, found in window["choices"].items():
        seen = [WINDOW] if name == "recompute" else range(int(name) + 1, WINDOW + 1)
        loss = np.mean([window["loss"][turns - 1] for turns in seen])
        factor = (found["turn_ms"] + found["move_ms"]) / 1e3
        times = (f"{found[key]:.0f}" for key in ("turn_ms", "move_ms", "stall_ms"))
        span = f"{seen[0]} … {WINDOW}" if len(seen) > 1 else f"{WINDOW}"
        what = "`recompute`" if name == "recompute" else f"`keep_turns` {name}"
        rows.append([what, span, *times, f"{factor:.2f}", f"{100 * loss:.0f} %"])
    titles = [
        "",
        "turns seen",
        "turn [ms]",
        "moving, a turn [ms]",
        "longest [ms]",
        "real-time factor",
        "loss",
    ]
    return lines + table(titles, rows)


def long_lines(runs: dict[str, dict], when: list[str]) -> list[str]:
    """Say what long conversations show: time, memory, and the cost of re-anchoring."""
    lines = [
        "",
        "## Long conversations",
        "",
        f"{'; '.join(dict.fromkeys(when))}. Processor time. After its turns, the old conversation and a "
        "fresh one took turns with histories of equal length; the change is the median of the pairs' ratios "
        "(asked: within 5 %).",
    ]
    rows = []
    for name, run in runs.items():
        settled = run["settled_turn"]
        p50, p99 = np.percentile(run["wall_ms"][settled:], [50, 99])
        change = 100 * (np.median([old / fresh for old, fresh in run["pairs_cpu_ms"]]) - 1)
        turn_ms, idle_ms = np.median(run["cpu_ms"][settled:]), np.mean(run["idle_cpu_ms"][settled:])
        times = [f"{p50:.0f} / {p99:.0f}", f"{turn_ms:.0f}", f"{idle_ms:.0f}", f"{change:+.1f} %"]
        memory = f"{run['grown']['memory_mb']:+.1f} (from turn {run['grown_from_turn']})"
        rows.append([name, run["turns"], *times, memory, f"{run['grown']['blocks']:+.0f}"])
    titles = ["", "turns", "wall p50 / p99 [ms]", "turn [ms]", "re-anchoring, a turn [ms]"]
    titles += ["last against fresh turns", "memory grown [MB]", "Python blocks grown"]
    lines += table(titles, rows)
    return lines


def plot(found: dict, path: Path) -> None:
    """Draw what a turn costs, part by part, and the long run."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    wall, run = found["speed"]["wall_ms"], found["long"]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 3.6), width_ratios=[1, 1.4])
    start = np.zeros(len(ROWS))
    for part in ("speech", "backbone", "head"):
        height = np.array([np.median(wall[f"{name}/{part}"]) for name in ROWS])
        left.bar(ROWS, height, bottom=start, label=part)
        start += height
    left.axhline(1000, color="grey", linestyle=":", label="real time")
    left.set(ylabel="wall time of a turn [ms]")
    left.tick_params(axis="x", labelsize=7)
    left.legend()
    right.plot(run["cpu_ms"], ".", markersize=3, label="turn")
    right.plot(run["idle_cpu_ms"], ".", markersize=3, label="re-anchoring, in idle time")
    right.set(xlabel="turn", ylabel="int8 processor time [ms]", ylim=(0, None))
    right.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
