"""display.launch.py read by the genuine launch and launch_ros, where they are installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

launch = pytest.importorskip("launch", reason="launch comes with a ROS 2 distribution")
launch_ros = pytest.importorskip("launch_ros", reason="launch_ros comes with a ROS 2 distribution")

from launch.actions import DeclareLaunchArgument, OpaqueFunction  # noqa: E402
from launch.launch_description_sources import get_launch_description_from_python_launch_file  # noqa: E402
from timar_description import find_urdf  # noqa: E402

pytestmark = pytest.mark.ros

FILE = Path(__file__).resolve().parents[2] / "ros2_ws/src/timar_bringup/launch/display.launch.py"


@pytest.fixture
def description() -> Any:
    return get_launch_description_from_python_launch_file(str(FILE))


def nodes(description: Any, **arguments: str) -> dict[str, Any]:
    """Return what would be started, by package."""
    context = launch.LaunchContext()
    context.launch_configurations.update(
        {"robot": "timar_head", "sliders": "true", "rviz_config": "/x.rviz", "namespace": "robot"} | arguments
    )
    (start,) = (entity for entity in description.entities if isinstance(entity, OpaqueFunction))
    return {node.node_package: node for node in start.execute(context)}


def test_every_argument_is_described(description: Any) -> None:
    arguments = [entity for entity in description.entities if isinstance(entity, DeclareLaunchArgument)]
    assert [a.name for a in arguments] == ["robot", "sliders", "rviz_config", "namespace"]
    assert all(len(argument.description) > 20 for argument in arguments)


def test_sliders_are_started_only_when_wanted(description: Any) -> None:
    assert set(nodes(description)) == {"robot_state_publisher", "rviz2", "joint_state_publisher_gui"}
    assert set(nodes(description, sliders="false")) == {"robot_state_publisher", "rviz2"}


def test_a_robot_may_be_a_path_and_an_unknown_one_is_refused(description: Any) -> None:
    assert "rviz2" in nodes(description, robot=str(find_urdf()))
    with pytest.raises(FileNotFoundError, match="no_such_head"):
        nodes(description, robot="no_such_head")
