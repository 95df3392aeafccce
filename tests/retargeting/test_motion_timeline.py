"""The timeline: frames keep their instants whatever order, revision or hole they come in."""

import numpy as np
import pytest
from timar_retargeting.motion_timeline import CONTEXT_FRAMES, MAX_FRAMES, MotionFrames, MotionTimeline

FRAME_NS = 40_000_000


def run(first, values, revision=0, conversation="a", zero_ns=0, is_preview=False):
    targets = np.array(values, float)[:, None]
    return MotionFrames(conversation, first, zero_ns + first * FRAME_NS, revision, targets, is_preview)


def at(timeline, frame):
    return timeline.positions(np.array([float(frame * FRAME_NS)]))[0, 0]


def test_a_frame_is_met_at_its_instant_and_the_ends_are_held():
    timeline = MotionTimeline(1)
    timeline.add(run(10, [0.1, 0.2, 0.5, 0.3]), 0)
    assert [round(at(timeline, frame), 9) for frame in (5, 10, 11, 12, 13, 20)] == [
        0.1,
        0.1,
        0.2,
        0.5,
        0.3,
        0.3,
    ]


def test_the_curve_is_smooth_to_the_second_derivative():
    timeline = MotionTimeline(1)
    timeline.add(run(0, np.random.default_rng(0).normal(size=20)), 0)
    h = 1e5
    for frame in range(2, 18):
        left = timeline.positions(frame * FRAME_NS + h * np.array([-2.0, -1.0, 0.0]))[:, 0]
        right = timeline.positions(frame * FRAME_NS + h * np.array([0.0, 1.0, 2.0]))[:, 0]
        bend = (
            np.array([left[0] - 2 * left[1] + left[2], right[0] - 2 * right[1] + right[2]]) / (h * 1e-9) ** 2
        )
        assert bend[0] == pytest.approx(bend[1], rel=0.05, abs=60.0)


def test_runs_in_any_order_give_the_same_curve():
    values = np.sin(np.arange(20) / 3.0)
    straight, shuffled = MotionTimeline(1), MotionTimeline(1)
    for first in (0, 5, 10, 15):
        straight.add(run(first, values[first : first + 5]), 0)
    for first in (5, 0, 15, 10):
        shuffled.add(run(first, values[first : first + 5]), 0)
    times = np.linspace(0, 19 * FRAME_NS, 77)
    np.testing.assert_array_equal(straight.positions(times), shuffled.positions(times))


def test_frames_that_never_came_are_bridged_and_counted():
    timeline = MotionTimeline(1)
    timeline.add(run(0, [0.0, 0.1, 0.2]), 0)
    timeline.add(run(5, [0.5, 0.6, 0.7]), 0)
    assert timeline.counters.gap_frames == 2
    assert at(timeline, 3.5) == pytest.approx(0.35, abs=1e-9)


def test_a_higher_revision_replaces_everything_from_its_first_frame():
    timeline = MotionTimeline(1)
    timeline.add(run(0, np.zeros(20)), 0)
    timeline.add(run(8, [1.0, 1.0], revision=1), 0)
    assert timeline.last_ns == 9 * FRAME_NS
    assert timeline.counters.withdrawn_frames == 12
    assert not timeline.add(run(10, [5.0], revision=0), 0)
    assert timeline.last_ns == 9 * FRAME_NS


def test_a_revision_without_a_finite_frame_still_withdraws():
    timeline = MotionTimeline(1)
    timeline.add(run(0, np.zeros(20)), 0)
    timeline.add(run(8, [np.nan], revision=1), 0)
    assert timeline.last_ns == 7 * FRAME_NS


def test_a_new_conversation_starts_anew():
    timeline = MotionTimeline(1)
    timeline.add(run(100, [0.3] * 5, revision=7), 0)
    timeline.add(run(0, [0.9] * 5, conversation="b"), 0)
    assert (timeline.first_ns, timeline.last_ns) == (0.0, 4 * FRAME_NS)


def test_the_newest_message_places_all_frames():
    timeline = MotionTimeline(1)
    timeline.add(run(0, [0.0] * 5), 0)
    timeline.add(run(5, [1.0] * 5, zero_ns=1_000_000), 0)
    assert timeline.first_ns == 1_000_000


def test_a_run_that_is_due_at_another_time_than_its_neighbours_is_counted():
    timeline = MotionTimeline(1)
    timeline.add(run(0, [0.0] * 5), 0)
    timeline.add(run(5, [0.0] * 5, zero_ns=5_000_000), 0)
    assert timeline.counters.retimed_runs == 0
    timeline.add(run(10, [0.0] * 5, zero_ns=200_000_000), 0)
    assert timeline.counters.retimed_runs == 1


def test_memory_is_bounded_and_a_leap_of_the_counter_starts_anew():
    timeline = MotionTimeline(1)
    for first in range(0, 5000, 5):
        timeline.add(run(first, [0.0] * 5), first * FRAME_NS)
    assert timeline.first_ns >= (4995 - CONTEXT_FRAMES - 1) * FRAME_NS
    timeline.add(run(10**9, [0.0] * 5), 5000 * FRAME_NS)
    assert timeline.first_ns == 10**9 * FRAME_NS
    for first in range(10**9, 10**9 + 2 * MAX_FRAMES, 5):
        timeline.add(run(first, [0.0] * 5), 0)
    assert timeline.last_ns - timeline.first_ns < MAX_FRAMES * FRAME_NS


def test_an_empty_timeline_says_so():
    with pytest.raises(RuntimeError, match="empty"):
        MotionTimeline(1).positions(np.zeros(1))


def test_turn_replaces_all_previews_from_its_first_frame_on():
    """A preview longer than the turn must not go on behind it: its tail was made for another turn."""
    timeline, without = MotionTimeline(1), MotionTimeline(1)
    timeline.add(run(0, [0.0, 0.1, 0.2]), 0)
    timeline.add(run(3, [0.7, 0.8, 0.9, 0.9, 0.9], is_preview=True), 0)
    assert at(timeline, 5) == pytest.approx(0.9)
    timeline.add(run(3, [0.3, 0.4]), 0)
    without.add(run(0, [0.0, 0.1, 0.2]), 0)
    without.add(run(3, [0.3, 0.4]), 0)
    times = np.linspace(0, 8 * FRAME_NS, 33)
    np.testing.assert_array_equal(timeline.positions(times), without.positions(times))
    assert (timeline.counters.frames, timeline.counters.preview_frames) == (5, 5)
    assert timeline.counters.withdrawn_frames == timeline.counters.retimed_runs == 0


def test_newer_preview_replaces_an_older_one():
    timeline = MotionTimeline(1)
    timeline.add(run(0, [0.0, 0.1]), 0)
    timeline.add(run(2, [0.7, 0.8, 0.9], is_preview=True), 0)
    timeline.add(run(2, [0.2, 0.3], is_preview=True), 0)
    assert timeline.last_ns == 3 * FRAME_NS
    assert at(timeline, 3) == pytest.approx(0.3)


def test_preview_that_comes_after_its_turn_changes_none_of_its_frames():
    timeline = MotionTimeline(1)
    timeline.add(run(0, [0.0, 0.1, 0.2, 0.3]), 0)
    assert not timeline.add(run(2, [0.9, 0.9], is_preview=True), 0)
    assert timeline.add(run(2, [0.9, 0.9, 0.4], is_preview=True), 0)
    assert [round(at(timeline, frame), 9) for frame in range(5)] == [0.0, 0.1, 0.2, 0.3, 0.4]


def test_preview_of_a_turn_that_never_came_stays_between_its_neighbours():
    timeline = MotionTimeline(1)
    timeline.add(run(0, [0.0, 0.1]), 0)
    timeline.add(run(2, [0.2, 0.3], is_preview=True), 0)
    timeline.add(run(4, [0.4, 0.5]), 0)
    assert [round(at(timeline, frame), 9) for frame in range(6)] == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert timeline.counters.gap_frames == 0


def test_taking_back_takes_previews_too():
    timeline = MotionTimeline(1)
    timeline.add(run(0, [0.0, 0.1, 0.2, 0.3]), 0)
    timeline.add(run(4, [0.9, 0.9], is_preview=True), 0)
    timeline.add(run(2, [0.5, 0.6], revision=1), 0)
    assert timeline.last_ns == 3 * FRAME_NS
    assert timeline.add(run(4, [0.7], revision=1, is_preview=True), 0)
    assert not timeline.add(run(4, [0.8], revision=0, is_preview=True), 0)
    assert at(timeline, 4) == pytest.approx(0.7)
