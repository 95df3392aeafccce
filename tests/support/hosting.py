"""One recorded conversation for every component, and both hosts driven by it at injected times."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from synthetic_talk import track, voice
from timar_common.clock import NOMINAL_NS_PER_SAMPLE, SAMPLES_PER_FRAME
from timar_common.component import Component, Output
from timar_common.messages import Header, Message, constants, decode, duration, encode, new
from timar_common.topics import TOPICS
from timar_common.user_motion import user_motion_message
from timar_replay.bag_host import BagHost
from timar_replay.virtual_worker import VirtualTime

BEGIN_NS = 1_000_000_000
ROS_AHEAD_NS = 1_700_000_000_000_000_000
"""ROS time less monotonic time [ns]."""
SECONDS = 4.0
BLOCK, CHUNK = 320, 3200

Published = tuple[str, bytes]


class Step(NamedTuple):
    """What happens at one instant."""

    at_ns: int
    topic: str
    """Of a message; empty for something a device does."""
    what: Message | Callable[[Component, int], Iterable[Output]]
    """The message, or what is called with the component and the time."""


def ros_ns(monotonic_ns: int) -> int:
    return monotonic_ns + ROS_AHEAD_NS


def monotonic_ns(ros_time_ns: int) -> int:
    return ros_time_ns - ROS_AHEAD_NS


def time_of(sample: int) -> int:
    return BEGIN_NS + round(sample * NOMINAL_NS_PER_SAMPLE)


def audio(first: int, samples: np.ndarray, frame_id: str) -> Message:
    return new(
        "AudioChunk",
        header=Header(time_of(first), frame_id),
        sample_rate=16_000,
        first_sample=first,
        samples=samples,
    )


def inputs() -> list[Step]:
    """Return what reaches a graph from outside: two voices, a plan that is cut, the user's face, hands."""
    user, agent = voice(0, SECONDS), voice(1, SECONDS)
    motion = track(3, SECONDS)
    steps = []
    for first in range(0, len(user) - BLOCK, BLOCK):
        arrival_ns = time_of(first + BLOCK) + 1_000_000
        if 16_000 <= first < 16_000 + 3 * BLOCK:
            continue  # Lost on the way.
        block = audio(first, user[first : first + BLOCK], "microphone")
        steps.append(Step(arrival_ns, "user/audio_raw", block))
        steps.append(Step(arrival_ns + 500_000, "user/audio", block))
        heard = audio(first, agent[first : first + BLOCK], "loudspeaker")
        steps.append(Step(arrival_ns + 700_000, "agent/audio", heard))
    for first in range(0, len(agent), CHUNK):
        chunk = new(
            "PlannedAudio",
            header=Header(time_of(first), "loudspeaker"),
            sample_rate=16_000,
            first_sample=first,
            samples=agent[first : first + CHUNK],
        )
        steps.append(Step(max(BEGIN_NS + 1, time_of(first - 8000)), "agent/audio_planned", chunk))
    # Just before a turn is seen its planned speech is cut: the turn is rolled back.
    cut = new("PlannedAudio", sample_rate=16_000, first_sample=33_280, revision=1)
    steps.append(Step(time_of(30_900), "agent/audio_planned", cut))
    for frame in range(0, len(motion.vector) - 5, 5):
        first_ns = time_of(frame * SAMPLES_PER_FRAME)
        rows = slice(frame, frame + 5)
        seen = user_motion_message(frame, motion.vector[rows], motion.valid[rows], first_ns)
        steps.append(Step(first_ns + 240_000_000, "user/motion", seen))
    point = new("geometry_msgs/msg/PointStamped", header=Header(time_of(9000)))
    point.point.x, point.point.y = 1.0, 0.3
    steps.append(Step(time_of(9000), "look_at", point))
    due = new(
        "trajectory_msgs/msg/JointTrajectoryPoint", positions=[0.1], time_from_start=duration(200_000_000)
    )
    sent = new("trajectory_msgs/msg/JointTrajectory", joint_names=["neck_roll"], points=[due])
    steps.append(Step(time_of(60_000), "external/joint_trajectory", sent))
    steps += gestures()
    return sorted(steps, key=lambda step: step.at_ns)


def gestures() -> list[Step]:
    """Return what a dialogue asks for: gestures soon and later, one that is impossible, and to think."""
    nod, tilt = (constants("Gesture")[name] for name in ("NOD", "TILT"))
    wanted = [
        (20_000, 0, {"gesture_id": "nod", "kind": nod, "count": 2, "size_rad": 0.1, "speed_hz": 2.5}),
        (22_000, time_of(44_000), {"gesture_id": "tilt", "kind": tilt}),
        (23_000, 0, {"gesture_id": "wild", "kind": nod, "size_rad": 3.0}),
    ]
    steps = [
        Step(
            time_of(sample),
            "gesture",
            new("GestureRequest", header=Header(when_ns), gesture=new("Gesture", **fields)),
        )
        for sample, when_ns, fields in wanted
    ]
    thinking = new("AgentIntent", intent=constants("AgentIntent")["THINKING"], hold_s=0.3)
    return [*steps, Step(time_of(12_000), "agent/intent_request", thinking)]


def record(components: Sequence[Component], steps: Iterable[Step]) -> list[Step]:
    """Return the steps with everything that components publish when they run on them, in order."""
    recorded: list[Step] = []

    def keep(topic: str, at_ns: int, message: Message) -> None:
        recorded.append(Step(at_ns, topic, message))

    host = BagHost(components, keep, itertools.repeat(0))
    host.start(BEGIN_NS)
    for step in steps:
        recorded.append(step)
        host.deliver(step.topic, step.what, step.at_ns)
    return sorted(recorded, key=lambda step: step.at_ns)


def as_arrived(message: Message) -> Message:
    """Return a message as it comes from the wire."""
    type_name = message.__msgtype__
    return decode(encode(message, ros_ns), type_name, monotonic_ns)


def run_in_bag_host(
    component: Component,
    steps: Sequence[Step],
    end_ns: int,
    durations_ns: Iterator[int] = itertools.repeat(0),  # noqa: B008 - it is never used up
) -> list[Published]:
    """Run a component on the steps in the bag host and return what it published."""
    published: list[Published] = []
    host = BagHost(
        [component],
        lambda topic, at_ns, message: published.append((topic, encode(message, ros_ns))),
        durations_ns,
    )
    host.start(BEGIN_NS)
    for step in steps:
        if step.topic:
            host.deliver(step.topic, as_arrived(step.what), step.at_ns)
        else:
            host.advance(step.at_ns)
            host.take(component, step.what(component, step.at_ns), step.at_ns)
    host.finish(end_ns)
    return published


@dataclasses.dataclass
class InjectedTime:
    """Both clocks of a node under test."""

    now_ns: int = BEGIN_NS


class InjectedWorkTime(VirtualTime):
    """Long work takes no time: its clock is the node's."""

    def __init__(self, time: InjectedTime) -> None:
        super().__init__(itertools.repeat(0))
        self._injected = time

    def now_ns(self) -> int:
        self.reach(self._injected.now_ns)
        return super().now_ns()


def due_ticks(component: Component, steps: Sequence[Step], end_ns: int) -> Iterator[Step | int]:
    """Yield steps and the instants of ticks in the order in which they are due."""
    period_ns = None if component.tick_s is None else round(component.tick_s * 1e9)
    tick_ns = BEGIN_NS + (period_ns or 0)
    for step in [*steps, None]:
        while period_ns is not None and tick_ns <= (end_ns if step is None else step.at_ns):
            yield tick_ns
            tick_ns += period_ns
        if step is not None:
            yield step


def run_in_ros_host(component: Component, steps: Sequence[Step], end_ns: int) -> list[Published]:
    """Run a component on the same steps in its ROS node, and return what it published."""
    from rclpy.lifecycle import TransitionCallbackReturn
    from timar_common.component_node import ComponentNode

    time, published = InjectedTime(), []

    class NodeUnderTest(ComponentNode):
        component_type = type(component)
        work_clock = InjectedWorkTime(time)

        def make_component(self) -> Component:
            return component

        def now_ns(self) -> int:
            return time.now_ns

        def _both_clocks(self) -> tuple[int, int]:
            return time.now_ns, ros_ns(time.now_ns)

        def _publish(self, topic: str, data: bytes) -> None:
            published.append((topic, data))

    node: Any = NodeUnderTest()
    try:
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
        for step in due_ticks(component, steps, end_ns):
            time.now_ns = step if isinstance(step, int) else step.at_ns
            if isinstance(step, int):
                node.host.tick()
            elif step.topic:
                node.host.receive(step.topic, encode(step.what, ros_ns))
            else:
                node.host.call(step.what, component)
                node.host.feed()
            if node.host.worker is not None:
                assert node.host.worker.wait_until_idle(60.0)
        time.now_ns = end_ns
    finally:
        node.close()
        node.destroy_node()
    return published


def steps_of(component: Component, recorded: Sequence[Step], extra: Sequence[Step] = ()) -> list[Step]:
    """Return the recorded messages that a component reads, and what its device does."""
    wanted = [step for step in recorded if step.topic in component.inputs]
    assert {step.topic for step in wanted} <= set(TOPICS)
    return sorted([*wanted, *extra], key=lambda step: step.at_ns)
