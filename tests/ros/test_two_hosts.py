"""Every component publishes the same bytes in its ROS node and in the bag host of a replay."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import rclpy
from component_scenarios import DEVICES, GRAPH, NAMES, configurations, make
from hosting import SECONDS, Step, inputs, record, run_in_bag_host, run_in_ros_host, steps_of, time_of
from timar_common.component import Component
from timar_common.messages import constants
from timar_inference.turn_jobs import Decision

pytestmark = pytest.mark.ros
ROOT = Path(__file__).resolve().parents[2]
END_NS = time_of(round(SECONDS * 16_000))
Makers = dict[str, Callable[[], Component]]


@pytest.fixture(scope="module", autouse=True)
def ros() -> Iterator[None]:
    rclpy.init()
    yield
    rclpy.try_shutdown()


@pytest.fixture(scope="module")
def makers(random_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Makers:
    """Return by name what makes each component afresh."""
    configs = configurations(random_model, tmp_path_factory.mktemp("files"))
    return {name: functools.partial(make, name, config) for name, config in configs.items()}


@pytest.fixture(scope="module")
def recorded(makers: Makers) -> list[Step]:
    """Return a conversation of the whole graph, recorded in one fixed order."""
    components = [makers[name]() for name in GRAPH]
    return record(components, inputs())


def all_components() -> set[str]:
    """Return the names of the components in the workspace's packages."""
    found = set()
    for path in (ROOT / "ros2_ws/src").glob("timar_*/timar_*/*_component.py"):
        module = importlib.import_module(f"{path.parent.name}.{path.stem}")
        for item in vars(module).values():
            if inspect.isclass(item) and issubclass(item, Component) and item.__module__ == module.__name__:
                found.add(item.NAME)
    return found


def test_no_component_is_left_out(makers: Makers) -> None:
    assert set(makers) == set(NAMES) == all_components()


@pytest.mark.parametrize("name", NAMES)
def test_both_hosts_publish_the_same_bytes(name: str, makers: Makers, recorded: Sequence[Step]) -> None:
    first, second = makers[name](), makers[name]()
    steps = steps_of(first, recorded, DEVICES.get(name, list)())
    live = run_in_ros_host(first, steps, END_NS)
    replayed = run_in_bag_host(second, steps, END_NS)
    assert len(live) > 5
    assert {topic for topic, _ in live} <= set(first.outputs)
    assert [topic for topic, _ in live] == [topic for topic, _ in replayed]
    assert live == replayed


def test_the_recording_is_no_easy_one(recorded: Sequence[Step]) -> None:
    """It has lost sound, turns with and without a seen user, a turn that was rolled back, and gestures."""
    log = [step.what for step in recorded if step.topic == "turn_log"]
    assert {entry.decision for entry in log} == {Decision.GENERATE, Decision.ROLLBACK, Decision.RESET}
    assert any(entry.user_samples_filled for entry in log)
    assert {any(entry.user_motion_valid) for entry in log} == {True, False}
    assert any(step.what.is_preview for step in recorded if step.topic == "agent/motion")
    motion = [step.what for step in recorded if step.topic == "agent/motion"]
    begun = [(entry.gesture_id, bool(entry.refused_because)) for m in motion for entry in m.gestures]
    assert {("nod", False), ("tilt", False), ("wild", True), ("", False)} <= set(begun)
    assert {entry.intent for entry in log} > {constants("AgentIntent")["THINKING"]}
    assert {step.topic for step in recorded} > {"floor", "turn_events", "joint_trajectory", "joint_states"}
