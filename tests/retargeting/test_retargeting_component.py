"""The retargeting component: what a node or a replay gives it, and what it commands."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from timar_common.component import Component, Log, Publish
from timar_common.diagnostics import Level
from timar_common.messages import Header, constants, decode, encode, new
from timar_retargeting.config import RetargetingConfig
from timar_retargeting.idle_behavior import IdleBehavior
from timar_retargeting.motion_timeline import MotionFrames
from timar_retargeting.retargeting_component import RetargetingComponent
from timar_retargeting.retargeting_core import RetargetingCore
from timar_retargeting.trajectory_planner import JointPlan

START_NS = 1_000_000_000_000
FRAME_NS = 40_000_000
TURN = constants("TurnEvent")


def make(**parameters: Any) -> RetargetingComponent:
    component = RetargetingComponent(RetargetingConfig(seed=3, **parameters))
    list(component.start(START_NS))
    return component


def motion_rows(first_frame: int, frames: int = 5) -> np.ndarray:
    rows = np.random.default_rng(first_frame).normal(0.0, 0.2, (frames, 56)).astype(np.float32)
    rows[:, 54] = 0.3 * np.sin(2 * np.pi * 0.4 * (first_frame + np.arange(frames)) / 25.0)
    return rows


def motion_message(first_frame: int, due_ns: int, frames: int = 5, **fields: Any) -> Any:
    rows = motion_rows(first_frame, frames)
    parts = {"expression": rows[:, :50], "jaw": rows[:, 50:53], "neck": rows[:, 53:]}
    return new(
        "HeadMotion",
        **{
            "header": Header(due_ns),
            "conversation_id": "a",
            "first_frame": first_frame,
            "fps": 25.0,
            "frames": frames,
            **{name: part.ravel() for name, part in parts.items()},
            **fields,
        },
    )


def joint_states(names: Any, positions: Any) -> Any:
    return new("sensor_msgs/msg/JointState", name=list(names), position=positions)


def planned(outputs: Any) -> list[Any]:
    """The trajectories of some outputs, as a subscriber gets them."""
    sent = [
        output for output in outputs if isinstance(output, Publish) and output.topic == "joint_trajectory"
    ]
    data = [encode(output.message, lambda ns: ns) for output in sent]
    return [decode(item, "trajectory_msgs/msg/JointTrajectory", lambda ns: ns) for item in data]


def assert_is_plan(message: Any, plan: JointPlan | None, component: RetargetingComponent) -> None:
    assert plan is not None
    assert message.header.stamp == plan.first_index * 20_000_000
    assert message.joint_names == list(component.robot.joint_names)
    rows = [(point.positions, point.velocities, point.accelerations) for point in message.points]
    np.testing.assert_array_equal(np.stack(rows, axis=1), plan.curve)
    times_ns = [point.time_from_start.sec * 10**9 + point.time_from_start.nanosec for point in message.points]
    assert times_ns == [20_000_000 * k for k in range(len(plan.positions))]


def test_messages_move_the_head_as_the_core_would_to_the_last_bit() -> None:
    component = make()
    config, robot = component.config, component.robot
    core = RetargetingCore(
        robot, config.planning(), IdleBehavior(config.idle(), 3), None, config.neutral_estimate()
    )
    measured = robot.offsets_rad + 0.01
    (message,) = planned(
        component.handle("joint_states", joint_states(robot.joint_names, measured), START_NS)
    )
    assert_is_plan(message, core.start(measured, START_NS), component)
    now_ns = START_NS
    for turn in range(12):
        now_ns += 5 * FRAME_NS
        due_ns, first = now_ns + 60_000_000, 5 * turn
        rows = motion_rows(first).astype(np.float64)
        (message,) = planned(component.handle("agent/motion", motion_message(first, due_ns), now_ns))
        assert_is_plan(message, core.on_motion(MotionFrames("a", first, due_ns, 0, rows), now_ns), component)
        if turn == 4:
            event = new("TurnEvent", kind=TURN["START"], speaker=TURN["AGENT"])
            assert planned(component.handle("turn_events", event, now_ns)) == []
            assert core.take_floor(True, now_ns) is None
        plan = core.tick(now_ns + 50_000_000)
        messages = planned(component.tick(now_ns + 50_000_000))
        assert len(messages) == (plan is not None)
    events = [
        ("look_at", new("geometry_msgs/msg/PointStamped"), "look"),
        ("joint_targets", joint_states(["neck_yaw"], [0.2]), "aim"),
    ]
    events[0][1].point.x, events[0][1].point.y = 1.0, 0.4
    now_ns += 3_000_000_000
    for at_ns in range(now_ns - 3_000_000_000, now_ns, 50_000_000):
        for message in planned(component.tick(at_ns)):
            assert_is_plan(message, core.tick(at_ns), component)
            break
        else:
            assert core.tick(at_ns) is None
    (message,) = planned(component.handle(*events[0][:2], now_ns))
    assert_is_plan(message, core.look_at((1.0, 0.4, 0.0), "", now_ns), component)
    (message,) = planned(component.handle(*events[1][:2], now_ns))
    assert_is_plan(message, core.move_by_hand({"neck_yaw": 0.2}, now_ns), component)
    (message,) = planned(component.stop(now_ns))
    assert_is_plan(message, core.stop(now_ns), component)


def test_nothing_moves_before_joint_states_came_and_then_at_neutral_with_a_warning() -> None:
    component = make(joint_states_timeout_s=1.0)
    assert planned(component.handle("agent/motion", motion_message(0, START_NS), START_NS)) == []
    assert list(component.tick(START_NS + 900_000_000)) == []
    log, trajectory, held_by = component.tick(START_NS + 1_100_000_000)
    assert held_by.message.data == "idle"
    assert isinstance(log, Log)
    assert (log.level, "no joint states came" in log.text) == (Level.WARN, True)
    assert_is_plan(planned([trajectory])[0], component.core.planner.plan, component)
    assert component.report().values["ignored_runs"] == 1


def test_activation_waits_for_joint_states_again() -> None:
    component = make()
    component.handle("joint_states", component.neutral_joint_states(START_NS), START_NS)
    assert component.core.is_started
    component.stop(START_NS)
    component.start(START_NS)
    assert not component.core.is_started


@pytest.mark.parametrize(
    ("topic", "message", "said"),
    [
        ("joint_states", joint_states(["neck_yaw"], [0.0]), "joint states lack"),
        ("joint_targets", joint_states(["neck_yaw"], []), "1 joint names came with 0 positions"),
        ("joint_targets", joint_states(["tail"], [0.0]), "there is no joint 'tail'"),
        ("agent/motion", motion_message(0, START_NS, fps=30.0), "fps is 30, expected 25"),
        ("agent/motion", motion_message(0, START_NS, frames=0), "frames is 0, expected 1 to 250"),
        ("agent/motion", motion_message(0, START_NS, jaw=[0.0]), "jaw has 1 numbers, expected 5 frames x 3"),
        ("agent/motion", motion_message(0, 0), "check that both nodes use one ROS clock"),
        (
            "look_at",
            new("geometry_msgs/msg/PointStamped", header=Header(0, "map")),
            "the point to look at is given in 'map'",
        ),
    ],
)
def test_a_message_that_cannot_be_true_is_rejected_and_says_why(topic: str, message: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make().handle(topic, message, START_NS)


def test_output_positions_samples_the_plan_at_its_rate_and_plans_twenty_times_a_second() -> None:
    component = make(output="positions", output_rate_hz=200.0)
    assert component.outputs[0] == "position_commands"
    assert component.tick_s == 0.005
    component.handle("joint_states", component.neutral_joint_states(START_NS), START_NS)
    sent = [output for tick in range(1, 401) for output in component.tick(START_NS + tick * 5_000_000)]
    assert [output.topic for output in sent] == ["position_commands"] * 400
    rows = np.array([output.message.data for output in sent])
    assert rows.shape == (400, len(component.robot.joint_names))
    assert np.ptp(rows, axis=0).max() > 0.1, "it blinks"
    assert component.report().values["mode"] == "idle"


def test_output_joint_states_starts_at_neutral_without_a_driver() -> None:
    component: Component = RetargetingComponent(RetargetingConfig(output="joint_states", output_rate_hz=10.0))
    assert "joint_states" not in component.inputs
    assert component.outputs[0] == "joint_states"
    component.start(START_NS)
    assert component.tick_s == 0.05, "plans are looked at twenty times a second at any output rate"
    sent = [list(component.tick(START_NS + tick * 50_000_000)) for tick in range(1, 5)]
    assert [len(outputs) for outputs in sent] == [0, 1, 0, 1]
    (state,) = sent[-1]
    assert isinstance(state, Publish)
    assert state.message.header.stamp == START_NS + 200_000_000
    assert len(state.message.position) == len(state.message.velocity) == len(state.message.name)


def test_stop_holds_the_head_until_it_is_resumed() -> None:
    component = make()
    assert not component.services["stop"](START_NS).success
    assert not component.services["resume"](START_NS).success
    component.handle("joint_states", component.neutral_joint_states(START_NS), START_NS)
    reply = component.services["stop"](START_NS)
    assert reply.success
    assert len(planned(reply.outputs)) == 1
    assert planned(component.handle("agent/motion", motion_message(0, START_NS), START_NS)) == []
    reply = component.services["resume"](START_NS)
    assert reply.success
    assert len(planned(reply.outputs)) == 1
