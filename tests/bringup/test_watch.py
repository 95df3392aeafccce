"""A process that hangs is asked, told to end and killed, in time; one that works is left alone."""

from __future__ import annotations

import os
import signal

import pytest
from timar_bringup.watch import Watch, WatchConfig, kernel_view
from timar_common.processes import SHOW_STACKS

CONFIG = WatchConfig()
PID = 7


@pytest.fixture
def watch() -> Watch:
    made = Watch(CONFIG)
    made.begin("inference", PID, 0.0)
    return made


def follow(watch: Watch, start_s: float, end_s: float, beats_every_s: float | None = None) -> list[tuple]:
    """Let time pass in steps of 0.1 s; return when what was to be sent or said."""
    found = []
    for tick in range(round(start_s * 10), round(end_s * 10)):
        now_s = tick / 10
        if beats_every_s is not None and tick % round(beats_every_s * 10) == 0:
            watch.hear(PID, {"WATCHDOG": "1"}, now_s)
        found += [(now_s, step.number, step.sentence) for step in watch.steps(now_s)]
    return found


def test_process_that_beats_is_left_alone(watch):
    watch.hear(PID, {"READY": "1"}, 2.0)
    assert follow(watch, 2.0, 30.0, beats_every_s=0.5) == []
    assert watch.hung == 0


def test_silent_process_is_asked_then_ended_then_killed_within_five_seconds_of_its_allowed_time(watch):
    watch.hear(PID, {"READY": "1"}, 2.0)
    watch.hear(PID, {"WATCHDOG": "1", "WATCHDOG_USEC": "8000000"}, 3.0)
    found = follow(watch, 3.0, 20.0)
    assert [number for _, number, _ in found[:3]] == [SHOW_STACKS, signal.SIGTERM, signal.SIGKILL]
    assert 11.0 <= found[0][0] < 11.3
    assert found[2][0] < 11.0 + 5.0
    assert "was not heard for 8.1 s, allowed 8.0 s" in found[0][2]
    assert watch.hung == 1


def test_process_that_says_that_it_hangs_is_ended_at_once(watch):
    watch.hear(PID, {"READY": "1"}, 2.0)
    watch.hear(PID, {"WATCHDOG": "trigger", "STATUS": "worker: a turn takes 9 s"}, 2.1)
    (_, number, sentence), *_ = follow(watch, 2.2, 2.4)
    assert number == SHOW_STACKS
    assert "worker: a turn takes 9 s" in sentence


def test_start_that_does_not_finish_is_said_within_ten_seconds_with_what_it_waits_for(watch):
    watch.hear(PID, {"STATUS": "starting inference"}, 1.0)
    found = follow(watch, 1.0, CONFIG.start_within_s + 10.0)
    assert found[0][0] <= CONFIG.start_said_after_s + 0.2
    assert "it says: starting inference" in found[0][2]
    assert [number for _, number, _ in found[:4]] == [None, SHOW_STACKS, signal.SIGTERM, signal.SIGKILL]
    assert found[1][0] == pytest.approx(CONFIG.start_within_s, abs=0.2)


def test_watch_that_stood_still_itself_blames_nobody(watch):
    watch.hear(PID, {"READY": "1"}, 2.0)
    assert follow(watch, 2.0, 3.0) == []
    assert follow(watch, 60.0, 62.0) == [], "Ctrl-Z of the composer is not the fault of its processes"
    assert follow(watch, 62.0, 70.0) != []


def test_messages_of_a_stranger_count_for_nobody(watch):
    watch.hear(PID + 1, {"READY": "1"}, 2.0)
    assert not watch.is_ready("inference")


def test_kernel_tells_the_state_of_a_process_that_cannot_speak():
    assert kernel_view(os.getpid()).startswith("R")
    assert kernel_view(2**22 + 1) == "gone"
