"""What the page shows: the newest stretch of the conversation, bounded, and nothing that cannot be true."""

from __future__ import annotations

import numpy as np
import pytest
from timar_common.diagnostics import Level
from timar_common.messages import Header, constants, new
from timar_view.view_state import SILENCE_DBFS, ViewState

BLOCK = 320
SECOND = 16_000
USER, AGENT = 0, 1
EVENT = constants("TurnEvent")


def make_state(history_s: float = 2.0) -> ViewState:
    return ViewState(("jaw", "neck_yaw"), history_s)


def hear(state: ViewState, who: int, first_sample: int, level_dbfs: float, samples: int = BLOCK) -> None:
    state.add_voice_activity(
        new(
            "VoiceActivity",
            speaker=who,
            first_sample=first_sample,
            samples=samples,
            level_dbfs=level_dbfs,
            is_speaking=level_dbfs > -40,
        )
    )


def talk(state: ViewState, who: int, first_s: float, end_s: float, level_dbfs: float) -> None:
    for first in range(round(first_s * SECOND), round(end_s * SECOND), BLOCK):
        hear(state, who, first, level_dbfs)


def event(state: ViewState, who: int, kind: int, first_sample: int, end_sample: int) -> None:
    state.add_turn_event(
        new("TurnEvent", speaker=who, kind=kind, first_sample=first_sample, end_sample=end_sample)
    )


def floor(state: ViewState, value: int, since_sample: int = 0) -> None:
    state.set_floor(new("FloorState", state=value, since_sample=since_sample))


def motion(state: ViewState, compute_ms: float, lead_ms: float, is_preview: bool = False) -> None:
    header = Header(round((1000.0 + lead_ms) * 1e6))
    message = new("HeadMotion", header=header, compute_ms=compute_ms, is_preview=is_preview)
    state.add_motion(message, 1_000_000_000)


def health(state: ViewState, name: str, level: int, text: str) -> None:
    status = new("diagnostic_msgs/msg/DiagnosticStatus", name=name, level=level, message=text)
    state.set_health(new("diagnostic_msgs/msg/DiagnosticArray", status=[status]))


def joints(state: ViewState, names: list[str], positions: list[float]) -> None:
    state.add_joint_states(new("sensor_msgs/msg/JointState", name=names, position=positions))


def test_levels_stand_at_their_time_on_the_conversation_clock() -> None:
    state = make_state(4.0)
    talk(state, USER, 0.0, 1.0, -20.0)
    talk(state, USER, 1.0, 6.0, -70.0)
    talk(state, AGENT, 0.0, 5.0, -60.0)
    talk(state, AGENT, 5.0, 6.0, -30.0)
    traces = state.traces()
    np.testing.assert_allclose(traces.time_s, 2.0 + np.arange(100) / 25)
    np.testing.assert_allclose(traces.level_dbfs[USER], -70.0)
    np.testing.assert_allclose(traces.level_dbfs[AGENT], np.where(traces.time_s >= 5.0, -30.0, -60.0))


def test_the_louder_block_of_a_frame_is_shown() -> None:
    state = make_state()
    hear(state, USER, 0, -30.0)
    hear(state, USER, BLOCK, -50.0)
    assert state.traces().level_dbfs[USER, 0] == -30.0


def test_lost_blocks_read_as_silence_and_not_as_what_was_there_a_round_before() -> None:
    state = make_state()
    talk(state, USER, 0.0, 2.0, -10.0)
    talk(state, USER, 3.0, 3.2, -15.0)
    traces = state.traces()
    lost = (traces.time_s >= 2.0) & (traces.time_s < 3.0)
    assert np.all(traces.level_dbfs[USER, lost] == SILENCE_DBFS)
    assert np.all(traces.level_dbfs[USER, traces.time_s < 2.0] == -10.0)


def test_a_voice_that_fell_silent_is_not_drawn_on_while_the_other_speaks() -> None:
    state = make_state()
    talk(state, AGENT, 0.0, 1.0, -10.0)
    talk(state, USER, 0.0, 4.0, -20.0)
    assert np.all(state.traces().level_dbfs[AGENT] == SILENCE_DBFS)


def test_a_speech_turn_spans_what_its_events_say() -> None:
    state = make_state(4.0)
    talk(state, USER, 0.0, 4.0, -20.0)
    event(state, USER, EVENT["START"], SECOND, SECOND)
    event(state, USER, EVENT["END"], SECOND, 2 * SECOND)
    event(state, AGENT, EVENT["START"], 3 * SECOND, 3 * SECOND)
    traces = state.traces()
    np.testing.assert_array_equal(traces.is_turn[USER], (traces.time_s >= 1) & (traces.time_s < 2))
    np.testing.assert_array_equal(traces.is_turn[AGENT], traces.time_s >= 3)


def test_an_interruption_keeps_the_speech_turn_open_and_is_listed() -> None:
    state = make_state(4.0)
    talk(state, USER, 0.0, 4.0, -20.0)
    event(state, USER, EVENT["START"], SECOND, SECOND)
    event(state, USER, EVENT["INTERRUPTED"], SECOND, SECOND)
    assert len(state.turns[USER]) == 1
    assert state.traces().is_turn[USER, -1]
    assert [shown.kind for shown in state.events] == [EVENT["START"], EVENT["INTERRUPTED"]]


def test_a_speech_turn_whose_end_was_lost_ends_where_the_next_begins() -> None:
    state = make_state(4.0)
    event(state, USER, EVENT["START"], 0, 0)
    event(state, USER, EVENT["START"], 3 * SECOND, 3 * SECOND)
    assert [turn.end_sample for turn in state.turns[USER]] == [3 * SECOND, None]


def test_a_reset_conversation_starts_from_nothing_and_joints_stay() -> None:
    state = make_state()
    joints(state, ["jaw"], [0.2])
    talk(state, USER, 0.0, 10.0, -20.0)
    event(state, USER, EVENT["START"], SECOND, SECOND)
    floor(state, constants("FloorState")["USER"], SECOND)
    talk(state, USER, 0.0, 0.1, -30.0)
    traces = state.traces()
    assert traces.time_s[0] == 0.0
    assert not traces.is_turn.any()
    assert state.floor == "IDLE"
    assert state.positions == {"jaw": 0.2}


def test_motion_that_came_after_it_was_due_is_counted_late_and_previews_are_left_out() -> None:
    state = make_state()
    for lead_ms in (80.0, 60.0, -5.0):
        motion(state, 40.0, lead_ms)
    motion(state, 40.0, -50.0, is_preview=True)
    assert (state.motion_messages, state.late_motions) == (3, 1)
    assert state.lead_ms.summary()["p50"] == pytest.approx(60.0)


def test_joints_are_kept_by_name_and_unknown_ones_noted() -> None:
    state = make_state()
    joints(state, ["jaw", "tail"], [0.2, 1.0])
    assert state.positions == {"jaw": 0.2}
    assert state.unknown_joints == {"tail"}


def test_everything_kept_is_bounded() -> None:
    state = make_state()
    for n in range(500):
        event(state, USER, EVENT["START"], n * SECOND, n * SECOND)
        health(state, f"/node{n}", 0, "running")
        joints(state, [f"joint{n}"], [0.0])
    assert len(state.turns[USER]) <= 64
    assert len(state.events) <= 8
    assert len(state.health) == 32
    assert "/node499" in state.health
    assert len(state.unknown_joints) == 64


def test_a_level_of_diagnostics_beyond_error_reads_as_error() -> None:
    state = make_state()
    health(state, "/driver", 3, "stale")
    assert state.health["/driver"] == (Level.ERROR, "stale")


@pytest.mark.parametrize(
    ("call", "finding"),
    [
        (lambda s: hear(s, 2, 0, -20.0), r"speaker 2; expected 0 \(user\), 1 \(agent\)"),
        (lambda s: hear(s, 0, -1, -20.0), "at -1"),
        (lambda s: hear(s, 0, 0, -20.0, samples=0), "0 samples"),
        (lambda s: hear(s, 0, 0, float("nan")), "nan dB"),
        (lambda s: floor(s, 9), r"floor state 9; expected 0 \(IDLE\), 1 \(USER\)"),
        (
            lambda s: s.set_holder(new("std_msgs/msg/String", data="<b>")),
            "held by '<b>'; expected conversation",
        ),
        (lambda s: event(s, 0, 8, 0, 0), "turn event 8"),
        (lambda s: event(s, 0, 1, 10, 5), r"\[10, 5\)"),
        (lambda s: motion(s, float("inf"), 0.0), "inf ms"),
        (lambda s: joints(s, ["jaw"], []), "1 joint names came with 0"),
        (lambda s: joints(s, ["neck_yaw", "jaw"], [0.1, float("nan")]), "joint jaw stands at nan"),
    ],
)
def test_what_cannot_be_is_rejected_and_changes_nothing(call, finding: str) -> None:
    state = make_state()
    with pytest.raises(ValueError, match=finding):
        call(state)
    assert np.all(state.traces().level_dbfs == SILENCE_DBFS)
    assert not state.events
    assert state.motion_messages == 0
    assert state.positions == {}
    assert state.holder == ""


@pytest.mark.parametrize("history_s", [0.0, -1.0, float("nan")])
def test_a_history_that_cannot_be_is_rejected(history_s: float) -> None:
    with pytest.raises(ValueError, match="expected a positive number"):
        make_state(history_s)
