from __future__ import annotations

import numpy as np
import pytest
from timar_common.diagnostics import Level
from timar_view.conversation import QUIET_DBFS, Conversation, Floor, Mark, Speaker

BLOCK = 320
SECOND = 16_000


def talk(conversation: Conversation, who: int, first_s: float, end_s: float, level_dbfs: float) -> None:
    for first in range(round(first_s * SECOND), round(end_s * SECOND), BLOCK):
        conversation.hear(who, first, BLOCK, level_dbfs, level_dbfs > -40)


def test_levels_stand_at_their_place_on_the_conversation_clock() -> None:
    conversation = Conversation(4.0)
    talk(conversation, Speaker.USER, 0.0, 1.0, -20.0)
    talk(conversation, Speaker.USER, 1.0, 6.0, -70.0)
    talk(conversation, Speaker.AGENT, 0.0, 5.0, -60.0)
    talk(conversation, Speaker.AGENT, 5.0, 6.0, -30.0)
    traces = conversation.traces()
    np.testing.assert_allclose(traces.time_s, 2.0 + np.arange(100) / 25)
    np.testing.assert_allclose(traces.level_dbfs[Speaker.USER], -70.0)
    np.testing.assert_allclose(traces.level_dbfs[Speaker.AGENT], np.where(traces.time_s >= 5.0, -30.0, -60.0))


def test_the_louder_block_of_a_frame_is_shown() -> None:
    conversation = Conversation(2.0)
    conversation.hear(Speaker.USER, 0, BLOCK, -30.0, True)
    conversation.hear(Speaker.USER, BLOCK, BLOCK, -50.0, True)
    assert conversation.traces().level_dbfs[Speaker.USER, 0] == -30.0


def test_lost_blocks_read_as_quiet_and_not_as_what_was_there_a_round_before() -> None:
    conversation = Conversation(2.0)
    talk(conversation, Speaker.USER, 0.0, 2.0, -10.0)
    talk(conversation, Speaker.USER, 3.0, 3.2, -15.0)
    traces = conversation.traces()
    lost = (traces.time_s >= 2.0) & (traces.time_s < 3.0)
    assert np.all(traces.level_dbfs[Speaker.USER, lost] == QUIET_DBFS)
    assert np.all(traces.level_dbfs[Speaker.USER, traces.time_s < 2.0] == -10.0)


def test_a_voice_that_fell_silent_is_not_drawn_on_while_the_other_speaks() -> None:
    conversation = Conversation(2.0)
    talk(conversation, Speaker.AGENT, 0.0, 1.0, -10.0)
    talk(conversation, Speaker.USER, 0.0, 4.0, -20.0)
    assert np.all(conversation.traces().level_dbfs[Speaker.AGENT] == QUIET_DBFS)


def test_a_speech_turn_spans_what_its_events_say() -> None:
    conversation = Conversation(4.0)
    talk(conversation, Speaker.USER, 0.0, 4.0, -20.0)
    conversation.mark(Speaker.USER, Mark.START, SECOND, SECOND)
    conversation.mark(Speaker.USER, Mark.END, SECOND, 2 * SECOND)
    conversation.mark(Speaker.AGENT, Mark.START, 3 * SECOND, 3 * SECOND)
    traces = conversation.traces()
    np.testing.assert_array_equal(traces.is_turn[Speaker.USER], (traces.time_s >= 1) & (traces.time_s < 2))
    np.testing.assert_array_equal(traces.is_turn[Speaker.AGENT], traces.time_s >= 3)


def test_a_barge_in_keeps_the_speech_turn_open_and_is_listed() -> None:
    conversation = Conversation(4.0)
    talk(conversation, Speaker.USER, 0.0, 4.0, -20.0)
    conversation.mark(Speaker.USER, Mark.START, SECOND, SECOND)
    conversation.mark(Speaker.USER, Mark.BARGE_IN, SECOND, SECOND)
    assert len(conversation.turns[Speaker.USER]) == 1
    assert conversation.traces().is_turn[Speaker.USER, -1]
    assert [mark.kind for mark in conversation.marks] == [Mark.START, Mark.BARGE_IN]


def test_a_speech_turn_whose_end_was_lost_ends_where_the_next_begins() -> None:
    conversation = Conversation(4.0)
    conversation.mark(Speaker.USER, Mark.START, 0, 0)
    conversation.mark(Speaker.USER, Mark.START, 3 * SECOND, 3 * SECOND)
    assert [turn.end_sample for turn in conversation.turns[Speaker.USER]] == [3 * SECOND, None]


def test_a_reset_conversation_starts_anew() -> None:
    conversation = Conversation(2.0)
    talk(conversation, Speaker.USER, 0.0, 10.0, -20.0)
    conversation.mark(Speaker.USER, Mark.START, SECOND, SECOND)
    conversation.take_floor(Floor.USER, SECOND)
    talk(conversation, Speaker.USER, 0.0, 0.1, -30.0)
    traces = conversation.traces()
    assert traces.time_s[0] == 0.0
    assert not traces.is_turn.any()
    assert conversation.floor == Floor.IDLE


def test_motion_that_came_after_it_was_due_is_counted_late() -> None:
    conversation = Conversation(2.0)
    for lead_ms in (80.0, 60.0, -5.0):
        conversation.take_motion(40.0, lead_ms)
    assert (conversation.motion_messages, conversation.late_motions) == (3, 1)
    assert conversation.lead_ms.summary()["p50"] == 60.0


def test_everything_kept_is_bounded() -> None:
    conversation = Conversation(2.0)
    for n in range(500):
        conversation.mark(Speaker.USER, Mark.START, n * SECOND, n * SECOND)
        conversation.take_health(f"/node{n}", 0, "running")
    assert len(conversation.turns[Speaker.USER]) <= 64
    assert len(conversation.marks) <= 8
    assert len(conversation.health) == 32
    assert "/node499" in conversation.health


def test_a_level_of_diagnostics_beyond_error_reads_as_error() -> None:
    conversation = Conversation(2.0)
    conversation.take_health("/driver", 3, "stale")
    assert conversation.health["/driver"] == (Level.ERROR, "stale")


@pytest.mark.parametrize(
    ("call", "finding"),
    [
        (lambda c: c.hear(2, 0, BLOCK, -20.0, True), "speaker 2"),
        (lambda c: c.hear(0, -1, BLOCK, -20.0, True), "at -1"),
        (lambda c: c.hear(0, 0, 0, -20.0, True), "0 samples"),
        (lambda c: c.hear(0, 0, BLOCK, float("nan"), True), "nan dB"),
        (lambda c: c.take_floor(9, 0), "floor state 9"),
        (lambda c: c.mark(0, 7, 0, 0), "turn event 7"),
        (lambda c: c.mark(0, 1, 10, 5), r"\[10, 5\)"),
        (lambda c: c.take_motion(float("inf"), 0.0), "inf ms"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(call, finding: str) -> None:
    conversation = Conversation(2.0)
    with pytest.raises(ValueError, match=finding):
        call(conversation)
    assert np.all(conversation.traces().level_dbfs == QUIET_DBFS)
    assert not conversation.marks
    assert conversation.motion_messages == 0
