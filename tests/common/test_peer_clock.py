"""The clock of another machine: offset within its stated bound, whatever the ways there and back take."""

from __future__ import annotations

import numpy as np
import pytest
from timar_common.peer_clock import PeerClock, PeerClockConfig

S, MS = 1_000_000_000, 1_000_000
AHEAD = 3600 * S


class Link:
    """Two clocks and a way between them, in simulated time."""

    def __init__(self, seed: int = 0, offset_ns: int = AHEAD, drift_ppm: float = 0.0) -> None:
        self.clock = PeerClock()
        self.rng = np.random.default_rng(seed)
        self.now_ns = 7 * S
        self.offset_ns, self.drift_ppm = offset_ns, drift_ppm
        self.there_ms, self.back_ms, self.jitter_ms = 1.0, 1.0, 0.5
        self.is_cut = False
        self.bursts = 0

    def peer_ns(self, at_ns: int) -> int:
        return at_ns + self.offset_ns + round((at_ns - 7 * S) * self.drift_ppm * 1e-6)

    def run(self, seconds: float) -> None:
        end_ns = self.now_ns + round(seconds * S)
        while self.now_ns < end_ns:
            self.now_ns += 50 * MS
            if not self.clock.ask(self.now_ns) or self.is_cut:
                continue
            there, back = np.array([self.there_ms, self.back_ms]) + self.rng.exponential(self.jitter_ms, 2)
            answered_ns = self.now_ns + round(there * MS)
            received_ns = answered_ns + round(back * MS)
            self.bursts += self.clock.take(self.now_ns, self.peer_ns(answered_ns), received_ns)

    @property
    def error_ns(self) -> int:
        return self.clock.ros_ns(self.now_ns) - self.peer_ns(self.now_ns)


@pytest.mark.parametrize("offset_ns", [0, 3 * S, -AHEAD, 1_700_000_000 * S])
def test_offset_is_known_after_a_second_and_within_its_bound(offset_ns: int):
    link = Link(offset_ns=offset_ns)
    assert not link.clock.is_started
    link.run(1.2)
    assert (link.clock.is_started, link.bursts) == (True, 1)
    assert abs(link.error_ns) <= link.clock.error_ns < 2 * MS


@pytest.mark.parametrize("drift_ppm", [-150.0, 150.0])
def test_offset_follows_clocks_that_run_apart(drift_ppm: float):
    link = Link(drift_ppm=drift_ppm)
    for _ in range(120):
        link.run(1.0)
        # The bound holds at the newest exchange, at most a second ago.
        assert abs(link.error_ns) <= link.clock.error_ns + 0.2 * MS
    assert link.clock.steps == 0
    assert abs(link.peer_ns(link.now_ns) - link.now_ns - AHEAD) > 17 * MS


def test_a_way_that_is_slow_in_one_direction_moves_the_offset_by_half_and_the_bound_says_so():
    link = Link()
    link.there_ms, link.back_ms, link.jitter_ms = 1.0, 41.0, 0.1
    link.run(10.0)
    assert 19 * MS < abs(link.error_ns) < 21.5 * MS
    assert abs(link.error_ns) <= link.clock.error_ns < 22 * MS


def test_few_quick_exchanges_count_more_than_many_slow_ones():
    link = Link()
    link.jitter_ms = 30.0
    link.run(30.0)
    assert abs(link.error_ns) <= link.clock.error_ns < 6 * MS
    assert link.clock.round_trips_ms.summary()["p99"] > 60.0


@pytest.mark.parametrize("step_ns", [AHEAD, -AHEAD, 100 * MS])
def test_a_clock_that_is_set_is_followed_from_the_next_exchange_on(step_ns: int):
    link = Link()
    link.run(20.0)
    link.offset_ns += step_ns
    link.run(1.05)
    assert link.clock.steps == 1
    assert abs(link.error_ns) <= link.clock.error_ns < 10 * MS
    link.run(2.0)
    assert link.bursts == 2, "round trips are measured anew"
    assert link.clock.error_ns < 2 * MS


def test_offset_is_kept_while_the_link_is_cut_and_measured_anew_after_it():
    link = Link(drift_ppm=50.0)
    link.run(5.0)
    link.is_cut = True
    link.run(20.0)
    assert link.clock.is_away(link.now_ns)
    assert abs(link.error_ns) < 2 * MS + 20 * 50e-6 * S
    link.is_cut = False
    link.run(3.0)
    assert not link.clock.is_away(link.now_ns)
    assert (link.bursts, link.clock.steps) == (2, 0)


def test_replies_to_nothing_that_was_asked_and_very_late_ones_say_nothing():
    link = Link()
    link.run(2.0)
    before = link.clock.ros_ns(0)
    asked_ns = link.now_ns + S
    assert link.clock.ask(asked_ns)
    assert not link.clock.take(asked_ns + 1, 5, asked_ns + 2)
    assert not link.clock.take(asked_ns, 5, asked_ns + 2 * S)
    assert (link.clock.ros_ns(0), link.clock.strays) == (before, 2)
    assert link.clock.take(asked_ns, link.peer_ns(asked_ns + MS), asked_ns + 2 * MS) is False
    assert not link.clock.take(asked_ns, 5, asked_ns + 3 * MS), "a reply counts once"
    assert link.clock.strays == 3


def test_who_does_not_answer_is_asked_at_leisure():
    clock = PeerClock(PeerClockConfig())
    asked = sum(clock.ask(at_ns) for at_ns in range(0, 20 * S, 10 * MS))
    assert asked == 20
