"""The view as a component: messages become its state, sliders become joint targets."""

from __future__ import annotations

import numpy as np
import pytest
from timar_common.component import Publish
from timar_common.config import describe
from timar_common.diagnostics import Level
from timar_common.messages import Header, decode, encode, new
from timar_common.topics import TOPICS
from timar_view.config import ViewConfig
from timar_view.view_component import REPEAT_NS, ViewComponent


@pytest.fixture(scope="module")
def component() -> ViewComponent:
    return ViewComponent(ViewConfig())


@pytest.fixture(autouse=True)
def fresh(component: ViewComponent) -> None:
    component.start(0)


def send(component: ViewComponent, topic: str, type_name: str, now_ns: int = 0, **fields: object) -> None:
    """Send a message as a host does: over the wire."""
    data = encode(new(type_name, **fields), lambda ns: ns)
    component.handle(topic, decode(data, TOPICS[topic].type_name, lambda ns: ns), now_ns)


def test_every_input_reaches_the_state(component: ViewComponent) -> None:
    status = new("diagnostic_msgs/msg/DiagnosticStatus", name="/driver", level=1, message="hot")
    joint_states, diagnostics = "sensor_msgs/msg/JointState", "diagnostic_msgs/msg/DiagnosticArray"
    send(component, "joint_states", joint_states, name=["jaw"], position=[0.2])
    send(component, "voice_activity", "VoiceActivity", speaker=1, samples=320, level_dbfs=-17.0)
    send(component, "turn_events", "TurnEvent", speaker=1, kind=0)
    send(component, "floor", "FloorState", state=2, since_sample=24_000)
    send(component, "agent/motion", "HeadMotion", now_ns=10**9, compute_ms=37.0, header=Header(2 * 10**9))
    send(component, "/diagnostics", diagnostics, status=[status])
    send(component, "joints_held_by", "std_msgs/msg/String", data="trajectory")
    state = component.state
    assert state.positions == {"jaw": 0.2}
    assert state.level_dbfs[1] == -17.0
    assert len(state.turns[1]) == 1
    assert (state.floor, state.floor_since_sample) == ("AGENT", 24_000)
    assert state.holder == "trajectory"
    assert state.lead_ms.summary()["p50"] == 1000.0
    assert state.health == {"/driver": (Level.WARN, "hot")}


def test_a_joint_that_the_robot_lacks_is_a_warning(component: ViewComponent) -> None:
    assert component.report().level is Level.OK
    send(component, "joint_states", "sensor_msgs/msg/JointState", name=["tail"], position=[1.0])
    report = component.report()
    assert (report.level, report.message) == (
        Level.WARN,
        "joint_states has joints that timar_head lacks: tail",
    )


def published(component: ViewComponent, positions: dict[str, float], now_ns: int) -> list[dict[str, float]]:
    outputs = list(component.set_targets(positions, now_ns))
    assert all(isinstance(output, Publish) and output.topic == "joint_targets" for output in outputs)
    return [dict(zip(output.message.name, output.message.position, strict=True)) for output in outputs]


def test_a_moved_slider_is_published_at_once_and_a_still_one_once_a_second(component: ViewComponent) -> None:
    assert published(component, {}, 0) == []
    assert published(component, {"jaw": 0.2}, 10) == [{"jaw": 0.2}]
    assert published(component, {"jaw": 0.2}, 20) == []
    assert published(component, {"jaw": 0.25}, 30) == [{"jaw": 0.25}]
    assert published(component, {"jaw": 0.25}, 30 + REPEAT_NS - 1) == []
    assert published(component, {"jaw": 0.25}, 30 + REPEAT_NS) == [{"jaw": 0.25}]


def test_joints_that_are_moved_by_hand_again_are_published_at_once(component: ViewComponent) -> None:
    assert published(component, {"jaw": 0.2}, 0) == [{"jaw": 0.2}]
    assert published(component, {}, 10) == []
    assert published(component, {"jaw": 0.2}, 20) == [{"jaw": 0.2}]


def test_targets_are_a_message_that_can_be_sent(component: ViewComponent) -> None:
    (output,) = component.set_targets({"jaw": 0.2, "neck_yaw": -0.1}, 10**9)
    read = decode(encode(output.message, lambda ns: ns), "sensor_msgs/msg/JointState", lambda ns: ns)
    assert (read.header.stamp, read.name) == (10**9, ["jaw", "neck_yaw"])
    np.testing.assert_array_equal(read.position, [0.2, -0.1])


@pytest.mark.parametrize(
    ("setting", "finding"),
    [
        ({"rate_hz": 0}, r"ViewConfig\.rate_hz is 0, expected a number from 1 to 60"),
        ({"port": 80}, "port is 80"),
        ({"history_s": float("nan")}, "history_s is nan"),
        ({"host": ""}, "host is empty"),
        ({"robot": ""}, "robot is empty"),
    ],
)
def test_settings_that_cannot_be_are_rejected(setting: dict[str, object], finding: str) -> None:
    with pytest.raises(ValueError, match=finding):
        ViewConfig(**setting)


def test_robot_and_history_count_and_the_rest_is_the_pages() -> None:
    other = ViewComponent(ViewConfig(robot="reachy_mini", history_s=4.0))
    usual = ViewComponent(ViewConfig())
    assert set(other.robot.joints) != set(usual.robot.joints)
    assert len(other.state.traces().time_s) == 100
    assert len(usual.state.traces().time_s) == 300
    of_the_page = {"host", "port", "tls", "open_browser", "rate_hz", "panel_rate_hz"}
    of_the_page |= {"page_microphone", "page_loudspeaker", "echo_cancellation"}
    assert describe(ViewConfig).keys() == of_the_page | {"robot", "history_s"}


def test_the_page_is_for_this_machine_unless_asked_otherwise() -> None:
    assert ViewConfig().host == "127.0.0.1"
