from __future__ import annotations

import numpy as np
from timar_common.messages import Header, constants, new
from timar_description.urdf import UrdfJoint
from timar_retargeting.arbitration import JointHolder
from timar_view.panel import WARN_COLOR, health_html, holder_html, joints_html, latency_html, voices_html
from timar_view.view_state import HOLDERS, ViewState

USER, AGENT = 0, 1


def joint(name: str, lower: float, upper: float) -> UrdfJoint:
    return UrdfJoint(name, "a", "b", "revolute", np.eye(4), np.array([0.0, 0.0, 1.0]), lower, upper, name)


def test_the_floor_and_both_voices_are_written() -> None:
    state = ViewState((), 2.0)
    state.set_floor(new("FloorState", state=2, since_sample=32_000))
    state.add_voice_activity(
        new("VoiceActivity", speaker=AGENT, samples=320, level_dbfs=-20.0, is_speaking=True)
    )
    page = voices_html(state)
    assert "AGENT</span> holds the floor since 2.0 s" in page
    assert "width:75%" in page
    assert "-20 dB" in page


def test_who_moves_the_joints_is_written() -> None:
    state = ViewState((), 2.0)
    assert "Moved by: <b>not heard of" in holder_html(state)
    assert {holder.value for holder in JointHolder} == set(HOLDERS)
    for holder, words in (("conversation", "the conversation"), ("by_hand", "joint targets, by hand")):
        state.set_holder(new("std_msgs/msg/String", data=holder))
        assert f"Moved by: <b>{words}</b>" in holder_html(state)


def test_latency_and_turn_events_are_written_newest_first() -> None:
    state = ViewState((), 2.0)
    assert "no motion yet" in latency_html(state)
    state.add_motion(new("HeadMotion", header=Header(55_000_000), compute_ms=40.0), 0)
    for name, sample in (("START", 16_000), ("INTERRUPTED", 24_000)):
        kind = constants("TurnEvent")[name]
        event = new("TurnEvent", speaker=USER, kind=kind, first_sample=sample, end_sample=sample)
        state.add_turn_event(event)
    page = latency_html(state)
    assert "compute 40 ms" in page
    assert "ready 55 ms ahead" in page
    assert page.index("1.50 s") < page.index("1.00 s")
    assert "user interrupted" in page


def test_a_joint_at_a_limit_is_red_unless_it_rests_there() -> None:
    yaw, lid = joint("neck_yaw", -0.7, 0.7), joint("lid", 0.0, 1.6)
    assert WARN_COLOR in joints_html([yaw], {"neck_yaw": 0.7})
    assert WARN_COLOR not in joints_html([yaw], {"neck_yaw": 0.5})
    assert WARN_COLOR not in joints_html([lid], {"lid": 0.0})
    assert "not heard of" in joints_html([yaw], {})


def test_names_from_the_network_cannot_write_html() -> None:
    state = ViewState((), 2.0)
    status = new("diagnostic_msgs/msg/DiagnosticStatus", name="<script>", level=1, message="<b>bad</b>")
    state.set_health(new("diagnostic_msgs/msg/DiagnosticArray", status=[status]))
    page = health_html(state)
    assert "<script>" not in page
    assert "&lt;script&gt;: &lt;b&gt;bad&lt;/b&gt;" in page
