"""A counter that begins anew is told from blocks that are late, lost or come twice."""

from __future__ import annotations

import numpy as np
from timar_common.restarts import Belongs, ConversationWatch

BLOCK = 320
SAMPLE_NS = 62_500
START_NS = 5_000_000_000


def observe(watch: ConversationWatch, first: int, start_ns: int = START_NS, late_ns: int = 0) -> Belongs:
    return watch.observe(first, BLOCK, start_ns + first * SAMPLE_NS + late_ns)


def test_an_hour_at_200_ppm_with_jitter_and_lost_blocks_is_one_conversation():
    watch = ConversationWatch()
    rng = np.random.default_rng(0)
    for first in range(0, 3600 * 16_000, 100 * BLOCK):
        late_ns = round(first * SAMPLE_NS * 200e-6 + rng.normal(0, 2e6))
        assert observe(watch, first, late_ns=late_ns) is Belongs.THIS
    assert watch.restarts == 0


def test_a_block_that_comes_twice_or_late_is_of_this_conversation():
    watch = ConversationWatch()
    places = [0, 320, 640, 320, 320, 5 * 16_000, 960, 5 * 16_000 + 320]
    assert {observe(watch, place) for place in places} == {Belongs.THIS}


def test_a_counter_that_begins_anew_is_told_once_and_old_blocks_are_known_as_such():
    watch = ConversationWatch()
    for first in range(0, 16_000, BLOCK):
        observe(watch, first)
    again_ns = START_NS + 3_000_000_000
    assert observe(watch, 0, again_ns) is Belongs.NEW
    assert observe(watch, 16_000) is Belongs.OLD
    assert observe(watch, 48_320) is Belongs.OLD  # carried on by who did not know yet
    assert [observe(watch, first, again_ns) for first in (0, 320, 640)] == [Belongs.THIS] * 3
    assert watch.restarts == 1


def test_a_clock_that_is_set_right_under_way_is_no_new_counter():
    """On a full machine turns ended again and again: one topic's blocks lay behind another's newer clock."""
    watch, back_ns = ConversationWatch(), -600_000_000
    for first in range(0, 160_000, BLOCK):
        observe(watch, first)
    assert observe(watch, 160_000, late_ns=back_ns) is Belongs.THIS
    assert observe(watch, 157_440) is Belongs.THIS
    assert watch.restarts == 0
    # Somebody carries the old counter on while the new one begins.
    observe(watch, 160_320, late_ns=back_ns)
    assert observe(watch, 0, START_NS + 9_500_000_000) is Belongs.NEW


def test_sound_that_was_lost_while_capture_was_away_is_measured_to_40_ms():
    watch, rng, away_ns = ConversationWatch(), np.random.default_rng(1), 3_217_000_000
    for first in range(0, 160_000, BLOCK):
        observe(watch, first, late_ns=round(rng.normal(0, 2e6)))
    last_ns = START_NS + 160_000 * SAMPLE_NS
    # The first block of the new counter that arrives need not be its first one.
    assert observe(watch, 10 * BLOCK, last_ns + away_ns) is Belongs.NEW
    assert abs(watch.outage_ns - away_ns) < 40_000_000
    first_ns = watch.outage_ns
    assert observe(watch, 10 * BLOCK, last_ns + 3 * away_ns) is Belongs.NEW
    assert watch.lost_ns == first_ns + watch.outage_ns > 2 * away_ns


def test_a_clock_that_jumps_forward_is_no_new_conversation():
    watch = ConversationWatch()
    observe(watch, 0)
    assert observe(watch, 320, late_ns=2_000_000_000) is Belongs.THIS
    assert observe(watch, 640, late_ns=2_000_000_000) is Belongs.THIS
