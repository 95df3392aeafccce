"""What every node inherits, seen from outside: a real process, real topics."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from node_process import PATIENCE_S

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed; `make test` installs it")

from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from rclpy.lifecycle import TransitionCallbackReturn  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from timar_common.base_node import END_WITHIN_S, BaseNode, qos_of  # noqa: E402
from timar_common.cancellation import check_cancelled, run_interruptibly  # noqa: E402
from timar_common.config import check, option  # noqa: E402
from timar_common.topics import TOPICS  # noqa: E402
from timar_msgs.msg import FloorState  # noqa: E402

pytestmark = pytest.mark.ros


@dataclasses.dataclass(frozen=True)
class ExampleConfig:
    gain: float = option(1.0, "Amplification.", unit="dB", minimum=0.0, maximum=6.0)
    mode: str = option("quick", "How.", choices=("quick", "slow"))

    def __post_init__(self) -> None:
        check(self)


class ExampleNode(BaseNode):
    NAME = "example"
    Config = ExampleConfig

    def build(self) -> None:
        self.floors: list[int] = []
        self.create_topic_subscription("floor", self._take)

    def _take(self, message: FloorState) -> None:
        if message.since_sample < 0:
            raise ValueError(f"since_sample is {message.since_sample}, expected 0 or later")
        self.floors.append(message.since_sample)


@pytest.fixture(autouse=True)
def context():
    rclpy.init()
    yield
    rclpy.try_shutdown()


def make_node(**parameters: object) -> ExampleNode:
    overrides = [Parameter(name, value=value) for name, value in parameters.items()]
    return ExampleNode(parameter_overrides=overrides)


def spin_until(nodes: list, condition, timeout_s: float = PATIENCE_S) -> bool:
    executor = rclpy.executors.SingleThreadedExecutor()
    for node in nodes:
        executor.add_node(node)
    end = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < end:
        executor.spin_once(timeout_sec=0.05)
    for node in nodes:
        executor.remove_node(node)
    return condition()


@pytest.mark.parametrize(
    "parameters",
    [{"gian": 1.0}, {"gain": 9.0}, {"mode": "fast"}, {"mode": 3}],
    ids=["misspelt", "out of range", "no such choice", "wrong type"],
)
def test_a_wrong_parameter_keeps_the_node_from_configuring(parameters: dict) -> None:
    node = make_node(**parameters)
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    node.destroy_node()


def test_parameters_carry_their_description_and_range() -> None:
    node = make_node(gain=2.0)
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    descriptor = node.describe_parameter("gain")
    assert descriptor.description == "Amplification. [dB]"
    assert descriptor.floating_point_range[0].to_value == 6.0
    assert node.config.gain == 2.0
    node.destroy_node()


def test_messages_reach_an_active_node_only_and_a_bad_one_is_counted_and_harmless() -> None:
    node = make_node()
    node.trigger_configure()
    talker = rclpy.create_node("talker")
    publisher = talker.create_publisher(FloorState, "floor", qos_of(TOPICS["floor"]))
    heard: list[DiagnosticArray] = []
    talker.create_subscription(DiagnosticArray, "/diagnostics", heard.append, 10)
    assert spin_until([node, talker], lambda: publisher.get_subscription_count() == 1)
    publisher.publish(FloorState(since_sample=1))
    spin_until([node, talker], lambda: False, timeout_s=0.3)
    assert node.floors == []

    node.trigger_activate()
    publisher.publish(FloorState(since_sample=-5))
    assert spin_until([node, talker], lambda: node.bad_messages == 1)
    publisher.publish(FloorState(since_sample=2))
    assert spin_until([node, talker], lambda: node.floors == [2])

    def warned() -> bool:
        return any(status.level == b"\x01" for array in heard for status in array.status)

    assert spin_until([node, talker], warned)

    node.trigger_deactivate()
    node.trigger_cleanup()
    assert publisher.get_subscription_count() == 0 or spin_until(
        [node, talker], lambda: publisher.get_subscription_count() == 0
    )
    node.close()
    node.destroy_node()
    talker.destroy_node()


def test_a_stamp_survives_the_way_to_ros_time_and_back() -> None:
    node = make_node()
    instant_ns = time.monotonic_ns() + 123_456_789
    assert abs(node.monotonic_ns(node.header(instant_ns)) - instant_ns) < 1_000_000
    node.destroy_node()


class CountingNode(ExampleNode):
    def build(self) -> None:
        super().build()
        self.running = 0
        self.is_refusing = False

    def start(self) -> None:
        self.run_in_thread(self._count, "count")
        if self.is_refusing:
            raise OSError("the device is taken")

    def _count(self) -> None:
        self.running += 1
        self.ending.wait()
        self.running -= 1


def test_what_runs_beside_a_node_ends_with_its_acting_and_begins_anew():
    node = CountingNode()
    node.trigger_configure()
    for _ in range(2):
        node.trigger_activate()
        assert spin_until([node], lambda: node.running == 1)
        node.trigger_deactivate()
        assert node.running == 0
    node.is_refusing = True
    assert node.trigger_activate() != TransitionCallbackReturn.SUCCESS
    assert node.running == 0
    node.close()
    node.destroy_node()


class LongStartNode(ExampleNode):
    """Builds until it is cancelled, as one that measures a large model does."""

    NAME = "long_start"

    def build(self) -> None:
        def measure() -> None:
            print("begun", file=sys.stderr, flush=True)
            while True:
                check_cancelled()
                time.sleep(0.005)

        run_interruptibly(measure)


def test_a_process_that_is_told_to_end_during_a_long_start_ends_at_once_and_without_an_error():
    """It measured to the end, was killed for it, and counted as one that refused to start."""
    command = [sys.executable, "-m", "timar_common.base_node", "test_base_node:LongStartNode"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stderr is not None
        assert any("begun" in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=END_WITHIN_S - 1.0)[1]
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert "Traceback" not in said
