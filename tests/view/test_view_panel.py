from __future__ import annotations

import numpy as np
from timar_description.urdf import UrdfJoint
from timar_view.conversation import Conversation, Floor, Mark, Speaker
from timar_view.panel import WARN_COLOR, health_html, joints_html, latency_html, voices_html


def joint(name: str, lower: float, upper: float) -> UrdfJoint:
    return UrdfJoint(name, "a", "b", "revolute", np.eye(4), np.array([0.0, 0.0, 1.0]), lower, upper, name)


def test_the_floor_and_both_voices_are_written() -> None:
    conversation = Conversation(2.0)
    conversation.take_floor(Floor.AGENT, 32_000)
    conversation.hear(Speaker.AGENT, 0, 320, -20.0, True)
    page = voices_html(conversation)
    assert "AGENT</span> holds the floor since 2.0 s" in page
    assert "width:75%" in page
    assert "-20 dB" in page


def test_latency_and_turn_marks_are_written_newest_first() -> None:
    conversation = Conversation(2.0)
    assert "no motion yet" in latency_html(conversation)
    conversation.take_motion(40.0, 55.0)
    conversation.mark(Speaker.USER, Mark.START, 16_000, 16_000)
    conversation.mark(Speaker.USER, Mark.BARGE_IN, 24_000, 24_000)
    page = latency_html(conversation)
    assert "compute 40 ms" in page
    assert "ready 55 ms ahead" in page
    assert page.index("1.50 s") < page.index("1.00 s")
    assert "user barge-in" in page


def test_a_joint_at_a_limit_is_red_unless_it_rests_there() -> None:
    yaw, lid = joint("neck_yaw", -0.7, 0.7), joint("lid", 0.0, 1.6)
    assert WARN_COLOR in joints_html([yaw], {"neck_yaw": 0.7})
    assert WARN_COLOR not in joints_html([yaw], {"neck_yaw": 0.5})
    assert WARN_COLOR not in joints_html([lid], {"lid": 0.0})
    assert "not heard of" in joints_html([yaw], {})


def test_names_from_the_network_cannot_write_html() -> None:
    conversation = Conversation(2.0)
    conversation.take_health("<script>", 1, "<b>bad</b>")
    page = health_html(conversation)
    assert "<script>" not in page
    assert "&lt;script&gt;: &lt;b&gt;bad&lt;/b&gt;" in page
