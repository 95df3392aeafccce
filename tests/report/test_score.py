"""Scores of long conversations: what an hour takes, and what stays of it."""

from __future__ import annotations

import dataclasses
import tracemalloc
from types import SimpleNamespace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from timar_bag.conversation import AGENT, END, START, USER, SpeechTurnEvent
from timar_bag.shown import ENOUGH_FRAMES, FrameRows
from timar_common.user_motion import MOTION_CHANNELS
from timar_report.frames import ConversationFrames
from timar_report.score import NECK, beat_scores, label_scores
from timar_report.statistics import nearest_distance

HOUR_FRAMES = 3600 * 25


def talking(frames: int) -> ConversationFrames:
    """A head that moves all the time, and a voice that rises again and again."""
    generator = np.random.default_rng(3)
    shown = np.zeros((frames, MOTION_CHANNELS), np.float32)
    shown[:, NECK] = generator.normal(0.0, 0.05, (frames, 3)).cumsum(axis=0)
    level = np.where(np.arange(frames) % 7 < 3, -20.0, -45.0) + generator.normal(0.0, 1.0, frames)
    nothing = np.zeros(frames, np.bool_)
    return ConversationFrames(
        conversation=None, shown=shown, is_shown=~nothing, made=shown, is_made=~nothing, truth=None,
        is_true=nothing, user=None, is_seen=nothing, floor=np.zeros(frames, np.int8),
        level_dbfs={"agent/audio": level}, speaking={AGENT: ~nothing},
    )  # fmt: skip


def test_beats_of_an_hour_are_held_against_its_onsets_without_a_table_of_all_pairs():
    """They were: 1.3 GB, while all else of an hour's score takes less than 300 MB."""
    frames = talking(HOUR_FRAMES)
    tracemalloc.start()
    found = beat_scores(frames)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert min(found["beats"], found["onsets"]) > 5_000
    assert peak < 50e6


@given(st.lists(st.integers(0, 500)), st.lists(st.integers(0, 500), min_size=1))
def test_the_nearest_of_others_is_the_nearest_of_all_pairs(places: list[int], others: list[int]):
    beats, onsets = np.array(sorted(places), np.intp), np.array(sorted(others), np.intp)
    wanted = np.abs(beats[:, None] - onsets[None, :]).min(axis=1)
    np.testing.assert_array_equal(nearest_distance(beats, onsets), wanted)


def test_rows_written_before_the_memory_grew_stay_and_the_first_report_of_a_frame_stands():
    rows = FrameRows()
    first = np.arange(3 * MOTION_CHANNELS, dtype=np.float32).reshape(3, MOTION_CHANNELS)
    rows.add(2, first, np.array([True, False, True]))
    rows.add(3, first + 1000, np.ones(3, np.bool_))
    far = 3 * ENOUGH_FRAMES
    rows.add(far, first, np.ones(3, np.bool_))
    whole, is_known = rows.whole(far + 10)
    np.testing.assert_array_equal(whole[2:6], [first[0], first[0] + 1000, first[2], first[2] + 1000])
    np.testing.assert_array_equal(np.flatnonzero(is_known), [2, 3, 4, 5, far, far + 1, far + 2])
    np.testing.assert_array_equal(whole[far : far + 3], first)
    assert not whole[6:far].any()


def test_a_labelled_turn_is_held_against_its_start_and_its_end():
    second = 16_000
    turns = [(START, 2 * second + 1_600, 0), (END, 2 * second + 1_600, 5 * second - 800)]
    events = [SpeechTurnEvent(USER, kind, first, end) for kind, first, end in turns]
    stretches = [(USER, 2 * second, 5 * second), (AGENT, 6 * second, 7 * second)]
    labels = [SpeechTurnEvent(speaker, END, first, end) for speaker, first, end in stretches]
    frames = dataclasses.replace(
        talking(200),
        conversation=SimpleNamespace(events=events, labels=labels),
        speaking={USER: np.zeros(200, np.bool_), AGENT: np.zeros(200, np.bool_)},
    )
    found = label_scores(frames)
    assert found["start_error_ms"] == 100.0
    assert found["end_error_ms"] == 50.0
    assert found["missed_share"] == 0.5
