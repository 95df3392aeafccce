"""Choose engine, threads and window by measuring: the most exact setting that holds real time here.

Settings are tried in the order of exactness. A few turns show the least that one can cost, and what cannot
hold real time is not measured further. The outcome is kept for this processor, these libraries, this folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from timar_common.cancellation import check_cancelled
from timar_common.processes import start_child

from timar_model.architecture.config import FRAMES_PER_SECOND
from timar_model.engines.measuring import ROLLS, EngineSetting, MeasuredTalk, Usage, measure, turns_to_measure
from timar_model.engines.obstacles import obstacles
from timar_model.engines.onnx_engine import export_command
from timar_model.loading import LoadedModel
from timar_model.machine import busy_s, cores, remembered, version_of

AUTO = "auto"
BUSY_SHARE = 0.9
"""A setting that holds real time is busy for at most this share of it."""
AMPLE_SHARE = 0.45
"""One that is busy for at most this share is taken without measuring the next best."""
OTHERS_CORES = 0.35
"""What sound, driver, retargeting and view take of the processor: the graph takes 0.47 cores with the shipped
model (benchmarks/results/graph.md), a quarter of it inference. A process takes as much while one measures."""
BUSY_CORES = 0.5
"""More than this beside that process disturbs what several threads take [cores]."""
QUIET_WITHIN_S = 8.0
"""So long other work is waited for: a graph that starts is still loading [s]."""
WITHIN_S = 90.0
"""Nothing is begun that would let the whole measurement take longer [s]."""
PASS_SHARE = 0.6
"""What a pass that moves the window takes at least of a turn's pass: it sees fewer turns (docs/model.md)."""
FORMAT = 2
"""Of what is kept; what has another one is measured again."""
_OF_THE_WINDOW = ("when_full", "keep_turns", "window_frames")
_OTHERS = """
import os, sys, time
while os.getppid() == int(sys.argv[1]):
    until = time.perf_counter() + 0.01 * float(sys.argv[2])
    while time.perf_counter() < until:
        pass
    time.sleep(0.01 * (1.0 - float(sys.argv[2])))
"""


@dataclasses.dataclass(frozen=True)
class AutoConfig:
    """What is given, the rest is chosen; and how the conversation uses it, as far as that costs time."""

    engine: str = AUTO
    threads: int = 0
    """0: chosen."""
    when_full: str = AUTO
    """Of a window with absolute positions: "auto", "recompute" or "reanchor"."""
    keep_turns: int = 0
    """Of "reanchor"; 0: chosen."""
    window_frames: int = 0
    """0: the model's."""
    usage: Usage = dataclasses.field(default_factory=Usage)

    @classmethod
    def of(
        cls, engine: str, threads: int, when_full: str, sampling: Mapping[str, Any], **usage: Any
    ) -> AutoConfig:
        """Return the configuration of a session's options, those of its window among them."""
        rest = {name: value for name, value in sampling.items() if name not in _OF_THE_WINDOW}
        window = {name: sampling.get(name, 0) for name in ("keep_turns", "window_frames")}
        return cls(engine, threads, when_full, **window, usage=Usage(**usage, sampling=rest))


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a setting costs, in numbers that can be kept."""

    setting: EngineSetting
    changes: str
    """What it changes in the model's numbers; empty: nothing."""
    turn_p50_ms: float
    turn_p99_ms: float
    other_ms: float
    """Previews and moves of the window, for a turn."""
    real_time_factor: float
    cpu_load: float
    holds: bool
    """Whether it holds real time and leaves the other nodes their share."""

    def __str__(self) -> str:
        return (
            f"{self.setting}: turn {self.turn_p50_ms:.0f} ms (p99 {self.turn_p99_ms:.0f}) and "
            f"{self.other_ms:.0f} ms beside it, {self.real_time_factor:.2f} s of work a second"
        )


@dataclasses.dataclass(frozen=True)
class Choice:
    """What was chosen, and why."""

    picked: Measured
    """The most exact setting that holds real time; the fastest one where none does."""
    next_best: str
    """What would be taken without it."""
    too_slow: tuple[str, ...]
    """More exact ways, each with the least it would take."""
    smaller_window: Measured | None
    """Where none holds: the largest smaller window that does, else the fastest that was tried."""
    jitter_ms: float
    """How late this machine wakes who sleeps, p99."""
    took_s: float
    """Of the measurement [s]."""
    other_work: float
    """What other work took of the processor meanwhile [cores]; after too much, a start measures again."""

    @property
    def margin_frames(self) -> int:
        """Frames from a turn's last sound to its first frame: one for the sound, a turn's p99, the jitter."""
        return 1 + int(np.ceil((self.picked.turn_p99_ms + self.jitter_ms) * FRAMES_PER_SECOND / 1e3))

    def degraded(self) -> Choice:
        """Take a smaller window, where none else holds."""
        if self.picked.holds or self.smaller_window is None:
            return self
        return dataclasses.replace(self, picked=self.smaller_window, next_best=str(self.picked))

    def sentence(self) -> str:
        """Say what was picked, what was measured and what would be next, in one line."""
        parts = [str(self.picked), "" if self.picked.holds else "too slow for real time"]
        changes = self.picked.changes
        parts += [f"changes the model's numbers by {changes}" if changes else ""]
        parts += [f"more exact, but too slow: {', '.join(self.too_slow)}" if self.too_slow else ""]
        return "; ".join([*filter(None, parts), f"next best {self.next_best}"])

    def trouble(self, model: LoadedModel) -> str:
        """Say that nothing holds real time on this machine, by how much, and three things that would help."""
        smaller, helps = self.smaller_window, []
        if smaller is not None:
            factor = (
                f"{smaller.real_time_factor:.2f} s, {'which holds' if smaller.holds else 'too much still'}"
            )
            window = f"{smaller.setting.window_frames} of its {model.config.window_frames} frames"
            helps.append(f"allow_degraded:=true, which lets it see {window} ({factor})")
        if self.picked.setting.engine == "onnx":
            helps.append(f"int8 graphs ({export_command(model.path, 'int8')}), if they are not there")
        helps.append("more cores, or a processor that multiplies bytes (AVX-512 VNNI, AMX)")
        helps.append("a CUDA device, in this machine or on another host (docs/published-model.md)")
        helps.append("a smaller model, such as the shipped calm-head")
        three = "; ".join(f"{number}) {one}" for number, one in enumerate(helps[:3], 1))
        return (
            f"nothing holds real time on this machine: the fastest, {self.picked}, expected at most "
            f"{BUSY_SHARE:g} s; what helps: {three}"
        )


def choose(
    model: LoadedModel,
    config: AutoConfig | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> Choice:
    """Return how a model runs best on this machine; measured once, then remembered.

    Args:
        model: When it was measured, the engine that was picked is open if it was the last one.
        config: What is not to be chosen, and how the conversation uses it.
        log: Told what is being measured.

    Raises:
        ValueError: No engine runs this folder, or none of those wanted.
        WorkCancelledError: The work of this thread was cancelled.
    """
    config = config or AutoConfig()
    key = {
        "format": FORMAT,
        "model": model.sha256,
        "cores": cores(),
        "versions": {name: version_of(name) for name in ("numpy", "onnxruntime", "onnxruntime-gpu", "torch")},
        "config": dataclasses.asdict(config),
    }
    found = remembered(
        "speed",
        key,
        lambda: dataclasses.asdict(_Search(model, config, log).run()),
        lambda found: found["other_work"] <= BUSY_CORES,
    )
    smaller = found["smaller_window"]
    return Choice(
        **{
            **found,
            "picked": _measured(found["picked"]),
            "smaller_window": None if smaller is None else _measured(smaller),
            "too_slow": tuple(found["too_slow"]),
        }
    )


def candidates(model: LoadedModel, config: AutoConfig) -> list[EngineSetting]:
    """Return the settings that a folder and this machine allow, the most exact and least greedy ones first.

    A window that moves every turn comes before one that drops turns, float32 before int8, and few threads
    before many. torch is taken where a folder has no graphs: on a CPU it was slower (docs/model.md).
    """
    able = [name for name, why_not in obstacles(model).items() if not why_not]
    engines = [config.engine]
    if config.engine == AUTO:
        kinds: tuple[tuple[str, ...], ...] = (("onnx", "onnx-int8"), ("torch", "torch-bf16"))
        engines = next(filter(None, ([name for name in kind if name in able] for kind in kinds)), [])
    threads = [config.threads] if config.threads else thread_counts()
    ways = [[(ROLLS, 0)]]
    if model.config.positions == "window":
        window_turns = (config.window_frames or model.config.window_frames) // model.config.turn_frames
        kept = [config.keep_turns] if config.keep_turns else range(window_turns // 2, 0, -1)
        every = {"recompute": [("recompute", 0)], "reanchor": [("reanchor", keep) for keep in kept]}
        ways = [way for name, way in every.items() if config.when_full in (AUTO, name)]
    return [
        EngineSetting(engine, count, when_full, keep, config.window_frames)
        for group in ways
        for engine, (when_full, keep), count in itertools.product(engines, group, threads)
    ]


def thread_counts() -> list[int]:
    """Return the numbers of threads to try: powers of two; of more than two cores, one is left to others."""
    most = cores() - (cores() > 2)
    return sorted({most, *(2**power for power in range(most.bit_length()) if 2**power <= most)})


@dataclasses.dataclass(frozen=True)
class _Probe:
    """What a few turns showed of an engine with a number of threads."""

    label: str
    turn_s: float
    """A turn and its preview."""
    move_s: float
    """The least, for each turn of the window that is encoded again."""


class _Search:
    """One measurement of a folder; arguments as of `choose`."""

    def __init__(self, model: LoadedModel, config: AutoConfig, log: Callable[[str], None]) -> None:
        self._model, self._config, self._usage, self._log = model, config, config.usage, log
        self._turn_s = (config.usage.turn_frames or model.config.turn_frames) / FRAMES_PER_SECOND
        self._started, self._cpu_before_s, self._busy_before_s = (
            time.perf_counter(),
            time.process_time(),
            busy_s(),
        )
        self._probes: dict[tuple[str, int, int], _Probe] = {}
        self._measured: dict[EngineSetting, Measured] = {}
        self._broken: dict[str, str] = {}
        """Engines that cannot run, and why."""
        self._open: tuple[str, int] | None = None
        self._other_work = 0.0

    def run(self) -> Choice:
        """Try settings until one holds, and the next best."""
        settings, smaller = candidates(self._model, self._config), None
        holding: list[Measured] = []
        too_slow: dict[str, str] = {}
        next_best = "none"
        with _other_nodes():
            jitter_ms = _jitter_ms()
            for setting in settings:
                if holding and _is_alike(setting, holding[0].setting):
                    continue
                if holding and holding[0].real_time_factor <= AMPLE_SHARE:
                    next_best = f"{setting} (not measured)"
                    break
                found = self._try(setting)
                if isinstance(found, Measured) and found.holds:
                    holding.append(found)
                elif not holding:
                    # Of more threads and fewer turns kept the last one says the least that it takes.
                    reason = found if isinstance(found, str) else f"{found.real_time_factor:.2f}"
                    too_slow[f"{setting.engine} {setting.when_full}"] = reason
                if len(holding) == 2:
                    next_best = str(holding[1])
                    break
            picked = holding[0] if holding else self._fastest(settings)
            if not holding:
                smaller = self._smaller_window(picked.setting)
                too_slow.pop(f"{picked.setting.engine} {picked.setting.when_full}", None)
        if self._open != (picked.setting.engine, picked.setting.threads):
            self._model.close_engines()
        slow = tuple(f"{way} {reason}" for way, reason in too_slow.items())
        return Choice(picked, next_best, slow, smaller, jitter_ms, self._elapsed_s, self._other_work)

    def _try(self, setting: EngineSetting, probe_within_s: float = WITHIN_S / 2) -> Measured | str:
        """Measure a setting, or say why not; what nothing is known of is probed up to a time [s]."""
        if setting.engine in self._broken:
            return f"cannot run: {self._broken[setting.engine]}"
        least = self._least_factor(setting)
        if least is None:
            if self._elapsed_s > probe_within_s:
                return "not measured for want of time"
            try:
                self._probe(setting)
            except (OSError, ValueError, ImportError) as error:
                self._broken[setting.engine] = str(error)
                return f"cannot run: {error}"
            least = self._factor_of_probe(setting)
        if least > BUSY_SHARE:
            return f"at least {least:.2f}"
        if self._elapsed_s + self._expected_s(setting, least) <= WITHIN_S:
            return self._measure(setting)
        return self._probed(setting, least) if least <= AMPLE_SHARE else "not measured for want of time"

    def _probe(self, setting: EngineSetting) -> None:
        """Learn from a few turns what an engine takes at least; what is hopeless ends early."""
        self._switch_to(setting)
        options = {**self._usage.sampling, **setting.sampling()}
        session = self._model.session(setting.engine, seed=3, threads=setting.threads, **options)
        talk, times = MeasuredTalk(session, self._usage, setting.threads), [float("inf")]
        for hopeless_factor in (4.0, 2.0, 2.0):  # The first turn is slower than any other.
            times.append(talk.turn()[0] + talk.after(idle_s=0.0))
            if min(times) > hopeless_factor * BUSY_SHARE * self._turn_s:
                break
        turn_s = min(times)
        moves = setting.when_full != ROLLS and turn_s <= BUSY_SHARE * self._turn_s
        move_s = PASS_SHARE * talk.encode() if moves else 0.0
        self._probes[_probe_key(setting)] = _Probe(session.engine_name, turn_s, move_s)

    def _measure(self, setting: EngineSetting) -> Measured:
        self._switch_to(setting)
        self._log(f"measuring {setting}")
        cost = measure(self._model, setting, self._usage)
        probe, moves = self._probes[_probe_key(setting)], setting.moves_per_turn(self._model.config)
        if moves:
            # What moves took bounds those of fewer turns better.
            busy_s = float((cost.turn_ms + cost.other_ms).mean()) * 1e-3
            move_s = max(probe.move_s, 0.85 * (busy_s - probe.turn_s) / moves)
            self._probes[_probe_key(setting)] = dataclasses.replace(probe, move_s=move_s)
        p50, p99 = np.percentile(cost.turn_ms, [50, 99])
        # A turn's own moves must be over when the next one begins; of ten turns one may have been disturbed.
        whole_ms = float(np.percentile(cost.turn_ms + cost.other_ms, 90))
        self._measured[setting] = Measured(
            setting=setting,
            changes=self._changes(setting, cost.label),
            turn_p50_ms=float(p50),
            turn_p99_ms=float(p99),
            other_ms=float(cost.other_ms.mean()),
            real_time_factor=cost.real_time_factor,
            cpu_load=cost.cpu_load,
            holds=cost.real_time_factor <= BUSY_SHARE
            and whole_ms <= 1e3 * cost.turn_s
            and cost.cpu_load <= cores() - OTHERS_CORES,
        )
        return self._measured[setting]

    def _fastest(self, settings: list[EngineSetting]) -> Measured:
        """Return the setting that costs least, measured if there is time."""
        factors = {setting: self._least_factor(setting) or float("inf") for setting in settings}
        factors |= {setting: found.real_time_factor for setting, found in self._measured.items()}
        config = self._model.config
        # Where a turn alone is too slow, moves were not probed.
        setting = min(factors, key=lambda one: (factors[one], one.moves_per_turn(config)), default=None)
        if setting is None or factors[setting] == float("inf"):
            reasons = "; ".join(f"{name}: {why}" for name, why in self._broken.items())
            raise ValueError(
                f"no engine runs {str(self._model.path)!r} here; {reasons or 'it has no graphs'}"
            )
        if setting in self._measured:
            return self._measured[setting]
        if _probe_key(setting) not in self._probes:
            self._probe(setting)
        least = self._factor_of_probe(setting)
        # Half of the time is left to smaller windows.
        if self._elapsed_s + self._expected_s(setting, least) <= WITHIN_S / 2:
            return self._measure(setting)
        return self._probed(setting, least)

    def _probed(self, setting: EngineSetting, least: float) -> Measured:
        """Return what a few turns showed, where there is no time for more: half of what would do must do."""
        # Time that is short on a busy machine says nothing of the machine.
        elapsed_s = self._elapsed_s
        others_s = busy_s() - self._busy_before_s - (time.process_time() - self._cpu_before_s)
        self._other_work = max(self._other_work, others_s / elapsed_s - OTHERS_CORES)
        probe = self._probes[_probe_key(setting)]
        turn_ms, whole_ms = 1e3 * probe.turn_s, 1e3 * least * self._turn_s
        load, holds = least * setting.threads, least <= AMPLE_SHARE
        changes = self._changes(setting, probe.label)
        return Measured(setting, changes, turn_ms, turn_ms, whole_ms - turn_ms, least, load, holds)

    def _smaller_window(self, setting: EngineSetting) -> Measured | None:
        """Return the largest smaller window with which a setting holds; else the fastest that was tried."""
        turn_frames = self._model.config.turn_frames
        turns = (setting.window_frames or self._model.config.window_frames) // turn_frames
        keep = 1 if setting.when_full == "reanchor" else 0
        left = sorted({turns * eighths // 8 for eighths in range(2, 7)} - {0, 1})
        tried: list[Measured] = []
        while left:  # Larger ones are wanted, smaller ones are faster: halve what is left.
            middle = len(left) // 2
            frames = left[middle] * turn_frames
            found = self._try(dataclasses.replace(setting, window_frames=frames, keep_turns=keep), WITHIN_S)
            tried += [found] if isinstance(found, Measured) else []
            is_holding = isinstance(found, Measured) and found.holds
            left = left[middle + 1 :] if is_holding else left[:middle]
        holding = [one for one in tried if one.holds]
        if holding:
            return max(holding, key=lambda one: one.setting.window_frames)
        return min(tried, key=lambda one: one.real_time_factor, default=None)

    def _least_factor(self, setting: EngineSetting) -> float | None:
        """Return the least that a setting takes [s of work a second]; None where that must be probed."""
        if _probe_key(setting) in self._probes:
            return self._factor_of_probe(setting)
        engine, threads, window = _probe_key(setting)
        moves = setting.moves_per_turn(self._model.config)
        # n times the threads divide the time by n at best.
        bounds = [
            (probe.turn_s + moves * probe.move_s) / self._turn_s * fewer / threads
            for (name, fewer, frames), probe in self._probes.items()
            if (name, frames) == (engine, window) and fewer < threads
        ]
        least = max(bounds, default=0.0)
        return least if least > BUSY_SHARE else None

    def _factor_of_probe(self, setting: EngineSetting) -> float:
        probe, moves = self._probes[_probe_key(setting)], setting.moves_per_turn(self._model.config)
        return (probe.turn_s + moves * probe.move_s) / self._turn_s

    def _expected_s(self, setting: EngineSetting, factor: float) -> float:
        """Return how long measuring a setting takes [s]."""
        config, turn_s = self._model.config, self._turn_s
        window = round((setting.window_frames or config.window_frames) / FRAMES_PER_SECOND / turn_s)
        probe = self._probes[_probe_key(setting)]
        return window * probe.turn_s + turns_to_measure(setting, config, window) * factor * turn_s

    def _switch_to(self, setting: EngineSetting) -> None:
        """Keep one engine open: two of the published size would not fit beside each other."""
        wanted = (setting.engine, setting.threads)
        if self._open != wanted:
            self._model.close_engines()
            if setting.threads > 1:
                self._wait_for_quiet()
            self._log(f"measuring what {setting.engine} can do with threads: {setting.threads}")
            self._open = wanted

    def _wait_for_quiet(self) -> None:
        """Wait until other work leaves the cores to several threads, for a while."""
        until = time.perf_counter() + QUIET_WITHIN_S
        while (other_work := _cores_busy(0.4) - OTHERS_CORES) > BUSY_CORES and time.perf_counter() < until:
            check_cancelled()
        self._other_work = max(self._other_work, other_work)

    def _changes(self, setting: EngineSetting, label: str) -> str:
        """Say what a setting changes in the model's numbers; an engine's label names the numbers it uses."""
        found, config = [], self._model.config
        for numbers in ("int8", "float16", "bfloat16"):
            if numbers in label.split("-"):
                worst = self._model.manifest["engines"].get(setting.engine, {}).get("largest_error_int8")
                found.append(numbers + (f" (a layer's output by up to {100 * worst:.1f} %)" if worst else ""))
        frames = setting.window_frames or config.window_frames
        turns = frames // config.turn_frames
        if setting.when_full == "reanchor":
            found.append(f"a window that sees {setting.keep_turns + 1} to {turns} turns instead of {turns}")
        if frames < config.window_frames:
            found.append(f"a window of {frames} instead of {config.window_frames} frames")
        return ", ".join(found)

    @property
    def _elapsed_s(self) -> float:
        return time.perf_counter() - self._started


def _measured(kept: dict[str, Any]) -> Measured:
    return Measured(**{**kept, "setting": EngineSetting(**kept["setting"])})


def _probe_key(setting: EngineSetting) -> tuple[str, int, int]:
    """Return what a probe holds for: how the window moves does not change a pass."""
    return setting.engine, setting.threads, setting.window_frames


def _is_alike(one: EngineSetting, other: EngineSetting) -> bool:
    """Tell whether two settings differ in threads alone."""
    return dataclasses.replace(one, threads=other.threads) == other


@contextlib.contextmanager
def _other_nodes() -> Iterator[None]:
    """Let a process take, in small pieces, what the graph's other nodes take of the processor."""
    arguments = [str(os.getpid()), str(OTHERS_CORES)]
    others = start_child([sys.executable, "-S", "-E", "-c", _OTHERS, *arguments])
    try:
        yield
    finally:
        others.kill()
        others.wait()


def _cores_busy(for_s: float) -> float:
    """Sleep, and return how many cores worked meanwhile."""
    before_s, started = busy_s(), time.perf_counter()
    time.sleep(for_s)
    return (busy_s() - before_s) / (time.perf_counter() - started)


def _jitter_ms(sleeps: int = 50) -> float:
    """Return by how much sleeps of a millisecond are too long, p99 [ms]."""
    late = []
    for _ in range(sleeps):
        started = time.perf_counter()
        time.sleep(0.001)
        late.append(1e3 * (time.perf_counter() - started) - 1.0)
    return float(np.percentile(late, 99))
