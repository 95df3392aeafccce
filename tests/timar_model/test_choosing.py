"""`auto` by measuring: the most exact setting that holds real time, in bounded time, and remembered."""

from __future__ import annotations

import dataclasses
import types

import numpy as np
import pytest
from timar_model.architecture.config import ModelConfig, SamplingConfig
from timar_model.engines import choosing, measuring
from timar_model.engines.choosing import AutoConfig, Choice, choose
from timar_model.engines.measuring import EngineSetting, Usage

from timar_model import load_model

PUBLISHED = ModelConfig.of_size("large")
SHIPPED = ModelConfig(window_frames=50)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TIMAR_CACHE", str(tmp_path / "cache"))


class Machine:
    """A machine of two cores with a clock of its own, on which every engine's pass takes a given time."""

    def __init__(self, monkeypatch, passes_s, config=PUBLISHED, open_s=1.0, efficiency=1.0, other_work=0.0):
        self.now_s, self.cpu_s = 0.0, 0.0
        self.config, self.manifest, self.path, self.sha256 = config, {"engines": {}}, "model", "0" * 64
        self.passes_s, self.open_s, self.efficiency = passes_s, open_s, efficiency
        self.turns: dict[tuple[str, int], int] = {}
        self.opened: list[tuple[str, int]] = []
        self.engines: set[tuple[str, int]] = set()
        clock = types.SimpleNamespace(
            perf_counter=lambda: self.now_s, process_time=lambda: self.cpu_s, sleep=self.sleep
        )
        for module in (choosing, measuring):
            monkeypatch.setattr(module, "time", clock)
        monkeypatch.setattr(measuring, "_undisturbed_s", lambda: self.now_s)
        monkeypatch.setattr(choosing, "cores", lambda: 2)
        monkeypatch.setattr(choosing, "_jitter_ms", lambda: 5.0)
        others = choosing.OTHERS_CORES + other_work
        monkeypatch.setattr(choosing, "busy_s", lambda: self.cpu_s + others * self.now_s)
        monkeypatch.setattr(choosing, "obstacles", lambda folder: dict.fromkeys(passes_s, ""))

    def sleep(self, seconds):
        self.now_s += seconds

    def work(self, seconds, threads):
        self.now_s += seconds / (1.0 + (threads - 1) * self.efficiency)
        self.cpu_s += seconds

    def close_engines(self):
        self.engines.clear()

    def session(self, engine, seed, threads, **sampling):
        if (engine, threads) not in self.engines:
            self.work(self.open_s, 1)
            self.opened.append((engine, threads))
            self.engines.add((engine, threads))
        return FakeSession(self, engine, threads, dataclasses.replace(self.config.sampling, **sampling))


class FakeSession:
    """A conversation that only takes time: a pass a turn, and those of the window's move in idle time."""

    def __init__(self, machine, engine, threads, sampling):
        self.config, self.sampling, self.engine_name = machine.config, sampling, f"{engine}-cpu"
        self.window_frames = sampling.window_frames or machine.config.window_frames
        self.timings_ms = {"backbone": 0.0}
        self._machine, self._engine, self._threads = machine, engine, threads
        self._share = self.window_frames / machine.config.window_frames

    def user_frames(self, frames):
        return frames

    def step(self, user, motion, agent):
        key = (self._engine, self._threads)
        self._machine.turns[key] = self._machine.turns.get(key, 0) + 1
        self.commit(user, motion, agent)
        return np.zeros((agent.size // 640, 56), np.float32)

    def commit(self, user, motion, agent):
        before_s = self._machine.now_s
        self._pass(1.0)
        self.timings_ms["backbone"] = 1e3 * (self._machine.now_s - before_s)

    def preview(self, agent, by):
        self._pass(0.05)

    def idle(self, budget_s):
        setting = EngineSetting("", 1, self.sampling.when_full, self.sampling.keep_turns, self.window_frames)
        if budget_s and self.config.positions == "window":
            self._pass(setting.moves_per_turn(self.config))

    def _pass(self, passes):
        # A shorter window saves half of what it leaves out.
        one_s = self._machine.passes_s[self._engine] * (0.5 + 0.5 * self._share)
        self._machine.work(passes * one_s, self._threads)


@pytest.mark.parametrize(
    ("float32_s", "int8_s", "expected"),
    [
        (0.01, 0.01, EngineSetting("onnx", 1, "recompute")),
        (0.15, 0.05, EngineSetting("onnx", 2, "recompute")),
        (0.5, 0.09, EngineSetting("onnx-int8", 1, "recompute")),
        (0.5, 0.15, EngineSetting("onnx-int8", 2, "recompute")),
        (0.5, 0.3, EngineSetting("onnx", 2, "reanchor", 4)),
        (0.9, 0.4, EngineSetting("onnx", 2, "reanchor", 3)),
        (3.0, 0.4, EngineSetting("onnx-int8", 1, "reanchor", 4)),
        (3.0, 0.8, EngineSetting("onnx-int8", 2, "reanchor", 4)),
        (3.0, 1.1, EngineSetting("onnx-int8", 2, "reanchor", 2)),
    ],
)
def test_the_most_exact_setting_that_holds_real_time_is_taken(monkeypatch, float32_s, int8_s, expected):
    """A window that moves every turn before float32, float32 before int8, one thread before two."""
    machine = Machine(monkeypatch, {"onnx": float32_s, "onnx-int8": int8_s})
    choice = choose(machine)
    assert choice.picked.holds
    assert choice.picked.setting == expected
    moves = expected.moves_per_turn(PUBLISHED)
    whole_s = {"onnx": float32_s, "onnx-int8": int8_s}[expected.engine] * (1.05 + moves) / expected.threads
    assert choice.picked.real_time_factor == pytest.approx(whole_s, rel=0.01)
    assert choice.took_s <= choosing.WITHIN_S
    assert ("int8" in choice.picked.changes, "window" in choice.picked.changes) == (
        "int8" in expected.engine, expected.when_full == "reanchor"
    )  # fmt: skip


def test_what_is_hopeless_ends_after_two_turns_and_more_threads_are_not_tried(monkeypatch):
    """Two threads halve four seconds at best: nothing that is worth opening the engine a second time."""
    machine = Machine(monkeypatch, {"onnx": 6.0, "onnx-int8": 0.2})
    assert choose(machine).picked.setting.engine == "onnx-int8"
    assert machine.turns["onnx", 1] <= 2
    assert ("onnx", 2) not in machine.opened


def test_the_sentence_says_what_was_picked_what_was_measured_and_what_is_next(monkeypatch):
    choice = choose(Machine(monkeypatch, {"onnx": 3.0, "onnx-int8": 1.1}))
    said = choice.sentence()
    assert said.startswith(
        "onnx-int8, 2 threads, window reanchor 2: turn 550 ms (p99 550) and 211 ms beside it"
    )
    assert "changes the model's numbers by int8, a window that sees 3 to 8 turns instead of 8" in said
    assert "more exact, but too slow: onnx recompute at least" in said
    assert "next best onnx-int8, 2 threads, window reanchor 1: turn 550 ms" in said
    assert "\n" not in said


def test_what_has_ample_time_is_taken_without_measuring_the_next_best(monkeypatch):
    """The first start of the shipped model must not wait for int8 graphs that nobody needs."""
    machine = Machine(monkeypatch, {"onnx": 0.01, "onnx-int8": 0.005}, SHIPPED, open_s=0.3)
    choice = choose(machine)
    assert choice.picked.setting == EngineSetting("onnx", 1)
    assert machine.opened == [("onnx", 1)]
    assert choice.next_best == "onnx-int8, 1 thread, window rolls (not measured)"
    assert choice.picked.changes == ""
    assert choice.took_s < 1.0


def test_a_machine_on_which_nothing_holds_is_told_three_things_that_help(monkeypatch):
    choice = choose(Machine(monkeypatch, {"onnx": 9.0, "onnx-int8": 1.5}))
    assert not choice.picked.holds
    assert choice.picked.setting == EngineSetting("onnx-int8", 2, "reanchor", 1)
    smaller = choice.smaller_window
    # 0.9 s with the whole window are real time, but leave the other nodes too little of two cores.
    assert (smaller.holds, smaller.setting.window_frames) == (True, 150)
    said = choice.trouble(load_model("calm-head"))
    assert "nothing holds real time on this machine: the fastest, onnx-int8, 2 threads" in said
    assert "1) allow_degraded:=true" in said
    assert "which holds" in said
    assert said.count(") ") >= 3
    degraded = choice.degraded()
    assert degraded.picked == smaller
    assert "a window of 150 instead of 200 frames" in degraded.picked.changes
    assert Choice.degraded(degraded) == degraded


@pytest.mark.parametrize("slow", [1.0, 4.0, 20.0, 100.0])
def test_measuring_ends_in_time_on_any_machine(monkeypatch, slow):
    """What is under way is finished: at the worst a turn, and opening the next engine."""
    machine = Machine(monkeypatch, {"onnx": slow, "onnx-int8": 0.4 * slow}, open_s=8.0)
    choice = choose(machine)
    assert choice.took_s <= choosing.WITHIN_S + 2 * (8.0 + 2.1 * slow)
    assert choice.picked.turn_p99_ms > 0


def test_a_machine_so_busy_that_time_runs_out_is_not_called_slow_nor_remembered(monkeypatch):
    """At a load of 25 on two cores, opening an engine took the 90 s, and a turn of 24 ms was "too slow"."""
    for _ in range(2):
        machine = Machine(monkeypatch, {"onnx": 0.02}, SHIPPED, open_s=89.9, other_work=2.0)
        choice = choose(machine)
        assert choice.picked.holds
        assert choice.picked.real_time_factor == pytest.approx(0.105, rel=0.01)
        assert machine.opened


def test_what_is_given_is_not_chosen(monkeypatch):
    machine = Machine(monkeypatch, {"onnx": 0.02, "onnx-int8": 0.02})
    wanted = AutoConfig("onnx-int8", 2, "reanchor", 3, 100)
    choice = choose(machine, wanted)
    assert choice.picked.setting == EngineSetting("onnx-int8", 2, "reanchor", 3, 100)
    assert {name for name, _ in machine.opened} == {"onnx-int8"}


def test_an_engine_that_cannot_run_is_passed_over_and_named_when_it_is_the_only_one(monkeypatch):
    def refuse(engine, **options):
        if engine == "onnx":
            raise ValueError("onnx was exported by another version")
        return open_session(engine, **options)

    machine = Machine(monkeypatch, {"onnx": 0.1, "onnx-int8": 0.1})
    open_session, machine.session = machine.session, refuse
    assert choose(machine).picked.setting.engine == "onnx-int8"
    with pytest.raises(ValueError, match="no engine runs 'model' here; onnx: onnx was exported"):
        choose(machine, AutoConfig("onnx"))


def test_measured_once_for_a_folder_its_settings_and_a_quiet_machine(monkeypatch):
    """A second start opens nothing; other settings are measured; what was disturbed is measured again."""
    for expected, other_work, wanted in (
        (True, 0.0, AutoConfig()),
        (False, 0.0, AutoConfig()),
        (True, 0.0, AutoConfig(threads=2)),
        (True, 2.0, AutoConfig(threads=2, when_full="reanchor")),
        (True, 2.0, AutoConfig(threads=2, when_full="reanchor")),
    ):
        machine = Machine(monkeypatch, {"onnx": 0.2, "onnx-int8": 0.2}, other_work=other_work)
        choice = choose(machine, wanted)
        assert bool(machine.opened) == expected
        assert choice.picked.holds


def test_margin_is_a_turns_p99_the_jitter_and_a_frame_of_sound(monkeypatch):
    choice = choose(Machine(monkeypatch, {"onnx": 9.0, "onnx-int8": 0.8}))
    assert choice.picked.turn_p99_ms == pytest.approx(400, abs=1)
    assert choice.margin_frames == 1 + 11


@pytest.mark.parametrize(
    ("cores", "expected"), [(1, [1]), (2, [1, 2]), (4, [1, 2, 3]), (16, [1, 2, 4, 8, 15])]
)
def test_of_more_than_two_cores_one_is_left_to_the_other_nodes(monkeypatch, cores, expected):
    monkeypatch.setattr(choosing, "cores", lambda: cores)
    assert choosing.thread_counts() == expected


def test_the_shipped_model_is_measured_with_real_engines_in_a_moment():
    """Also the largest part of what a first start waits: processor time, for tests share their machine."""
    import time

    model, lines = load_model("calm-head"), []
    before_s = time.process_time()
    choice = choose(model, log=lines.append)
    assert time.process_time() - before_s < 4.0
    assert choice.picked.setting == EngineSetting("onnx", 1)
    assert choice.picked.changes == ""
    assert 0 < choice.picked.real_time_factor < 0.9
    assert all(line.startswith("measuring ") for line in lines)
    assert list(model._engines) == [("onnx", 1)], "the start would open it again"
    again = load_model("calm-head")
    assert choose(again, log=lines.append) == choice
    assert not again._engines


def test_two_ways_of_use_are_two_measurements():
    model = load_model("calm-head")
    short = choose(model, AutoConfig("onnx", 1, usage=Usage(turn_frames=2, preview_frames=0)))
    assert short.picked.other_ms < short.picked.turn_p50_ms
    assert choose(model, AutoConfig("onnx", 1)).picked.other_ms > short.picked.other_ms


def test_sampling_that_is_asked_for_reaches_what_is_measured(monkeypatch):
    machine, seen = Machine(monkeypatch, {"onnx": 0.1}), []
    open_session = machine.session
    machine.session = lambda engine, **options: seen.append(options) or open_session(engine, **options)
    choose(machine, AutoConfig(usage=Usage(sampling={"steps": 3})))
    assert seen
    assert all(options["steps"] == 3 for options in seen)
    assert SamplingConfig(steps=3).steps == 3
