"""The action `gesture` by a real client: inference lays it, retargeting reports when it was seen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import rclpy
from action_msgs.msg import GoalStatus
from node_process import PATIENCE_S
from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.time import Time
from sensor_msgs.msg import JointState
from timar_common.base_node import qos_of
from timar_common.topics import TOPICS
from timar_inference.inference_node import InferenceNode
from timar_msgs.action import MakeGesture
from timar_msgs.msg import AudioChunk, Gesture
from timar_retargeting.arbitration import Mode
from timar_retargeting.retargeting_node import RetargetingNode

pytestmark = pytest.mark.ros
BLOCK, BLOCK_NS = 320, 20_000_000
RESULT = MakeGesture.Result


class Stage:
    """A head that listens to a silent microphone, and a dialogue that asks it for gestures."""

    def __init__(self) -> None:
        # One thread does all of it: turns of two frames leave a slow processor no room.
        quiet = {"gestures": "none", "expressiveness": 0.0, "warmup_turns": 1, "turn_frames": 5}
        still = {"output": "joint_states", "idle_behavior": False, "neutral_time_constant_s": 0.0}
        self.inference, self.retargeting = (
            kind(parameter_overrides=[Parameter(name, value=value) for name, value in values.items()])
            for kind, values in ((InferenceNode, quiet), (RetargetingNode, still))
        )
        self.peer = rclpy.create_node("dialogue")
        self.executor = SingleThreadedExecutor()
        for node in (self.inference, self.retargeting, self.peer):
            self.executor.add_node(node)
        for node in (self.inference, self.retargeting):
            assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
            assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
        self.joints: list[tuple[int, float]] = []
        self.peer.create_subscription(
            JointState, "joint_states", self._on_joints, qos_of(TOPICS["joint_states"])
        )
        self.sound = self.peer.create_publisher(AudioChunk, "user/audio", qos_of(TOPICS["user/audio"]))
        self.client = ActionClient(self.peer, MakeGesture, "gesture")
        self.begin_ns = time.monotonic_ns()
        self.blocks = 0
        self.peer.create_timer(0.005, self._speak)

    def _on_joints(self, message: JointState) -> None:
        pitch = message.position[message.name.index("neck_pitch")]
        self.joints.append((Time.from_msg(message.header.stamp).nanoseconds, pitch))

    def _speak(self) -> None:
        """Publish every block that is due, as a microphone in a silent room does."""
        while self.begin_ns + (self.blocks + 1) * BLOCK_NS <= time.monotonic_ns():
            stamp_ns = self.now_ns() - (time.monotonic_ns() - self.begin_ns - self.blocks * BLOCK_NS)
            block = AudioChunk(sample_rate=16_000, first_sample=BLOCK * self.blocks, samples=[0] * BLOCK)
            block.header.stamp = Time(nanoseconds=stamp_ns).to_msg()
            self.sound.publish(block)
            self.blocks += 1

    def now_ns(self) -> int:
        return int(self.peer.get_clock().now().nanoseconds)

    def spin_until(self, condition: Callable[[], Any], timeout_s: float = PATIENCE_S) -> None:
        end_s = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end_s, "it did not happen within the time allowed"
            self.executor.spin_once(timeout_sec=0.01)

    def send(self, when_ns: int = 0, **fields: Any) -> Any:
        """Send a goal and return its handle."""
        goal = MakeGesture.Goal(gesture=Gesture(**fields), when=Time(nanoseconds=when_ns).to_msg())
        sent = self.client.send_goal_async(goal)
        self.spin_until(sent.done)
        assert sent.result().accepted
        return sent.result()

    def result(self, handle: Any) -> Any:
        future = handle.get_result_async()
        self.spin_until(future.done)
        return future.result()

    def close(self) -> None:
        for node in (self.inference, self.retargeting):
            node.close()
            node.destroy_node()
        self.peer.destroy_node()
        self.executor.shutdown()


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    rclpy.init()
    stage = Stage()
    stage.spin_until(stage.client.server_is_ready)
    yield stage
    stage.close()
    rclpy.try_shutdown()


@pytest.fixture(autouse=True)
def follows_motion(stage: Stage) -> None:
    """Begin each test with a head that follows motion again, whatever the machine did meanwhile."""
    stage.spin_until(lambda: stage.retargeting.component.core.mode is Mode.FOLLOWING)


def ns_of(stamp: Any) -> int:
    return int(Time.from_msg(stamp).nanoseconds)


def test_a_nod_is_seen_by_the_joints_when_the_result_says(stage: Stage) -> None:
    asked_ns = stage.now_ns()
    handle = stage.send(kind=Gesture.NOD, count=2, size_rad=0.15, speed_hz=1.5)
    answer = stage.result(handle)
    result = answer.result
    assert (answer.status, result.outcome, result.message) == (GoalStatus.STATUS_SUCCEEDED, RESULT.SHOWN, "")
    first_ns, end_ns = ns_of(result.visible_from), ns_of(result.visible_until)
    assert 0 < first_ns - asked_ns < 1_000_000_000
    assert end_ns - first_ns == pytest.approx(2 / 1.5 * 1e9, abs=41e6)
    stage.spin_until(lambda: stage.joints[-1][0] > end_ns + 600_000_000)
    times, pitch = np.array(stage.joints).T
    during = (times >= first_ns) & (times <= end_ns)
    before = (times > first_ns - 300_000_000) & (times < first_ns)
    rest = np.median(pitch[before])
    assert pitch[during].max() - rest == pytest.approx(0.15, abs=0.03)
    assert np.abs(pitch[before] - rest).max() < 0.03
    assert abs(pitch[times > end_ns + 300_000_000].mean() - rest) < 0.03


def test_a_gesture_begins_at_the_instant_that_was_asked_for(stage: Stage) -> None:
    when_ns = stage.now_ns() + 1_500_000_000
    result = stage.result(stage.send(when_ns, kind=Gesture.SHAKE, size_rad=0.1)).result
    assert result.outcome == RESULT.SHOWN
    assert 0 <= ns_of(result.visible_from) - when_ns < 45_000_000


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"kind": 9}, "the kind is 9"),
        ({"kind": Gesture.NOD, "size_rad": 0.45, "speed_hz": 4.9}, "limit"),
        ({"kind": Gesture.NOD, "count": 99}, "count is 99, expected 1 to 12"),
        ({"kind": Gesture.TILT, "hold_s": 500.0}, "hold is 500, expected 0 to 30 s"),
    ],
)
def test_what_is_impossible_is_refused_with_a_reason(stage: Stage, fields: dict, reason: str) -> None:
    answer = stage.result(stage.send(**fields))
    assert (answer.status, answer.result.outcome) == (GoalStatus.STATUS_ABORTED, RESULT.REFUSED)
    assert reason in answer.result.message
    assert answer.result.first_frame == -1


def test_a_gesture_that_was_asked_for_later_can_be_taken_back(stage: Stage) -> None:
    handle = stage.send(stage.now_ns() + 5_000_000_000, kind=Gesture.NOD)
    canceled = handle.cancel_goal_async()
    stage.spin_until(canceled.done)
    answer = stage.result(handle)
    assert (answer.status, answer.result.outcome) == (GoalStatus.STATUS_CANCELED, RESULT.CANCELED)


def test_two_gestures_at_once_are_one_too_many(stage: Stage) -> None:
    first = stage.send(kind=Gesture.NOD, count=3)
    second = stage.send(kind=Gesture.TILT)
    refused = stage.result(second).result
    assert refused.outcome == RESULT.REFUSED
    assert "is under way" in refused.message
    assert stage.result(first).result.outcome == RESULT.SHOWN


def test_dials_are_parameters_that_take_effect_while_the_node_runs(stage: Stage) -> None:
    def turned(name: str, value: float) -> Any:
        return stage.inference.set_parameters([Parameter(name, value=value)])[0]

    assert turned("nod_size", 2.0).successful
    assert stage.inference.component.scheduler.config.nod_size == 2.0
    refused = turned("nod_size", 7.0)
    assert not refused.successful
    assert "nod_size" in refused.reason or "range" in refused.reason
    assert stage.inference.config.nod_size == 2.0


def test_a_stopped_head_refuses_and_interrupts(stage: Stage) -> None:
    handle = stage.send(kind=Gesture.NOD, count=12, speed_hz=2.0)
    begun = time.monotonic() + 1.5
    stage.spin_until(lambda: time.monotonic() > begun)
    stage.retargeting.host.serve("stop")
    interrupted = stage.result(handle).result
    assert interrupted.outcome == RESULT.INTERRUPTED
    assert ns_of(interrupted.visible_until) > ns_of(interrupted.visible_from) > 0
    refused = stage.result(stage.send(kind=Gesture.NOD)).result
    assert (refused.outcome, "stopped" in refused.message) == (RESULT.REFUSED, True)
