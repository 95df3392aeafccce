"""What is asked of the published size, as one table: parts that `bench_model.py` has not, and the page."""

from __future__ import annotations

import contextlib
import threading
import time

import numpy as np
from harness import example_voice, percentiles, table
from model_report import CACHED, FULL
from timar_common.cancellation import Cancellation, WorkCancelledError
from timar_model.engines.int8_kernels import INSTRUCTIONS
from timar_model.engines.measuring import EngineCost
from timar_model.machine import cpu_flags

from timar_model import load_model

PARTS = ("speech", "backbone", "head")
PACED_TURNS = 24
CANCELLED_AT = 12


def paced(session, talk, turns: int = PACED_TURNS) -> dict[str, float]:
    """Hold a conversation in its own time, the window full: what a window's move delays a turn by.

    Each turn begins when its sound is there, or later where work before it is not over; what the window's
    move left for the turn itself counts, too.
    """
    turn_s = session.config.turn_frames / 25
    for _ in range(session.window_frames // session.config.turn_frames):
        session.step(*talk.turn())
        session.idle(60.0)
    delays, turn_ms = [], []
    started, busy_s = time.perf_counter(), 0.0
    for number in range(turns):
        due = started + number * turn_s
        time.sleep(max(0.0, due - time.perf_counter()))
        began = time.perf_counter()
        given = talk.turn()
        session.step(*given)
        turn_ms.append(1e3 * (time.perf_counter() - began))
        delays.append(1e3 * (began - due) + session.timings_ms["history"])
        session.preview(given[2])
        session.idle(due + turn_s - time.perf_counter())
        busy_s += time.perf_counter() - began
    p50, p99 = percentiles(turn_ms, 50, 99)
    return {
        "turn_p50_ms": p50,
        "turn_p99_ms": p99,
        "stall_ms": max(delays[1:]),
        "real_time_factor": busy_s / (turns * turn_s),
        "turns": turns,
    }


def cancel_ms(session, talk) -> float:
    """Return the longest that a turn goes on after it was cancelled, at instants all over it [ms]."""
    began = time.perf_counter()
    session.step(*talk.turn())
    turn_s, found = time.perf_counter() - began, []
    for number in range(CANCELLED_AT):
        cancellation, given = Cancellation(), talk.turn()

        def work(cancellation=cancellation, given=given) -> None:
            with cancellation.scope(), contextlib.suppress(WorkCancelledError):
                session.step(*given)

        worker = threading.Thread(target=work)
        worker.start()
        time.sleep(turn_s * (number + 0.5) / CANCELLED_AT)
        began = time.perf_counter()
        cancellation.cancel()
        worker.join()
        found.append(1e3 * (time.perf_counter() - began))
    return max(found)


def int8_difference(seconds: int = 20) -> float:
    """Return the largest difference of jaw and neck, shipped weights, int8 from float32, same noise [rad]."""
    model = load_model("calm-head")
    sessions = [model.session(engine) for engine in ("onnx", "onnx-int8")]
    user, agent = (example_voice(n, seconds).astype(np.float32) / 32768 for n in (1, 2))
    frames, apart = model.config.turn_frames, 0.0
    for first in range(0, 25 * seconds - frames + 1, frames):
        sound = slice(640 * first, 640 * (first + frames))
        made = [session.step(user[sound], None, agent[sound]) for session in sessions]
        apart = max(apart, float(np.abs(made[0] - made[1])[:, 50:].max()))
    return apart


def cost(found: EngineCost) -> dict[str, object]:
    """Return the figures of a setting that was measured."""
    p50, p99 = percentiles(found.turn_ms, 50, 99)
    return {
        "setting": str(found.setting),
        "label": found.label,
        "turn_p50_ms": p50,
        "turn_p99_ms": p99,
        "other_ms": float(found.other_ms.mean()),
        "real_time_factor": found.real_time_factor,
        "cpu_load": found.cpu_load,
    }


def has_byte_products() -> bool:
    """Tell whether this processor has instructions that multiply bytes."""
    return bool(cpu_flags() & {*INSTRUCTIONS})


def lines(runs: dict, found: dict) -> list[str]:
    """Return the table: what is asked, what was measured in the import and after; figures behind it below."""
    speed, costs, cancelled = found["speed"], found["costs"], found["cancel_ms"]
    wall = {name: np.array(times) for name, times in speed["wall_ms"].items()}
    whole = {name: sum(wall[f"{name}/{part}"] for part in PARTS) for name in (FULL, *CACHED)}
    faster = {name: float(np.median(whole[FULL] / whole[name])) for name in CACHED}
    rate = sum(speed["backbone_flops"].values()) / float(np.median(wall["cached int8/backbone"]))
    share = 100 * rate / (speed["flops"]["int8 pass"] / float(np.median(wall["int8 pass"])))
    factor, own = (0.45 if found["has_byte_products"] else 0.9), costs["auto"]
    least_share = 45 if found["has_amx"] else 60
    measuring_s = runs["import"]["measuring_s"]
    motion_s = runs["import"]["wall_s"] - measuring_s + runs["first start"]["wall_s"]
    rows = [
        _at_most("real-time factor, all work, as auto runs it", factor, own["real_time_factor"], ".2f"),
        _at_most("longest stall by a window move [s]", 0.3, found["paced"]["stall_ms"] / 1e3, ".2f"),
        _at_least("turn, times faster than the released code's, float32", 5, faster["cached float32"], ".1f"),
        _at_least("turn, times faster than the released code's, int8", 15, faster["cached int8"], ".1f"),
        _at_least("int8 backbone, of its own bare products [%]", least_share, share, ".0f"),
        _at_most("int8 against float32, shipped weights [rad]", 0.01, found["int8_difference"], ".4f"),
        _at_most("stop while computing, int8 [ms]", 100, cancelled["int8"], ".0f"),
        _at_most("stop while computing, float32 [ms]", 100, cancelled["float32"], ".0f"),
        _at_most("import → first motion, files there [s]", 120, motion_s, ".0f"),
        _at_most("measuring for auto, in the import [s]", 90, measuring_s, ".0f"),
        _at_most("later start [s]", 8, runs["later start"]["wall_s"], ".1f"),
        _at_most("memory of the import [GB]", 5, runs["import"]["memory_gb"], ".1f"),
        _at_most("memory at run time, int8 [GB]", 1.3, found["memory"]["peak_gb"], ".2f"),
    ]
    settings = [
        (
            cost["setting"],
            cost["label"],
            f"{cost['turn_p50_ms']:.0f} / {cost['turn_p99_ms']:.0f}",
            f"{cost['other_ms']:.0f}",
            f"{cost['real_time_factor']:.2f}",
            f"{cost['cpu_load']:.2f}",
        )
        for cost in costs.values()
    ]
    paced_run = found["paced"]
    return [
        "",
        "## What is asked",
        "",
        f'{found["when"]}; the import: {runs["when"]}. Random weights. `make bench-model ARGS="--only import '
        'target"`. Ten live minutes: [published_live.md](published_live.md).',
        *table(["", "asked", "measured", ""], rows),
        "Real-time factor: busy wall time of turns, previews and window moves per second of conversation, "
        "the window full:",
        *table(
            ["setting", "engine", "turn p50 / p99 [ms]", "beside it [ms]", "real-time factor", "CPU [s/s]"],
            settings,
        ),
        f"{paced_run['turns']} turns of auto's setting in their own time, one a second: turn p50 "
        f"{paced_run['turn_p50_ms']:.0f} ms, p99 {paced_run['turn_p99_ms']:.0f} ms, real-time factor "
        f"{paced_run['real_time_factor']:.2f}. A stall is what the window's move delayed a turn by: work "
        "that was not over when its sound was there, and what was left for the turn to do first.",
        "",
        f"auto{'' if found['has_byte_products'] else ', allow_degraded:=true'}: {found['choice']}",
    ]


def _at_most(what: str, asked: float, measured: float, form: str) -> tuple[str, str, str, str]:
    return what, f"≤ {asked:g}", f"{measured:{form}}", "reached" if measured <= asked else "**missed**"


def _at_least(what: str, asked: float, measured: float, form: str) -> tuple[str, str, str, str]:
    return what, f"≥ {asked:g}", f"{measured:{form}}", "reached" if measured >= asked else "**missed**"
