"""Trajectories from outside, as a joint_trajectory_controller takes them; and who holds the joints."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from timar_common.component import Log, Publish
from timar_common.joint_trajectory import TrajectoryCode, trajectory_of
from timar_common.messages import Header, duration, new
from timar_retargeting.config import RetargetingConfig
from timar_retargeting.retargeting_component import RetargetingComponent
from timar_retargeting.trajectory_goal import (
    GoalTolerances,
    JointTolerance,
    TrajectoryFeedback,
    TrajectoryResult,
)
from timar_retargeting.trajectory_planner import PlanSampler

MS, S = 1_000_000, 1_000_000_000
BEGIN_NS = 1000 * S
YAW, PITCH = 0, 1


def trajectory(
    points: list[tuple[float, Any]], names: Any = ("neck_yaw",), stamp_ns: int = 0, **columns: Any
) -> Any:
    """Return a message of (seconds, positions) points."""
    rows = [
        new(
            "trajectory_msgs/msg/JointTrajectoryPoint",
            positions=np.atleast_1d(np.array(positions, np.float64)),
            time_from_start=duration(round(seconds * 1e9)),
            **{name: np.array(values[row], np.float64) for name, values in columns.items()},
        )
        for row, (seconds, positions) in enumerate(points)
    ]
    header = Header(stamp_ns and BEGIN_NS + stamp_ns)
    return new("trajectory_msgs/msg/JointTrajectory", header=header, joint_names=list(names), points=rows)


class Stage:
    """A component whose time goes on in steps of 10 ms, and joints that are where they are commanded."""

    def __init__(self, **parameters: Any) -> None:
        self.component = RetargetingComponent(RetargetingConfig(idle_behavior=False, seed=3, **parameters))
        self.now_ns, self.way, self.holders, self.log = BEGIN_NS, [], [], []
        self.results: list[TrajectoryResult] = []
        self.feedback: list[TrajectoryFeedback] = []
        self.slip_rad = 0.0
        """How far yaw really stands off."""
        self.component.on_trajectory_result = self.results.append
        self.component.on_trajectory_feedback = self.feedback.append
        self._sampler = PlanSampler(64)
        self._take(self.component.start(BEGIN_NS))
        self.send("joint_states", self.component.neutral_joint_states(BEGIN_NS))

    def _take(self, outputs: Any) -> None:
        for output in outputs:
            if isinstance(output, Log):
                self.log.append(output.text)
            elif isinstance(output, Publish) and output.topic == "joints_held_by":
                self.holders.append(output.message.data)
            elif isinstance(output, Publish) and output.topic == "joint_trajectory":
                self._sampler.add(self.component.core.planner.plan)

    def send(self, topic: str, message: Any) -> None:
        self._take(self.component.handle(topic, message, self.now_ns))

    def follow(self, goal_id: str, message: Any, **tolerances: Any) -> None:
        self._take(
            self.component.follow_trajectory(goal_id, message, GoalTolerances(**tolerances), self.now_ns)
        )

    def cancel(self, goal_id: str) -> None:
        self._take(self.component.cancel_trajectory(goal_id, self.now_ns))

    def until(self, seconds: float) -> Stage:
        while self.now_ns < BEGIN_NS + round(seconds * 1e9):
            self.now_ns += 10 * MS
            sample = self._sampler.at(self.now_ns)
            assert sample is not None
            self.way.append(sample[0])
            if len(self.way) % 2 == 0:
                names, measured = list(self.component.robot.joint_names), sample[0].copy()
                measured[YAW] += self.slip_rad
                state = new(
                    "sensor_msgs/msg/JointState", header=Header(self.now_ns), name=names, position=measured,
                    velocity=sample[1],
                )  # fmt: skip
                self.send("joint_states", state)
            if len(self.way) % 5 == 0:
                self._take(self.component.tick(self.now_ns))
        return self

    def at(self, seconds: float, joint: int = YAW) -> float:
        return float(self.way[round(seconds * 100) - 1][joint])

    def require_smooth(self) -> float:
        """Hold every certified limit at every step; return the largest jump of a joint between two [rad]."""
        way, limits = np.array(self.way), self.component.robot.limits
        steps = np.diff(way, axis=0)
        assert (way >= limits.lower - 1e-6).all()
        assert (way <= limits.upper + 1e-6).all()
        assert (np.abs(steps) <= 0.01 * limits.velocity + 1e-6).all()
        assert (np.abs(np.diff(steps, axis=0)) <= 1e-4 * limits.acceleration + 1e-6).all()
        return float(np.abs(steps[:, : PITCH + 1]).max())


@pytest.fixture
def stage() -> Stage:
    return Stage().until(1.0)


def send(stage: Stage, *arguments: Any, **columns: Any) -> None:
    stage.send("external/joint_trajectory", trajectory(*arguments, **columns))


# What people send to a joint_trajectory_controller.


@pytest.mark.parametrize(
    "columns", [{}, {"velocities": [[0.0]]}, {"velocities": [[0.0]], "accelerations": [[0.0]]}]
)
def test_one_point_due_in_two_seconds_takes_two_seconds_and_is_held(stage: Stage, columns: Any) -> None:
    send(stage, [(2.0, 0.4)], **columns)
    stage.until(5.0)
    assert stage.at(2.0) == pytest.approx(0.2, abs=0.01)
    assert stage.at(2.6) < 0.39, "it is not there early"
    assert stage.at(3.02) == pytest.approx(0.4, abs=1e-3)
    assert stage.at(5.0) == pytest.approx(0.4, abs=1e-6)
    way = np.array(stage.way)[100:, YAW]
    assert np.diff(way).min() > -2e-4
    stage.require_smooth()


def test_points_are_met_in_time_in_any_order_of_joints_and_the_others_stay(stage: Stage) -> None:
    points = [(0.5, (0.1, 0.2)), (1.2, (0.1, -0.3)), (2.5, (-0.2, 0.0))]
    send(stage, points, ("neck_pitch", "neck_yaw"))
    stage.until(4.0)
    for seconds, (pitch, yaw) in points:
        assert stage.at(1.0 + seconds, YAW) == pytest.approx(yaw, abs=4e-3)
        assert stage.at(1.0 + seconds, PITCH) == pytest.approx(pitch, abs=4e-3)
    others = np.array(stage.way)[:, PITCH + 1 :]
    assert np.ptp(others, axis=0).max() < 1e-6
    stage.require_smooth()


@pytest.mark.parametrize(
    ("points", "at_most_rad"),
    [
        ([(2.0, 0.4)], 0.2e-3),
        ([(0.5, 0.2), (1.2, -0.3), (2.0, 0.1), (2.5, 0.0)], 1.1e-3),
        ([(0.4, 0.4)], 3.2e-3),
    ],
    ids=["slow", "turns", "fast"],
)
def test_the_plan_leaves_the_cubic_by_little(
    stage: Stage, points: list[tuple[float, float]], at_most_rad: float
) -> None:
    """docs/driver.md says what is held here."""
    message, begin_ns = trajectory(points, stamp_ns=2 * S), BEGIN_NS + 2 * S
    wanted = trajectory_of(message, stage.now_ns).joined(begin_ns, np.zeros((3, 1)), is_outside=True)
    stage.send("external/joint_trajectory", message)
    stage.until(2.5 + points[-1][0])
    times_ns = BEGIN_NS + 10 * MS * np.arange(1, len(stage.way) + 1)
    ways = zip(times_ns, stage.way, strict=True)
    assert max(abs(way[YAW] - wanted.at(at)[0, 0]) for at, way in ways if at > begin_ns) < at_most_rad


def test_a_stamp_in_the_future_waits_for_it_and_conversation_goes_on_until_then(stage: Stage) -> None:
    send(stage, [(1.0, 0.4)], stamp_ns=3 * S)
    stage.until(2.8)
    assert stage.component.core.holder.value == "idle"
    stage.until(3.0)
    assert abs(stage.at(3.0)) < 1e-9
    stage.until(5.0)
    assert stage.at(3.5) == pytest.approx(0.2, abs=2e-3)
    assert stage.at(4.02) == pytest.approx(0.4, abs=1e-3)


def test_a_stamp_in_the_past_joins_at_the_right_place(stage: Stage) -> None:
    send(stage, [(0.5, 0.6), (2.5, 0.3)], stamp_ns=S // 5)
    stage.until(4.0)
    assert max(stage.at(t) for t in np.arange(1.0, 4.0, 0.01)) <= 0.6
    assert stage.at(2.72) == pytest.approx(0.3, abs=2e-3)
    stage.require_smooth()


def test_a_trajectory_that_replaces_a_running_one_joins_it_without_a_step(stage: Stage) -> None:
    send(stage, [(2.0, 0.5)])
    stage.until(2.0)
    send(stage, [(1.0, -0.2)])
    stage.until(4.0)
    assert stage.at(3.02) == pytest.approx(-0.2, abs=3e-3)
    jump = stage.require_smooth()
    assert jump < 0.02, "at most 2 rad/s"


def test_a_stream_of_short_trajectories_is_followed(stage: Stage) -> None:
    """Teleoperation: a point ten times a second, each due 0.2 s later."""
    for step in range(30):
        target = 0.3 * np.sin(2 * np.pi * 0.4 * (step * 0.1 + 0.2))
        send(stage, [(0.2, target)])
        stage.until(1.0 + 0.1 * (step + 1))
    assert stage.require_smooth() < 0.02
    assert np.ptp(np.array(stage.way)[:, YAW]) > 0.4


@pytest.mark.parametrize("names", [(), ("neck_yaw",)])
def test_an_empty_trajectory_stops_the_running_one(stage: Stage, names: Any) -> None:
    send(stage, [(2.0, 0.5)])
    stage.until(2.0)
    send(stage, [], names)
    stage.until(4.0)
    assert stage.at(2.3) == pytest.approx(stage.at(4.0), abs=1e-4)
    assert 0.2 < stage.at(4.0) < 0.35
    stage.require_smooth()


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (trajectory([(1.0, np.nan)]), "the position of neck_yaw at point 0 is not finite"),
        (trajectory([(1.0, 0.1)], ("tail",)), "there is no joint 'tail'"),
        (trajectory([(1.0, 0.1), (0.5, 0.1)]), "rise from each point to the next, and are 1, 0.5 s"),
        (trajectory([(1.0, 1.5)]), "neck_yaw is to be at 1.5 rad at point 0, expected -0.65 to 0.65"),
        (trajectory([(0.1, 0.5)]), "neck_yaw is to move at 7.5 rad/s, expected at most 3.5"),
        (trajectory([(0.23, 0.5)]), r"neck_yaw is to accelerate at 4\d\.\d rad/s\^2, expected at most 40"),
        (trajectory([(1.0, 0.1)], velocities=[[0.3]]), "neck_yaw moves at 0.3 rad/s at the last point"),
        (trajectory([(0.1, 0.1)], stamp_ns=S // 2), "ended 4[02]0 ms ago"),
    ],
)
def test_what_cannot_be_followed_is_refused_and_the_running_one_goes_on(
    stage: Stage, message: Any, sentence: str
) -> None:
    running = trajectory([(2.0, 0.4)])
    with pytest.raises(ValueError, match=sentence):
        stage.send("external/joint_trajectory", message)
    assert stage.component.core.holder.value == "idle"
    stage.send("external/joint_trajectory", running)
    if "accelerate" not in sentence:  # A running one is joined within the limits, and may be late for it.
        with pytest.raises(ValueError, match=sentence):
            stage.send("external/joint_trajectory", message)
    stage.until(3.1)
    assert stage.at(3.1) == pytest.approx(0.4, abs=1e-3)


def test_joints_may_only_be_left_out_where_that_is_allowed() -> None:
    stage = Stage(allow_partial_joints_goal=False).until(1.0)
    with pytest.raises(ValueError, match="the trajectory lacks neck_pitch, neck_roll"):
        send(stage, [(1.0, 0.1)])
    names = stage.component.robot.joint_names
    send(stage, [(1.0, stage.component.robot.offsets_rad + 0.01)], names)
    assert stage.component.core.holder.value == "trajectory"


def test_after_its_end_and_the_hold_the_head_eases_to_neutral() -> None:
    stage = Stage(trajectory_hold_s=0.5).until(1.0)
    send(stage, [(1.0, 0.4)])
    stage.until(5.0)
    assert stage.at(2.5) == pytest.approx(0.4, abs=1e-4)
    assert stage.at(5.0) == pytest.approx(0.0, abs=1e-6)
    assert stage.holders == ["nobody", "idle", "trajectory", "idle"]


# Who holds the joints.


def motion(first_frame: int, due_ns: int) -> Any:
    frames = first_frame + np.arange(10)
    neck = np.zeros((10, 3), np.float32)
    neck[:, 1] = 0.3 * np.sin(2 * np.pi * 0.5 * frames / 25.0)
    return new(
        "HeadMotion", header=Header(due_ns), conversation_id="a", first_frame=first_frame, fps=25.0,
        frames=10, expression=np.zeros(500, np.float32), jaw=np.zeros(30, np.float32), neck=neck.ravel(),
    )  # fmt: skip


def talk(stage: Stage, seconds: float) -> None:
    """Let conversation move the head, in turns of 0.4 s."""
    end_ns = stage.now_ns + round(seconds * 1e9)
    while stage.now_ns < end_ns:
        turn = (stage.now_ns - BEGIN_NS) // (400 * MS)
        stage.send("agent/motion", motion(10 * turn, BEGIN_NS + turn * 400 * MS + 60 * MS))
        stage.until((BEGIN_NS + (turn + 1) * 400 * MS - BEGIN_NS) / S)


def test_joints_go_from_hand_to_hand_by_priority_and_without_a_jump() -> None:
    stage = Stage(by_hand_s=0.5, trajectory_hold_s=0.2).until(1.0)
    by_hand = new("sensor_msgs/msg/JointState", name=["neck_yaw"], position=np.array([-0.4]))
    talk(stage, 2.0)
    send(stage, [(1.0, 0.5)])  # In the midst of motion.
    talk(stage, 0.6)
    stage.send("joint_targets", by_hand)  # In the midst of the trajectory.
    with pytest.raises(ValueError, match="the joints are held by by_hand, which goes before"):
        send(stage, [(1.0, 0.5)])
    stage.until(5.2)  # by_hand_s is over; the head eases.
    send(stage, [(1.0, 0.3)], stamp_ns=stage.now_ns - BEGIN_NS + 300 * MS)
    talk(stage, 3.0)
    assert stage.holders == [
        "nobody", "idle", "conversation", "trajectory", "by_hand", "idle", "conversation", "trajectory",
        "idle", "conversation",
    ]  # fmt: skip
    assert stage.component.report().values["joints_held_by"] == "conversation"
    assert stage.require_smooth() < 0.035


def test_conversation_goes_first_where_the_parameter_says_so() -> None:
    stage = Stage(joint_priorities=("by_hand", "conversation", "trajectory")).until(1.0)
    send(stage, [(2.0, 0.5)])
    stage.until(1.6)
    stage.follow("a", trajectory([(2.0, 0.4)], stamp_ns=4 * S))
    talk(stage, 1.0)
    assert stage.component.core.holder.value == "conversation"
    assert stage.results[0].text == "the joints are held by conversation now"
    with pytest.raises(ValueError, match="held by conversation, which goes before"):
        send(stage, [(1.0, 0.1)])
    stage.require_smooth()


def test_a_trajectory_that_waited_in_vain_is_left_out_and_said(stage: Stage) -> None:
    send(stage, [(1.0, 0.4)], stamp_ns=2 * S)
    stage.until(1.8)
    stage.send(
        "joint_targets", new("sensor_msgs/msg/JointState", name=["neck_yaw"], position=np.array([-0.4]))
    )
    stage.until(3.0)
    assert stage.log[-1].startswith("external/joint_trajectory: the joints are held by by_hand")
    assert stage.at(3.0) == pytest.approx(-0.4, abs=1e-3)


def test_a_stopped_head_takes_no_trajectory_and_says_what_to_do(stage: Stage) -> None:
    send(stage, [(2.0, 0.4)])
    stage.until(2.0)
    stage._take(stage.component.services["stop"](stage.now_ns).outputs)
    with pytest.raises(ValueError, match="call the service resume first"):
        send(stage, [(1.0, 0.1)])
    stage.until(3.0)
    assert stage.at(2.3) == pytest.approx(stage.at(3.0), abs=1e-4)
    assert stage.holders[-1] == "stopped"
    stage.require_smooth()


@pytest.mark.parametrize(
    "priorities", [("by_hand",), ("by_hand", "trajectory", "trajectory"), ("a", "b", "c")]
)
def test_priorities_name_each_holder_once(priorities: Any) -> None:
    with pytest.raises(ValueError, match="expected each of by_hand, conversation, trajectory once"):
        RetargetingConfig(joint_priorities=priorities)


# The action's goals.


def test_a_goal_succeeds_when_its_joints_are_measured_at_the_last_point(stage: Stage) -> None:
    tolerance = JointTolerance("neck_yaw", position=0.02)
    stage.follow("a", trajectory([(0.5, 0.2), (1.0, 0.3)]), path=(tolerance,), goal=(tolerance,))
    stage.until(1.9)
    assert stage.results == []
    stage.until(2.2)
    assert stage.results == [
        TrajectoryResult("a", TrajectoryCode.SUCCESSFUL, "the joints reached the last point")
    ]
    assert [feedback.index for feedback in stage.feedback][:: len(stage.feedback) - 1] == [0, 1]
    middle = stage.feedback[len(stage.feedback) // 2]
    assert np.abs(middle.desired - middle.actual)[0, YAW] < 0.01
    assert middle.desired[1, YAW] > 0.1
    stage.until(4.0)
    assert stage.at(4.0) == pytest.approx(0.3, abs=1e-4), "it is held"


def test_a_joint_that_leaves_its_way_ends_the_goal_and_stops(stage: Stage) -> None:
    stage.follow("a", trajectory([(2.0, 0.4)]), path=(JointTolerance("neck_yaw", position=0.05),))
    stage.until(1.5)
    stage.slip_rad = -0.1
    stage.until(2.5)
    (result,) = stage.results
    assert result.code is TrajectoryCode.PATH_TOLERANCE_VIOLATED
    assert "neck_yaw was 0.1 rad off in position, allowed were 0.05" in result.text
    assert stage.at(2.5) == pytest.approx(stage.at(1.9), abs=1e-4)
    stage.require_smooth()


def test_a_joint_that_is_not_there_in_time_ends_the_goal(stage: Stage) -> None:
    stage.slip_rad = -0.1
    tolerance = JointTolerance("neck_yaw", position=0.05)
    stage.follow("a", trajectory([(1.0, 0.4)]), goal=(tolerance,), goal_time_s=0.5)
    stage.until(2.4)
    assert stage.results == []
    stage.until(2.7)
    assert stage.results[0].code is TrajectoryCode.GOAL_TOLERANCE_VIOLATED
    assert "neck_yaw was 0.1 rad off" in stage.results[0].text


def test_without_a_time_a_goal_waits_until_its_joints_are_there(stage: Stage) -> None:
    stage.slip_rad = -0.1
    stage.follow("a", trajectory([(1.0, 0.4)]), goal=(JointTolerance("neck_yaw", position=0.05),))
    stage.until(4.0)
    assert stage.results == []
    stage.slip_rad = 0.0
    stage.until(4.2)
    assert stage.results[0].code is TrajectoryCode.SUCCESSFUL


def test_defaults_hold_where_a_goal_names_no_tolerance_and_minus_one_takes_them_off() -> None:
    stage = Stage(path_tolerance_rad=0.05).until(1.0)
    stage.slip_rad = -0.1
    stage.until(1.1)
    stage.follow("a", trajectory([(1.0, 0.4)]))
    stage.until(1.3)
    assert stage.results[0].code is TrajectoryCode.PATH_TOLERANCE_VIOLATED
    stage.follow("b", trajectory([(1.0, 0.2)]), path=(JointTolerance("neck_yaw", position=-1.0),))
    stage.until(2.5)
    assert stage.results[1].code is TrajectoryCode.SUCCESSFUL


def test_a_canceled_goal_stops_within_the_limits_and_stays(stage: Stage) -> None:
    stage.follow("a", trajectory([(2.0, 0.5)]))
    stage.until(2.0)
    stage.cancel("another")
    assert stage.component.is_on_its_way("a")
    stage.cancel("a")
    assert stage.results[0].is_canceled
    stage.until(4.0)
    assert stage.at(2.3) == pytest.approx(stage.at(4.0), abs=1e-4)
    stage.require_smooth()


def test_a_newer_goal_or_trajectory_ends_the_one_before(stage: Stage) -> None:
    stage.follow("a", trajectory([(2.0, 0.5)]))
    stage.until(1.5)
    stage.follow("b", trajectory([(1.0, 0.2)]))
    stage.until(2.0)
    send(stage, [(1.0, 0.0)])
    ends = [(result.goal_id, result.code, result.text) for result in stage.results]
    assert ends == [
        ("a", TrajectoryCode.INVALID_GOAL, "another goal came"),
        ("b", TrajectoryCode.INVALID_GOAL, "a trajectory came on external/joint_trajectory"),
    ]
    stage.until(3.1)
    assert stage.at(3.1) == pytest.approx(0.0, abs=1e-3)
    stage.require_smooth()


@pytest.mark.parametrize(
    ("message", "tolerances", "code", "sentence"),
    [
        (trajectory([(1.0, 0.1)], ("tail",)), {}, -2, "there is no joint 'tail'"),
        (trajectory([(0.1, 0.1)], stamp_ns=S // 2), {}, -3, "ended 4[02]0 ms ago"),
        (trajectory([(1.0, 1.1)]), {}, -1, "neck_yaw is to be at 1.1 rad"),
        (trajectory([]), {}, -1, "one or more points"),
        (
            trajectory([(1.0, 0.1)]),
            {"path": (JointTolerance("tail", 0.1),)},
            -1,
            "path_tolerance: there is no",
        ),
        (
            trajectory([(1.0, 0.1)]),
            {"goal": (JointTolerance("neck_yaw", -2.0),)},
            -1,
            r"goal_tolerance of neck_yaw \(position\) is -2",
        ),
        (
            trajectory([(1.0, 0.1)]),
            {"goal": (JointTolerance("neck_yaw", 0.1, acceleration=1.0),)},
            -1,
            "which joint states do not tell",
        ),
        (trajectory([(1.0, 0.1)]), {"goal_time_s": -3.0}, -1, "goal_time_tolerance is -3"),
    ],
)
def test_a_goal_that_cannot_be_followed_is_refused_with_its_code_and_the_running_one_goes_on(
    stage: Stage, message: Any, tolerances: Any, code: int, sentence: str
) -> None:
    stage.follow("a", trajectory([(1.0, 0.3)]))
    stage.follow("b", message, **tolerances)
    (result,) = stage.results
    assert (result.goal_id, int(result.code)) == ("b", code)
    assert re.search(sentence, result.text), result.text
    stage.until(2.2)
    assert stage.results[1] == TrajectoryResult(
        "a", TrajectoryCode.SUCCESSFUL, "the joints reached the last point"
    )


def test_a_goal_is_over_when_somebody_takes_its_joints_or_the_head_is_stopped(stage: Stage) -> None:
    stage.follow("a", trajectory([(2.0, 0.5)]))
    stage.until(1.5)
    stage.send(
        "joint_targets", new("sensor_msgs/msg/JointState", name=["neck_yaw"], position=np.array([0.0]))
    )
    assert stage.results[0].text == "the joints are held by by_hand now"
    other = Stage().until(1.0)
    other.follow("a", trajectory([(2.0, 0.5)]))
    other._take(other.component.services["stop"](other.now_ns).outputs)
    other.until(1.2)
    assert other.results[0].text == "the joints are held by stopped now"


def test_a_goal_that_waits_for_its_start_is_followed_then(stage: Stage) -> None:
    stage.follow("a", trajectory([(1.0, 0.4)], stamp_ns=2 * S))
    stage.until(1.9)
    assert stage.results == []
    stage.until(3.2)
    assert stage.results[0].code is TrajectoryCode.SUCCESSFUL
    assert stage.at(3.02) == pytest.approx(0.4, abs=1e-3)


def test_a_dense_trajectory_near_the_limits_is_not_refused_for_the_moment_that_passed(stage: Stage) -> None:
    """As MoveIt sends them: a point every 10 ms from the present state on, within the limits."""
    times = np.arange(0.0, 1.001, 0.01)
    s = np.clip(times / 0.4, 0.0, 1.0)
    way = 0.4 * (10 * s**3 - 15 * s**4 + 6 * s**5)
    speed = 0.4 / 0.4 * (30 * s**2 - 60 * s**3 + 30 * s**4)
    send(stage, list(zip(times, way, strict=True)))
    stage.until(2.5)
    back = list(zip(times, 0.4 - way, strict=True))
    send(stage, back, velocities=-speed[:, None])
    stage.until(4.0)
    assert stage.at(2.5) == pytest.approx(0.4, abs=1e-3)
    assert stage.at(1.3) == pytest.approx(np.interp(0.3, times, way), abs=0.01)
    assert stage.at(4.0) == pytest.approx(0.0, abs=1e-3)
    stage.require_smooth()
