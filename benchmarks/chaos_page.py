"""The page of `soak_graph.py`: what was broken, how it came back, and whether the targets are met."""

from __future__ import annotations

import collections
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from harness import percentiles, table

if TYPE_CHECKING:
    from chaos_watch import Recovery
    from soak_graph import SoakFindings

LEAST_KINDS, LEAST_EACH, PER_HOUR = 8, 3, 60
RECOVERED_WITHIN_S = 10.0
"""95 % of all recoveries, under chaos [s]."""
LARGEST_JUMP_RAD, MEMORY_SHARE, REPORT_S, STOP_S = 0.02, 0.03, 0.04, 3.0


def group(kind: str) -> str:
    """Return the kind that counts: whichever process is killed, it is one."""
    return "kill -9" if kind.startswith("kill -9") else kind


def page(found: SoakFindings, began: str) -> tuple[list[str], bool]:
    """Return the page, and whether a target was missed."""
    targets = list(_targets(found))
    lines = [
        "# The whole graph under chaos",
        "",
        f"{began}. {found.seconds:.0f} s in real time, seed {found.seed}; "
        f'`make soak-graph ARGS="--seconds {found.seconds:.0f} --seed {found.seed}"`. Microphone of '
        "a private PulseAudio (the shipped example's voice, over and over), perception on a drawn face "
        "(synthetic), twelve simulated servos on a bus, recorder, view with a headless Chromium looking. "
        "turn_frames is 5 and margin_frames 6, for two cores have no time for more beside all this.",
        *table(
            ["", "target", "measured", ""],
            ((name, wanted, is_, "reached" if good else "**missed**") for name, wanted, is_, good in targets),
        ),
        "Recovery counts from the fault (from its lifting where it lasts; for a callback that hangs from the "
        "end of the 5 s of silence that are allowed) until sound, user motion, agent motion, plans, joint "
        "states, the page in the browser and the bag all go on. A silence shorter than what is normal for "
        "each (1 s for sound and joint states, 1.5 to 4 s for the others) is none, and counts as 0 s.",
        *table(
            ["fault", "times", "hit", "p50 [s]", "p95 [s]", "max [s]", "back last", "not back"],
            _rows(found.recoveries),
        ),
        *(f"Not run: {kind} ({why})." for kind, why in found.not_run.items()),
        "",
        f"The largest jerk of a plan from point to point was {found.plans.jerk:.0f} rad/s^3; the robot has "
        "no limit of it.",
        *_sound(found),
        *_usage(found),
    ]
    if found.graph_ended:
        lines += ["", f"The graph ended: {found.graph_ended}"]
    return lines, not all(good for *_, good in targets)


def _targets(found: SoakFindings) -> Iterator[tuple[str, str, str, bool]]:
    counts = collections.Counter(group(one.kind) for one in found.recoveries)
    least = min(counts.values(), default=0)
    wanted = max(1, round(PER_HOUR * found.seconds / 3600))
    yield "faults", f"{wanted}", str(len(found.recoveries)), len(found.recoveries) >= wanted
    yield (
        "kinds of faults, each at least so often",
        f"{LEAST_KINDS}, {LEAST_EACH} times",
        f"{len(counts)}, {least} times",
        len(counts) >= LEAST_KINDS and least >= LEAST_EACH,
    )
    lost = [one for one in found.recoveries if not one.is_back]
    yield "faults without recovery", "0", str(len(lost)), not lost and not found.graph_ended
    p95 = percentiles([one.took_s for one in found.recoveries] or [float("inf")], 95)[0]
    yield "recoveries, p95", f"{RECOVERED_WITHIN_S:g} s", f"{p95:.1f} s", p95 <= RECOVERED_WITHIN_S
    broken = sum(found.plans.violations.values()) + found.bus["beyond_limits"]
    what = ", ".join(f"{name} {count}" for name, count in found.plans.violations.items())
    yield (
        "limits of position, velocity, acceleration broken by plans; goals beyond limits at the servos",
        "0",
        f"{broken} in {found.plans.plans} plans and {found.bus['goals']} goals{': ' + what if what else ''}",
        not broken,
    )
    jump = max(found.bus["jump_rad"], found.bus["start_jump_rad"])
    yield (
        f"largest jump of a goal at the servos, {found.bus['starts']} starts of the driver in it",
        f"{LARGEST_JUMP_RAD:g} rad",
        f"{jump:.3f} rad" + (f" ({found.bus['jumped']})" if jump > 0 else ""),
        jump <= LARGEST_JUMP_RAD,
    )
    errors = found.sound.errors_s()
    worst = max(errors, default=0.0)
    yield (
        f"sound lost while capture was away: reported against measured, {len(errors)} times",
        f"{1e3 * REPORT_S:.0f} ms",
        f"{1e3 * worst:.0f} ms",
        worst <= REPORT_S,
    )
    yield (
        "sound that is neither heard nor counted as lost",
        "0.1 s",
        f"{found.missing_s:.2f} s",
        abs(found.missing_s) <= 0.1,
    )
    grown = {name: share for name in found.usage.names() if np.isfinite(share := _growth(found, name))}
    name = max(grown, key=grown.__getitem__, default="")
    yield (
        "memory of a process, last fifth against second fifth of the run",
        f"{MEMORY_SHARE:+.0%}",
        f"{grown.get(name, 0.0):+.1%} ({name})",
        grown.get(name, 0.0) <= MEMORY_SHARE,
    )
    yield "bag read to its end", "yes", _bag(found), "error" not in found.bag
    yield "stop", f"{STOP_S:g} s", f"{found.stop_s:.1f} s", found.stop_s <= STOP_S
    left = len(found.bad_ends) + found.orphans
    yield "processes that had to be killed, or were left, at the end", "0", str(left), left == 0


def _rows(recoveries: list[Recovery]) -> Iterator[tuple[object, ...]]:
    by_kind: dict[str, list[Recovery]] = collections.defaultdict(list)
    for one in recoveries:
        by_kind[one.kind].append(one)
    for kind, ones in sorted(by_kind.items()):
        hit = collections.Counter(one.hit for one in ones)
        took = [one.took_s for one in ones if one.is_back] or [float("nan")]
        back = collections.Counter(one.last for one in ones if one.is_back and one.last)
        p50, p95 = percentiles(took, 50, 95)
        names = "" if kind.startswith("kill") else ", ".join(sorted(hit))
        last = ", ".join(name for name, _ in back.most_common(2)) or "nothing stopped"
        yield (
            kind,
            len(ones),
            names,
            f"{p50:.1f}",
            f"{p95:.1f}",
            f"{max(took):.1f}",
            last,
            sum(not one.is_back for one in ones),
        )


def _bag(found: SoakFindings) -> str:
    if "error" in found.bag:
        return str(found.bag["error"])
    return f"{found.bag['messages']} messages in {found.bag['parts']} parts"


def _sound(found: SoakFindings) -> list[str]:
    sound = found.sound
    return [
        "",
        f"Sound: {sound.heard / 16_000:.1f} s heard in {sound.conversations} conversations, of it "
        f"{sound.filled / 16_000:.2f} s silence that capture put and counted; {sound.missing} samples in "
        f"messages that did not come; {sum(sound.outages_s):.2f} s lost while capture was away.",
        "Restarts: " + ", ".join(f"{name} {count}" for name, count in sorted(found.restarts.items())) + ".",
    ]


def _growth(found: SoakFindings, name: str) -> float:
    end_s = found.usage.rows[-1][0]
    before, _ = found.usage.of(name, 0.2 * end_s, 0.4 * end_s)
    after, _ = found.usage.of(name, 0.8 * end_s, end_s + 1.0)
    return after / before - 1.0


def _usage(found: SoakFindings) -> list[str]:
    end_s = found.usage.rows[-1][0]
    rows = []
    for name in found.usage.names():
        fifths = [found.usage.of(name, k * end_s / 5, (k + 1) * end_s / 5 + 1.0) for k in range(5)]
        rows.append((name, *(f"{memory_mb:.0f} / {files:.0f}" for memory_mb, files in fifths)))
    return [
        "",
        "Memory [MB] / open descriptors, medians over fifths of the run, of processes at least 30 s old:",
        *table(["process", *(f"fifth {k + 1}" for k in range(5))], rows),
    ]
